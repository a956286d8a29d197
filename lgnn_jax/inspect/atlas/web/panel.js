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
    this.filter.append(this.picture, this.note, el("h4", {}, "Test images that activate it most"), this.top);
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
    const words = { visualisation: "An image made to activate it", weights: "Its weights as an image", images: "The test image that activates it most" };
    const silent = layer.dead.has(unit) || layer.constant.has(unit);
    draw(this.picture, (c) => (silent ? cross(c, 0, 0, 88, layer.dead.has(unit)) : layer.pictures.draw(c, unit, 0, 0, 88, 88)));
    const notes = [];
    if (layer.dead.has(unit)) notes.push("Dead: its weights are nearly zero, or no image activates it.");
    if (layer.constant.has(unit)) notes.push("Constant: it responds to every test image alike.");
    this.note.textContent = notes.join(" ") || `${words[layer.source]}.`;
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
    if (known) lines.push(el("p", {}, `${percent(accuracy[state.group])} of its test images are recognised.`));
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
