// Training: the same layers at several steps of it, and the course of their metrics.

const LAST = Math.max(0, atlas.steps.length - 1);

const layerId = (network, layer, step) => `layer-${network}-${layer}${step === LAST ? "" : `-${step}`}`;

/** The slider. */
function training() {
  byId("training").hidden = !LAST;
  const slider = byId("step");
  slider.max = LAST;
  slider.addEventListener("input", () => showStep(Number(slider.value)));
}

/** The page at another step; filters that were kept stay kept. */
function showStep(step) {
  Object.assign(state, { step, preview: null, region: null });
  namedStep();
  views.forEach((view) => view.open());
  metrics();
  announce(atlas.steps[step]);
  paint();
}

function namedStep() {
  if (!LAST) return;
  byId("step").value = state.step;
  byId("step").setAttribute("aria-valuetext", atlas.steps[state.step]);
  byId("step-name").textContent = atlas.steps[state.step];
}

const scored = new Map();

/** The scores of a layer at a step, in the order shown, without unpacking the rest. */
function scoresAt(network, step) {
  const id = layerId(network, state.layer, step);
  if (!scored.has(id)) {
    const { order, scores, arranged_scores: arranged } = read(id);
    scored.set(id, { native: scores, arranged: order ? arranged : scores });
  }
  return scored.get(id)[state.order];
}

/** A metric over all steps: a line for each network, chance grey behind it, the step shown marked. */
function course(name) {
  const rows = atlas.networks.map((_, n) => atlas.steps.map((_, step) => scoresAt(n, step)[name]));
  const ends = rows.flat().flatMap((s) => (s && "value" in s ? [s.value, s.null_low, s.null_high] : [])).filter((v) => v !== null);
  if (!ends.length) return "";
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const [width, height] = [Math.min(500, byId("metrics").clientWidth), 110];
  const x = (step) => 44 + ((width - 56) * step) / LAST;
  const y = (value) => 84 - (76 * (value - low)) / (high - low || 1);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} over training` });
  root.append(svg("line", { x1: x(state.step), x2: x(state.step), y1: 4, y2: 88, stroke: "#8b8478", "stroke-dasharray": "2 3" }));
  rows.forEach((row, n) => {
    const last = n === rows.length - 1;
    const known = row.map((score, step) => ({ ...score, step })).filter((score) => "value" in score);
    const banded = known.filter((score) => score.null_low !== null);
    const band = [...banded.map((s) => [s.step, s.null_low]), ...banded.map((s) => [s.step, s.null_high]).reverse()];
    root.append(svg("polygon", { points: band.map(([s, v]) => `${x(s)},${y(v)}`).join(" "), fill: "#b9b2a5", "fill-opacity": 0.5 }));
    const points = known.map((s) => `${x(s.step)},${y(s.value)}`).join(" ");
    root.append(svg("polyline", { points, fill: "none", stroke: "#8a2b1b", "stroke-width": 2, "stroke-dasharray": last ? "none" : "5 3" }));
    for (const s of known) root.append(svg("circle", { cx: x(s.step), cy: y(s.value), r: s.step === state.step ? 5 : 3, fill: last ? "#8a2b1b" : "#fff", stroke: "#8a2b1b", "stroke-width": 1.5 }));
  });
  const words = { "font-size": 12, fill: "#5d574e" };
  for (const value of [low, high]) root.append(svg("text", { ...words, x: 38, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  root.append(svg("text", { ...words, x: x(0), y: height - 6 }, shortened(atlas.steps[0])));
  root.append(svg("text", { ...words, x: x(LAST), y: height - 6, "text-anchor": "end" }, shortened(atlas.steps[LAST])));
  return root;
}
