"""Figures of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lgnn_jax._grid import Grid, coordinates
from lgnn_jax.inspect._filters import cosine_by_offset, cosine_maps, gram_maps, tiles
from lgnn_jax.inspect.plots import _canvas as canvas
from lgnn_jax.topography import cosines

_ZOOM = 8  # Of a weight, so that the gaps are narrow.


def first_layer(
    kernels: Mapping[str, Any], grid: Grid, *, axis: int = -1, axes: Any = None
) -> tuple[Figure, dict[str, np.ndarray]]:
    """The first-layer filters of several networks side by side, each on the grid.

    Args:
      kernels: First-layer kernels ``(height, width, 3, m * n)`` by title.
      grid: Their grid.
      axis: The axis that counts the filters; with 0 kernels are ``(m * n, 3, height, width)``.
      axes: Matplotlib axes to draw on, ``(networks,)``; None for a new figure.

    Returns:
      The figure, and by title what :func:`lgnn_jax.inspect.tiles` gives.
    """
    images = {title: tiles(kernel, grid, axis=axis) for title, kernel in kernels.items()}
    rows, columns = grid.shape
    panels = canvas.panels(axes, (1, len(images)), (3.2 * len(kernels), 3.2 * rows / columns + 0.5))
    figure = panels[0, 0].figure
    if axes is None:
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12))
    for panel, (title, tile) in zip(panels[0], images.items(), strict=True):
        flat = tile.reshape(-1, *tile.shape[2:]).repeat(_ZOOM, 1).repeat(_ZOOM, 2)
        flat = np.broadcast_to(flat, (*flat.shape[:3], 3))
        panel.imshow(canvas.lay_out(flat, coordinates(grid), gap=3), interpolation="nearest")
        panel.set_title(title)
        panel.set_axis_off()
    return figure, images


def offset_maps(
    kernels: Mapping[str, Mapping[str, Any]],
    grids: Mapping[str, Grid],
    reach: int = 4,
    *,
    axis: int = -1,
    axes: Any = None,
) -> tuple[Figure, dict[str, dict[str, np.ndarray]]]:
    """How alike filters are by their offset on the grid: a row a network, a column a layer.

    Args:
      kernels: By title of the network, its kernels by layer.
      grids: The grids by layer, two-dimensional.
      reach: The largest offset in rows and in columns.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.
      axes: Matplotlib axes to draw on, ``(networks, layers)``; None for a new figure.

    Returns:
      The figure, and by title and layer what :func:`lgnn_jax.inspect.cosine_by_offset` gives.
    """
    maps = {
        title: {
            layer: cosine_by_offset(cosines(kernel, axis), grids[layer], reach)
            for layer, kernel in layers.items()
        }
        for title, layers in kernels.items()
    }
    # Offsets that only a few pairs have scatter widely; they may leave the scale.
    values = np.concatenate([means.ravel() for layers in maps.values() for means in layers.values()])
    largest = max(0.1, np.nanquantile(np.abs(values), 0.95))
    columns = len(grids)
    panels = canvas.panels(axes, (len(maps), columns), (1.25 * columns + 1.6, 1.35 * len(maps) + 0.7))
    figure = panels[0, 0].figure
    colours = ScalarMappable(Normalize(-largest, largest), canvas.DIVERGING)
    for row, (title, layers) in enumerate(maps.items()):
        panels[row, 0].set_ylabel(title, fontsize=11)
        for column, (layer, means) in enumerate(layers.items()):
            panel = panels[row, column]
            extent = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
            panel.imshow(means, cmap=colours.cmap, norm=colours.norm, extent=extent)
            panel.set_facecolor("0.85")
            panel.set_xticks([-reach, 0, reach] if row == len(maps) - 1 else [])
            panel.set_yticks([-reach, 0, reach] if column == columns - 1 else [])
            panel.yaxis.tick_right()
            panel.tick_params(labelsize=8)
            if row == 0:
                panel.set_title(layer, fontsize=10)
    if axes is None:
        figure.supxlabel("how far apart two filters are on the grid, in columns and in rows", fontsize=10)
    figure.colorbar(colours, ax=panels, label="mean cosine", shrink=0.9, aspect=30, extend="both")
    return figure, maps


def correlation_maps(
    kernels: Mapping[str, Any], grid: Grid, units: Sequence[int], *, axis: int = -1, axes: Any = None
) -> tuple[Figure, dict[str, np.ndarray]]:
    """How a layer's filters resemble a few of them, over the grid: a row a network, a column a unit.

    Args:
      kernels: Kernels by title.
      grid: Their grid, two-dimensional.
      units: Flat indices of the units to compare with; a cross marks each.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.
      axes: Matplotlib axes to draw on, ``(networks, len(units))``; None for a new figure.

    Returns:
      The figure, and by title the cosines ``(len(units), m, n)``.
    """
    maps = {title: cosine_maps(cosines(kernel, axis), grid, units) for title, kernel in kernels.items()}
    largest = max(0.1, _scale(list(maps.values())))
    rows, columns = grid.shape
    scale = 2.4 / max(rows, columns)
    size = ((columns * scale + 0.5) * len(units) + 1.5, (rows * scale + 0.4) * len(maps) + 0.3)
    panels = canvas.panels(axes, (len(maps), len(units)), size)
    figure = panels[0, 0].figure
    colours = ScalarMappable(Normalize(-largest, largest), canvas.DIVERGING)
    for line, (title, arrays) in zip(panels, maps.items(), strict=True):
        line[0].set_ylabel(title, fontsize=12)
        for panel, unit, array in zip(line, units, arrays, strict=True):
            _mark(panel, array, unit, colours)
    figure.colorbar(
        colours, ax=panels, label="cosine with the marked filter", shrink=0.8, aspect=30, extend="both"
    )
    return figure, maps


def similarity_maps(
    kernels: Mapping[str, Any], grid: Grid, units: Sequence[int], *, axis: int = -1, axes: Any = None
) -> tuple[Figure, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Inner products and cosines of a few filters with all others, over the grid: a row a network.

    The inner products of the paper on the left, which large filters dominate, with a scale a network; the
    cosines on the right, with one scale for all. Both scales end at the 98th percentile.

    Args:
      kernels: Kernels by title.
      grid: Their grid, two-dimensional.
      units: Flat indices of the units to compare with; a cross marks each.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.
      axes: Matplotlib axes to draw on, ``(networks, 2 * len(units))``; None for a new figure.

    Returns:
      The figure, and by title the inner products and the cosines, each ``(len(units), m, n)``.

    Raises:
      ValueError: If the grid does not fit, a unit is not on it, or axes do not fit.

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 2.
    """
    maps = {
        title: (
            gram_maps(kernel, grid, units, axis=axis),
            cosine_maps(cosines(kernel, axis), grid, units),
        )
        for title, kernel in kernels.items()
    }
    shape, (rows, columns) = (len(maps), 2 * len(units)), grid.shape
    scale = 2.4 / max(rows, columns)
    size = ((columns * scale + 0.25) * shape[1] + 3.0, (rows * scale + 0.4) * shape[0] + 0.3)
    panels = canvas.panels(axes, shape, size)
    figure = panels[0, 0].figure
    cosine_scale = _scale([alike for _, alike in maps.values()])
    for line, (title, (grams, alike)) in zip(panels, maps.items(), strict=True):
        line[0].set_ylabel(title, fontsize=12)
        halves = line[: len(units)], line[len(units) :]
        for half, values, largest, label in zip(
            halves,
            (grams, alike),
            (_scale([grams]), cosine_scale),
            ("inner product", "cosine"),
            strict=True,
        ):
            colours = ScalarMappable(Normalize(-largest, largest), canvas.DIVERGING)
            for panel, unit, value in zip(half, units, values, strict=True):
                _mark(panel, value, unit, colours)
            figure.colorbar(colours, ax=half.tolist(), label=label, shrink=0.8, aspect=25, extend="both")
    return figure, maps


def _scale(maps: Sequence[np.ndarray]) -> float:
    """Where a scale ends so that the few filters that are nearly the same do not leave the others pale."""
    values = np.abs(np.concatenate([values.ravel() for values in maps]))
    return float(np.quantile(values, 0.98)) or float(values.max()) or 1.0


def _mark(panel: Any, values: np.ndarray, unit: int, colours: ScalarMappable) -> None:
    """Draws a unit's map, with a cross on grey where it is itself."""
    row, column = divmod(unit, values.shape[1])
    own = np.arange(values.size).reshape(values.shape) == unit
    panel.imshow(
        np.ma.masked_array(values, own), cmap=colours.cmap, norm=colours.norm, interpolation="nearest"
    )
    panel.set_facecolor("0.6")
    panel.plot(column, row, marker="x", color="black", markersize=5)
    panel.set_title(f"filter [{row}, {column}]", fontsize=10)
    panel.set_xticks([])
    panel.set_yticks([])
