"""Metrics on cosines between pairs of filters, or correlations between pairs of responses."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import numpy as np

from lgnn_jax.grid import Grid, distances, neighbours
from lgnn_jax.topography.null import Score, check_permutations, orders, pair_sums, score
from lgnn_jax.topography.rows import cosines


class DistanceCurve(NamedTuple):
    """Mean cosine by grid distance, one entry a bin, nearest first; see :func:`correlation_by_distance`.

    All are float64 arrays ``(bins,)`` but ``pairs`` (integers) and ``left_out`` (a number). The null's
    are None where no key was given.
    """

    distance: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    pairs: np.ndarray
    null_mean: np.ndarray | None = None
    null_low: np.ndarray | None = None
    null_high: np.ndarray | None = None
    left_out: int = 0


def neighbour_cosine(
    kernel: jax.typing.ArrayLike,
    grid: Grid,
    *,
    pairs: Literal["neighbours", "diagonal", "all"] = "neighbours",
    centre: bool = False,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Mean cosine between the filters of neighbouring units: ``mean cos(w_i, w_j)`` over ``pairs``.

    Filters that are exactly zero (constant, if centred) have no direction: they are left out of the pairs
    and of the relabelling.

    Args:
      kernel: Weights, with the filters on ``grid.axis``, at least two of them; or responses
        ``(images, units)``.
      grid: The layer's grid.
      pairs: ``"neighbours"``, one step apart along one grid dimension (4 in a plane); ``"diagonal"``, one
        step along each of two or more; ``"all"``, every pair, which no relabelling changes, so that its
        null is the value itself and ``z`` is 0.
      centre: Whether to subtract each filter's mean first, which turns the cosine of responses into
        Pearson's correlation.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between -1 and 1.

    Raises:
      ValueError: If the kernel does not fit the grid, holds NaN or infinities, has no two neighbours with
        a direction or only identical filters; if the null has no spread; if ``permutations`` is below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> kernel = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
      >>> score = topography.neighbour_cosine(kernel, Grid((16,)), key=jax.random.key(0))
      >>> round(score.value, 3), score.z > 3
      (0.978, True)

    Source:
      ``neighbour cosine`` after Lee et al., "Topographic deep artificial neural networks", 2020, who
      compare neighbouring units' tuning; Mantel, 1967, for the permutation null.
    """
    if pairs not in ("neighbours", "diagonal", "all"):
        raise ValueError(f'pairs must be "neighbours", "diagonal" or "all", got {pairs!r}.')
    check_permutations(permutations)
    cosine, alive = cosines(kernel, grid, centre)
    first, second = _all_pairs(grid) if pairs == "all" else neighbours(grid, diagonal=pairs == "diagonal").T
    counts = alive[first] & alive[second]
    if not counts.any():
        what = "neighbouring" if pairs == "neighbours" else "diagonally neighbouring"
        raise ValueError(
            f"kernel has no two {what} filters that are not {'constant' if centre else 'exactly zero'} "
            f"({alive.sum()} of {grid.units} filters are not), so there is no cosine to average. "
            "Give another grid or a layer with more live filters."
        )
    weights = (counts / counts.sum()).astype(np.float32)
    order = orders(None if pairs == "all" else key, permutations, alive)
    found = score(jax.device_get(pair_sums(cosine, first, second, weights, order)), _dead(alive))
    if pairs == "all" and key is not None:
        found = found._replace(null_mean=found.value, null_low=found.value, null_high=found.value, z=0.0)
    return found


