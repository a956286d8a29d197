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
    `Each square is one filter of layer ${name}: a small detector that looks for one thing in an image. ` +
    "Outlined ones respond to a class clearly more than to anything else. Point at a square to see which other filters are like it.";
}

/** A row of radio buttons. */
