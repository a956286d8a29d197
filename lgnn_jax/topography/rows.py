"""Filters and responses as rows, and the cosines between them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid


def filters(kernel: jax.typing.ArrayLike, grid: Grid) -> jax.Array:
    """The filters of a kernel as rows: ``(units, weights per filter)``, at least float32.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> topography.filters(jnp.zeros((3, 3, 16, 64)), Grid((8, 8))).shape
      (64, 144)
    """
    kernel = jnp.asarray(kernel)
    grid.check(kernel.shape, "kernel")
    rows = jnp.moveaxis(kernel, grid.axis, 0).reshape(grid.units, -1)
    return rows.astype(jnp.promote_types(rows.dtype, jnp.float32))


def cosines(kernel: jax.typing.ArrayLike, grid: Grid, centre: bool) -> tuple[jax.Array, np.ndarray]:
    """Cosines between all rows ``(units, units)``, and which rows have a direction, ``(units,)``.

    Raises:
      ValueError: If the kernel does not fit the grid, holds NaN or infinities, has fewer than two rows
        with a direction, or all of them point the same way.
    """
    if centre and np.ndim(kernel) != 2:
        raise ValueError(
            f"centre=True is for responses (images, units), got an array of {np.ndim(kernel)} dimensions. Average "
            "responses over space first."
        )
    cosine, finite, alive, least = _cosines(filters(kernel, grid), centre)
    finite, alive, least = jax.device_get((finite, alive, least))
    what = "constant" if centre else "exactly zero"
    if not finite:
        raise ValueError("kernel holds NaN or infinite values; its topography is not defined.")
    if alive.sum() < 2:
        raise ValueError(
            f"kernel has no two filters that are not {what} ({alive.sum()} of {grid.units} filters are "
            "not), so there is no cosine to look at. Give at least two live filters."
        )
    if least > 1 - 1e-5:
        hint = "" if centre else " For responses, centre=True takes each unit's mean away."
        raise ValueError(
            f"All {alive.sum()} live filters of kernel are identical up to their scale, which is no "
            f"topography: wanted filters of at least two directions.{hint}"
        )
    return cosine, alive


@functools.partial(jax.jit, static_argnums=1)
def _cosines(rows: jax.Array, centre: bool):
    """Cosines, whether all is finite, which rows have a direction, and the least cosine among those."""
    finite = jnp.isfinite(rows).all()
    unit, alive = _directions(rows, centre)
    cosine = jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST)
    least = jnp.where(alive[:, None] & alive[None], cosine, 1).min()
    return cosine, finite, alive, least


def _directions(rows: jax.Array, centre: bool) -> tuple[jax.Array, jax.Array]:
    """Rows of length 1, or 0 where they are zero (constant, if centred), and which are not."""
    if centre:
        rows = centred(rows)
    largest = jnp.abs(rows).max(axis=1, keepdims=True)
    scaled = rows / jnp.where(largest > 0, largest, 1)  # Tiny filters would square to zero.
    norm = jnp.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return scaled / jnp.where(norm > 0, norm, 1), norm[:, 0] > 0


def centred(rows: jax.Array) -> jax.Array:
    """Rows less their means; a constant row becomes exactly zero, whatever the rounding."""
    shifted = rows - rows[:, :1]
    return shifted - shifted.mean(axis=1, keepdims=True)


def rows_of_similarity(similarity: np.typing.ArrayLike) -> np.ndarray:
    """Rows whose cosines are the given similarities: ``rows @ rows.T == similarity``.

    For a correlation matrix accumulated over batches of images: its rows are a kernel to every metric of
    this module that takes cosines, with ``Grid(shape, axis=0)``. Negative eigenvalues, which rounding
    leaves, become 0.

    Args:
      similarity: Symmetric ``(units, units)``, with 1 on the diagonal; a dead unit has 0 in all of its
        row and column.

    Returns:
      Float64 rows ``(units, units)``; those of dead units are exactly 0.

    Raises:
      ValueError: If the matrix is not square, finite and symmetric, its diagonal holds anything but 1 and
        0, or it is not one of cosines (its negative eigenvalues are more than rounding).

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid, topography
      >>> rows = topography.rows_of_similarity([[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])
      >>> round(topography.neighbour_cosine(rows, Grid((3,), axis=0)).value, 6)
      0.5
    """
    matrix = np.asarray(similarity, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 2:
        raise ValueError(f"similarity must be (units, units), at least two, got shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise ValueError(
            "similarity holds NaN or infinities. Set the rows and columns of dead units, whose "
            "correlations are not defined, to 0."
        )
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-4):
        raise ValueError(
            f"similarity must be symmetric, got differences of {np.abs(matrix - matrix.T).max():.3g}."
        )
    diagonal, dead = np.diag(matrix), ~matrix.any(axis=1)
    if np.abs(diagonal - 1)[~dead].max(initial=0) > 1e-3:
        raise ValueError(
            "similarity must have 1 on its diagonal (0 for dead units, with their rows), got "
            f"{diagonal.min():.3g} to {diagonal.max():.3g}. Divide a covariance by both standard deviations."
        )
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    rows = vectors * np.sqrt(eigenvalues.clip(0))
    rows[dead] = 0
    if np.abs(rows @ rows.T - matrix).max() > 1e-2:
        raise ValueError(
            f"similarity is not a matrix of cosines: it has an eigenvalue of {eigenvalues[0]:.3g}, so no "
            "rows have these cosines. Give cosines or correlations of all units over the same images."
        )
    return rows
