"""Metrics of a grid as a layout of its filters, and of a self-organising map's samples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid, distances, neighbours
from lgnn_jax.topography.null import Score, check_permutations, orders, pair_sums, score
from lgnn_jax.topography.rows import cosines, filters


def trustworthiness(
    kernel: jax.typing.ArrayLike,
    grid: Grid,
    *,
    neighbours: int = 5,
    centre: bool = False,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Whether neighbours on the grid are neighbours among the filters, by rank of their cosines.

    ``1 - 2 / (n k (2n - 3k - 1)) * sum_i sum_{j in U_i} max(0, r(i, j) - k)``, where ``k`` is
    ``neighbours``, ``n`` the number of live filters, ``U_i`` the ``k`` nearest units on the grid and
    ``r(i, j)`` the rank of filter ``j`` by its cosine with filter ``i``, the most similar first. A grid
    has many equal distances: units that tie for the last places share them, so this is the mean over ways
    of breaking ties. Equal cosines share their mean rank.

    Args:
      kernel: Weights, with the filters on ``grid.axis``; or responses ``(images, units)``. Filters that
        are exactly zero (constant, if centred) are left out.
      grid: The layer's grid.
      neighbours: Nearest units looked at, at least 1 and less than half of the live filters.
      centre: Whether to subtract each filter's mean first, which turns the cosine of responses into
        Pearson's correlation.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between 0 and 1, about a half by chance.

    Raises:
      ValueError: If the kernel does not fit the grid, holds NaN or infinities, or has only identical
        filters; if ``neighbours`` is out of range; if the null has no spread; if ``permutations`` is
        below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> kernel = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
      >>> score = topography.trustworthiness(kernel, Grid((16,)), key=jax.random.key(0))
      >>> score.value > 0.99, score.z > 3
      (True, True)

    Source:
      Venna, Kaski, "Neighborhood preservation in nonlinear projection methods", ICANN 2001; as
      ``sklearn.manifold.trustworthiness(..., metric="cosine")``, which breaks ties as they come.
    """
    check_permutations(permutations)
    cosine, alive = cosines(kernel, grid, centre)
    live = np.flatnonzero(alive).astype(np.int32)
    n, k = live.size, neighbours
    if not 1 <= k < n / 2:
        raise ValueError(
            f"neighbours must be at least 1 and less than half of the {n} live filters, got {neighbours!r}."
        )
    penalty = np.zeros((grid.units, grid.units), np.float32)
    penalty[np.ix_(live, live)] = (_ranks(-np.asarray(cosine)[np.ix_(live, live)]) - k).clip(0)
    share = _nearest(distances(grid)[np.ix_(live, live)], k)
    first, second = np.nonzero(share)
    weights = (2 / (n * k * (2 * n - 3 * k - 1)) * share[first, second]).astype(np.float32)
    order = orders(key, permutations, alive)
    sums = jax.device_get(pair_sums(penalty, live[first], live[second], weights, order))
    return score(1 - sums.astype(np.float64), int(grid.units - n))


def _ranks(distance: np.ndarray) -> np.ndarray:
    """Rank of every other item by its distance from each, from 1; equal distances share their mean rank."""
    ranks = np.zeros(distance.shape)
    for i, row in enumerate(distance):
        others = np.sort(np.delete(row, i))
        ranks[i] = (np.searchsorted(others, row, "left") + np.searchsorted(others, row, "right") + 1) / 2
    return ranks


def _nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """How much of each unit is among the ``k`` nearest of each: 1, 0, or a share where units tie."""
    distance = distance.copy()
    np.fill_diagonal(distance, np.inf)
    last = np.sort(distance, axis=1)[:, k - 1 : k]
    closer, tied = distance < last - 1e-9, np.abs(distance - last) <= 1e-9
    return closer + tied * (k - closer.sum(1, keepdims=True)) / tied.sum(1, keepdims=True)


