"""The figure of which class every unit prefers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from lgnn_jax._grid import Grid, check_grid, coordinates
from lgnn_jax.inspect._regions import Region, label_regions, preferred
from lgnn_jax.inspect.plots import _canvas as canvas

_NONE = (0.85, 0.85, 0.85)  # Of a unit that prefers no class.
_INCHES, _CELL = 2.6, 0.16  # The longer side of a panel, at least, and that of a unit.
_REGION = 3  # Units of the smallest region in full colour.
_FONT, _LINE = 6.5, 12  # Points of a long name, and letters in a line of it.


def preferred_classes(
    selectivity: Mapping[str, Mapping[str, jax.typing.ArrayLike]],
    grids: Mapping[str, Grid],
    class_names: Sequence[str],
    *,
    named: int | None = None,
    axes: Any = None,
) -> tuple[Any, dict[str, dict[str, np.ndarray]]]:
    """Every unit in the colour of the class that it prefers: a row a network, a column a layer or an order.

    Units next to each other that prefer the same class are a region; below a panel stands how many regions there
    are and how large the largest is. Units alone or in pairs are paler. Large regions are outlined and bear their
    class's name, where the name of a larger one leaves room; a new figure of long names has a legend.

    Args:
      selectivity: By title of the network and of the column t of every class or superclass and unit,
        ``(classes, units)``, as :meth:`lgnn_jax.inspect.ResponseStatistics.selectivity` gives. A unit prefers the
        class with the largest; one that is NaN, or 0 for all, prefers none and is grey.
      grids: By title of the column, two-dimensional.
      class_names: A name a class.
      named: Units of the smallest region that is outlined and named; None for a fortieth of the units, at least 3.
      axes: Matplotlib axes to draw on, ``(networks, columns)``; None for a new figure.

    Returns:
      The figure, and by title the preferred classes ``(m, n)``, -1 for none.

    Raises:
      ValueError: If selectivities are not ``(classes, units)`` with a name a class and a grid's units, a grid has
        not two dimensions, or axes do not fit.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import plots
      >>> t = np.array([[5.0, 4.0, 0.0, -9.0], [0.0, 1.0, 0.0, 2.0]])
      >>> _, shown = plots.preferred_classes({"net": {"conv": t}}, {"conv": Grid((2, 2))}, ["cat", "dog"])
      >>> shown["net"]["conv"].tolist()
      [[0, 0], [-1, 1]]
    """
    shown = {
        row: {column: _preferred(t, grids[column], class_names, column) for column, t in layers.items()}
        for row, layers in selectivity.items()
    }
    longer = max(_INCHES, _CELL * max(max(grid.shape) for grid in grids.values()))
    sizes = {
        column: np.array(grid.shape[::-1]) * longer / max(grid.shape) for column, grid in grids.items()
    }
    wide = [max(float(size[0]), 1.2) + 0.3 for size in sizes.values()]
    legend = axes is None and max(map(len, class_names), default=0) > 2
    seen = sorted(
        {int(label) for row in shown.values() for labels in row.values() for label in np.unique(labels)}
    )
    columns = max(1, int(sum(wide) / 1.8))
    below = 0.2 * -(-len(seen) // columns) + 0.3 if legend else 0.0
    size = (
        sum(wide) + 0.5,
        len(shown) * (max(float(size[1]) for size in sizes.values()) + 0.5) + 0.3 + below,
    )
    panels = canvas.panels(axes, (len(shown), len(grids)), size)
    colours = _colours(len(class_names))
    for column, panel in zip(grids, panels[0], strict=True):
        panel.set_title(column, fontsize=10)
    for line, (row, layers) in zip(panels, shown.items(), strict=True):
        line[0].set_ylabel(row, fontsize=12)
        for panel, (column, labels) in zip(line, layers.items(), strict=True):
            found = label_regions(labels.ravel(), grids[column])
            panel.imshow(_shades(colours, labels, found), interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            largest = max((region.size for region in found), default=0)
            panel.set_xlabel(f"{len(found)} regions, largest {largest}", fontsize=8)
            least = max(_REGION, grids[column].units // 40) if named is None else named
            shown_regions = sorted((x for x in found if x.size >= least), key=lambda region: -region.size)
            for region in shown_regions:
                canvas.outline(panel, region.members, labels.shape)
            _names(panel, shown_regions, grids[column], class_names, longer / max(labels.shape))
    if legend:
        names = [class_names[label] if label >= 0 else "none" for label in seen]
        patches = [Patch(color=colours[label]) for label in seen]
        panels[0, 0].figure.legend(
            patches, names, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
        )
    return panels[0, 0].figure, shown


def _preferred(t: Any, grid: Grid, class_names: Sequence[str], column: str) -> np.ndarray:
    """The class that every unit prefers, ``(m, n)``, -1 for none."""
    values = np.asarray(t, np.float64)
    if values.ndim != 2 or len(values) != len(class_names):
        raise ValueError(
            f"selectivity of {column!r} must be (classes, units) of {len(class_names)} named classes, got shape "
            f"{values.shape}."
        )
    check_grid(grid, values.shape[1], f"selectivity of {column!r}")
    if len(grid.shape) != 2:
        raise ValueError(f"The grid of {column!r} must have two dimensions to be drawn, got {grid.size}.")
    return preferred(values).reshape(grid.shape)


def _colours(classes: int) -> np.ndarray:
    """A colour a class, and at the end, as of class -1, that of none."""
    if classes <= 20:
        chosen = colormaps["tab10" if classes <= 10 else "tab20"](np.arange(classes))
        # Grey is the colour of units that prefer none; a class is dark or pale instead.
        grey = np.flatnonzero(np.ptp(chosen[:, :3], axis=1) == 0)
        chosen[grey, :3] = np.reshape([(0.15, 0.15, 0.15), (1.0, 0.95, 0.7)], (2, 3))[: len(grey)]
    else:
        chosen = colormaps["hsv"](np.arange(classes) * 0.618 % 1)
    return np.concatenate([np.asarray(chosen)[:, :3], [_NONE]])


def _shades(colours: np.ndarray, labels: np.ndarray, found: Sequence[Region]) -> np.ndarray:
    """The colour of every unit, ``(m, n, 3)``, paler in regions of one or two."""
    shades = colours[labels].reshape(-1, 3)
    for region in found:
        if region.size < _REGION:
            shades[region.members] = 0.5 + shades[region.members] / 2
    return shades.reshape(*labels.shape, 3)


def _names(
    panel: Any, found: Sequence[Region], grid: Grid, class_names: Sequence[str], inches: float
) -> None:
    """Writes a class's name on the unit of a region that is nearest to its middle, where no other name is.

    Args:
      panel: Where to.
      found: Regions, the most important first.
      grid: Theirs.
      class_names: A name a class.
      inches: The side of a unit.
    """
    taken: list[np.ndarray] = []
    for region in found:
        name = class_names[region.label]
        points = _FONT if len(name) > 2 else 9
        lines = textwrap.wrap(name, _LINE, break_long_words=False) or [""]
        places = coordinates(grid)[region.members]
        middle = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
        # Half of what the name covers, in units: letters are about 0.55 as wide and 1.2 as high as their points.
        half = np.array([1.2 * len(lines), 0.55 * max(map(len, lines))]) * points / 72 / inches / 2
        middle = np.clip(middle, half - 0.5, np.maximum(np.array(grid.shape) - 0.5 - half, half - 0.5))
        box = np.stack([middle - half, middle + half])
        if any(((box[0] < other[1]) & (other[0] < box[1])).all() for other in taken):
            continue
        taken.append(box)
        panel.text(
            middle[1],
            middle[0],
            "\n".join(lines),
            ha="center",
            va="center",
            fontsize=points,
            linespacing=1.0,
            path_effects=[withStroke(linewidth=1.6, foreground="white")],
        )
