"""Metrics of a self-organising map: how near its units come to samples, and whether its matches touch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._grid import Grid, check_grid, neighbours
from lgnn_jax._moved import moved
from lgnn_jax._tree import unboxed
from lgnn_jax.topography._null import Score, check_permutations, orders, pair_sums, score
from lgnn_jax.topography._similarity import check_finite, filters


@moved(
    "grid",
    grid="The error does not depend on where units sit: write quantisation_error(codebook, samples).",
)
def quantisation_error(codebook: jax.typing.ArrayLike, samples: jax.typing.ArrayLike) -> float:
    """Mean distance of the samples from their best-matching units: ``mean min_i |x - w_i|``.

    Args:
      codebook: The units' vectors, ``(units, d)``; of a kernel give ``filters(kernel)``.
      samples: ``(n, d)``.

    Returns:
      The mean Euclidean distance. It does not depend on where units sit, so it has no permutation null.

    Raises:
      ValueError: If the codebook does not fit the samples, has fewer than two units, or either holds NaN or
        infinities; if all units are identical.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> codebook, samples = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[0.5], [2.0]])
      >>> topography.quantisation_error(codebook, samples)
      0.25

    Source:
      Kohonen, "Self-Organizing Maps", 2001; MiniSom's ``quantization_error``.
    """
    error, _, _ = _matches(codebook, samples)
    return error


def topographic_error(
    codebook: jax.typing.ArrayLike,
    samples: jax.typing.ArrayLike,
    grid: Grid,
    *,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Share of the samples whose two best-matching units do not touch on the grid.

    Units touch at an edge or a corner (8 neighbours in a plane). The lower the better, so organised maps
    have a negative ``z``, and ``p`` is of the lower side.

    Args:
      codebook: The units' vectors, ``(units, d)``; of a kernel give ``filters(kernel)``.
      samples: ``(n, d)``.
      grid: The map's grid, with two units or more that do not touch.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between 0 and 1.

    Raises:
      ValueError: If the codebook does not fit the grid or the samples, or either holds NaN or infinities;
        if all units are identical or all touch; if the null has no spread; if ``permutations`` is below 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> codebook, samples = jnp.array([[0.0], [2.0], [1.0]]), jnp.array([[0.4], [1.6]])
      >>> topography.topographic_error(codebook, samples, Grid((3,))).value
      0.5

    Source:
      Kiviluoto, "Topology preservation in self-organizing maps", 1996; MiniSom's ``topographic_error`` on
      a rectangular grid.
    """
    check_permutations(permutations)
    check_grid(grid, len(_vectors(codebook)), "codebook")
    touching = np.concatenate([neighbours(grid), neighbours(grid, diagonal=True)])
    if len(touching) == grid.units * (grid.units - 1) // 2:
        raise ValueError(
            f"All units of a grid of {grid.size} touch, so no sample can be in error. Give a grid with a "
            f"length of {4 if grid.wrap else 3} or more."
        )
    _, best, second = _matches(codebook, samples)
    shares = np.zeros((grid.units, grid.units))
    np.add.at(shares, (best, second), 1 / len(best))
    order = orders(key, permutations, np.full(grid.units, True))
    first, second = touching.T
    sums = pair_sums(shares + shares.T, first, second, np.ones(len(touching)), order)
    return score(1 - sums, side="less")


def _vectors(codebook: Any) -> np.ndarray:
    """The codebook on the host, checked."""
    vectors = np.asarray(unboxed(codebook))
    if vectors.ndim != 2:
        raise ValueError(
            f"codebook must be (units, d), got shape {vectors.shape}. Of a kernel give filters(kernel)."
        )
    check_finite(vectors, "codebook holds")
    return vectors


def _matches(codebook: Any, samples: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean distance to the best-matching unit, and each sample's best and second-best units."""
    vectors, samples = _vectors(codebook), np.asarray(samples)
    if samples.ndim != 2 or samples.shape[1] != vectors.shape[1] or not len(samples):
        raise ValueError(
            f"samples must be (n, {vectors.shape[1]}), as long as the codebook's vectors, got {samples.shape}."
        )
    if len(vectors) < 2:
        raise ValueError(f"A self-organising map needs two units or more, got {len(vectors)}.")
    check_finite(samples, "samples hold")
    rows = filters(vectors, 0)
    differ, error, best, second = jax.device_get(_best(rows, jnp.asarray(samples, rows.dtype)))
    if not differ:
        raise ValueError(
            f"All {len(vectors)} units of the codebook are identical: wanted units that differ."
        )
    return float(error), best, second


@jax.jit
def _best(rows: jax.Array, samples: jax.Array):
    """Whether rows differ, the mean distance, and the two nearest rows."""
    middle = rows.mean(axis=0, keepdims=True)  # Taken away for the rounding's sake.
    w, x = rows - middle, samples - middle
    square = (w * w).sum(1)[None] - 2 * jnp.matmul(x, w.T, precision=lax.Precision.HIGHEST)
    best = square.argmin(1)
    own = jnp.arange(len(rows), dtype=best.dtype)[None] == best[:, None]
    second = jnp.where(own, jnp.inf, square).argmin(1)
    error = jnp.sqrt(((samples - rows[best]) ** 2).sum(1)).mean()
    return (rows != rows[:1]).any(), error, best, second
