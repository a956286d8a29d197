"use strict";
// The page reads its data (docs/atlas.md), keeps one state, and draws everything from it. Names come from data
// sets: they reach the page as text only.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const byId = (id) => document.getElementById(id);
const atlas = read("atlas");
const groups = [...atlas.classes, ...atlas.superclasses]; // Rows of "means" and "t"; then the mean of all.
const ALL = groups.length;
const both = atlas.networks.length > 1;

const state = {
  layer: 0,
  group: null, // The class or superclass shown,
  other: null, // and the one that is taken away.
  kind: "correlations", // What filters are alike in; or "cosines", of weights.
  cells: "colours",
  cursor: 0, // The square that the Tab key reaches.
  preview: null, // The filter under the pointer or the keyboard,
  pinned: null, // and the one that was clicked.
  region: null, // A region to outline alone: {network, members}.
};
const active = () => state.preview ?? state.pinned;

// Elements and words.

function el(tag, properties = {}, ...children) {
  const { className, dataset, on = {}, ...attributes } = properties;
  const node = document.createElement(tag);
  if (className) node.className = className;
  Object.assign(node.dataset, dataset);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  node.append(...children); // Strings become text.
  return node;
}

const bdi = (text) => el("bdi", { title: text }, text);
const number = (value, digits = 2) =>
  Number.isNaN(value) ? "not defined" : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
const percent = (share) => `${Math.round(100 * share)} %`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const groupName = (group) => (group === ALL ? "all pictures" : groups[group]);

function position(unit) {
  const columns = atlas.layers[state.layer].shape[1];
  return [Math.floor(unit / columns), unit % columns];
}

function place(unit) {
  const [row, column] = position(unit);
  return `row ${row}, column ${column}`;
}

// Data: every layer is unpacked when it is first looked at.

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const decoded = atob(text);
  const out = new Uint8Array(decoded.length);
  for (let i = 0; i < out.length; i++) out[i] = decoded.charCodeAt(i);
  return out;
}

const TYPES = { int8: [Int8Array, -128], int16: [Int16Array, -32768], int32: [Int32Array, NaN] };

/** The values of a packed array, NaN where they are not defined. */
function unpack(packed) {
  const [Type, undefinedCode] = TYPES[packed.type];
  const codes = new Type(bytes(packed.data).buffer);
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++)
    values[i] = codes[i] === undefinedCode ? NaN : packed.offset + packed.scale * codes[i];
  return values;
}

/** One row of a symmetric matrix that is kept as its lower triangle. */
function matrixRow(triangle, unit, units) {
  const row = new Float32Array(units);
  for (let i = 0; i < units; i++) {
    const [high, low] = i > unit ? [i, unit] : [unit, i];
    row[i] = triangle[(high * (high + 1)) / 2 + low];
  }
  return row;
}

/** Pictures side by side on one image; "ready" runs when they can be drawn. */
function sheet(about, ready) {
  const image = new Image();
  image.onload = ready;
  image.src = URL.createObjectURL(new Blob([bytes(about.data)], { type: "image/webp" }));
  const { columns, width, height } = about;
  return {
    draw(context, index, x, y, w, h) {
      if (!image.complete || !image.naturalWidth) return;
      const scale = Math.min(w / width, h / height);
      const [dw, dh] = [width * scale, height * scale];
      context.imageSmoothingEnabled = dw < width || width >= 16;
      context.imageSmoothingQuality = "medium";
      const [sx, sy] = [(index % columns) * width, Math.floor(index / columns) * height];
      context.drawImage(image, sx, sy, width, height, x + (w - dw) / 2, y + (h - dh) / 2, dw, dh);
    },
  };
}

const opened = new Map();

function layerData(network, layer = state.layer) {
  const id = `layer-${network}-${layer}`;
  if (!opened.has(id)) opened.set(id, open(read(id), atlas.layers[layer].shape));
  return opened.get(id);
}

function open(block, [rows, columns]) {
  const units = rows * columns;
  const means = unpack(block.means);
  const t = unpack(block.t);
  const part = (values, row) => values.subarray(row * units, (row + 1) * units);
  const matrices = {};
  for (const kind of ["correlations", "cosines"]) matrices[kind] = block[kind] && unpack(block[kind]);
  return {
    units,
    regions: block.regions.map(([group, members]) => ({ group, members })),
    dead: new Set(block.dead),
    constant: new Set(block.constant),
    top: new Int32Array(bytes(block.top_images.data).buffer),
    keep: block.top_images.shape[1],
    source: block.pictures.source,
    scores: block.scores,
    pictures: sheet(block.pictures, refresh),
    has: (kind) => Boolean(matrices[kind]),
    mean: (group) => part(means, group),
    t: (group) => part(t, group),
    alike: (kind, unit) =>
      matrices[kind] ? matrixRow(matrices[kind], unit, units) : new Float32Array(units).fill(NaN),
  };
}

