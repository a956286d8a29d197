"""Arrays to draw from a layer's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._grid import Grid, as_axis, check_axis, check_grid, coordinates
from lgnn_jax._moved import moved
from lgnn_jax._tree import unboxed
from lgnn_jax.inspect._checks import indices
from lgnn_jax.topography import filters
from lgnn_jax.topography._liveness import nearly_zero
from lgnn_jax.topography._similarity import as_similarity, check_finite


def tiles(kernel: Any, grid: Grid, *, axis: int = -1) -> np.ndarray:
    """Every filter of a first layer as an image on the grid, each scaled from its minimum to its maximum.

    Args:
      kernel: HWIO weights ``(height, width, 3, m * n)``, or one input channel instead of three; with an
        ``axis`` of 0 OIHW weights ``(m * n, 3, height, width)``.
      grid: The layer's grid, two-dimensional.
      axis: The axis that counts the filters, -1 or 0.

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
    kernel = np.asarray(unboxed(kernel), np.float64)
    axis = check_axis(grid, kernel.shape, axis, "kernel")
    hwio = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 and axis == 0 else kernel
    if hwio.ndim != 4 or hwio.shape[2] not in (1, 3) or len(grid.shape) != 2 or axis not in (0, 3):
        raise ValueError(
            "tiles draws first-layer kernels (height, width, 1 or 3, filters), or (filters, 1 or 3, height, "
            f"width) with axis=0, on a grid of two dimensions; got shape {kernel.shape}, axis {axis} and {grid}."
        )
    low, high = hwio.min(axis=(0, 1, 2)), hwio.max(axis=(0, 1, 2))
    spread = high - low
    scaled = np.where(spread > 0, (hwio - low) / np.where(spread > 0, spread, 1), 0.5)
    return np.moveaxis(scaled, -1, 0).reshape(*grid.shape, *hwio.shape[:3])


def cosine_maps(similarity: jax.typing.ArrayLike, grid: Grid, units: Sequence[int]) -> np.ndarray:
    """Cosine of some units' filters with all others, laid out on the grid; a unit with itself is 0.

    Args:
      similarity: ``(units, units)``, of :func:`lgnn_jax.topography.cosines`.
      grid: The layer's grid.
      units: Flat indices of the units to draw, ``(count,)``.

    Returns:
      Floats in [-1, 1], ``(count, *grid.shape)``; dead units give 0.

    Raises:
      ValueError: If ``similarity`` is none, the grid does not fit it or a unit is not on it.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid, topography
      >>> from lgnn_jax.inspect import cosine_maps
      >>> similarity = topography.cosines(np.ones((1, 1, 1, 4)))
      >>> cosine_maps(similarity, Grid((2, 2)), [0]).tolist()
      [[[0.0, 1.0], [1.0, 1.0]]]

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 2, with the cosine in the place of the Gram matrix.
    """
    return _maps(_checked(similarity, grid), grid, units)


