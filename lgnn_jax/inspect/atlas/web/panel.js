// The panel beside the grids: about a filter, a class, or the layer. Its parts for a filter are made once.

class Side {
  constructor(network) {
    this.network = network;
    this.filter = el("div");
    this.about = el("div");
    const title = atlas.networks[network].title;
    this.element = el("section", { className: "side", "aria-label": title }, this.filter, this.about);
    if (both) this.element.prepend(el("h3", {}, bdi(title)));
    this.picture = canvas("portrait", 88, 88);
    this.note = el("p", { className: "note" });
    this.top = canvas("sheet", 190, 190);
    this.neighbours = Array.from({ length: 5 }, () => thumbnail(network));
    this.beside = Array.from({ length: 4 }, () => thumbnail(network));
    this.alike = el("h4");
    this.classes = el("ul", { className: "bars" });
    this.filter.append(this.picture, this.note, el("h4", {}, "Test images that activate it most"), this.top);
    this.filter.append(el("h4", {}, "Responds most to (t)"), this.classes, this.alike);
    this.filter.append(el("div", { className: "row" }, ...this.neighbours.map((n) => n.element)));
    this.filter.append(el("h4", {}, "Beside it on the grid"), el("div", { className: "row" }, ...this.beside.map((n) => n.element)));
  }

  paint() {
    const units = active();
    this.filter.hidden = units === null;
    this.about.hidden = units !== null;
    if (units === null) this.about.replaceChildren(...(state.group === null ? this.aboutRegions() : this.aboutGroup()));
    else this.paintFilter(units[this.network], new Set(units).size > 1);
  }

  paintFilter(unit, apart) {
    const layer = layerData(this.network);
    const place = placeOf(this.network, unit);
    const words = { visualisation: "An image made to activate it", weights: "Its weights as an image", images: "The test image that activates it most" };
    const silent = layer.dead.has(unit) || layer.constant.has(unit);
    draw(this.picture, (c) => (silent ? cross(c, 0, 0, 88, layer.dead.has(unit)) : layer.pictures.draw(c, unit, 0, 0, 88, 88)));
    const notes = apart ? [`Filter ${unit}, ${where(place)}.`] : [];
    if (layer.dead.has(unit)) notes.push("Dead: its weights are nearly zero, or no image activates it.");
    if (layer.constant.has(unit)) notes.push("Constant: it responds to every test image alike.");
    if (!silent) notes.push(`${words[layer.source]}.`);
    this.note.textContent = notes.join(" ");
    this.picture.setAttribute("aria-label", `Filter ${unit}: ${this.note.textContent}`);
    const side = Math.ceil(Math.sqrt(layer.keep));
    const pictures = testPictures();
    draw(this.top, (c) => {
      const step = 190 / side;
      for (let i = 0; pictures && i < layer.keep; i++)
        pictures.draw(c, layer.top[unit * layer.keep + i], (i % side) * step, Math.floor(i / side) * step, step - 2, step - 2);
    });
    this.top.setAttribute("aria-label", `The ${layer.keep} test images that activate filter ${unit} most`);
    this.paintClasses(layer, unit);
    this.alike.textContent = state.kind === "cosines" ? "Most alike in weights" : "Most alike in responses";
    const values = layer.alike(state.kind, unit);
    const show = (slots, units) =>
      slots.forEach((slot, i) => slot.show(layer, units[i], Number.isNaN(values[units[i]]) ? "–" : number(values[units[i]] ?? NaN)));
    show(this.neighbours, best(values, 5, unit));
    show(this.beside, beside(place).map((other) => filtersAt(other)[this.network]));
  }

  paintClasses(layer, unit) {
    const order = layer.preferences(unit);
    const most = Math.max(1e-9, ...order.map(([, t]) => Math.abs(t)));
    const rows = order.map(([group, t]) => {
      const bar = el("span", { className: t > atlas.threshold ? "bar" : "bar less" });
      bar.style.width = `${(100 * Math.max(0, t)) / most}%`;
      const name = el("span", { className: "name" }, bdi(atlas.classes[group]));
      return el("li", {}, name, el("span", { className: "number" }, number(t, 1)), bar);
    });
    this.classes.replaceChildren(...(rows.length ? rows : [el("li", {}, "No class: its response never changes.")]));
  }

  /** The key to the map: classes with a colour by their largest region, then all regions in words. */
  aboutRegions() {
    const more = others([this.network]);
    const { preferred } = layerData(this.network);
    const items = landmarks(this.network).map((region) => {
      const all = preferred.filter((group) => group === region.group).length;
      const swatch = el("i", { className: "swatch", "aria-hidden": "true" });
      swatch.style.background = colourOf(region.group);
      const size = `${region.members.length > 1 ? `${region.members.length} together` : "alone"}, ${all} in all`;
      return this.button(region, [swatch, bdi(groupName(region.group)), el("small", {}, size)], () => choose({ group: region.group }));
    });
    if (!items.length) items.push(el("li", {}, "No filter prefers one clearly."));
    const lines = regionsInWords(this.network).map((line) => el("p", {}, line));
    lines.push(el("h4", {}, `The largest region of each ${oneClass}`), el("ul", { className: "places" }, ...items));
    if (more) lines.push(el("p", { className: "quiet" }, `Smaller regions, drawn grey, are of ${more} other ${more === 1 ? oneClass : classes}.`));
    return lines;
  }

  /** About the class shown. */
  aboutGroup() {
    const layer = layerData(this.network);
    const { class_accuracy: accuracy } = atlas.networks[this.network];
    const lines = [];
    if (state.step === LAST && accuracy && accuracy[state.group] !== undefined)
      lines.push(el("p", {}, `${percent(accuracy[state.group])} of its test images are recognised.`));
    lines.push(el("p", {}, groupInWords(this.network, state.group)));
    const thumbnails = layer.responders(state.group).map(([unit, t]) => {
      const slot = thumbnail(this.network);
      slot.show(layer, unit, number(t, 1));
      return slot.element;
    });
    lines.push(el("h4", {}, "The filters that respond most (t)"), el("div", { className: "row" }, ...thumbnails));
    const items = regionsOf(this.network, state.group)
      .slice(0, 6)
      .map((region) => this.button(region, [`${plural(region.members.length, "filter")}, ${where(heart(this.network, region.members))}`]));
    if (items.length) lines.push(el("h4", {}, "Regions, the largest first"), el("ul", { className: "places" }, ...items));
    return lines;
  }

  /** A region in a list: pointed at, it is outlined alone. */
  button(region, children, click = () => {}) {
    const point = (on) => () => {
      state.region = on ? { ...region, network: this.network, bold: true } : null;
      paintGrids();
    };
    const on = { pointerenter: point(true), pointerleave: point(false), focus: point(true), blur: point(false), click };
    return el("li", {}, el("button", { className: children.length > 1 ? "named" : "", type: "button", on }, ...children));
  }
}

/** The places beside one on the grid. */
function beside(place) {
  const [rows, columns] = atlas.layers[state.layer].shape;
  const [row, column] = position(place);
  const near = [[row - 1, column], [row, column - 1], [row, column + 1], [row + 1, column]];
  return near.filter(([r, c]) => r >= 0 && r < rows && c >= 0 && c < columns).map(([r, c]) => r * columns + c);
}
