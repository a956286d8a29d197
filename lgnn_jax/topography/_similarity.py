"""How alike units are: cosines between filters, correlations between responses; what every metric takes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._dtypes import at_least_float32
from lgnn_jax._grid import Grid, as_axis, check_grid
from lgnn_jax._moved import moved
from lgnn_jax._tree import unboxed

CENTRE = "Of responses give correlations(responses) as the similarity."


@moved(grid="Write filters(kernel, axis=-1) with the axis that counts the filters.")
def filters(kernel: Any, axis: int = -1) -> jax.Array:
    """The filters of a kernel as rows: ``(units, weights per filter)``, at least float32.

    Args:
      kernel: Weights, in a box of Flax's or not.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.

    Raises:
      ValueError: If the kernel has no such axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> topography.filters(jnp.zeros((3, 3, 16, 64))).shape
      (64, 144)
    """
    kernel = jnp.asarray(unboxed(kernel))
    if isinstance(axis, Grid):
        raise TypeError(
            f"There is an axis where a grid was: write axis=-1, or the one that counts, for {axis}."
        )
    axis = as_axis(axis)
    if not -kernel.ndim <= axis < kernel.ndim:
        raise ValueError(
            f"kernel of shape {kernel.shape} has no axis {axis}. Give the axis that counts its filters."
        )
    units = kernel.shape[axis]
    return at_least_float32(jnp.moveaxis(kernel, axis, 0).reshape(units, kernel.size // max(units, 1)))


@moved(grid="Write cosines(kernel, axis=-1) with the axis that counts the filters.", centre=CENTRE)
def cosines(kernel: Any, axis: int = -1) -> jax.Array:
    """Cosines between all filters of a kernel: ``w_i . w_j / (|w_i| |w_j|)``.

    Computed once, they are what metrics take as their similarity.

    Args:
      kernel: Weights, in a box of Flax's or not.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.

    Returns:
      Floats in [-1, 1], ``(units, units)``, 1 on the diagonal. A filter that is exactly zero has no
      direction: its row, its column and its place on the diagonal are 0, by which metrics know that it is
      dead.

    Raises:
      ValueError: If the kernel has no such axis, or holds NaN or infinities.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> topography.cosines(jnp.array([[1.0, 2.0, 0.0]])).tolist()  # Three filters of one weight.
      [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    check_finite(kernel, "kernel holds")
    return _cosines(filters(kernel, axis), centre=False)


def correlations(responses: Any) -> jax.Array:
    """Pearson's correlations between the responses of all units over images.

    Args:
      responses: ``(images, units)``, such as means over space of responses to held-out images.

    Returns:
      Floats in [-1, 1], ``(units, units)``, 1 on the diagonal. A constant unit correlates with nothing: its
      row, its column and its place on the diagonal are 0, by which metrics know that it is dead.

    Raises:
      ValueError: If the responses are not ``(images, units)``, or hold NaN or infinities.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> responses = jnp.array([[1.0, 5.0, 7.0], [2.0, 4.0, 7.0], [3.0, 3.0, 7.0]])
      >>> topography.correlations(responses).round(2).tolist()
      [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if np.ndim(unboxed(responses)) != 2:
        raise ValueError(
            f"responses must be (images, units), got an array of {np.ndim(unboxed(responses))} dimensions. Average "
            "responses over space first."
        )
    check_finite(responses, "responses hold")
    return _cosines(filters(responses), centre=True)


@functools.partial(jax.jit, static_argnames="centre")
def _cosines(rows: jax.Array, centre: bool) -> jax.Array:
    unit, alive = _directions(centred(rows) if centre else rows)
    cosine = jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST).clip(-1, 1)
    own = jnp.eye(rows.shape[0], dtype=bool)
    return jnp.where(own, alive[:, None].astype(cosine.dtype), cosine)


def _directions(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows of length 1, or 0 where they are zero, and which are not."""
    largest = jnp.abs(rows).max(axis=1, keepdims=True, initial=0)
    scaled = rows / jnp.where(largest > 0, largest, 1)  # Tiny filters would square to zero.
    norm = jnp.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return scaled / jnp.where(norm > 0, norm, 1), norm[:, 0] > 0


def centred(rows: jax.Array) -> jax.Array:
    """Rows less their means; a constant row becomes exactly zero, whatever the rounding."""
    shifted = rows - rows[:, :1]
    return shifted - shifted.mean(axis=1, keepdims=True)


def check_finite(x: Any, holder: str) -> None:
    """Raises ``ValueError`` for NaN or infinities; on the host, before anything is computed with them."""
    if not np.isfinite(np.asarray(unboxed(x))).all():
        raise ValueError(
            f"{holder} NaN or infinite values, which nothing can be measured of; give finite ones."
        )


_HINT = "Of a kernel give topography.cosines(kernel), of responses topography.correlations(responses)."


def as_similarity(similarity: Any) -> tuple[np.ndarray, np.ndarray]:
    """A similarity as a NumPy array, float32 or float64, and which units are alive.

    Raises:
      ValueError: If it is no symmetric ``(units, units)`` of cosines, with 1 on the diagonal, or 0 in all of
        a dead unit's row and column.
    """
    matrix = np.asarray(unboxed(similarity))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"similarity must be (units, units), got shape {matrix.shape}. {_HINT}")
    matrix = at_least_float32(matrix)
    if not np.isfinite(matrix).all():
        raise ValueError(
            "similarity holds NaN or infinite values. Set the rows and columns of dead units, whose "
            "correlations are not defined, to 0."
        )
    asymmetry = np.abs(matrix - matrix.T).max(initial=0)
    if asymmetry > 1e-4:
        raise ValueError(f"similarity must be symmetric, got differences of {asymmetry:.3g}. {_HINT}")
    diagonal = np.diagonal(matrix)
    alive = np.abs(matrix).max(axis=1, initial=0) > 0
    if np.abs(diagonal - 1)[alive].max(initial=0) > 1e-3:
        raise ValueError(
            "similarity must have 1 on its diagonal (0 for dead units, with their rows), got "
            f"{diagonal.min():.3g} to {diagonal.max():.3g}. Divide a covariance by both stds. {_HINT}"
        )
    if np.abs(matrix).max(initial=0) > 1 + 1e-3:
        raise ValueError(
            f"similarity must be cosines in [-1, 1], got {matrix.min():.3g} to {matrix.max():.3g}. {_HINT}"
        )
    return matrix, alive


