"""The figure of a plan: accuracy against order, as trained and arranged afterwards."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.machine import files
from experiments.study.claims import ARRANGED, NATIVE

Entry = dict[str, Any]

_PANELS = {
    "cosine": "neighbour cosine\nof weights",
    "correlation": "neighbour correlation\nof held-out responses",
    "moran": "Moran's I\nof class selectivity",
}
# Of variants the colours, which differ with any colour vision, and of their rows the shapes.
_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_SHAPES = "osD^vPX*<>"


def draw(entries: Sequence[Entry], title: str, path: pathlib.Path) -> None:
    """Writes the figure of the rows that are finished, a panel a kind of order.

    Hollow is a network as trained, filled the same one arranged afterwards; a line joins the two.
    """
    known = [entry for entry in entries if entry["accuracy"] is not None]
    styles = _styles(known)
    rows = -(-len(known) // 3)
    figure = Figure(figsize=(11, 4.3 + 0.22 * rows), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for panel, (axis, label) in zip(panels, _PANELS.items(), strict=True):
        _panel(panel, known, styles, axis)
        panel.set_xlabel(label)
    panels[0].set_ylabel("test accuracy, %")
    marks = [
        Line2D([], [], color=colour, marker=shape, markersize=7, linestyle="", label=entry["row"])
        for entry, (colour, shape) in zip(known, styles, strict=True)
    ]
    marks += [
        Line2D([], [], color="#555555", marker="o", fillstyle="none", linestyle="", label="as trained"),
        Line2D([], [], color="#555555", marker="o", linestyle="", label="arranged afterwards"),
        Line2D([], [], color="#bbbbbb", linestyle="--", label="no row as trained is beyond"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    files.write_figure(path, figure)


def _styles(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """A colour a variant, and a shape a row of a colour, which several variants may have."""
    variants = list(dict.fromkeys(entry["variant"] for entry in entries))
    counts = dict.fromkeys(_COLOURS, 0)
    found = []
    for entry in entries:
        colour = _COLOURS[variants.index(entry["variant"]) % len(_COLOURS)]
        found.append((colour, _SHAPES[counts[colour] % len(_SHAPES)]))
        counts[colour] += 1
    return found


def _panel(panel: Any, entries: Sequence[Entry], styles: Sequence[tuple[str, str]], axis: str) -> None:
    points = []
    for entry, (colour, shape) in zip(entries, styles, strict=True):
        height, order = 100 * entry["accuracy"], entry["order"][axis]
        ends = [order[NATIVE], order[ARRANGED]]
        if ends[0] is None:
            continue
        points.append((ends[0], height))
        if ends[1] is not None:
            panel.plot(ends, [height] * 2, color=colour, linewidth=0.8, alpha=0.6, zorder=2)
            panel.plot(ends[1], height, color=colour, marker=shape, markersize=7, zorder=3)
        panel.plot(
            ends[0],
            height,
            color=colour,
            marker=shape,
            markersize=7,
            markerfacecolor="white",
            markeredgewidth=1.4,
            zorder=4,
        )
        each = 100 * np.array(entry["test_accuracy"])
        if len(each) > 1:
            panel.plot([ends[0]] * 2, [each.min(), each.max()], color=colour, linewidth=0.8, zorder=1)
    best = frontier(points)
    if len(best) > 1:
        panel.step(*zip(*best, strict=True), where="pre", color="#bbbbbb", linestyle="--", zorder=0)
    panel.grid(color="#eeeeee")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of (order, accuracy) that none exceeds in both, by order.

    Example:
      >>> frontier([(0.0, 3.0), (0.5, 2.0), (0.4, 1.0), (0.9, 1.5)])
      [(0.0, 3.0), (0.5, 2.0), (0.9, 1.5)]
    """
    best: list[tuple[float, float]] = []
    for point in sorted(points, reverse=True):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best[::-1]