def distance_correlation(
    kernel: jax.typing.ArrayLike,
    grid: Grid,
    *,
    centre: bool = False,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Mantel's r: Pearson's correlation over all pairs of ``cos(w_i, w_j)`` with ``1 / (1 + D_ij)``.

    ``D`` are the units' Euclidean distances in grid steps. Filters that are exactly zero (constant, if
    centred) are left out, and stay where they are in the null.

    Args:
      kernel: Weights, with the filters on ``grid.axis``, at least three of them; or responses
        ``(images, units)``.
      grid: The layer's grid.
      centre: Whether to subtract each filter's mean first, which turns the cosine of responses into
        Pearson's correlation.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between -1 and 1.

    Raises:
      ValueError: If the kernel does not fit the grid, holds NaN or infinities, has only identical filters,
        or its cosines or the distances between its live filters are all the same; if ``permutations`` is
        below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> kernel = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
      >>> score = topography.distance_correlation(kernel, Grid((16,)), key=jax.random.key(0))
      >>> score.value > 0.8, score.z > 3
      (True, True)

    Source:
      Mantel, 1967; 1 / (1 + D) as in Margalit et al., "A unifying framework for functional organization
      in early and higher ventral visual cortex", Neuron 2024.
    """
    check_permutations(permutations)
    cosine, alive = cosines(kernel, grid, centre)
    first, second = _all_pairs(grid)
    live = alive[first] & alive[second]
    closeness = _centred(1 / (1 + distances(grid)[first, second]), live)
    similarity = _centred(np.asarray(cosine)[first, second], live)
    sizes = np.linalg.norm(closeness), np.linalg.norm(similarity)
    for size, what in zip(sizes, ("grid distances", "cosines"), strict=True):
        if size <= 1e-5 * np.sqrt(live.sum()):
            raise ValueError(
                f"The {what} between the {alive.sum()} live filters are all the same, so nothing correlates "
                "with them: wanted at least three filters that differ."
            )
    weights = (closeness / (sizes[0] * sizes[1])).astype(np.float32)
    # The weights add up to 0, so the mean matters to the rounding alone.
    matrix = np.asarray(cosine) - np.float32(np.asarray(cosine)[first, second][live].mean())
    order = orders(key, permutations, alive)
    return score(jax.device_get(pair_sums(matrix, first, second, weights, order)), _dead(alive))


def correlation_by_distance(
    kernel: jax.typing.ArrayLike,
    grid: Grid,
    *,
    width: float = 1.0,
    centre: bool = False,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> DistanceCurve:
    """Mean cosine between filters against their distance on the grid, in bins.

    Bin ``b`` holds the pairs with ``floor(D / width + 0.5) == b``: for a width of 1 the first one has the
    neighbours at 1 and at ``sqrt(2)``. Filters that are exactly zero (constant, if centred) are left out.

    Args:
      kernel: Weights, with the filters on ``grid.axis``, at least two of them; or responses
        ``(images, units)``.
      grid: The layer's grid.
      width: Width of a bin in grid steps, positive.
      centre: Whether to subtract each filter's mean first, which turns the cosine of responses into
        Pearson's correlation.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`DistanceCurve` of the bins that hold pairs: mean distance, mean cosine, standard error of
      that mean as if pairs were independent (NaN for a single pair), number of pairs, and the null's mean
      and central 95 % in every bin. ``smoothness(1 - curve.mean)`` sums it up.

    Raises:
      ValueError: If the kernel does not fit the grid, holds NaN or infinities or has only identical
        filters; if ``width`` is not positive; if ``permutations`` is below 2; if the null has no spread.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> kernel = jnp.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
      >>> curve = topography.correlation_by_distance(kernel, Grid((3,)))
      >>> curve.distance.tolist(), curve.mean.round(3).tolist(), curve.pairs.tolist()
      ([1.0, 2.0], [0.707, 0.0], [2, 1])
    """
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"width must be a positive number of grid steps, got {width!r}.")
    check_permutations(permutations)
    cosine, alive = cosines(kernel, grid, centre)
    first, second = _all_pairs(grid)
    distance = distances(grid)[first, second]
    bins = np.floor(distance / width + 0.5).astype(int)
    live = alive[first] & alive[second]
    held, bins = np.unique(bins, return_inverse=True)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(bins[live], values[live], held.size)

    similarity, count = np.asarray(cosine, np.float64)[first, second], total(np.ones(bins.size))
    divisor = np.maximum(count, 1)
    mean = total(similarity) / divisor
    squares = total((similarity - mean[bins]) ** 2)
    error = np.sqrt(squares / np.where(count > 1, (count - 1) * divisor, np.nan))
    used = count > 0
    curve = DistanceCurve(
        (total(distance) / divisor)[used],
        mean[used],
        error[used],
        count[used].astype(int),
        left_out=_dead(alive),
    )
    if key is None:
        return curve
    # One row of pairs a bin, filled up with pairs of weight 0.
    sizes = np.bincount(bins)
    order = np.argsort(bins, kind="stable")
    column = np.arange(bins.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = np.zeros((3, held.size, sizes.max()))
    table[:, bins[order], column] = np.stack([first, second, live / divisor[bins]])[:, order]
    i, j, weights = table[0].astype(np.int32), table[1].astype(np.int32), table[2].astype(np.float32)
    sums = jax.device_get(pair_sums(cosine, i, j, weights, orders(key, permutations, alive)))
    null = sums[1:, used].astype(np.float64)
    if not null.std(axis=0).max() > 1e-6:
        score(sums[:, 0])  # Says that there is no spread.
    low, high = np.quantile(null, (0.025, 0.975), axis=0)
    return curve._replace(null_mean=null.mean(axis=0), null_low=low, null_high=high)


def _all_pairs(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of units, each once."""
    first, second = np.triu_indices(grid.units, 1)
    return first.astype(np.int32), second.astype(np.int32)


def _centred(values: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Values less the mean of those that are live, 0 elsewhere."""
    values = values.astype(np.float64)
    return np.where(live, values - values[live].mean(), 0)


def _dead(alive: np.ndarray) -> int:
    """How many filters are left out."""
    return int(alive.size - alive.sum())
