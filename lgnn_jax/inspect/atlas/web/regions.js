// Regions: which class every filter prefers, which classes get a colour and a name, and what is outlined.

// Eight colours that people with any colour vision tell apart, from each other and from the greys that all other
// classes share; found by a search over their distances in OKLab, for three simulated kinds of colour blindness too.
const COLOURS = "#4455bb #ffaa22 #229999 #993311 #44bbff #551122 #cc6611 #331177".split(" ");
const OTHERS = "#e9e6df #dedad1 #d3cec4".split(" ");
const NOTHING = "#ffffff";

const largest = (regions) => regions.reduce((most, members) => Math.max(most, members.length), 0);

/**
 * The classes that get a colour, by the largest region that either network has of them. They are the same in every
 * order of the filters and at every step of training, so that a colour keeps its class.
 */
function named() {
  const layers = atlas.networks.map((_, n) => layerData(n, state.layer, LAST));
  if (layers[0].named) return layers[0].named;
  const size = new Map(); // And by a fraction the number of filters, which decides among equals.
  for (const layer of layers) {
    const { preferred } = layer.orders.arranged ?? layer.orders.native;
    for (const members of preferred) {
      const group = layer.preferred[members[0]];
      size.set(group, Math.max(size.get(group) ?? 0, members.length));
    }
  }
  for (const group of layers.flatMap((layer) => [...layer.preferred])) if (group >= 0) size.set(group, size.get(group) + 1e-6);
  const order = [...size.keys()].sort((a, b) => size.get(b) - size.get(a) || a - b);
  const together = order.filter((group) => size.get(group) >= 2); // Of many classes those that have a region.
  const chosen = (together.length && order.length > COLOURS.length ? together : order).slice(0, COLOURS.length);
  return (layers[0].named = new Map(chosen.map((group, i) => [group, COLOURS[i]])));
}

/** How many other classes filters of these networks prefer. */
const others = (networks) =>
  new Set(networks.flatMap((n) => [...layerData(n).preferred]).filter((group) => group >= 0 && !named().has(group))).size;

function colourOf(group) {
  return group < 0 ? NOTHING : (named().get(group) ?? OTHERS[group % OTHERS.length]);
}

/** The colour of a class, mixed with white. */
const pale = (colour) => `color-mix(in srgb, ${colour} 50%, white)`;

/** The regions of filters that prefer the same class: {group, members}, the largest first. */
function preferredRegions(network) {
  const layer = layerData(network);
  return layer.here().preferred.map((members) => ({ group: layer.preferred[members[0]], members }));
}

/** The largest region of every class that has a colour, the largest first. */
function landmarks(network) {
  const seen = new Set();
  return preferredRegions(network).filter(({ group }) => named().has(group) && !seen.has(group) && seen.add(group));
}

const regionsOf = (network, group) => layerData(network).here().regions(group).map((members) => ({ group, members }));

/** The place of the member nearest to the region's middle. */
function heart(network, members) {
  const { placeAt } = layerData(network).here();
  const places = members.map((unit) => position(placeAt[unit]));
  const middle = [0, 1].map((axis) => places.reduce((sum, p) => sum + p[axis], 0) / places.length);
  const far = places.map((p) => Math.hypot(p[0] - middle[0], p[1] - middle[1]));
  return placeAt[members[far.indexOf(Math.min(...far))]];
}

/** What to outline in a network: [{members, dashed, name}], named where several things are outlined. */
function outlines(network) {
  if (state.region) return state.region.network === network ? [state.region] : [];
  if (state.group === null) {
    if (compared() !== null || differing()) return [];
    const marks = landmarks(network)
      .filter(({ members }) => members.length > 1)
      .map(({ group, members }) => ({ members, name: groupName(group) }));
    const under = state.preview && preferredRegions(network).find(({ members }) => members.includes(state.preview[network]));
    return under ? [...marks, { members: under.members, bold: true }] : marks;
  }
  if (state.other === null || state.other === ALL) return regionsOf(network, state.group);
  const both = (group, dashed) =>
    regionsOf(network, group).map(({ members }, i) => ({ members, dashed, name: i === 0 ? groupName(group) : "" }));
  return [...both(state.group, false), ...both(state.other, true)];
}

const range = (low, high, digits = 0) => {
  const [from, to] = [low, high].map((value) => number(value, digits));
  return from === to ? from : `${from} to ${to}`;
};

/** The regions of all classes in words, beside chance. */
function regionsInWords(network) {
  const layer = layerData(network);
  const { preferred, chance } = layer.here();
  const none = layer.preferred.filter((group) => group < 0).length;
  if (!chance) return [`No filter prefers one of the ${classes} clearly.`];
  const by = ({ null_low: low, null_high: high }, digits) => `by chance ${range(low, high, digits)}`;
  const lines = [
    `${plural(preferred.length, "region")}; ${by(chance.count)}.`,
    `The largest has ${plural(largest(preferred), "filter")}; ${by(chance.largest)}.`,
    `A region has ${number(chance.mean.value, 1)} on average; ${by(chance.mean, 1)}.`,
  ];
  if (none) lines.push(`${none} of ${plural(layer.units, "filter")} ${none === 1 ? "prefers" : "prefer"} none.`);
  return lines;
}

/** The regions of one class in words, beside chance. */
function groupInWords(network, group) {
  const layer = layerData(network);
  const found = regionsOf(network, group);
  const count = found.reduce((sum, region) => sum + region.members.length, 0);
  const [low, high, lowLargest, highLargest] = layer.here().chanceOf(group);
  if (!count) return `None of ${layer.units} filters responds to it clearly.`;
  return (
    `${count} of ${plural(layer.units, "filter")} ${count === 1 ? "responds" : "respond"} to it clearly, in ` +
    `${plural(found.length, "region")}; by chance ${range(low, high)}. The largest has ${found[0].members.length}; ` +
    `by chance ${range(lowLargest, highLargest)}.`
  );
}
