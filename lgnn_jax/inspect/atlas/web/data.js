// Data: every layer is unpacked when it is first looked at.

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const decoded = atob(text);
  const out = new Uint8Array(decoded.length);
  for (let i = 0; i < out.length; i++) out[i] = decoded.charCodeAt(i);
  return out;
}

const TYPES = { int8: [Int8Array, -128], int16: [Int16Array, -32768], int32: [Int32Array, NaN] };

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The codes of a packed array. */
function codes({ type, data }) {
  if (type !== "base64") return new TYPES[type][0](bytes(data).buffer);
  const code = new Uint8Array(128);
  for (let i = 0; i < 64; i++) code[BASE64.charCodeAt(i)] = i;
  const found = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) found[i] = code[data.charCodeAt(i)];
  return found;
}

/** The values of a packed array, NaN where they are not defined; scale and offset may be by column. */
function unpack(packed) {
  const undefinedCode = TYPES[packed.type]?.[1];
  const from = codes(packed);
  const [scale, offset] = [packed.scale, packed.offset].map((given) => (given.data ? floats(given) : [given]));
  const values = new Float32Array(from.length);
  for (let i = 0; i < from.length; i++)
    values[i] = from[i] === undefinedCode ? NaN : offset[i % offset.length] + scale[i % scale.length] * from[i];
  return values;
}

const floats = (packed) => new Float32Array(bytes(packed.data).buffer);

/** How alike a unit and every other are, from all pairs or from those that were kept. */
function alikeness(matrix, units) {
  if (!matrix) return { kept: 0, row: () => new Float32Array(units).fill(NaN) };
  if (!matrix.nearest) {
    const triangle = unpack(matrix);
    return { kept: units, row: (unit) => triangleRow(triangle, unit, units) };
  }
  const nearest = codes(matrix.nearest);
  const values = unpack(matrix.values);
  const kept = matrix.nearest.shape[1];
  const row = (unit) => {
    const found = new Float32Array(units).fill(NaN);
    for (let i = unit * kept; i < (unit + 1) * kept; i++) found[nearest[i]] = values[i];
    return found;
  };
  return { kept, row };
}

/** One row of a symmetric matrix that is kept as its lower triangle. */
function triangleRow(triangle, unit, units) {
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

function layerData(network, layer = state.layer, step = state.step) {
  const id = layerId(network, layer, step);
  if (!opened.has(id)) opened.set(id, open(read(id), atlas.layers[layer].shape));
  return opened.get(id);
}

function open(block, [rows, columns]) {
  const units = rows * columns;
  const means = unpack(block.means);
  const alike = { correlations: alikeness(block.correlations, units), cosines: alikeness(block.cosines, units) };
  const own = Int32Array.from({ length: units }, (_, unit) => unit);
  const orders = { native: arrangement(own, block.regions, block.scores) };
  if (block.order) orders.arranged = arrangement(codes(block.order), block.arranged_regions, block.arranged_scores);
  const preferences = { groups: codes(block.preferences.groups), t: unpack(block.preferences.t), count: block.preferences.t.shape[1] };
  const responders = { units: codes(block.responders.units), t: unpack(block.responders.t), count: block.responders.t.shape[1] };
  /** Pairs of a name and a t, the largest first, of one row. */
  const pairs = ({ groups, units: names = groups, t, count }, row) =>
    Array.from({ length: count }, (_, i) => [names[row * count + i], t[row * count + i]]).filter(([, value]) => !Number.isNaN(value));
  return {
    units,
    orders,
    here: () => orders[state.order] ?? orders.native,
    correlation: block.neighbour_correlation,
    preferred: codes(block.preferred),
    dead: new Set(block.dead),
    constant: new Set(block.constant),
    top: codes(block.top_images),
    keep: block.top_images.shape[1],
    source: block.pictures.source,
    pictures: block.pictures.data ? sheet(block.pictures, refresh) : firstOf(block.top_images),
    has: (kind) => Boolean(block[kind]),
    kept: (kind) => alike[kind].kept,
    alike: (kind, unit) => alike[kind].row(unit),
    mean: (group) => means.subarray(group * units, (group + 1) * units),
    preferences: (unit) => pairs(preferences, unit),
    responders: (group) => pairs(responders, group),
  };
}

/** What follows the order in which filters lie: their places, regions and scores. */
function arrangement(unitAt, regions, scores) {
  const placeAt = new Int32Array(unitAt.length);
  unitAt.forEach((unit, place) => (placeAt[unit] = place));
  const members = codes(regions.groups.members);
  const starts = [0];
  for (const count of codes(regions.groups.counts)) starts.push(starts.at(-1) + count);
  const chance = unpack(regions.groups.chance);
  const width = regions.groups.chance.shape[1];
  const preferred = runs(codes(regions.preferred.members));
  return {
    unitAt,
    placeAt,
    scores,
    preferred,
    alone: new Set(preferred.filter((units) => units.length < 3).flat()),
    chance: regions.preferred.chance,
    regions: (group) => runs(members.subarray(starts[group], starts[group + 1])),
    chanceOf: (group) => chance.subarray(group * width, (group + 1) * width),
  };
}

/** Regions from their members one after the other; the last of each is kept as -1 less its number. */
function runs(members) {
  const found = [];
  let open = [];
  for (const code of members) {
    open.push(code < 0 ? -1 - code : code);
    if (code < 0) found.push(open), (open = []);
  }
  return found;
}

/** As the picture of a unit the first of its test images, where it has none of its own. */
function firstOf(tops) {
  const [top, keep] = [codes(tops), tops.shape[1]];
  return { draw: (context, unit, ...where) => testPictures()?.draw(context, top[unit * keep], ...where) };
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
