// What squares are coloured by.

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
const shown = () => (differing() ? difference(sideBySide()) : sideBySide());

function sideBySide() {
  const layers = atlas.networks.map((_, n) => layerData(n));
  const units = compared();
  if (units !== null) {
    const what = state.kind === "cosines" ? "weights" : "responses";
    const kept = layers[0].kept(state.kind);
    const all = kept === layers[0].units;
    return {
      values: layers.map((layer, n) => layer.alike(state.kind, units[n])),
      blank: !all,
      scale: scaleOf("diverging", -1, 1),
      title: [`How alike the others are to ${numbered(units)}, in ${what}`],
      text: `1 is fully alike, 0 unrelated, −1 opposite.${all ? "" : ` Of so many filters the ${kept} most alike are kept; others are white.`}`,
      ends: ["opposite", "alike"],
    };
  }
  if (state.group === null)
    return {
      values: layers.map((layer) => layer.preferred),
      // Filters alone or in pairs are paler, so that regions stand out.
      colour: (value, layer, unit) => (named().has(value) && layer.here().alone.has(unit) ? pale(colourOf(value)) : colourOf(value)),
      title: [`Which ${oneClass} every filter prefers`],
    };
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