let photographs = null;

function testPictures() {
  if (!photographs && byId("images")) photographs = sheet(read("images"), refresh);
  return photographs;
}

/** Indices of the largest values, best first, without NaN. */
function best(values, count, leaveOut = -1) {
  const order = [];
  for (let i = 0; i < values.length; i++) if (i !== leaveOut && !Number.isNaN(values[i])) order.push(i);
  return order.sort((a, b) => values[b] - values[a] || a - b).slice(0, count);
}

/** t of every class (not superclass) at a unit. */
function preferences(layer, unit) {
  return Float32Array.from(atlas.classes, (_, group) => layer.t(group)[unit]);
}

// Colours: ColorBrewer's RdBu around 0 and YlGnBu otherwise, which colour-blind people can read.

const DIVERGING = "2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b".split(" ");
const SEQUENTIAL = "ffffd9 edf8b1 c7e9b4 7fcdbb 41b6c4 1d91c0 225ea8 253494 081d58".split(" ");

function ramp(stops) {
  const rgb = stops.map((stop) => [0, 2, 4].map((i) => parseInt(stop.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (rgb.length - 1);
    const from = Math.min(Math.floor(at), rgb.length - 2);
    const mix = rgb[from].map((c, k) => Math.round(c + (at - from) * (rgb[from + 1][k] - c)));
    return `rgb(${mix.join(" ")})`;
  });
}

const RAMPS = { diverging: ramp(DIVERGING), sequential: ramp(SEQUENTIAL) };

function scaleOf(kind, low, high) {
  const span = high - low || 1;
  return { kind, low, high, colour: (v) => RAMPS[kind][Math.max(0, Math.min(255, Math.round((255 * (v - low)) / span)))] };
}

/** What the squares are coloured by: values for each network, one scale for both, and words. */
function shown() {
  const layers = atlas.networks.map((_, n) => layerData(n));
  const unit = active();
  if (unit !== null) {
    const what = state.kind === "cosines" ? "in their weights" : "in their responses";
    return {
      values: layers.map((layer) => layer.alike(state.kind, unit)),
      scale: scaleOf("diverging", -1, 1),
      title: [`How alike filter ${unit} and every other filter are ${what}`],
      text: "1 is fully alike, 0 unrelated, −1 opposite.",
      ends: ["opposite", "alike"],
    };
  }
  if (state.group === null) return null;
  const values = layers.map((layer) => {
    const mean = layer.mean(state.group);
    return state.other === null ? mean : mean.map((m, i) => m - layer.mean(state.other)[i]);
  });
  const all = values.flatMap((v) => [...v]).filter((v) => !Number.isNaN(v));
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const same = both ? " One scale for both networks." : "";
  if (state.other === null)
    return {
      values,
      scale: scaleOf("sequential", low, high),
      title: ["Average response to ", bdi(groupName(state.group))],
      text: `From the weakest to the strongest average response, in the layer's own units.${same}`,
      ends: ["weak", "strong"],
    };
  const most = Math.max(Math.abs(low), Math.abs(high));
  return {
    values,
    scale: scaleOf("diverging", -most, most),
    title: ["Response to ", bdi(groupName(state.group)), ", less that to ", bdi(groupName(state.other))],
    text: `Red responds more to the first, blue more to the second, in the layer's own units.${same}`,
    ends: ["less", "more"],
  };
}

// Regions.

/** The largest regions that do not overlap, superclasses and classes alike. */
function landmarks(layer, count = 12) {
  const taken = new Set();
  const chosen = [];
  const bySize = layer.regions.filter((r) => r.members.length > 1).sort((a, b) => b.members.length - a.members.length);
  for (const region of bySize) {
    if (region.members.some((unit) => taken.has(unit))) continue;
    region.members.forEach((unit) => taken.add(unit));
    chosen.push(region);
    if (chosen.length === count) break;
  }
  return chosen;
}

const regionsOf = (layer, group) => layer.regions.filter((region) => region.group === group);

/** The member nearest to the region's middle. */
function heart(region) {
  const places = region.members.map(position);
  const middle = [0, 1].map((axis) => places.reduce((sum, p) => sum + p[axis], 0) / places.length);
  const far = places.map((p) => Math.hypot(p[0] - middle[0], p[1] - middle[1]));
  return region.members[far.indexOf(Math.min(...far))];
}

/** What to outline in a network: [{region, dashed, name}], named only where several things are outlined. */
function outlines(network) {
  const layer = layerData(network);
  if (state.region) return state.region.network === network ? [{ region: state.region }] : [];
  if (state.group === null)
    return active() === null ? landmarks(layer).map((region) => ({ region, name: groupName(region.group) })) : [];
  if (state.other === null || state.other === ALL) return regionsOf(layer, state.group).map((region) => ({ region }));
  const named = (group, dashed) =>
    regionsOf(layer, group).map((region, i) => ({ region, dashed, name: i === 0 ? groupName(group) : "" }));
  return [...named(state.group, false), ...named(state.other, true)];
}

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
    const told = facts.map(([name, fact]) => `${name} ${fact}`).join(" · ");
    this.element = el(
      "section",
      { className: "network", "aria-labelledby": `network-${network}` },
      el("header", {}, this.heading, el("p", { className: "facts" }, told)),
      this.stage,
    );
    this.listen();
  }

  listen() {
    const unitOf = (event) => event.target.dataset.unit && Number(event.target.dataset.unit);
    this.squares.addEventListener("pointerover", (event) => preview(unitOf(event) ?? null));
    this.squares.addEventListener("pointerleave", () => preview(null));
    this.squares.addEventListener("focusin", (event) => {
      state.cursor = unitOf(event);
      preview(state.cursor);
    });
    this.squares.addEventListener("focusout", () => preview(null));
    this.squares.addEventListener("click", (event) => unitOf(event) !== undefined && pin(unitOf(event)));
    this.squares.addEventListener("keydown", (event) => this.key(event));
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
    } else if (event.key === "Enter" || event.key === " ") pin(state.cursor);
    else return;
    event.preventDefault();
  }

  focus(unit) {
    this.cells[unit].focus();
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
    const favourites = favouriteClasses(layer);
    const lines = Array.from({ length: rows }, (_, row) => {
      const line = el("div", { role: "row" });
      for (let column = 0; column < columns; column++) {
        const unit = row * columns + column;
        const name = `filter ${unit}, row ${row} column ${column}, ${describe(layer, unit, favourites[unit])}`;
        const cell = el("div", { role: "gridcell", tabindex: "-1", "aria-label": name, dataset: { unit } });
        this.cells.push(cell);
        line.append(cell);
      }
      return line;
    });
    this.squares.replaceChildren(...lines);
    this.resize();
  }

  /** The largest squares of whole pixels that fit. */
  resize() {
    const [rows, columns] = atlas.layers[state.layer].shape;
    const width = this.element.clientWidth;
    const above = this.stage.getBoundingClientRect().top + window.scrollY;
    const tall = Math.max(320, 0.6 * window.innerHeight, window.innerHeight - above - 76); // With the scale bar.
    this.cell = Math.max(4, Math.floor(Math.min(width / columns, tall / rows, 60)));
    this.stage.style.width = `${this.cell * columns}px`;
    this.stage.style.height = `${this.cell * rows}px`;
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
    const marked = outlines(this.network);
    for (const { region, dashed } of marked) this.outline(context, region.members, dashed);
    this.label(marked);
    if (active() !== null) this.ring(context, active());
    this.select();
  }

  square(context, layer, unit, map) {
    const [row, column] = position(unit);
    const gap = this.cell >= 12 ? 1 : 0;
    const [x, y, side] = [column * this.cell, row * this.cell, this.cell - gap];
    const silent = layer.dead.has(unit) || layer.constant.has(unit);
    const value = map ? map.values[this.network][unit] : NaN;
    const coloured = map && state.cells !== "pictures" && !Number.isNaN(value);
    context.fillStyle = coloured ? map.scale.colour(value) : "#fff";
    context.fillRect(x, y, side, side);
    const pictured = !map || state.cells === "pictures" || state.cells === "both";
    if (pictured && !silent) {
      const inset = coloured ? Math.round(side * 0.24) : 0;
      layer.pictures.draw(context, unit, x + inset, y + inset, side - 2 * inset, side - 2 * inset);
    }
    if (silent || (map && Number.isNaN(value))) cross(context, x, y, side, layer.dead.has(unit));
  }

  outline(context, members, dashed) {
    const inside = new Set(members);
    const [, columns] = atlas.layers[state.layer].shape;
    const c = this.cell;
    const path = new Path2D();
    for (const unit of members) {
      const [row, column] = position(unit);
      const [x, y] = [column * c - 0.5, row * c - 0.5];
      const edge = (open, x0, y0, x1, y1) => {
        if (!open) return;
        path.moveTo(x0, y0);
        path.lineTo(x1, y1);
      };
      edge(!inside.has(unit - columns), x, y, x + c, y);
      edge(!inside.has(unit + columns), x, y + c, x + c, y + c);
      edge(column === 0 || !inside.has(unit - 1), x, y, x, y + c);
      edge(column === columns - 1 || !inside.has(unit + 1), x + c, y, x + c, y + c);
    }
    context.lineCap = "round";
    context.setLineDash([]);
    context.strokeStyle = "rgb(255 255 255 / 0.9)";
    context.lineWidth = 4;
    context.stroke(path);
    context.setLineDash(dashed ? [3, 4] : []);
    context.strokeStyle = "#1e1c19";
    context.lineWidth = 2;
    context.stroke(path);
    context.setLineDash([]);
  }

  ring(context, unit) {
    const [row, column] = position(unit);
    for (const [colour, width] of [["#fff", 6], ["#1e1c19", 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(column * this.cell, row * this.cell, this.cell - 1, this.cell - 1);
    }
  }

  /** Names beside the regions, the largest first; one that would cover another is left to the list. */
  label(marked) {
    const spans = marked.filter(({ name }) => name).map(({ region, name }) => [region, el("span", {}, name)]);
    this.labels.replaceChildren(...spans.map(([, span]) => span));
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const sizes = spans.map(([, span]) => [span.offsetWidth, span.offsetHeight]);
    const placed = [];
    spans.forEach(([region, span], i) => {
      const [w, h] = sizes[i];
      const [row, column] = position(heart(region));
      const x = Math.max(0, Math.min(width - w, (column + 0.5) * this.cell - w / 2));
      const y = Math.max(0, Math.min(height - h, (row + 0.5) * this.cell - h / 2));
      const covers = placed.some((p) => x < p[0] + p[2] && p[0] < x + w && y < p[1] + p[3] && p[1] < y + h);
      span.hidden = covers;
      if (covers) return;
      placed.push([x, y, w, h]);
      span.style.left = `${x}px`;
      span.style.top = `${y}px`;
    });
  }

  select() {
    if (this.tabbed) this.tabbed.tabIndex = -1;
    this.tabbed = this.cells[state.cursor];
    this.tabbed.tabIndex = 0;
    if (this.selected) this.selected.removeAttribute("aria-selected");
    this.selected = state.pinned === null ? null : this.cells[state.pinned];
    if (this.selected) this.selected.setAttribute("aria-selected", "true");
  }
}

/** A cross for a dead filter, one stroke for one that never changes or has no value. */
function cross(context, x, y, side, dead) {
  const inset = side * 0.25;
  context.strokeStyle = "#5d574e";
  context.lineWidth = 1.25;
  context.beginPath();
  context.moveTo(x + inset, y + side - inset);
  context.lineTo(x + side - inset, y + inset);
  if (dead) {
    context.moveTo(x + inset, y + inset);
    context.lineTo(x + side - inset, y + side - inset);
  }
  context.stroke();
}

/** The class with the largest t at every unit. */
function favouriteClasses(layer) {
  const most = new Float32Array(layer.units).fill(-Infinity);
  const group = new Array(layer.units).fill(null);
  for (let c = 0; c < atlas.classes.length; c++) {
    const t = layer.t(c);
    for (let u = 0; u < layer.units; u++) if (t[u] > most[u]) [most[u], group[u]] = [t[u], c];
  }
  return group;
}

function describe(layer, unit, favourite) {
  if (layer.dead.has(unit)) return "dead";
  if (layer.constant.has(unit)) return "never changes";
  return favourite === null ? "no class" : `responds most to ${atlas.classes[favourite]}`;
}

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
    this.neighbours = Array.from({ length: 5 }, () => thumbnail());
    this.alike = el("h4");
    this.classes = el("ul", { className: "bars" });
    this.filter.append(this.picture, this.note, el("h4", {}, "Most exciting test pictures"), this.top);
    this.filter.append(el("h4", {}, "Responds most to (t)"), this.classes, this.alike);
    this.filter.append(el("div", { className: "row" }, ...this.neighbours.map((n) => n.element)));
  }

  paint() {
    const unit = active();
    this.filter.hidden = unit === null;
    this.about.hidden = unit !== null;
    if (unit === null) this.about.replaceChildren(...this.aboutGroup());
    else this.paintFilter(unit);
  }

  paintFilter(unit) {
    const layer = layerData(this.network);
    const words = { visualisation: "A picture made to excite it", weights: "Its weights as a picture", images: "The test picture that excites it most" };
    const silent = layer.dead.has(unit) || layer.constant.has(unit);
    draw(this.picture, (c) => (silent ? cross(c, 0, 0, 88, layer.dead.has(unit)) : layer.pictures.draw(c, unit, 0, 0, 88, 88)));
    const notes = [];
    if (layer.dead.has(unit)) notes.push("Dead: its weights are nearly zero, or no picture excites it.");
    if (layer.constant.has(unit)) notes.push("Constant: it responds to every test picture alike.");
    this.note.textContent = notes.join(" ") || `${words[layer.source]}.`;
    this.picture.setAttribute("aria-label", `Filter ${unit}: ${this.note.textContent}`);
    const side = Math.ceil(Math.sqrt(layer.keep));
    const pictures = testPictures();
    draw(this.top, (c) => {
      const step = 190 / side;
      for (let i = 0; pictures && i < layer.keep; i++)
        pictures.draw(c, layer.top[unit * layer.keep + i], (i % side) * step, Math.floor(i / side) * step, step - 2, step - 2);
    });
    this.top.setAttribute("aria-label", `The ${layer.keep} test pictures that excite filter ${unit} most`);
    this.paintClasses(layer, unit);
    this.alike.textContent = state.kind === "cosines" ? "Most alike in weights" : "Most alike in responses";
    const values = layer.alike(state.kind, unit);
    const near = best(values, 5, unit);
    this.neighbours.forEach((slot, i) => slot.show(layer, near[i], near[i] === undefined ? "" : number(values[near[i]])));
  }

  paintClasses(layer, unit) {
    const t = preferences(layer, unit);
    const order = best(t, 5);
    const most = Math.max(1e-9, ...order.map((group) => Math.abs(t[group])));
    const rows = order.map((group) => {
      const bar = el("span", { className: t[group] > atlas.threshold ? "bar" : "bar less" });
      bar.style.width = `${(100 * Math.max(0, t[group])) / most}%`;
      const name = el("span", { className: "name" }, bdi(atlas.classes[group]));
      return el("li", {}, name, el("span", { className: "number" }, number(t[group], 1)), bar);
    });
    this.classes.replaceChildren(...(rows.length ? rows : [el("li", {}, "No class: its response never changes.")]));
  }

  /** About the class shown, or the layer's largest regions. */
  aboutGroup() {
    const layer = layerData(this.network);
    if (state.group === null) return [this.regionList(landmarks(layer), true)];
    const found = regionsOf(layer, state.group);
    const count = found.reduce((sum, region) => sum + region.members.length, 0);
    const { class_accuracy: accuracy } = atlas.networks[this.network];
    const known = accuracy && accuracy[state.group] !== undefined;
    const lines = [];
    if (known) lines.push(el("p", {}, `${percent(accuracy[state.group])} of its test pictures are recognised.`));
    lines.push(el("p", {}, `${plural(count, "filter")} of ${layer.units} respond to it clearly, in ${plural(found.length, "region")}.`));
    const t = layer.t(state.group);
    const thumbnails = best(t, 5).map((unit) => {
      const slot = thumbnail();
      slot.show(layer, unit, number(t[unit], 1));
      return slot.element;
    });
    lines.push(el("h4", {}, "The filters that respond most (t)"), el("div", { className: "row" }, ...thumbnails));
    if (found.length) lines.push(el("h4", {}, "Regions, the largest first"), this.regionList(found.slice(0, 6), false));
    return lines;
  }

  regionList(found, named) {
    const items = found.map((region) => {
      const size = `${plural(region.members.length, "filter")}, ${place(heart(region))}`;
      const point = (on) => () => {
        state.region = on ? { ...region, network: this.network } : null;
        paintGrids();
      };
      const on = { pointerenter: point(true), pointerleave: point(false), focus: point(true), blur: point(false) };
      on.click = () => named && choose({ group: region.group, region: null });
      const children = named ? [bdi(groupName(region.group)), el("small", {}, size)] : [size];
      return el("li", {}, el("button", { type: "button", on }, ...children));
    });
    if (!items.length) items.push(el("li", {}, "No two neighbouring filters respond clearly to the same class."));
    return el("ul", { className: "places" }, ...items);
  }
}

