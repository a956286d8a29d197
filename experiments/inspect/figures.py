"""The paper's figures of networks, with pictures of what their filters look for."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import data as datasets
from experiments import nets
from experiments.inspect.networks import Network
from experiments.machine import files
from lgnn_jax import Grid, topography
from lgnn_jax.inspect import FeatureVisualisation, Region, class_maps, cosine_maps, plots, regions

_FIGURE_2 = ((1, 1), (1, 3), (1, 5))  # The paper's filters, as rows and columns of the grid.
_COLOURS = ("#D55E00", "#0072B2", "#009E73")  # One a filter or a class, told apart with any colour vision.
_ALIKE = 0.05  # Of a layer's filters, those most alike to one of them are outlined.
_THRESHOLD = 5.0  # A unit responds to a class if its t is larger.
_PART = (8, 8)  # Most rows and columns of the grid's part with pictures.
_ENLARGED = 6  # Most rows and columns of an enlarged region.


@dataclasses.dataclass(frozen=True)
class Shown:
    """One layer of the networks, to be drawn."""

    path: str
    networks: dict[str, Network]
    pictures: dict[str, FeatureVisualisation]  # By title of the network; none, or one of each.

    @property
    def name(self) -> str:
        """The layer's, for titles."""
        return nets.layer_name(self.path)

    @property
    def grid(self) -> Grid:
        """The layer's."""
        return next(iter(self.networks.values())).layers[self.path][0]

    @property
    def kernels(self) -> dict[str, np.ndarray]:
        """By title of the network."""
        return {title: found.layers[self.path][1] for title, found in self.networks.items()}

    def draw_pictures(self, title: str, units: Sequence[int], axes: Any, **options: Any) -> None:
        """A network's pictures of some units."""
        found = self.pictures[title]
        plots.filter_images(found.images, self.grid, units, dead=found.dead, axes=axes, **options)


def draw(shown: Shown, data: datasets.Dataset, classes: dict[str, int], out: pathlib.Path) -> None:
    """Figures 1 to 3, what units prefer, the pictures of the layer's filters, and its top images, as files."""
    figures = {
        "fig2": _similarities(shown),
        "fig3": _classes(shown, classes),
        "preferences": _preferences(shown, data),
        "top_images": _top_images(shown, data),
    }
    if all(found.has_stem for found in shown.networks.values()):
        figures["fig1"] = _first_layer(shown.networks)
    if shown.pictures:
        figures["feature_vis"] = _pictures(shown)
    for name, figure in figures.items():
        files.write_figure(out / f"{name}.png", figure)


def _first_layer(networks: dict[str, Network]) -> Figure:
    """Figure 1."""
    layers = {title: next(iter(found.layers.values())) for title, found in networks.items()}
    grid = next(iter(layers.values()))[0]
    figure, _ = plots.first_layer({title: kernel for title, (_, kernel) in layers.items()}, grid)
    figure.suptitle("first layer; every filter from its smallest to its largest weight", fontsize=9)
    return figure


def _similarities(shown: Shown) -> Figure:
    """Figure 2: what three filters resemble, and the pictures of those around them."""
    rows, columns = shown.grid.shape
    units = [row * columns + column for row, column in _FIGURE_2 if row < rows and column < columns]
    maps = 2 * len(units)
    part_columns = min(columns, _PART[1])
    part_rows = min(rows, _PART[0], max(5, round(part_columns * rows / columns)))
    part = (np.arange(part_rows)[:, None] * columns + np.arange(part_columns)).ravel().tolist()
    tall = 3.2 if shown.pictures else 2.4  # Inches.
    narrow = tall * columns / max(rows, columns)
    wide = tall * part_columns / part_rows if shown.pictures else 0.0
    ratios = [narrow] * maps + ([wide] if wide else [])
    figure = Figure(
        figsize=(sum(ratios) + 0.25 * len(ratios) + 3.0, (tall + 0.4) * len(shown.networks) + 0.3),
        layout="constrained",
    )
    panels = figure.subplots(len(shown.networks), len(ratios), width_ratios=ratios, squeeze=False)
    plots.similarity_maps(shown.kernels, shown.grid, units, axes=panels[:, :maps])
    for line in panels:
        for axes, colour in zip(line[:maps], _COLOURS[: len(units)] * 2, strict=True):
            axes.title.set_color(colour)
    legend = ""
    if shown.pictures:
        for title, axes in zip(shown.networks, panels[:, maps], strict=True):
            alike = _most_alike(shown.kernels[title], shown.grid, units)
            shown.draw_pictures(title, part, axes, outlined=dict(zip(_COLOURS, alike, strict=False)))
        legend = f"; pictures: what excites a filter most; framed: it and the {_ALIKE:.0%} of filters most like it"
    figure.suptitle(
        f"{shown.name}; filters by row and column of the grid, from 0; grey: the filter itself{legend}",
        fontsize=9,
    )
    return figure


def _most_alike(kernel: np.ndarray, grid: Grid, units: Sequence[int]) -> list[list[int]]:
    """Each unit and those whose cosines with it are the largest of the layer."""
    count = max(1, round(_ALIKE * grid.units))
    rows = cosine_maps(topography.cosines(kernel), grid, units).reshape(len(units), -1)
    return [[unit, *np.argsort(-row)[:count].tolist()] for unit, row in zip(units, rows, strict=True)]


