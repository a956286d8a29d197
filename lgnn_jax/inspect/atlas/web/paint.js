// Painting, and the changes of the state that ask for it.

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
  title.replaceChildren(...map.title);
  title.title = title.textContent;
  byId("back").hidden = state.group === null && state.pinned === null;
  scaleBar(map);
  panel();
}

function scaleBar(map) {
  const box = byId("scale");
  if (!map.ends) {
    const key = (colour, text) => {
      const swatch = el("i", { className: "swatch" });
      swatch.style.background = colour;
      return el("span", { className: "key" }, swatch, text);
    };
    const more = others(atlas.networks.map((_, n) => n));
    const keys = more ? [key(OTHERS[1], `one of ${more} others`)] : [];
    const about = `Prefers: the ${oneClass} that it responds to most clearly (the largest t, above ${atlas.threshold}). Outlined and named: the largest region of each colour; filters alone or in pairs are paler. Click a square to see its ${oneClass}.`;
    box.replaceChildren(el("p", { className: "scale-text" }, ...keys, key(NOTHING, "none"), about));
    return;
  }
  if (state.cells === "pictures") return box.replaceChildren();
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
  const units = active();
  const title = byId("panel-title");
  const text = byId("panel-text");
  if (units !== null) {
    const kept = sameFilters(units, state.pinned);
    const opens = compared() === null && !differing() && atlas.networks.some((_, n) => layerData(n).preferred[units[n]] >= 0);
    const what = kept ? "kept until Escape or another click" : opens ? `click or Enter opens its ${oneClass}` : "click or Enter keeps it";
    const places = new Set(units.map((unit, n) => placeOf(n, unit)));
    title.textContent = capital(numbered(units));
    text.textContent = `${capital(places.size === 1 ? `${where([...places][0])}; ${what}` : what)}.`;
  } else if (state.group !== null) {
    title.replaceChildren(bdi(groupName(state.group)));
    text.textContent = `Outlined: filters whose t for it is above ${atlas.threshold}.`;
    if (state.other !== null && state.other !== ALL) text.append(" Dashed: those for ", bdi(groupName(state.other)), ".");
  } else {
    title.textContent = "Regions";
    text.textContent = `Neighbouring filters that prefer the same ${oneClass}. Point at one to see where it is.`;
  }
  sides.forEach((side) => side.paint());
}

function preview(place) {
  const units = place === null ? null : filtersAt(place);
  if (sameFilters(state.preview, units)) return;
  state.preview = units;
  refresh();
}

function pin(place, move = false) {
  const units = filtersAt(place);
  state.pinned = sameFilters(state.pinned, units) && !move ? null : units;
  if (move) state.preview = null;
  state.cursor = place;
  announce(`${capital(numbered(units))} ${state.pinned === null ? "let go" : "kept"}`);
  refresh();
}

/** Back to the map of regions, one step at a time: first from a filter, then from a class. */
function back() {
  if (state.pinned !== null || state.group === null) {
    Object.assign(state, { pinned: null, preview: null });
    announce("");
    refresh();
  } else choose({ group: null, preview: null });
}

/** Lays the filters of the whole page out in another order; filters that were kept stay kept. */
function lay(order) {
  state.order = order;
  Object.assign(state, { preview: null, region: null, cursor: state.pinned ? placeOf(0, state.pinned[0]) : 0 });
  views.forEach((view) => view.open());
  metrics();
  told();
  announce(byId("order-text").textContent);
  paint();
}

function announce(text) {
  byId("live").textContent = text;
}

function choose(change) {
  Object.assign(state, { region: null }, change);
  if (state.group === null) state.other = null;
  byId("group").value = state.group ?? "";
  byId("other").value = state.other ?? "";
  byId("other").disabled = state.group === null;
  announce(shown().title.map((part) => part.textContent ?? part).join(""));
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
  told();
  views.forEach((view) => view.open());
  metrics();
  paint();
}

function guide() {
  const { name } = atlas.layers[state.layer];
  byId("guide").textContent =
    `Each square is one filter of layer ${name}: a small detector that looks for one thing in an image. ` +
    `Its colour is the ${oneClass} that it responds to most clearly. Click a square, or a name, to see where that is at home.`;
}

/** What the order shown is. */
function told() {
  const box = byId("order-text");
  box.hidden = byId("order").hidden = atlas.arranged_first === null;
  box.textContent =
    state.order === "arranged"
      ? "Arranged: after training, like filters were put side by side."
      : "As trained: the filters lie where the network has them.";
}

/** How much order a layer has, in both of its orders. */
function orderInWords({ correlation: { native, arranged } }) {
  const value = (of) => (of === null ? "not defined" : number(of));
  const told = (values) => `How alike neighbours respond, on average: ${values} (0 unrelated, 1 fully alike).`;
  if (arranged === null) return told(`${value(native)}${atlas.arranged_first === null ? "" : " as trained; it has no other order"}`);
  const parts = [`${value(arranged)} arranged`, `${value(native)} as trained`];
  return told((state.order === "arranged" ? parts : parts.reverse()).join(", "));
}
