// A network's grid: a canvas under squares that the keyboard and screen readers reach.

class View {
  constructor(network) {
    this.network = network;
    const { title, facts } = atlas.networks[network];
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.squares = el("div", { className: "squares", role: "grid" });
    this.labels = el("div", { className: "labels", "aria-hidden": "true" });
    this.stage = el("div", { className: "stage" }, this.canvas, this.squares, this.labels);
    this.heading = el("h3", { id: `network-${network}` }, bdi(title));
    this.told = facts.map(([name, fact]) => `${name} ${fact}`).join(" · ");
    this.facts = el("p", { className: "facts" });
    this.order = el("p", { className: "facts" });
    this.element = el(
      "section",
      { className: "network", "aria-labelledby": `network-${network}` },
      el("header", {}, this.heading, this.facts, this.order),
      this.stage,
    );
    this.listen();
  }

  listen() {
    const placeOf = (event) => event.target.dataset.place && Number(event.target.dataset.place);
    this.squares.addEventListener("pointerover", (event) => preview(placeOf(event) ?? null));
    this.squares.addEventListener("pointerleave", () => preview(null));
    this.squares.addEventListener("focusin", (event) => {
      state.cursor = placeOf(event);
      preview(state.cursor);
    });
    this.squares.addEventListener("focusout", () => preview(null));
    this.squares.addEventListener("click", (event) => placeOf(event) !== undefined && this.take(placeOf(event)));
    this.squares.addEventListener("keydown", (event) => this.key(event));
  }

  /** On the map of regions a click opens the class that the filter prefers; else it keeps the filter. */
  take(place) {
    const layer = layerData(this.network);
    const group = layer.preferred[layer.here().unitAt[place]];
    if (state.group === null && state.pinned === null && group >= 0 && !differing()) choose({ group, preview: null });
    else pin(place);
  }

