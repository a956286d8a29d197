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

function describe(layer, unit) {
  if (layer.dead.has(unit)) return "dead";
  if (layer.constant.has(unit)) return "never changes";
  const [most] = layer.preferences(unit);
  const prefers = layer.preferred[unit] < 0 ? "prefers none" : `prefers ${groupName(layer.preferred[unit])}`;
  return most && most[0] !== layer.preferred[unit] ? `${prefers}, responds most to ${atlas.classes[most[0]]}` : prefers;
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
function thumbnail(network) {
  const picture = el("canvas", { width: 66, height: 66, "aria-hidden": "true" });
  const caption = el("span");
  const slot = { unit: null };
  const go = () => pin(placeOf(network, slot.unit), true);
  slot.element = el("button", { type: "button", on: { click: go } }, picture, caption);
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
