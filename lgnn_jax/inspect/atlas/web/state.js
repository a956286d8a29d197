"use strict";
// The page reads its data (docs/atlas.md), keeps one state, and draws everything from it. Names come from data
// sets: they reach the page as text only. The files of this folder are one script, in the order that _page.py
// gives: this one first, start.js last.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const byId = (id) => document.getElementById(id);
const atlas = read("atlas");
const groups = [...atlas.classes, ...atlas.superclasses]; // Rows of "means" and "t"; then the mean of all.
const ALL = groups.length;
const both = atlas.networks.length > 1;

const state = {
  layer: 0,
  group: null, // The class or superclass shown,
  other: null, // and the one that is taken away.
  kind: "correlations", // What filters are alike in; or "cosines", of weights.
  cells: "colours",
  cursor: 0, // The square that the Tab key reaches.
  preview: null, // The filter under the pointer or the keyboard,
  pinned: null, // and the one that was clicked.
  region: null, // A region to outline alone: {network, members}.
};
const active = () => state.preview ?? state.pinned;

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
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const groupName = (group) => (group === ALL ? "all images" : groups[group]);

function position(unit) {
  const columns = atlas.layers[state.layer].shape[1];
  return [Math.floor(unit / columns), unit % columns];
}

function place(unit) {
  const [row, column] = position(unit);
  return `row ${row}, column ${column}`;
}