  key(event) {
    const [rows, columns] = atlas.layers[state.layer].shape;
    const [row, column] = position(state.cursor);
    const end = event.ctrlKey || event.metaKey;
    const to = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [end ? 0 : row, 0],
      End: [end ? rows - 1 : row, columns - 1],
    }[event.key];
    if (to) {
      if (to[0] >= 0 && to[0] < rows && to[1] >= 0 && to[1] < columns) this.focus(to[0] * columns + to[1]);
    } else if (event.key === "Enter" || event.key === " ") this.take(state.cursor);
    else return;
    event.preventDefault();
  }

  focus(place) {
    this.cells[place].focus();
  }

  /** Makes the squares of the layer. */
  open() {
    const layer = layerData(this.network);
    const [rows, columns] = atlas.layers[state.layer].shape;
    const { title } = atlas.networks[this.network];
    this.squares.setAttribute("aria-label", `Filters of layer ${atlas.layers[state.layer].name}, ${title}`);
    this.squares.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
    this.squares.style.gridTemplateRows = `repeat(${rows}, 1fr)`;
    this.cells = [];
    const { unitAt } = layer.here();
    const lines = Array.from({ length: rows }, (_, row) => {
      const line = el("div", { role: "row" });
      for (let column = 0; column < columns; column++) {
        const place = row * columns + column;
        const unit = unitAt[place];
        const name = `filter ${unit}, row ${row} column ${column}, ${describe(layer, unit)}`;
        const cell = el("div", { role: "gridcell", tabindex: "-1", "aria-label": name, dataset: { unit, place } });
        this.cells.push(cell);
        line.append(cell);
      }
      return line;
    });
    this.squares.replaceChildren(...lines);
    this.facts.textContent = state.step !== LAST && this.told ? `At ${atlas.steps[LAST]}: ${this.told}` : this.told;
    this.order.textContent = orderInWords(layer);
    this.resize();
  }

  /** The largest squares of whole pixels that fit; a grid of many rows may be taller than the window. */
  resize() {
    const [rows, columns] = atlas.layers[state.layer].shape;
    const width = this.element.clientWidth;
    const above = this.stage.getBoundingClientRect().top + window.scrollY;
    const tall = Math.max(320, 0.6 * window.innerHeight, window.innerHeight - above - 76); // With the scale bar.
    this.cell = Math.max(4, Math.floor(Math.min(width / columns, Math.max(tall / rows, 10), 60)));
    this.stage.style.width = `${this.cell * columns}px`;
    this.stage.style.aspectRatio = `${columns} / ${rows}`;
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.cell * columns * this.ratio);
    this.canvas.height = Math.round(this.cell * rows * this.ratio);
  }

  paint(map) {
    const context = this.canvas.getContext("2d");
    const layer = layerData(this.network);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (let unit = 0; unit < layer.units; unit++) this.square(context, layer, unit, map);
    const { placeAt } = layer.here();
    const marked = outlines(this.network);
    for (const mark of marked) this.outline(context, mark.members.map((unit) => placeAt[unit]), mark);
    this.label(marked);
    if (active() !== null) this.ring(context, placeAt[active()[this.network]]);
    this.select();
  }

  square(context, layer, unit, map) {
    const [row, column] = position(layer.here().placeAt[unit]);
    const gap = this.cell >= 12 ? 1 : 0;
    const [x, y, side] = [column * this.cell, row * this.cell, this.cell - gap];
    const silent = layer.dead.has(unit) || layer.constant.has(unit);
    const value = map.values[this.network][unit];
    const coloured = state.cells !== "pictures" && !Number.isNaN(value);
    context.fillStyle = !coloured ? "#fff" : map.colour ? map.colour(value, layer, unit) : map.scale.colour(value);
    context.fillRect(x, y, side, side);
    if (state.cells !== "colours" && !silent) {
      const inset = coloured ? Math.round(side * 0.24) : 0;
      layer.pictures.draw(context, unit, x + inset, y + inset, side - 2 * inset, side - 2 * inset);
    }
    if (silent || (Number.isNaN(value) && !map.blank)) cross(context, x, y, side, layer.dead.has(unit));
  }

  outline(context, places, { dashed, bold }) {
    const inside = new Set(places);
    const [, columns] = atlas.layers[state.layer].shape;
    const c = this.cell;
    const path = new Path2D();
    for (const place of places) {
      const [row, column] = position(place);
      const [x, y] = [column * c - 0.5, row * c - 0.5];
      const edge = (open, x0, y0, x1, y1) => {
        if (!open) return;
        path.moveTo(x0, y0);
        path.lineTo(x1, y1);
      };
      edge(!inside.has(place - columns), x, y, x + c, y);
      edge(!inside.has(place + columns), x, y + c, x + c, y + c);
      edge(column === 0 || !inside.has(place - 1), x, y, x, y + c);
      edge(column === columns - 1 || !inside.has(place + 1), x + c, y, x + c, y + c);
    }
    context.lineCap = "round";
    context.setLineDash([]);
    context.strokeStyle = "rgb(255 255 255 / 0.9)";
    context.lineWidth = bold ? 7 : 4;
    context.stroke(path);
    context.setLineDash(dashed ? [3, 4] : []);
    context.strokeStyle = "#1e1c19";
    context.lineWidth = bold ? 4 : 2;
    context.stroke(path);
    context.setLineDash([]);
  }

  ring(context, place) {
    const [row, column] = position(place);
    for (const [colour, width] of [["#fff", 6], ["#1e1c19", 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(column * this.cell, row * this.cell, this.cell - 1, this.cell - 1);
    }
  }

  /** Names on the regions, the largest first; one that would cover another, or too much, is left to the list. */
  label(marked) {
    const spans = marked.filter(({ name }) => name).map(({ members, name }) => [members, el("span", {}, name)]);
    this.labels.replaceChildren(...spans.map(([, span]) => span));
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const sizes = spans.map(([, span]) => [span.offsetWidth, span.offsetHeight]);
    const placed = [];
    spans.forEach(([members, span], i) => {
      const [w, h] = sizes[i];
      const [row, column] = position(heart(this.network, members));
      const x = Math.max(0, Math.min(width - w, (column + 0.5) * this.cell - w / 2));
      const y = Math.max(0, Math.min(height - h, (row + 0.5) * this.cell - h / 2));
      const large = w * h > 0.6 * members.length * this.cell ** 2;
      const covers = large || placed.some((p) => x < p[0] + p[2] && p[0] < x + w && y < p[1] + p[3] && p[1] < y + h);
      span.hidden = covers;
      if (covers) return;
      placed.push([x, y, w, h]);
      span.style.left = `${(100 * x) / width}%`;
      span.style.top = `${(100 * y) / height}%`;
    });
  }

  select() {
    if (this.tabbed) this.tabbed.tabIndex = -1;
    this.tabbed = this.cells[state.cursor];
    this.tabbed.tabIndex = 0;
    if (this.selected) this.selected.removeAttribute("aria-selected");
    const { placeAt } = layerData(this.network).here();
    this.selected = state.pinned === null ? null : this.cells[placeAt[state.pinned[this.network]]];
    if (this.selected) this.selected.setAttribute("aria-selected", "true");
  }
}
