"""Figures of images at their units' places on the grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lgnn_jax._grid import Grid, coordinates
from lgnn_jax.inspect._checks import indices
from lgnn_jax.inspect.plots import _canvas as canvas


def top_images(
    images: jax.typing.ArrayLike,
    top: jax.typing.ArrayLike,
    grid: Grid,
    units: Sequence[int] | None = None,
    *,
    axes: Any = None,
) -> tuple[Figure, dict[int, np.ndarray]]:
    """The images that activate each unit most, as a square tile at the unit's place on the grid.

    Args:
      images: What ``top`` counts, ``(images, height, width, 1 or 3)``, bytes or floats in [0, 1].
      top: Indices of images, best first, ``(units, top)``, as in
        :class:`lgnn_jax.inspect.ResponseStatistics`; nine make tiles of 3x3.
      grid: The layer's grid, two-dimensional.
      units: Flat indices of the units to draw; None for all. The part of the grid that holds them is drawn.
      axes: Matplotlib axes to draw on; None for a new figure.

    Returns:
      The figure, and by unit its tile in [0, 1], ``(side * height, side * width, 3)``.

    Raises:
      ValueError: If images do not have that shape, or an index or the grid does not fit.
    """
    images, order = np.asarray(images), np.asarray(top)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images must be (images, height, width, 1 or 3), got shape {images.shape}.")
    if len(grid.shape) != 2 or order.ndim != 2 or len(order) != grid.units or not order.shape[1]:
        raise ValueError(
            f"top must be (units, top) on a grid of two dimensions, got {order.shape} and {grid}."
        )
    chosen = _chosen(units, grid)
    if order[chosen].min() < 0 or order[chosen].max() >= len(images):
        raise ValueError(f"top must be indices of {len(images)} images.")
    side = math.isqrt(order.shape[1])
    used = _in_unit_range(images[order[chosen, : side * side]], "images")
    height, width = (side * size for size in images.shape[1:3])
    square = used.reshape(len(chosen), side, side, *images.shape[1:]).swapaxes(2, 3)
    tiles = _coloured(square.reshape(len(chosen), height, width, -1))
    axes, _ = _draw(tiles, chosen, grid, axes)
    return axes.figure, {int(unit): tile for unit, tile in zip(chosen, tiles, strict=True)}


def filter_images(
    images: jax.typing.ArrayLike,
    grid: Grid,
    units: Sequence[int] | None = None,
    *,
    dead: jax.typing.ArrayLike | None = None,
    outlined: Mapping[str, Sequence[int]] | None = None,
    axes: Any = None,
) -> tuple[Figure, dict[int, np.ndarray]]:
    """An image of each unit at its place on the grid, such as those that activate it most.

    Args:
      images: ``(units, height, width, 1 or 3)`` of all units of the grid, bytes or floats in [0, 1], as of
        :func:`lgnn_jax.inspect.visualise`.
      grid: The layer's grid, two-dimensional.
      units: Flat indices of the units to draw; None for all.
      dead: Which units have no image, booleans ``(units,)``; they are crossed out.
      outlined: Units to put a frame around, by the frame's colour, which Matplotlib knows; frames of one
        unit lie inside each other. Units that are not drawn are passed over.
      axes: Matplotlib axes to draw on; None for a new figure.

    Returns:
      The figure, and by unit its image in [0, 1], ``(height, width, 3)``.

    Raises:
      ValueError: If images are none, or they, a unit or ``dead`` do not fit the grid.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import plots
      >>> images = np.random.default_rng(0).random((6, 8, 8, 3))
      >>> figure, drawn = plots.filter_images(images, Grid((3, 2)), [0, 1, 2, 3], outlined={"red": [1, 2]})
      >>> list(drawn), drawn[0].shape
      ([0, 1, 2, 3], (8, 8, 3))
    """
    given = np.asarray(images)
    if given.ndim != 4 or given.shape[-1] not in (1, 3) or len(given) != grid.units or len(grid.shape) != 2:
        raise ValueError(
            "images must be (units, height, width, 1 or 3) on a grid of two dimensions, got shape "
            f"{given.shape} and {grid}."
        )
    chosen = _chosen(units, grid)
    crossed = np.zeros(grid.units, bool) if dead is None else np.asarray(dead, bool)
    if crossed.shape != (grid.units,):
        raise ValueError(f"dead must be ({grid.units},), got shape {crossed.shape}.")
    tiles = _coloured(_in_unit_range(given[chosen], "images"))
    shown = np.where(crossed[chosen, None, None, None], canvas.BETWEEN, tiles)
    axes, corners = _draw(shown, chosen, grid, axes, frames=bool(outlined))
    height, width = tiles.shape[1:3]
    for unit, (y, x) in corners.items():
        if crossed[unit]:
            for ends in ((y, y + height - 1), (y + height - 1, y)):
                axes.plot((x, x + width - 1), ends, color="0.35", linewidth=0.8)
        step = _gap(width, True) / 2
        colours = [colour for colour, members in (outlined or {}).items() if unit in members]
        for depth, colour in enumerate(colours):
            edge = (0.25 - depth) * step
            axes.add_patch(
                Rectangle(
                    (x - 0.5 - edge, y - 0.5 - edge),
                    width + 2 * edge,
                    height + 2 * edge,
                    fill=False,
                    edgecolor=colour,
                    linewidth=1.8,
                )
            )
    return axes.figure, {int(unit): tile for unit, tile in zip(chosen, tiles, strict=True)}


def _chosen(units: Sequence[int] | None, grid: Grid) -> np.ndarray:
    """Flat indices of the units to draw."""
    return np.arange(grid.units) if units is None else indices(units, grid.units, least=1)


def _in_unit_range(images: np.ndarray, name: str) -> np.ndarray:
    """Bytes or floats in [0, 1] as floats."""
    scaled = images / 255 if images.dtype == np.uint8 else images.astype(np.float64)
    if not ((scaled >= 0) & (scaled <= 1)).all():
        raise ValueError(f"{name} must be bytes or floats in [0, 1].")
    return scaled


def _coloured(tiles: np.ndarray) -> np.ndarray:
    """Grey tiles with three channels."""
    return np.broadcast_to(tiles, (*tiles.shape[:-1], 3))


def _gap(width: int, frames: bool) -> int:
    return max(4, width // 5) if frames else max(2, width // 16)


def _draw(
    tiles: np.ndarray, units: np.ndarray, grid: Grid, axes: Any, *, frames: bool = False
) -> tuple[Any, dict[int, tuple[int, int]]]:
    """Tiles at their units' places in the part of the grid that holds them, and their upper left corners."""
    position = coordinates(grid)[units]
    first = position.min(0)
    places = position - first
    rows, columns = places.max(0) + 1
    height, width = tiles.shape[1:3]
    gap = _gap(width, frames)
    if axes is None:
        scale = min(1.2, 16 / max(rows, columns))
        figure = Figure(figsize=(scale * columns, scale * rows + 0.3), layout="constrained")
        axes = figure.subplots()
    image = canvas.lay_out(tiles, places, gap)
    axes.imshow(image, interpolation="nearest")
    if frames:  # Those of tiles at the border need room too.
        axes.set_xlim(-0.5 - gap, image.shape[1] - 0.5 + gap)
        axes.set_ylim(image.shape[0] - 0.5 + gap, -0.5 - gap)
        axes.set_facecolor(canvas.BETWEEN)
    axes.set_xticks(np.arange(columns) * (width + gap) + (width - 1) / 2, np.arange(columns) + first[1])
    axes.set_yticks(np.arange(rows) * (height + gap) + (height - 1) / 2, np.arange(rows) + first[0])
    axes.tick_params(length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    corners = (places * (height + gap, width + gap)).tolist()
    return axes, {int(unit): (y, x) for unit, (y, x) in zip(units, corners, strict=True)}