function canvas(className, width, height) {
  const ratio = window.devicePixelRatio || 1;
  return el("canvas", { className, width: width * ratio, height: height * ratio, role: "img" });
}

/** Draws on a canvas in its own pixels, after clearing it. */
function draw(target, how) {
  const context = target.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, target.width, target.height);
  how(context);
}

/** A filter's picture with a number under it; a click goes to that filter. */
function thumbnail() {
  const picture = el("canvas", { width: 66, height: 66, "aria-hidden": "true" });
  const caption = el("span");
  const slot = { unit: null };
  slot.element = el("button", { type: "button", on: { click: () => pin(slot.unit, true) } }, picture, caption);
  slot.show = (layer, unit, text) => {
    slot.unit = unit;
    slot.element.hidden = unit === undefined;
    if (unit === undefined) return;
    const context = picture.getContext("2d");
    context.clearRect(0, 0, 66, 66);
    if (layer.dead.has(unit) || layer.constant.has(unit)) cross(context, 0, 0, 66, layer.dead.has(unit));
    else layer.pictures.draw(context, unit, 0, 0, 66, 66);
    caption.textContent = text;
    slot.element.setAttribute("aria-label", `Go to filter ${unit}, ${text}`);
  };
  return slot;
}

// Metrics: the value, and the band of what chance gives.

