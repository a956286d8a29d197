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
