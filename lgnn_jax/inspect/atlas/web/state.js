"use strict";
// The page reads its data (docs/atlas.md), keeps one state, and draws everything from it. Names come from data
// sets: they reach the page as text only. The files of this folder are one script, in the order that _page.py
// gives: this one first, start.js last.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const byId = (id) => document.getElementById(id);
const atlas = read("atlas");
const groups = [...atlas.classes, ...atlas.superclasses]; // Rows of "means"; then the mean of all.
const ALL = groups.length;
const both = atlas.networks.length > 1;

const state = {
  layer: 0,
  step: Math.max(0, atlas.steps.length - 1), // Of training, the last first.
  group: null, // The class or superclass shown,
  other: null, // and the one that is taken away.
  kind: "correlations", // What filters are alike in; or "cosines", of weights.
  cells: "colours",
  compare: "side", // How two networks are shown: side by side, or as their "difference".
  order: atlas.arranged_first ? "arranged" : "native",
  cursor: 0, // The place that the Tab key reaches.
  preview: null, // By network the filter under the pointer or the keyboard,
  pinned: null, // and the one that was clicked.
  region: null, // A region to outline alone: {network, members}.
};
const active = () => state.preview ?? state.pinned;
/** The filters that others are compared with: on the map of regions only one that was clicked. */
const compared = () => (state.group === null && state.pinned === null ? null : active());

// Elements and words.

function el(tag, properties = {}, ...children) {
  const { className, dataset, on = {}, ...attributes } = properties;
  const node = document.createElement(tag);
  if (className) node.className = className;
  Object.assign(node.dataset, dataset);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  node.append(...children); // Strings become text.
  return node;
}

const bdi = (text) => el("bdi", { title: text }, text);
const number = (value, digits = 2) =>
  Number.isNaN(value) ? "not defined" : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
const percent = (share) => `${Math.round(100 * share)} %`;
const plural = (count, word, many = `${word}s`) => `${count} ${count === 1 ? word : many}`;
const oneClass = atlas.superclasses.length ? "group of classes" : "class"; // What filters are said to prefer.
const classes = atlas.superclasses.length ? "groups of classes" : "classes";
const groupName = (group) => (group === ALL ? "all images" : groups[group]);

/** Row and column of a place. */
function position(place) {
  const columns = atlas.layers[state.layer].shape[1];
  return [Math.floor(place / columns), place % columns];
}

function where(place) {
  const [row, column] = position(place);
  return `row ${row}, column ${column}`;
}

/** By network the filter that lies at a place. */
const filtersAt = (place) => atlas.networks.map((_, n) => layerData(differing() ? 1 : n).here().unitAt[place]);
const sameFilters = (a, b) => a === b || (a && b && a.every((unit, n) => unit === b[n]));
/** A number, or two of them where networks differ. */
const numbered = (units) => (new Set(units).size === 1 ? `filter ${units[0]}` : `filters ${units.join(" and ")}`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
