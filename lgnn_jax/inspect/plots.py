"""Figures; every function returns the figure and the arrays it shows, and shows nothing itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lgnn_jax.grid import Grid, coordinates
from lgnn_jax.inspect.filters import cosine_by_offset, cosine_maps, gram_maps, tiles
from lgnn_jax.inspect.regions import Region

_COLOURS = "RdBu_r"  # Diverging, told apart with any colour vision.
_BETWEEN = (0.72, 0.80, 0.88)  # Between tiles: neither white nor black nor grey, as weights may be.


def first_layer(
    kernels: Mapping[str, jax.typing.ArrayLike], grid: Grid, *, axes: Any = None
) -> tuple[Figure, dict[str, np.ndarray]]:
    """The first-layer filters of several networks side by side, each on the grid.

    Args:
      kernels: First-layer kernels ``(height, width, 3, m * n)`` by title.
      grid: Their grid.
      axes: Matplotlib axes to draw on, ``(networks,)``; None for a new figure.

    Returns:
      The figure, and by title what :func:`lgnn_jax.inspect.filters.tiles` gives.
    """
    pictures = {title: tiles(kernel, grid) for title, kernel in kernels.items()}
    rows, columns = grid.shape
    panels = _panels(axes, (1, len(pictures)), (3.2 * len(kernels), 3.2 * rows / columns + 0.5))
    figure = panels[0, 0].figure
    if axes is None:
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12))
    for panel, (title, tile) in zip(panels[0], pictures.items(), strict=True):
        _, _, height, width, channels = tile.shape
        scale, gap = 8, 3
        size = rows * (height * scale + gap) - gap, columns * (width * scale + gap) - gap
        canvas = np.broadcast_to(_BETWEEN, (*size, 3)).copy()
        for row, column in np.ndindex(rows, columns):
            top, left = row * (height * scale + gap), column * (width * scale + gap)
            picture = tile[row, column].repeat(scale, 0).repeat(scale, 1)
            canvas[top : top + height * scale, left : left + width * scale] = picture
        panel.imshow(canvas, interpolation="nearest")
        panel.set_title(title)
        panel.set_axis_off()
    return figure, pictures


def _panels(axes: Any, shape: tuple[int, int], size: tuple[float, float]) -> np.ndarray:
    """The axes that were given, or those of a new figure of ``size`` inches, as an array of ``shape``."""
    if axes is None:
        return Figure(figsize=size, layout="constrained").subplots(*shape, squeeze=False)
    panels = np.array(axes, object, ndmin=2)
    if panels.shape != shape:
        raise ValueError(f"axes must be {shape}, got {panels.shape}.")
    return panels


def offset_maps(
    kernels: Mapping[str, Mapping[str, jax.typing.ArrayLike]],
    grids: Mapping[str, Grid],
    reach: int = 4,
    *,
    axes: Any = None,
) -> tuple[Figure, dict[str, dict[str, np.ndarray]]]:
    """How alike filters are by their offset on the grid: a row a network, a column a layer.

    Args:
      kernels: By title of the network, its kernels by layer.
      grids: The grids by layer, two-dimensional.
      reach: The largest offset in rows and in columns.
      axes: Matplotlib axes to draw on, ``(networks, layers)``; None for a new figure.

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
    panels = _panels(axes, (len(maps), columns), (1.25 * columns + 1.6, 1.35 * len(maps) + 0.7))
    figure = panels[0, 0].figure
    colours = ScalarMappable(Normalize(-largest, largest), _COLOURS)
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
    kernels: Mapping[str, jax.typing.ArrayLike], grid: Grid, units: Sequence[int], *, axes: Any = None
) -> tuple[Figure, dict[str, np.ndarray]]:
    """How a layer's filters resemble a few of them, over the grid: a row a network, a column a unit.

    Args:
      kernels: Kernels by title, the filters on ``grid.axis``.
      grid: Their grid, two-dimensional.
      units: Flat indices of the units to compare with; a cross marks each.
      axes: Matplotlib axes to draw on, ``(networks, len(units))``; None for a new figure.

    Returns:
      The figure, and by title the cosines ``(len(units), m, n)``.
    """
    maps = {title: cosine_maps(kernel, grid, units) for title, kernel in kernels.items()}
    largest = max(0.1, _scale(list(maps.values())))
    rows, columns = grid.shape
    scale = 2.4 / max(rows, columns)
    size = ((columns * scale + 0.5) * len(units) + 1.5, (rows * scale + 0.4) * len(maps) + 0.3)
    panels = _panels(axes, (len(maps), len(units)), size)
    figure = panels[0, 0].figure
    colours = ScalarMappable(Normalize(-largest, largest), _COLOURS)
    for line, (title, cosines) in zip(panels, maps.items(), strict=True):
        line[0].set_ylabel(title, fontsize=12)
        for panel, unit, cosine in zip(line, units, cosines, strict=True):
            _mark(panel, cosine, unit, colours)
    figure.colorbar(
        colours, ax=panels, label="cosine with the marked filter", shrink=0.8, aspect=30, extend="both"
    )
    return figure, maps