def check_similarity(similarity: Any, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`as_similarity`, with something to measure on the grid.

    Raises:
      ValueError: As there; if the grid has another number of units; if fewer than two are alive, or all of
        them are alike.
    """
    matrix, alive = as_similarity(similarity)
    check_grid(grid, len(matrix), "similarity")
    if alive.sum() < 2:
        raise ValueError(
            f"similarity has no two live units ({alive.sum()} of {grid.units} are; a dead one has 0 on the "
            "diagonal), so there is nothing to compare. Give at least two that are not zero or constant."
        )
    if matrix[np.ix_(alive, alive)].min() > 1 - 1e-5:
        raise ValueError(
            f"All {alive.sum()} live units of similarity are identical up to their scale, which is no "
            "topography: wanted at least two directions. Of responses give correlations(responses), which "
            "takes each unit's mean away."
        )
    return matrix, alive


def dead_units(similarity: Any) -> int:
    """How many units are dead: zero filters, or responses that never change.

    Args:
      similarity: ``(units, units)``, of :func:`cosines` or :func:`correlations`.

    Raises:
      ValueError: If the similarity is none.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> topography.dead_units(topography.cosines(jnp.array([[1.0, 2.0, 0.0]])))
      1
    """
    _, alive = as_similarity(similarity)
    return int(alive.size - alive.sum())