function metrics() {
  const layers = atlas.networks.map((_, n) => layerData(n));
  const names = Object.keys(atlas.metrics).filter((name) => layers.some((layer) => name in layer.scores));
  byId("metrics-title").textContent = `How ordered layer ${atlas.layers[state.layer].name} is`;
  byId("metrics-text").textContent = names.length
    ? "The dot is the layer's value. The grey band is what chance gives: 95 % of the values when the same filters are put in random places; the tick in it is their mean. A dot to the right of its band is more order than chance."
    : "No metrics were computed.";
  byId("metrics").replaceChildren(...names.map((name) => metric(name, layers)));
}

function metric(name, layers) {
  const scores = layers.map((layer) => layer.scores[name] ?? { undefined: "not computed" });
  const part = el("article", { className: "metric" }, el("h3", {}, name), el("p", {}, atlas.metrics[name]));
  const defined = scores.filter((score) => !("undefined" in score));
  if (defined.length) part.append(strip(scores, defined));
  scores.forEach((score, n) => {
    const title = both ? [bdi(atlas.networks[n].title), ": "] : [];
    part.append(el("p", { className: "verdict" }, ...title, verdict(score)));
  });
  return part;
}

function verdict(score) {
  if ("undefined" in score) return `not defined. ${score.undefined}`;
  const value = number(score.value);
  if (score.null_low === null) return value;
  const band = `${number(score.null_low)} to ${number(score.null_high)}`;
  const z = score.z === null ? "" : `; z ${number(score.z, 1)}`;
  const word = score.value > score.null_high ? "more than chance" : score.value < score.null_low ? "less than chance" : "no more than chance";
  return `${value}, ${word} (${band}${z})`;
}

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function strip(scores, defined) {
  const ends = defined.flatMap((s) => [s.value, s.null_low, s.null_high]).filter((v) => v !== null && v !== undefined);
  let [low, high] = [Math.min(...ends), Math.max(...ends)];
  if (Math.min(Math.abs(low), Math.abs(high)) < high - low) [low, high] = [Math.min(0, low), Math.max(0, high)];
  const pad = (high - low || 1) * 0.06;
  const width = Math.min(500, byId("metrics").clientWidth);
  const x = (value) => 8 + ((width - 16) * (value - low + pad)) / (high - low + 2 * pad);
  const height = 22 * scores.length + 20;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const zero = low <= 0 && high >= 0;
  if (zero) root.append(svg("line", { x1: x(0), x2: x(0), y1: 0, y2: height - 18, stroke: "#8b8478", "stroke-dasharray": "2 3" }));
  scores.forEach((score, n) => {
    const y = 22 * n + 11;
    root.append(svg("line", { x1: 0, x2: width, y1: y, y2: y, stroke: "#ddd8cc" }));
    if ("undefined" in score) return;
    if (score.null_low !== null) {
      root.append(svg("rect", { x: x(score.null_low), width: Math.max(2, x(score.null_high) - x(score.null_low)), y: y - 6, height: 12, fill: "#b9b2a5" }));
      root.append(svg("line", { x1: x(score.null_mean), x2: x(score.null_mean), y1: y - 6, y2: y + 6, stroke: "#1e1c19" }));
    }
    root.append(svg("circle", { cx: x(score.value), cy: y, r: 6, fill: n === scores.length - 1 ? "#8a2b1b" : "#fff", stroke: "#8a2b1b", "stroke-width": 2 }));
  });
  const far = (v) => Math.abs(x(v) - x(0)) > 40;
  for (const v of zero ? [low, 0, high].filter((v, i) => i === 1 || far(v)) : [low, high])
    root.append(svg("text", { x: x(v), y: height - 4, "text-anchor": "middle", "font-size": 12, fill: "#5d574e" }, number(v)));
  return root;
}