def _classes(shown: Shown, classes: dict[str, int]) -> Figure:
    """Figure 3: what classes excite, and two of the regions that they do enlarged."""
    statistics = {title: found.responses[shown.path] for title, found in shown.networks.items()}
    selective = {
        title: regions(found.selectivity(constant="nan"), shown.grid, threshold=_THRESHOLD)
        for title, found in statistics.items()
    }
    enlarged = _two_largest(list(selective.values())[-1], classes) if shown.pictures else {}
    rows, columns = shown.grid.shape
    scale = 2.6 / max(rows, columns)
    size = (
        (columns * scale + 0.3) * len(classes) + 2.7 * len(enlarged) + 1.6,
        max(rows * scale, 2.4 if enlarged else 0) * len(statistics) + 0.5 * len(statistics) + 0.3,
    )
    figure = Figure(figsize=size, layout="constrained")
    ratios = [columns * scale + 0.3] * len(classes) + [2.7] * len(enlarged)
    panels = figure.subplots(len(statistics), len(ratios), width_ratios=ratios, squeeze=False)
    plots.class_maps(
        {title: class_maps(found, shown.grid) for title, found in statistics.items()},
        classes,
        regions=selective,
        label="mean response",
        axes=panels[:, : len(classes)],
    )
    for line, (title, found) in zip(panels, shown.networks.items(), strict=True):
        for axes, index in zip(line, classes.values(), strict=False):
            axes.set_xlabel(f"test accuracy {found.class_accuracy[index]:.0%}", fontsize=8)
        for axes, (name, index) in zip(line[len(classes) :], enlarged.items(), strict=True):
            _enlarge(shown, title, name, [r for r in selective[title] if r.label == index], axes)
    legend = "; pictures: its largest region enlarged, framed its filters" if enlarged else ""
    figure.suptitle(
        f"{shown.name}; colour: mean response, outlined: t for the class above {_THRESHOLD:g}{legend}",
        fontsize=9,
    )
    return figure


def _preferences(shown: Shown, data: datasets.Dataset) -> Figure:
    """Which superclass, or class where there are none, every unit prefers, as trained and arranged."""
    names, groups = data.superclasses
    panels = {}
    for title, found in shown.networks.items():
        t = found.responses[shown.path].selectivity(groups or None, constant="nan")
        panels |= {f"{title}, as trained": t, f"{title}, arranged": t[:, found.orders[shown.path]]}
    readable = [name.replace("_", " ") for name in names or data.class_names]
    figure, _ = plots.preferred_classes({shown.name: panels}, dict.fromkeys(panels, shown.grid), readable)
    return figure


def _two_largest(found: Sequence[Region], classes: dict[str, int]) -> dict[str, int]:
    """The two classes with the largest regions, in the order they are drawn in."""
    largest = {
        index: max((region.size for region in found if region.label == index), default=0)
        for index in classes.values()
    }
    kept = sorted(largest, key=lambda index: -largest[index])[:2]
    return {name: index for name, index in classes.items() if index in kept}


def _enlarge(shown: Shown, title: str, name: str, found: Sequence[Region], axes: Any) -> None:
    """The pictures of a class's largest region and of what lies around it."""
    if not found:
        axes.text(0.5, 0.5, f"no filter responds\nto {name}", ha="center", va="center", fontsize=8)
        axes.set_axis_off()
        return
    members = max(found, key=lambda region: region.size).members
    columns = shown.grid.shape[1]
    places = np.stack(np.divmod(members, columns), 1)
    window = [_window(axis, limit) for axis, limit in zip(places.T, shown.grid.shape, strict=True)]
    part = (np.array(window[0])[:, None] * columns + np.array(window[1])).ravel().tolist()
    shown.draw_pictures(title, part, axes, outlined={_COLOURS[0]: members.tolist()})
    axes.set_title(f"{name}: {len(members)} filter{'s' * (len(members) > 1)}", fontsize=9)


def _window(places: np.ndarray, limit: int) -> range:
    """Rows or columns around some of them, within the grid."""
    length = min(limit, _ENLARGED, max(3, int(np.ptp(places)) + 3))
    start = round((places.min() + places.max() + 1 - length) / 2)
    start = min(max(start, 0), limit - length)
    return range(start, start + length)


def _pictures(shown: Shown) -> Figure:
    """What excites every filter of the layer most, on the grid."""
    rows, columns = shown.grid.shape
    scale = min(0.5, 16 / max(rows, columns))
    count = len(shown.networks)
    figure = Figure(figsize=((columns * scale + 0.4) * count, rows * scale + 0.6), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)
    for axes, title in zip(panels[0], shown.networks, strict=True):
        shown.draw_pictures(title, range(shown.grid.units), axes)
        axes.set_title(title, fontsize=11)
    dead = sum(int(found.dead.sum()) for found in shown.pictures.values())
    crossed = f"; crossed out: {dead} that nothing excites" if dead else ""
    figure.suptitle(f"{shown.name}: what excites each filter most, by row and column{crossed}", fontsize=9)
    return figure


def _top_images(shown: Shown, data: datasets.Dataset) -> Figure:
    """The test pictures that excite each filter most, of the last network."""
    title, found = list(shown.networks.items())[-1]
    figure, _ = plots.top_images(data.test_images, found.responses[shown.path].top_images, shown.grid)
    figure.suptitle(
        f"{title}, {shown.name}: the nine most exciting test pictures by row and column", fontsize=8
    )
    return figure