def cosine_by_offset(similarity: jax.typing.ArrayLike, grid: Grid, reach: int = 4) -> np.ndarray:
    """Mean cosine between all filters that lie a given number of rows and columns apart.

    A layer without order gives the same everywhere; an organised one a hill around the centre. On a torus
    offsets go the short way round.

    Args:
      similarity: ``(units, units)``, of :func:`lgnn_jax.topography.cosines`.
      grid: The layer's grid, two-dimensional.
      reach: The largest offset in rows and in columns.

    Returns:
      Floats in [-1, 1], ``(2 * reach + 1, 2 * reach + 1)``, offset (0, 0) in the middle; NaN there and
      where the grid has no two filters so far apart.

    Raises:
      ValueError: If ``similarity`` is none, the grid does not fit it or is not two-dimensional.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid, topography
      >>> from lgnn_jax.inspect import cosine_by_offset
      >>> kernel = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # Two alike, and one at a right angle.
      >>> cosine_by_offset(topography.cosines(kernel), Grid((1, 3)), reach=2)[2].tolist()
      [0.0, 0.5, nan, 0.5, 0.0]
    """
    if len(grid.shape) != 2:
        raise ValueError(f"cosine_by_offset is for grids of two dimensions, got {grid}.")
    cosine, position = _checked(similarity, grid), coordinates(grid)
    offset = position[None, :] - position[:, None]
    sizes = np.array(grid.shape)
    sides = sizes if grid.wrap else 2 * sizes - 1
    others = ~np.eye(grid.units, dtype=bool)
    index = (offset[others] % sides) @ (sides[1], 1)  # Of an offset below 0 from the end.
    totals = np.bincount(index, cosine[others], sides.prod())
    counts = np.bincount(index, minlength=sides.prod())
    means = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan).reshape(*sides)
    wanted = np.arange(-reach, reach + 1)
    found = means[np.ix_(wanted % sides[0], wanted % sides[1])]
    far = [np.abs(wanted) > (side // 2 if grid.wrap else side - 1) for side in grid.shape]
    return np.where(far[0][:, None] | far[1], np.nan, found)


def _checked(similarity: jax.typing.ArrayLike, grid: Grid) -> np.ndarray:
    """The similarity, which fits the grid."""
    matrix, _ = as_similarity(similarity)
    check_grid(grid, len(matrix), "similarity")
    return matrix


class Magnitudes(NamedTuple):
    """How large the filters of a layer are; logarithms are natural.

    ``log_std`` is the standard deviation of the logarithms over the filters that are not exactly zero,
    ``small`` counts those that are dead as in :func:`lgnn_jax.topography.dead_share`, under a thousandth of the
    median or exactly zero, and ``zero`` the exact zeros among them.
    """

    smallest: float
    largest: float
    log_std: float
    small: int
    zero: int


@moved("grid", grid="It lays nothing out: write magnitudes(kernel, axis=-1).")
def magnitudes(kernel: Any, *, axis: int = -1) -> Magnitudes:
    """The statistics of Table III: of ``|w_i|``, the L2 norm of every filter's weights.

    A filter that no gradient reaches is worn off by weight decay, so few tiny ones mean that few were idle.

    Args:
      kernel: Weights, in a box of Flax's or not.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.

    Returns:
      :class:`Magnitudes`; ``smallest`` is the smallest that is not exactly zero.

    Raises:
      ValueError: If the kernel has no such axis, or the weights are not finite or all zero.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect import magnitudes
      >>> found = magnitudes(np.array([[3.0, 0.0, 1e-4, 1.0], [4.0, 0.0, 0.0, 0.0]]))
      >>> found.largest, found.small, found.zero
      (5.0, 2, 1)

    Source:
      Tan, Khan, Guan, IJCNN 2020, Table III.
    """
    rows = np.moveaxis(np.asarray(unboxed(kernel), np.float64), as_axis(axis), 0)
    norms = np.linalg.norm(rows.reshape(len(rows), -1), axis=1)
    alive = norms[norms > 0]
    if not np.isfinite(norms).all() or not len(alive):
        raise ValueError(
            f"magnitudes needs finite weights that are not all zero; of {len(norms)} filters "
            f"{int((~np.isfinite(norms)).sum())} are not finite and {int((norms == 0).sum())} are zero."
        )
    small = int(nearly_zero(norms).sum())
    std = float(np.log(alive).std())
    return Magnitudes(float(alive.min()), float(alive.max()), std, small, len(norms) - len(alive))


def gram_maps(kernel: Any, grid: Grid, units: Sequence[int], *, axis: int = -1) -> np.ndarray:
    """Inner products ``w_i . w_j`` of some units' filters with all others, on the grid; with itself 0.

    Large filters dominate it; :func:`cosine_maps` is the same for filters of length one.

    Args:
      kernel: Weights, in a box of Flax's or not.
      grid: The layer's grid.
      units: Flat indices of the units to draw, ``(count,)``.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.

    Returns:
      Floats ``(count, *grid.shape)``.

    Raises:
      ValueError: If the grid does not fit the kernel or a unit is not on it, or the weights are not finite.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import gram_maps
      >>> gram_maps(np.array([[1.0, 2.0, 0.0, 3.0]]), Grid((2, 2)), [1]).tolist()
      [[[2.0, 0.0], [0.0, 6.0]]]

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 2.
    """
    check_axis(grid, np.shape(unboxed(kernel)), axis, "kernel")
    check_finite(kernel, "kernel holds")
    rows = filters(kernel, axis)
    return _maps(np.array(jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)), grid, units)


def _maps(similarity: np.ndarray, grid: Grid, units: Sequence[int]) -> np.ndarray:
    """Rows of a matrix between all units, laid out on the grid, with 0 for a unit and itself."""
    chosen = indices(units, grid.units)
    maps = similarity[chosen]
    maps[np.arange(len(chosen)), chosen] = 0
    return maps.reshape(len(chosen), *grid.shape)
