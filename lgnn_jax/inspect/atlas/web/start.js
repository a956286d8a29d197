// The controls, the words under the page, and the beginning.

const views = atlas.networks.map((_, n) => new View(n));
const sides = atlas.networks.map((_, n) => new Side(n));

function picks(box, name, options, chosen, change) {
  for (const [value, label, small] of options) {
    const input = el("input", { type: "radio", name, value, on: { change: () => change(value) } });
    input.checked = value === chosen;
    const text = el("span", { title: label }, shortened(label));
    if (label !== text.textContent) input.setAttribute("aria-label", small ? `${label} ${small}` : label);
    if (small) text.append(" ", el("small", {}, small));
    box.append(el("label", { className: "pick" }, input, text));
  }
}

/** A long name without its middle. */
const shortened = (name) => (name.length > 40 ? `${name.slice(0, 17)}…${name.slice(-21)}` : name);

function groupOptions(select, first, change) {
  select.append(...first.map(([value, text]) => el("option", { value }, text)));
  const part = (label, names, offset) => {
    const options = names.map((name, i) => el("option", { value: offset + i }, name));
    if (names.length) select.append(el("optgroup", { label }, ...options));
  };
  part("Groups of classes", atlas.superclasses, atlas.classes.length);
  part("Classes", atlas.classes, 0);
  select.addEventListener("change", () => change(select.value === "" ? null : Number(select.value)));
}

function controls() {
  const layers = atlas.layers.map(({ name, shape }, i) => [String(i), name, shape.join("×")]);
  if (layers.length > 12) {
    const select = el("select", { "aria-label": "Layer", on: { change: () => openLayer(Number(select.value)) } });
    select.append(...layers.map(([value, name, size]) => el("option", { value }, `${name} ${size}`)));
    select.value = String(state.layer);
    byId("layers").append(select);
  } else picks(byId("layers"), "layer", layers, String(state.layer), (value) => openLayer(Number(value)));
  const orders = [["arranged", "arranged"], ["native", "as trained"]];
  picks(byId("order"), "order", orders, state.order, lay);
  byId("compare").hidden = !atlas.same_units;
  picks(byId("compare"), "compare", [["side", "side by side"], ["difference", "difference"]], state.compare, compare);
  const kinds = [["correlations", "responses"], ["cosines", "weights"]];
  picks(byId("kind"), "kind", kinds, state.kind, (kind) => choose({ kind }));
  const cells = [["colours", "colours"], ["pictures", "images"], ["both", "both"]];
  picks(byId("cells"), "cells", cells, state.cells, (value) => choose({ cells: value }));
  groupOptions(byId("group"), [["", "– map of regions"]], (group) => choose({ group }));
  groupOptions(byId("other"), [["", "– no other"], [ALL, "all images"]], (other) => choose({ other }));
}

function numbers() {
  const terms = {
    "Filter, row, column": "A filter's number in its layer, and its place on the grid; all counted from 0.",
    "How alike two filters are, in responses": "The correlation of their responses over all test images: 1 if they always rise and fall together, 0 if they have nothing to do with each other, −1 if one rises when the other falls. Kept in steps of 0.008.",
    "How alike neighbours respond": "The mean correlation of the responses of filters that lie side by side or one above the other. 1 is fully alike, 0 unrelated; filters in no order are near the mean of all pairs.",
    "How alike two filters are, in weights": "The cosine of the angle between their weights: 1 for the same direction, 0 for unrelated, −1 for opposite. Kept in steps of 0.008.",
    "Average response": "How strongly a filter responds to the images of a class, on average over the image and over all test images of the class. Units are the layer's own, so compare colours, not layers.",
    t: `How clearly a filter prefers a class: the difference between its average response to the class and to all other images, divided by the uncertainty of this difference (Welch's t). Above ${atlas.threshold} is called clear here.`,
    "What a filter prefers": `The ${oneClass} with the largest t, where that is above ${atlas.threshold}; otherwise it prefers none.`,
    Region: "Connected filters, side by side or one above the other: on the map of regions those that prefer the same thing, for one class those whose t for it is above that limit.",
    "Regions by chance": "The number, or size, of regions when the same filters are put in random places, 1,000 times: 95 % of these values lie between the two numbers. Filters in order are in fewer and larger regions.",
    "Arranged, as trained": "As trained, filters lie where the network has them. Arranged, they were put side by side by how alike they are, after training; the network computes the same. Values are of the order that is shown.",
    "Chance (the grey band)": "The same number when the same filters are put in random places, 1,000 times by default: 95 % of these values lie in the band.",
    z: "How far a value lies from the mean of chance, in standard deviations of chance. Beyond 2 or so is rare by chance.",
    "Test accuracy, recognised": "The share of images which the network never saw in training that it names correctly.",
    "Difference of two networks": "The value of the second network less that of the first, filter by filter; only where a filter is the same in both, as in networks of one start. Without a class: the correlation of its average responses to all classes.",
    "A cross, a stroke": "A cross is a dead filter: its weights are nearly zero, or no image activates it. A single stroke is one that responds to every image alike, or has no value here.",
  };
  byId("numbers").append(...Object.entries(terms).flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
}

function start() {
  document.title = atlas.title;
  byId("title").textContent = atlas.title;
  byId("hint").textContent = "Arrow keys move from filter to filter, Home and End along a row, Enter keeps a filter, Escape lets it go.";
  byId("networks").append(...views.map((view) => view.element));
  byId("panel-networks").append(...sides.map((side) => side.element));
  state.layer = atlas.start;
  training();
  namedStep();
  controls();
  numbers();
  openLayer(state.layer);
  choose({});
  announce("");
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") back();
  });
  byId("back").addEventListener("click", () => {
    Object.assign(state, { pinned: null, preview: null });
    choose({ group: null });
    byId("grids").focus();
  });
  window.addEventListener("resize", () => {
    views.forEach((view) => view.resize());
    refresh();
  });
  performance.mark("interactive");
}

start();
// Decoded before it is asked for, but after the page is there; so are the steps of training.
document.addEventListener("DOMContentLoaded", () => {
  setTimeout(testPictures, 200);
  if (LAST) metrics();
});
