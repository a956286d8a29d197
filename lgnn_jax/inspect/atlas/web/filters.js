// One filter in words and as an image, for the grids and the panel beside them.

/** A cross for a dead filter, one stroke for one that never changes or has no value. */
function cross(context, x, y, side, dead) {
  const inset = side * 0.25;
  context.strokeStyle = "#5d574e";
  context.lineWidth = 1.25;
  context.beginPath();
  context.moveTo(x + inset, y + side - inset);
  context.lineTo(x + side - inset, y + inset);
  if (dead) {
    context.moveTo(x + inset, y + inset);
    context.lineTo(x + side - inset, y + side - inset);
  }
  context.stroke();
}

/** The class with the largest t at every unit. */
function favouriteClasses(layer) {
  const most = new Float32Array(layer.units).fill(-Infinity);
  const group = new Array(layer.units).fill(null);
  for (let c = 0; c < atlas.classes.length; c++) {
    const t = layer.t(c);
    for (let u = 0; u < layer.units; u++) if (t[u] > most[u]) [most[u], group[u]] = [t[u], c];
  }
  return group;
}

function describe(layer, unit, favourite) {
  if (layer.dead.has(unit)) return "dead";
  if (layer.constant.has(unit)) return "never changes";
  return favourite === null ? "no class" : `responds most to ${atlas.classes[favourite]}`;
}

function canvas(className, width, height) {
  const ratio = window.devicePixelRatio || 1;
  return el("canvas", { className, width: width * ratio, height: height * ratio, role: "img" });
}

/** Draws on a canvas in its own pixels, after clearing it. */
function draw(target, how) {
  const context = target.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, target.width, target.height);
  how(context);
}

/** A filter's image with a number under it; a click goes to that filter. */
function thumbnail() {
  const picture = el("canvas", { width: 66, height: 66, "aria-hidden": "true" });
  const caption = el("span");
  const slot = { unit: null };
  slot.element = el("button", { type: "button", on: { click: () => pin(slot.unit, true) } }, picture, caption);
  slot.show = (layer, unit, text) => {
    slot.unit = unit;
    slot.element.hidden = unit === undefined;
    if (unit === undefined) return;
    const context = picture.getContext("2d");
    context.clearRect(0, 0, 66, 66);
    if (layer.dead.has(unit) || layer.constant.has(unit)) cross(context, 0, 0, 66, layer.dead.has(unit));
    else layer.pictures.draw(context, unit, 0, 0, 66, 66);
    caption.textContent = text;
    slot.element.setAttribute("aria-label", `Go to filter ${unit}, ${text}`);
  };
  return slot;
}