def quantisation_error(codebook: jax.typing.ArrayLike, samples: jax.typing.ArrayLike, grid: Grid) -> float:
    """Mean distance of the samples from their best-matching units: ``mean min_i |x - w_i|``.

    Args:
      codebook: The units' vectors, on ``grid.axis``: ``(units, d)`` for a grid with ``axis=0``.
      samples: ``(n, d)``.
      grid: The map's grid.

    Returns:
      The mean Euclidean distance. It does not depend on where units sit, so it has no permutation null.

    Raises:
      ValueError: If the codebook does not fit the grid or the samples, has fewer than two units, or either
        holds NaN or infinities; if all units are identical.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> codebook, samples = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[0.5], [2.0]])
      >>> topography.quantisation_error(codebook, samples, Grid((3,), axis=0))
      0.25

    Source:
      Kohonen, "Self-Organizing Maps", 2001; MiniSom's ``quantization_error``.
    """
    error, _, _ = _matches(codebook, samples, grid)
    return float(error)


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
    have a negative ``z``.

    Args:
      codebook: The units' vectors, on ``grid.axis``: ``(units, d)`` for a grid with ``axis=0``.
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
      >>> topography.topographic_error(codebook, samples, Grid((3,), axis=0)).value
      0.5

    Source:
      Kiviluoto, "Topology preservation in self-organizing maps", 1996; MiniSom's ``topographic_error`` on
      a rectangular grid.
    """
    check_permutations(permutations)
    touching = np.concatenate([neighbours(grid), neighbours(grid, diagonal=True)])
    if len(touching) == grid.units * (grid.units - 1) // 2:
        raise ValueError(
            f"All units of a grid of {'x'.join(map(str, grid.shape))} touch, so no sample can be in error. "
            "Give a grid with a length of 3 or more."
        )
    _, best, second = _matches(codebook, samples, grid)
    shares = np.zeros((grid.units, grid.units))
    np.add.at(shares, (best, second), 1 / len(best))
    order = orders(key, permutations, np.full(grid.units, True))
    weights = np.ones(len(touching), np.float32)
    matrix = (shares + shares.T).astype(np.float32)
    return score(1 - jax.device_get(pair_sums(matrix, *touching.T, weights, order)).astype(np.float64))


def _matches(codebook: jax.typing.ArrayLike, samples: jax.typing.ArrayLike, grid: Grid):
    """Mean distance to the best-matching unit, and each sample's best and second-best units."""
    codebook, samples = jnp.asarray(codebook), jnp.asarray(samples)
    grid.check(codebook.shape, "codebook")
    rows = filters(codebook, grid)
    if samples.ndim != 2 or samples.shape[1] != rows.shape[1] or not len(samples):
        raise ValueError(
            f"samples must be (n, {rows.shape[1]}), as long as the codebook's vectors, got {samples.shape}."
        )
    if grid.units < 2:
        raise ValueError(f"A self-organising map needs two units or more, got {grid.units}.")
    samples = samples.astype(rows.dtype)
    finite, differ, error, best, second = jax.device_get(_best(rows, samples))
    if not finite:
        raise ValueError("codebook or samples hold NaN or infinities; give finite ones.")
    if not differ:
        raise ValueError(f"All {grid.units} units of the codebook are identical: wanted units that differ.")
    return error, best, second


@jax.jit
def _best(rows: jax.Array, samples: jax.Array):
    """Whether all is finite, whether rows differ, the mean distance, and the two nearest rows."""
    finite = jnp.isfinite(rows).all() & jnp.isfinite(samples).all()
    middle = rows.mean(axis=0, keepdims=True)  # Taken away for the rounding's sake.
    w, x = rows - middle, samples - middle
    square = (w * w).sum(1)[None] - 2 * jnp.matmul(x, w.T, precision=lax.Precision.HIGHEST)
    best = square.argmin(1)
    second = jnp.where(jnp.arange(len(rows))[None] == best[:, None], jnp.inf, square).argmin(1)
    error = jnp.sqrt(((samples - rows[best]) ** 2).sum(1)).mean()
    return finite, (rows != rows[:1]).any(), error, best, second
