// The difference of two networks, filter by filter, where a filter of one is the same as that of the other.

const differing = () => both && state.compare === "difference";

/** The place of a filter of a network; of both that of the second, whose grid shows the difference. */
const placeOf = (network, unit) => layerData(differing() ? 1 : network).here().placeAt[unit];

/** Shows the networks side by side, or one grid of their difference. */
function compare(how) {
  Object.assign(state, { compare: how, preview: null, pinned: null, region: null, cursor: 0 });
  views[0].element.hidden = differing();
  views.forEach((view) => view.open());
  announce(shown().title.map((part) => part.textContent ?? part).join(""));
  paint();
}

/** A map of both networks as the second less the first; instead of preferences how alike filters are in both. */
function difference(map) {
  const titles = atlas.networks.map(({ title }) => bdi(title));
  if (map.colour) {
    const alike = alikeInBoth();
    return {
      values: [alike, alike],
      scale: scaleOf("diverging", -1, 1),
      title: ["How alike every filter responds in both networks"],
      text: "The correlation of its average responses to all classes: 1 is alike, 0 unrelated, −1 opposite.",
      ends: ["opposite", "alike"],
    };
  }
  const less = map.values[1].map((value, i) => value - map.values[0][i]);
  const most = less.reduce((far, value) => Math.max(far, Math.abs(value) || 0), 0);
  return {
    ...map,
    values: [less, less],
    scale: scaleOf("diverging", -most, most),
    title: [...map.title, ": ", titles[1], " less ", titles[0]],
    text: "Red is more in the second network, blue more in the first.",
    ends: ["less", "more"],
  };
}

/** The correlation over classes of a filter's average responses in both networks. */
function alikeInBoth() {
  const layers = atlas.networks.map((_, n) => layerData(n));
  const means = layers.map((layer) => atlas.classes.map((_, group) => layer.mean(group)));
  return Float32Array.from({ length: layers[0].units }, (_, unit) => {
    const [a, b] = means.map((rows) => {
      const own = rows.map((row) => row[unit]);
      const middle = own.reduce((sum, value) => sum + value, 0) / own.length;
      return own.map((value) => value - middle);
    });
    const product = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
    const spread = Math.sqrt(product(a, a) * product(b, b));
    return spread > 0 ? product(a, b) / spread : NaN;
  });
}
