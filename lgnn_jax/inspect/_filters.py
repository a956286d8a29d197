"""Arrays to draw from a layer's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid, coordinates
from lgnn_jax.inspect._checks import indices
from lgnn_jax.topography import filters


def tiles(kernel: jax.typing.ArrayLike, grid: Grid) -> np.ndarray:
    """Every filter of a first layer as a picture on the grid, each scaled from its minimum to its maximum.

    Args:
      kernel: HWIO weights ``(height, width, 3, m * n)``, or one input channel instead of three.
      grid: The layer's grid, two-dimensional, on the last axis.

    Returns:
      Floats in [0, 1], ``(m, n, height, width, channels)``; a constant filter is 0.5 throughout.

    Raises:
      ValueError: If the kernel is not four-dimensional with 1 or 3 input channels, or the grid does not
        fit it.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import tiles
      >>> tiles(np.arange(3 * 3 * 3 * 4.0).reshape(3, 3, 3, 4), Grid((2, 2))).shape
      (2, 2, 3, 3, 3)

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 1.
    """
    kernel = np.asarray(kernel, np.float64)
    grid.check(kernel.shape, "kernel")
    if (
        kernel.ndim != 4
        or kernel.shape[2] not in (1, 3)
        or len(grid.shape) != 2
        or grid.axis not in (-1, 3)
    ):
        raise ValueError(
            "tiles draws first-layer kernels (height, width, 1 or 3, filters) on a grid of two dimensions "
            f"on the last axis; got shape {kernel.shape} and {grid}."
        )
    low, high = kernel.min(axis=(0, 1, 2)), kernel.max(axis=(0, 1, 2))
    spread = high - low
    scaled = np.where(spread > 0, (kernel - low) / np.where(spread > 0, spread, 1), 0.5)
    return np.moveaxis(scaled, -1, 0).reshape(*grid.shape, *kernel.shape[:3])


def cosine_maps(kernel: jax.typing.ArrayLike, grid: Grid, units: Sequence[int]) -> np.ndarray:
    """Cosine of some units' filters with all others, laid out on the grid; a unit with itself is 0.

    Args:
      kernel: Weights with the filters on ``grid.axis``.
      grid: The layer's grid.
      units: Flat indices of the units to draw, ``(count,)``.

    Returns:
      Floats in [-1, 1], ``(count, *grid.shape)``; filters that are exactly zero give 0.

    Raises:
      ValueError: If the grid does not fit the kernel or a unit is not on it.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import cosine_maps
      >>> cosine_maps(np.ones((1, 1, 2, 4)), Grid((2, 2)), [0]).round(3).tolist()
      [[[0.0, 1.0], [1.0, 1.0]]]

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 2, with the cosine in the place of the Gram matrix.
    """
    return _maps(_cosines(kernel, grid), grid, units)


def cosine_by_offset(kernel: jax.typing.ArrayLike, grid: Grid, reach: int = 4) -> np.ndarray:
    """Mean cosine between all filters that lie a given number of rows and columns apart.

    A layer without order gives the same everywhere; an organised one a hill around the centre.

    Args:
      kernel: Weights with the filters on ``grid.axis``.
      grid: The layer's grid, two-dimensional.
      reach: The largest offset in rows and in columns.

    Returns:
      Floats in [-1, 1], ``(2 * reach + 1, 2 * reach + 1)``, offset (0, 0) in the middle; NaN there and
      where the grid has no two filters so far apart.

    Raises:
      ValueError: If the grid does not fit the kernel or is not two-dimensional.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import cosine_by_offset
      >>> kernel = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # Two alike, and one at a right angle.
      >>> cosine_by_offset(kernel, Grid((1, 3)), reach=2)[2].round(1).tolist()
      [0.0, 0.5, nan, 0.5, 0.0]
    """
    if len(grid.shape) != 2:
        raise ValueError(f"cosine_by_offset is for grids of two dimensions, got {grid}.")
    cosine, position = _cosines(kernel, grid), coordinates(grid)
    offset = position[None, :] - position[:, None] + reach
    side = 2 * reach + 1
    near = ((offset >= 0) & (offset < side)).all(-1) & ~np.eye(grid.units, dtype=bool)
    index = offset[near] @ (side, 1)
    totals = np.bincount(index, cosine[near], side * side)
    counts = np.bincount(index, minlength=side * side)
    means = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return means.reshape(side, side)


def _cosines(kernel: jax.typing.ArrayLike, grid: Grid) -> np.ndarray:
    """Cosines between all filters, ``(units, units)``; 0 with a filter that is exactly zero."""
    rows = filters(kernel, grid)
    norm = jnp.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / jnp.where(norm > 0, norm, 1)
    return np.clip(jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST), -1, 1)


class Magnitudes(NamedTuple):
    """How large the filters of a layer are; logarithms are natural.

    ``log_deviation`` is the standard deviation of the logarithms over the filters that are not exactly zero,
    ``small`` counts those under a thousandth of the median (the zeros among them), ``zero`` the exact zeros.
    """

    smallest: float
    largest: float
    log_deviation: float
    small: int
    zero: int


def magnitudes(kernel: jax.typing.ArrayLike, grid: Grid) -> Magnitudes:
    """The statistics of Table III: of ``|w_i|``, the L2 norm of every filter's weights.

    A filter that no gradient reaches is worn off by weight decay, so few tiny ones mean that few were idle.

    Args:
      kernel: Weights with the filters on ``grid.axis``.
      grid: The layer's grid.

    Returns:
      :class:`Magnitudes`; ``smallest`` is the smallest that is not exactly zero.

    Raises:
      ValueError: If the grid does not fit the kernel, or the weights are not finite or all zero.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import magnitudes
      >>> found = magnitudes(np.array([[3.0, 0.0, 1e-4, 1.0], [4.0, 0.0, 0.0, 0.0]]), Grid((2, 2)))
      >>> found.largest, found.small, found.zero
      (5.0, 2, 1)

    Source:
      Tan, Khan, Guan, IJCNN 2020, Table III.
    """
    kernel = np.asarray(kernel, np.float64)
    grid.check(kernel.shape, "kernel")
    norms = np.linalg.norm(np.moveaxis(kernel, grid.axis, 0).reshape(grid.units, -1), axis=1)
    alive = norms[norms > 0]
    if not np.isfinite(norms).all() or not len(alive):
        raise ValueError(
            f"magnitudes needs finite weights that are not all zero; of {grid.units} filters "
            f"{int((~np.isfinite(norms)).sum())} are not finite and {grid.units - len(alive)} are zero."
        )
    small = int((norms < 1e-3 * np.median(norms)).sum())
    deviation = float(np.log(alive).std())
    return Magnitudes(float(alive.min()), float(alive.max()), deviation, small, grid.units - len(alive))


def gram_maps(kernel: jax.typing.ArrayLike, grid: Grid, units: Sequence[int]) -> np.ndarray:
    """Inner products ``w_i . w_j`` of some units' filters with all others, on the grid; with itself 0.

    Large filters dominate it; :func:`cosine_maps` is the same for filters of length one.

    Args:
      kernel: Weights with the filters on ``grid.axis``.
      grid: The layer's grid.
      units: Flat indices of the units to draw, ``(count,)``.

    Returns:
      Floats ``(count, *grid.shape)``.

    Raises:
      ValueError: If the grid does not fit the kernel or a unit is not on it.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import gram_maps
      >>> gram_maps(np.array([[1.0, 2.0, 0.0, 3.0]]), Grid((2, 2)), [1]).tolist()
      [[[2.0, 0.0], [0.0, 6.0]]]

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 2.
    """
    rows = filters(kernel, grid)
    return _maps(np.array(jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)), grid, units)


def _maps(similarity: np.ndarray, grid: Grid, units: Sequence[int]) -> np.ndarray:
    """Rows of a matrix between all units, laid out on the grid, with 0 for a unit and itself."""
    chosen = indices(units, grid.units)
    maps = similarity[chosen]
    maps[np.arange(len(chosen)), chosen] = 0
    return maps.reshape(len(chosen), *grid.shape)
