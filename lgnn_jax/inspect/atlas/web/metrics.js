// Metrics: the value, and the band of what chance gives.

function metrics() {
  const layers = atlas.networks.map((_, n) => layerData(n));
  const names = Object.keys(atlas.metrics).filter((name) => layers.some((layer) => name in layer.here().scores));
  const how = layers.some((layer) => layer.orders.arranged) ? (state.order === "arranged" ? ", arranged" : ", as trained") : "";
  byId("metrics-title").textContent = `How ordered layer ${atlas.layers[state.layer].name} is${how}`;
  byId("metrics-text").textContent = names.length
    ? `${LAST ? "Below each, its course over training: two networks have a dashed and a full line. " : ""}The dot is the layer's value. The grey band is what chance gives: 95 % of the values when the same filters are put in random places; the tick in it is their mean. A dot to the right of its band is more order than chance.`
    : "No metrics were computed.";
  byId("metrics").replaceChildren(...names.map((name) => metric(name, layers)));
}

function metric(name, layers) {
  const scores = layers.map((layer) => layer.here().scores[name] ?? { undefined: "not computed" });
  const part = el("article", { className: "metric" }, el("h3", {}, name), el("p", {}, atlas.metrics[name]));
  const defined = scores.filter((score) => !("undefined" in score));
  if (defined.length) part.append(strip(scores, defined));
  if (LAST && document.readyState !== "loading") part.append(course(name));
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
