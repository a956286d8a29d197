"""The figure of which class every unit prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib import colormaps
from matplotlib.patheffects import withStroke

from lgnn_jax._grid import Grid, check_grid, coordinates
from lgnn_jax.inspect._regions import Region, label_regions, preferred
from lgnn_jax.inspect.plots import _canvas as canvas

_NONE = (0.85, 0.85, 0.85)  # Of a unit that prefers no class.
_INCHES = 2.6  # The longer side of a panel.


def preferred_classes(
    selectivity: Mapping[str, Mapping[str, jax.typing.ArrayLike]],
    grids: Mapping[str, Grid],
    class_names: Sequence[str],
    *,
    named: int = 3,
    axes: Any = None,
) -> tuple[Any, dict[str, dict[str, np.ndarray]]]:
    """Every unit in the colour of the class that it prefers: a row a network, a column a layer or an order.

    Units next to each other that prefer the same class are a region; below a panel stands how many regions there
    are and how large the largest is.

    Args:
      selectivity: By title of the network and of the column t of every class or superclass and unit,
        ``(classes, units)``, as :meth:`lgnn_jax.inspect.ResponseStatistics.selectivity` gives. A unit prefers the
        class with the largest; one that is NaN, or 0 for all, prefers none and is grey.
      grids: By title of the column, two-dimensional.
      class_names: A name a class.
      named: Units of the smallest region that bears its class's name.
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
    sizes = {
        column: np.array(grid.shape[::-1]) * _INCHES / max(grid.shape) for column, grid in grids.items()
    }
    wide = [float(size[0]) + 0.3 for size in sizes.values()]
    size = (sum(wide) + 0.5, len(shown) * (max(float(size[1]) for size in sizes.values()) + 0.5) + 0.3)
    panels = canvas.panels(axes, (len(shown), len(grids)), size)
    colours = _colours(len(class_names))
    for column, panel in zip(grids, panels[0], strict=True):
        panel.set_title(column, fontsize=10)
    for line, (row, layers) in zip(panels, shown.items(), strict=True):
        line[0].set_ylabel(row, fontsize=12)
        for panel, (column, labels) in zip(line, layers.items(), strict=True):
            panel.imshow(colours[labels], interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            found = label_regions(labels.ravel(), grids[column])
            largest = max((region.size for region in found), default=0)
            panel.set_xlabel(f"{len(found)} regions, largest {largest}", fontsize=8)
            for region in found:
                canvas.outline(panel, region.members, labels.shape)
                if region.size >= named:
                    _name(panel, region, grids[column], class_names[region.label])
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


def _name(panel: Any, region: Region, grid: Grid, name: str) -> None:
    """Writes the class on the unit of a region that is nearest to its middle."""
    places = coordinates(grid)[region.members]
    middle = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    panel.text(
        middle[1],
        middle[0],
        name,
        ha="center",
        va="center",
        fontsize=6 if len(name) > 2 else 9,
        path_effects=[withStroke(linewidth=1.6, foreground="white")],
    )
