"""Arrays to draw from a layer's weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid
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
      >>> from lgnn_jax.inspect.filters import tiles
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


def cosine_maps(kernel: jax.typing.ArrayLike, grid: Grid, units: jax.typing.ArrayLike) -> np.ndarray:
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
      >>> from lgnn_jax.inspect.filters import cosine_maps
      >>> cosine_maps(np.ones((1, 1, 2, 4)), Grid((2, 2)), [0]).tolist()
      [[[0.0, 1.0], [1.0, 1.0]]]

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 2, with the cosine in the place of the Gram matrix.
    """
    rows = filters(kernel, grid)
    units = np.asarray(units, np.int64)
    if units.ndim != 1 or ((units < 0) | (units >= grid.units)).any():
        raise ValueError(f"units must be indices from 0 to {grid.units - 1}, got {units.tolist()}.")
    norm = jnp.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / jnp.where(norm > 0, norm, 1)
    cosine = np.array(jnp.matmul(unit[units], unit.T, precision=lax.Precision.HIGHEST))
    cosine[np.arange(len(units)), units] = 0
    return cosine.clip(-1, 1).reshape(len(units), *grid.shape)
