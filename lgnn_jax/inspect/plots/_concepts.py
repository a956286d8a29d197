"""Figures of concepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lgnn_jax._grid import Grid, check_grid
from lgnn_jax.inspect._concept import Concept
from lgnn_jax.inspect.plots import _canvas as canvas

_INCHES = 2.6  # The longer side of a panel.


def concept_maps(
    concepts: Mapping[str, Concept], grid: Grid, *, rate: float = 0.05, axes: Any = None
) -> tuple[Figure, dict[str, np.ndarray]]:
    """What concepts change on the grid: a panel a concept, all on one scale.

    Red units respond more to images with the concept, blue ones less. Units found at the false discovery rate are
    outlined, and their number stands below.

    Args:
      concepts: By title what :func:`lgnn_jax.inspect.concept` gives, in the order of the units on the grid.
      grid: The layer's, of two dimensions.
      rate: The false discovery rate, between 0 and 1.
      axes: Matplotlib axes to draw on, ``(concepts,)``; None for a new figure.

    Returns:
      The figure, and by title the differences ``(m, n)``.

    Raises:
      ValueError: If there is no concept, the grid does not fit or has not two dimensions, the rate is no share, or
        axes do not fit.

    Example:
      >>> import jax, numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import concept, plots
      >>> draw = np.random.default_rng(0)
      >>> striped, plain = draw.standard_normal((20, 6)) + [3, 0, 0, 0, 0, 0], draw.standard_normal((20, 6))
      >>> found = concept(striped, plain, key=jax.random.key(0))
      >>> figure, maps = plots.concept_maps({"stripes": found}, Grid((2, 3)))
      >>> maps["stripes"].shape, figure.axes[0].get_xlabel()
      ((2, 3), '1 of 6 units at a false discovery rate of 0.05')
    """
    if not concepts:
        raise ValueError("There are no concepts to draw.")
    if len(grid.shape) != 2:
        raise ValueError(f"The grid must have two dimensions to be drawn, got {grid.size}.")
    for title, each in concepts.items():
        check_grid(grid, len(each.difference), f"concept {title!r}")
    maps = {title: each.difference.reshape(grid.shape) for title, each in concepts.items()}
    rows, columns = (side * _INCHES / max(grid.shape) for side in grid.shape)
    size = ((max(columns, 1.8) + 0.3) * len(maps) + 0.9, rows + 0.8)
    panels = canvas.panels(axes, (1, len(maps)), size)[0]
    largest = max(float(np.abs(values).max()) for values in maps.values()) or 1.0
    colours = ScalarMappable(Normalize(-largest, largest), canvas.DIVERGING)
    for panel, (title, values) in zip(panels, maps.items(), strict=True):
        found = concepts[title].units(rate)
        panel.imshow(values, cmap=colours.cmap, norm=colours.norm, interpolation="nearest")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(
            f"{len(found)} of {grid.units} units at a false discovery rate of {rate:g}", fontsize=7
        )
        canvas.outline(panel, found, grid.shape)
    figure = panels[0].figure
    figure.colorbar(colours, ax=panels.tolist(), label="difference of mean activations", shrink=0.8)
    return figure, maps