// Everything together.

const views = atlas.networks.map((_, n) => new View(n));
const sides = atlas.networks.map((_, n) => new Side(n));

let due = false;

/** Draws in the next frame, once however often it is asked for. */
function refresh() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    paint();
  });
}

function paintGrids() {
  const map = shown();
  views.forEach((view) => view.paint(map));
  return map;
}

function paint() {
  const map = paintGrids();
  const title = byId("shown");
  title.replaceChildren(...(map ? map.title : [`The filters of layer ${atlas.layers[state.layer].name} in their places`]));
  title.title = title.textContent;
  scaleBar(map);
  panel();
}

function scaleBar(map) {
  const box = byId("scale");
  if (!map || state.cells === "pictures") {
    const text = map ? "" : "Outlined: the largest regions of filters that respond to the same class. Point at one in the list, or choose a class above.";
    box.replaceChildren(el("p", { className: "scale-text" }, text));
    return;
  }
  const { low, high, kind } = map.scale;
  const bar = el("div", { className: "ramp" });
  bar.style.background = `linear-gradient(to right, ${RAMPS[kind].filter((_, i) => i % 15 === 0).join(", ")})`;
  const digits = high - low < 0.1 ? 4 : 2;
  const marks = kind === "diverging" ? [low, low / 2, 0, high / 2, high] : [low, (low + high) / 2, high];
  const ticks = marks.map((value) => {
    const end = value === low ? ` ${map.ends[0]}` : "";
    const start = value === high ? `${map.ends[1]} ` : "";
    const tick = el("span", start || end ? {} : { className: "between" }, `${start}${number(value, digits)}${end}`);
    tick.style.left = `${(100 * (value - low)) / (high - low || 1)}%`;
    return tick;
  });
  box.replaceChildren(bar, el("div", { className: "ticks" }, ...ticks), el("p", { className: "scale-text" }, map.text));
}