def similarity_maps(
    kernels: Mapping[str, jax.typing.ArrayLike], grid: Grid, units: Sequence[int], *, axes: Any = None
) -> tuple[Figure, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Inner products and cosines of a few filters with all others, over the grid: a row a network.

    The inner products of the paper on the left, which large filters dominate, with a scale a network; the
    cosines on the right, with one scale for all. Both scales end at the 98th percentile.

    Args:
      kernels: Kernels by title, the filters on ``grid.axis``.
      grid: Their grid, two-dimensional.
      units: Flat indices of the units to compare with; a cross marks each.
      axes: Matplotlib axes to draw on, ``(networks, 2 * len(units))``; None for a new figure.

    Returns:
      The figure, and by title the inner products and the cosines, each ``(len(units), m, n)``.

    Raises:
      ValueError: If the grid does not fit, a unit is not on it, or axes do not fit.

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 2.
    """
    maps = {
        title: (gram_maps(kernel, grid, units), cosine_maps(kernel, grid, units))
        for title, kernel in kernels.items()
    }
    shape, (rows, columns) = (len(maps), 2 * len(units)), grid.shape
    scale = 2.4 / max(rows, columns)
    size = ((columns * scale + 0.25) * shape[1] + 3.0, (rows * scale + 0.4) * shape[0] + 0.3)
    panels = _panels(axes, shape, size)
    figure = panels[0, 0].figure
    cosine_scale = _scale([cosines for _, cosines in maps.values()])
    for line, (title, (grams, cosines)) in zip(panels, maps.items(), strict=True):
        line[0].set_ylabel(title, fontsize=12)
        halves = line[: len(units)], line[len(units) :]
        for half, values, largest, label in zip(
            halves,
            (grams, cosines),
            (_scale([grams]), cosine_scale),
            ("inner product", "cosine"),
            strict=True,
        ):
            colours = ScalarMappable(Normalize(-largest, largest), _COLOURS)
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


def class_maps(
    maps: Mapping[str, jax.typing.ArrayLike],
    classes: Mapping[str, int],
    *,
    regions: Mapping[str, Sequence[Region]] | None = None,
    label: str = "mean response",
    axes: Any = None,
) -> tuple[Figure, dict[str, np.ndarray]]:
    """What some classes excite, over the grid: a row a network, a column a class.

    A row has one scale: from blue to red around 0 where it has values below 0, else from low
    to high.

    Args:
      maps: By title of the network ``(classes, m, n)``, as :func:`lgnn_jax.inspect.responses.class_maps`
        gives, or selectivities laid out likewise.
      classes: The classes to draw, by their names.
      regions: By title regions to outline, each on its own class, on a grid without wrapping.
      label: What the values are.
      axes: Matplotlib axes to draw on, ``(networks, classes)``; None for a new figure.

    Returns:
      The figure, and by title the maps drawn, ``(len(classes), m, n)``.

    Raises:
      ValueError: If maps are not ``(classes, m, n)`` and finite where drawn (NaN may mark units), a
        class is not among them, or axes do not fit.

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 3.
    """
    chosen = np.array(list(classes.values()), np.int64)
    drawn = {}
    for title, values in maps.items():
        array = np.asarray(values, np.float64)
        if array.ndim != 3 or not len(chosen) or chosen.min() < 0 or chosen.max() >= len(array):
            raise ValueError(
                f"maps of {title!r} must be (classes, m, n) with classes {chosen.tolist()}, got {array.shape}."
            )
        drawn[title] = array[chosen]
        if np.isinf(drawn[title]).any() or np.isnan(drawn[title]).all():
            raise ValueError(f"maps of {title!r} are infinite somewhere or NaN everywhere.")
    if not drawn:
        raise ValueError("There are no maps to draw.")
    rows, columns = next(iter(drawn.values())).shape[1:]
    scale = 2.4 / max(rows, columns)
    size = ((columns * scale + 0.3) * len(chosen) + 1.6, (rows * scale + 0.4) * len(drawn) + 0.2)
    panels = _panels(axes, (len(drawn), len(chosen)), size)
    figure = panels[0, 0].figure
    # Long names in letters as small as it takes to stay above their own panels.
    letters = (columns * scale + 0.2) / 0.075 / max(map(len, classes))
    fontsize = min(10.0, max(5.0, 10 * letters)) if axes is None else 10.0
    for row, (title, arrays) in enumerate(drawn.items()):
        line = panels[row]
        low, high = np.nanmin(arrays), np.nanmax(arrays)
        largest = max(abs(low), abs(high))
        norm = Normalize(-largest, largest) if low < 0 else Normalize(low, high)
        colours = ScalarMappable(norm, _COLOURS if low < 0 else "viridis")
        line[0].set_ylabel(title, fontsize=12)
        for panel, (name, index), array in zip(line, classes.items(), arrays, strict=True):
            panel.imshow(array, cmap=colours.cmap, norm=colours.norm, interpolation="nearest")
            panel.set_facecolor("0.6")
            panel.set_xticks([])
            panel.set_yticks([])
            if row == 0:
                panel.set_title(name, fontsize=fontsize)
            for region in (regions or {}).get(title, ()):
                if region.label == index:
                    _outline(panel, region.members, array.shape)
        figure.colorbar(colours, ax=line.tolist(), label=label, shrink=0.8, aspect=20)
    return figure, drawn


def _outline(panel: Any, members: np.ndarray, shape: tuple[int, int]) -> None:
    """Draws a line around units of a grid."""
    inside = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    inside[1:-1, 1:-1].flat[members] = True
    for row, column in np.argwhere(inside[:, 1:] != inside[:, :-1]) - (1, 0):
        panel.plot([column - 0.5] * 2, [row - 0.5, row + 0.5], color="black", linewidth=1.2)
    for row, column in np.argwhere(inside[1:] != inside[:-1]) - (0, 1):
        panel.plot([column - 0.5, column + 0.5], [row - 0.5] * 2, color="black", linewidth=1.2)


def top_images(
    images: jax.typing.ArrayLike,
    top: jax.typing.ArrayLike,
    grid: Grid,
    units: Sequence[int] | None = None,
    *,
    axes: Any = None,
) -> tuple[Figure, dict[int, np.ndarray]]:
    """The images that excite each unit most, as a square tile at the unit's place on the grid.

    Args:
      images: What ``top`` counts, ``(images, height, width, 1 or 3)``, bytes or floats in [0, 1].
      top: Indices of images, best first, ``(units, top)``, as in
        :class:`lgnn_jax.inspect.responses.ResponseStatistics`; nine make tiles of 3x3.
      grid: The layer's grid, two-dimensional.
      units: Flat indices of the units to draw; None for all. The part of the grid that holds them is drawn.
      axes: Matplotlib axes to draw on; None for a new figure.

    Returns:
      The figure, and by unit its tile in [0, 1], ``(side * height, side * width, 3)``.

    Raises:
      ValueError: If images are not pictures, or an index or the grid does not fit.
    """
    pictures, order = np.asarray(images), np.asarray(top)
    if pictures.ndim != 4 or pictures.shape[-1] not in (1, 3):
        raise ValueError(f"images must be (images, height, width, 1 or 3), got shape {pictures.shape}.")
    if len(grid.shape) != 2 or order.ndim != 2 or len(order) != grid.units or not order.shape[1]:
        raise ValueError(
            f"top must be (units, top) on a grid of two dimensions, got {order.shape} and {grid}."
        )
    chosen = np.arange(grid.units) if units is None else np.asarray(units, np.int64)
    if chosen.ndim != 1 or not len(chosen) or chosen.min() < 0 or chosen.max() >= grid.units:
        raise ValueError(f"units must be indices from 0 to {grid.units - 1}, got {chosen.tolist()}.")
    if order[chosen].min() < 0 or order[chosen].max() >= len(pictures):
        raise ValueError(f"top must be indices of {len(pictures)} images.")
    side = math.isqrt(order.shape[1])
    used = pictures[order[chosen, : side * side]]
    used = used / 255 if used.dtype == np.uint8 else used.astype(np.float64)
    if not ((used >= 0) & (used <= 1)).all():
        raise ValueError("images must be bytes or floats in [0, 1].")
    height, width = (side * size for size in pictures.shape[1:3])
    square = used.reshape(len(chosen), side, side, *pictures.shape[1:]).swapaxes(2, 3)
    tiled = np.broadcast_to(square.reshape(len(chosen), height, width, -1), (len(chosen), height, width, 3))
    position = coordinates(grid)[chosen]
    first = position.min(0)
    rows, columns = position.max(0) - first + 1
    gap = max(2, width // 16)
    size = rows * (height + gap) - gap, columns * (width + gap) - gap
    canvas = np.broadcast_to(_BETWEEN, (*size, 3)).copy()
    for (row, column), tile in zip(position - first, tiled, strict=True):
        y, x = row * (height + gap), column * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    if axes is None:
        scale = min(1.2, 16 / max(rows, columns))
        figure = Figure(figsize=(scale * columns, scale * rows + 0.3), layout="constrained")
        axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest")
    axes.set_xticks(np.arange(columns) * (width + gap) + (width - 1) / 2, np.arange(columns) + first[1])
    axes.set_yticks(np.arange(rows) * (height + gap) + (height - 1) / 2, np.arange(rows) + first[0])
    axes.tick_params(length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes.figure, {int(unit): tile for unit, tile in zip(chosen, tiled, strict=True)}
