"""Figures; every function returns the figure and the arrays it shows, and shows nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lgnn_jax.grid import Grid
from lgnn_jax.inspect.filters import cosine_by_offset, cosine_maps, tiles

_COLOURS = "RdBu_r"  # Diverging, told apart with any colour vision.
_BETWEEN = (0.72, 0.80, 0.88)  # Between tiles: neither white nor black nor grey, as weights may be.


def first_layer(
    kernels: Mapping[str, jax.typing.ArrayLike], grid: Grid
) -> tuple[Figure, dict[str, np.ndarray]]:
    """The first-layer filters of several networks side by side, each on the grid.

    Args:
      kernels: First-layer kernels ``(height, width, 3, m * n)`` by title.
      grid: Their grid.

    Returns:
      The figure, and by title what :func:`lgnn_jax.inspect.filters.tiles` gives.
    """
    pictures = {title: tiles(kernel, grid) for title, kernel in kernels.items()}
    rows, columns = grid.shape
    figure = Figure(figsize=(3.2 * len(kernels), 3.2 * rows / columns + 0.5))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12))
    for axes, (title, tile) in zip(
        np.ravel(figure.subplots(1, len(pictures))), pictures.items(), strict=True
    ):
        _, _, height, width, channels = tile.shape
        scale, gap = 8, 3
        size = rows * (height * scale + gap) - gap, columns * (width * scale + gap) - gap
        canvas = np.broadcast_to(_BETWEEN, (*size, 3)).copy()
        for row, column in np.ndindex(rows, columns):
            top, left = row * (height * scale + gap), column * (width * scale + gap)
            picture = tile[row, column].repeat(scale, 0).repeat(scale, 1)
            canvas[top : top + height * scale, left : left + width * scale] = picture
        axes.imshow(canvas, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    return figure, pictures


def offset_maps(
    kernels: Mapping[str, Mapping[str, jax.typing.ArrayLike]],
    grids: Mapping[str, Grid],
    reach: int = 4,
) -> tuple[Figure, dict[str, dict[str, np.ndarray]]]:
    """How alike filters are by their offset on the grid: a row a network, a column a layer.

    Args:
      kernels: By title of the network, its kernels by layer.
      grids: The grids by layer, two-dimensional.
      reach: The largest offset in rows and in columns.

    Returns:
      The figure, and by title and layer what :func:`lgnn_jax.inspect.filters.cosine_by_offset` gives.
    """
    maps = {
        title: {layer: cosine_by_offset(kernel, grids[layer], reach) for layer, kernel in layers.items()}
        for title, layers in kernels.items()
    }
    # Offsets that only a few pairs have scatter widely; they may leave the scale.
    values = np.concatenate([means.ravel() for layers in maps.values() for means in layers.values()])
    largest = max(0.1, np.nanquantile(np.abs(values), 0.95))
    columns = len(grids)
    figure = Figure(figsize=(1.25 * columns + 1.6, 1.35 * len(maps) + 0.7), layout="constrained")
    panels = figure.subplots(len(maps), columns, squeeze=False)
    colours = ScalarMappable(Normalize(-largest, largest), _COLOURS)
    for row, (title, layers) in enumerate(maps.items()):
        panels[row, 0].set_ylabel(title, fontsize=11)
        for column, (layer, means) in enumerate(layers.items()):
            axes = panels[row, column]
            extent = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
            axes.imshow(means, cmap=colours.cmap, norm=colours.norm, extent=extent)
            axes.set_facecolor("0.85")
            axes.set_xticks([-reach, 0, reach] if row == len(maps) - 1 else [])
            axes.set_yticks([-reach, 0, reach] if column == columns - 1 else [])
            axes.yaxis.tick_right()
            axes.tick_params(labelsize=8)
            if row == 0:
                axes.set_title(layer, fontsize=10)
    figure.supxlabel("how far apart two filters are on the grid, in columns and in rows", fontsize=10)
    figure.colorbar(colours, ax=panels, label="mean cosine", shrink=0.9, aspect=30, extend="both")
    return figure, maps


def correlation_maps(
    kernels: Mapping[str, jax.typing.ArrayLike], grid: Grid, units: Sequence[int]
) -> tuple[Figure, dict[str, np.ndarray]]:
    """How a layer's filters resemble a few of them, over the grid: a row a network, a column a unit.

    Args:
      kernels: Kernels by title, the filters on ``grid.axis``.
      grid: Their grid, two-dimensional.
      units: Flat indices of the units to compare with; a cross marks each.

    Returns:
      The figure, and by title the cosines ``(len(units), m, n)``.
    """
    maps = {title: cosine_maps(kernel, grid, units) for title, kernel in kernels.items()}
    # The few filters that are nearly the same would leave the others pale.
    values = np.abs(np.concatenate([cosines.ravel() for cosines in maps.values()]))
    largest = max(0.1, np.quantile(values, 0.98))
    rows, columns = grid.shape
    scale = 2.4 / max(rows, columns)
    size = ((columns * scale + 0.5) * len(units) + 1.5, (rows * scale + 0.4) * len(maps) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(maps), len(units), squeeze=False)
    colours = ScalarMappable(Normalize(-largest, largest), _COLOURS)
    for line, (title, cosines) in zip(panels, maps.items(), strict=True):
        line[0].set_ylabel(title, fontsize=12)
        for axes, unit, cosine in zip(line, units, cosines, strict=True):
            row, column = divmod(unit, columns)
            others = np.ma.masked_array(cosine, mask=np.arange(grid.units).reshape(grid.shape) == unit)
            axes.imshow(others, cmap=colours.cmap, norm=colours.norm, interpolation="nearest")
            axes.set_facecolor("0.6")
            axes.plot(column, row, marker="x", color="black", markersize=5)
            axes.set_title(f"filter [{row}, {column}]", fontsize=10)
            axes.set_xticks([])
            axes.set_yticks([])
    figure.colorbar(
        colours, ax=panels, label="cosine with the marked filter", shrink=0.8, aspect=30, extend="both"
    )
    return figure, maps