function panel() {
  const unit = active();
  const title = byId("panel-title");
  const text = byId("panel-text");
  if (unit !== null) {
    const [row, column] = position(unit);
    title.textContent = `Filter ${unit}`;
    text.textContent = `Row ${row}, column ${column}${state.pinned === unit ? "; kept until Escape or another click" : "; click or Enter keeps it"}.`;
  } else if (state.group !== null) {
    title.replaceChildren(bdi(groupName(state.group)));
    text.textContent = `Outlined: filters whose t for it is above ${atlas.threshold}.`;
    if (state.other !== null && state.other !== ALL) text.append(" Dashed: those for ", bdi(groupName(state.other)), ".");
  } else {
    title.textContent = "Regions";
    text.textContent = "The largest that do not overlap.";
  }
  sides.forEach((side) => side.paint());
}

function preview(unit) {
  if (state.preview === unit) return;
  state.preview = unit;
  refresh();
}

function pin(unit, move = false) {
  state.pinned = state.pinned === unit && !move ? null : unit;
  if (move) state.preview = null;
  state.cursor = unit;
  announce(state.pinned === null ? `Filter ${unit} let go` : `Filter ${unit} kept`);
  refresh();
}

function announce(text) {
  byId("live").textContent = text;
}

function choose(change) {
  Object.assign(state, change);
  if (state.group === null) state.other = null;
  byId("group").value = state.group ?? "";
  byId("other").value = state.other ?? "";
  byId("other").disabled = state.group === null;
  const map = shown();
  announce(map ? map.title.map((part) => part.textContent ?? part).join("") : "The layer's largest regions");
  refresh();
}

function openLayer(layer) {
  Object.assign(state, { layer, preview: null, pinned: null, region: null, cursor: 0 });
  const weights = layerData(0).has("cosines");
  for (const input of document.querySelectorAll("input[name=kind]")) {
    input.disabled = input.value === "cosines" && !weights;
    input.checked = input.value === (weights ? state.kind : "correlations");
  }
  if (!weights) state.kind = "correlations";
  guide();
  views.forEach((view) => view.open());
  metrics();
  paint();
}

function guide() {
  const { name } = atlas.layers[state.layer];
  byId("guide").textContent =
    `Each square is one filter of layer ${name}: a small detector that looks for one thing in a picture. ` +
    "Outlined ones respond to a class clearly more than to anything else. Point at a square to see which other filters are like it.";
}

/** A row of radio buttons. */
function picks(box, name, options, chosen, change) {
  for (const [value, label, small] of options) {
    const input = el("input", { type: "radio", name, value, on: { change: () => change(value) } });
    input.checked = value === chosen;
    const text = el("span", {}, label);
    if (small) text.append(" ", el("small", {}, small));
    box.append(el("label", { className: "pick" }, input, text));
  }
}

function groupOptions(select, first, change) {
  select.append(...first.map(([value, text]) => el("option", { value }, text)));
  const part = (label, names, offset) => {
    const options = names.map((name, i) => el("option", { value: offset + i }, name));
    if (names.length) select.append(el("optgroup", { label }, ...options));
  };
  part("Groups of classes", atlas.superclasses, atlas.classes.length);
  part("Classes", atlas.classes, 0);
  select.addEventListener("change", () => change(select.value === "" ? null : Number(select.value)));
}

function controls() {
  const layers = atlas.layers.map(({ name, shape }, i) => [String(i), name, shape.join("×")]);
  picks(byId("layers"), "layer", layers, String(state.layer), (value) => openLayer(Number(value)));
  const kinds = [["correlations", "responses"], ["cosines", "weights"]];
  picks(byId("kind"), "kind", kinds, state.kind, (kind) => choose({ kind }));
  const cells = [["colours", "colours"], ["pictures", "pictures"], ["both", "both"]];
  picks(byId("cells"), "cells", cells, state.cells, (value) => choose({ cells: value }));
  groupOptions(byId("group"), [["", "no class: regions"]], (group) => choose({ group }));
  groupOptions(byId("other"), [["", "nothing"], [ALL, "all pictures"]], (other) => choose({ other }));
}

function numbers() {
  const terms = {
    "Filter, row, column": "A filter's number in its layer, and its place on the grid; all counted from 0.",
    "How alike two filters are, in responses": "The correlation of their responses over all test pictures: 1 if they always rise and fall together, 0 if they have nothing to do with each other, −1 if one rises when the other falls. Kept in steps of 0.008.",
    "How alike two filters are, in weights": "The cosine of the angle between their weights: 1 for the same direction, 0 for unrelated, −1 for opposite. Kept in steps of 0.008.",
    "Average response": "How strongly a filter responds to the pictures of a class, on average over the picture and over all test pictures of the class. Units are the layer's own, so compare colours, not layers.",
    t: `How clearly a filter prefers a class: the difference between its average response to the class and to all other pictures, divided by the uncertainty of this difference (Welch's t). Above ${atlas.threshold} is called clear here.`,
    Region: "Connected filters, side by side or one above the other, whose t for the same class is above that limit.",
    "Chance (the grey band)": "The same number when the same filters are put in random places, 1,000 times by default: 95 % of these values lie in the band.",
    z: "How far a value lies from the mean of chance, in standard deviations of chance. Beyond 2 or so is rare by chance.",
    "Test accuracy, recognised": "The share of pictures which the network never saw in training that it names correctly.",
    "A cross, a stroke": "A cross is a dead filter: its weights are nearly zero, or no picture excites it. A single stroke is one that responds to every picture alike, or has no value here.",
  };
  byId("numbers").append(...Object.entries(terms).flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
}

function start() {
  document.title = atlas.title;
  byId("title").textContent = atlas.title;
  byId("hint").textContent = "Arrow keys move from filter to filter, Home and End along a row, Enter keeps a filter, Escape lets it go.";
  byId("networks").append(...views.map((view) => view.element));
  byId("panel-networks").append(...sides.map((side) => side.element));
  state.layer = atlas.start;
  controls();
  numbers();
  openLayer(state.layer);
  choose({});
  announce("");
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") Object.assign(state, { pinned: null, preview: null }), announce(""), refresh();
  });
  window.addEventListener("resize", () => {
    views.forEach((view) => view.resize());
    refresh();
  });
  performance.mark("interactive");
}

start();
// Decoded before it is asked for, but after the page is there.
document.addEventListener("DOMContentLoaded", () => setTimeout(testPictures, 200));
