"""Metrics on similarities between pairs of units."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from lgnn_jax._grid import Grid, distances, neighbours
from lgnn_jax._moved import moved
from lgnn_jax.topography._null import Score, check_permutations, check_spread, orders, pair_sums, score
from lgnn_jax.topography._similarity import CENTRE, check_similarity


@dataclasses.dataclass(frozen=True, eq=False)
class DistanceCurve:
    """Mean similarity by grid distance, one entry a bin, nearest first; see :func:`correlation_by_distance`.

    Args:
      distance: Mean distance in every bin, float64 ``(bins,)``.
      mean: Mean similarity likewise.
      error: Standard error of that mean as if pairs were independent; NaN for a single pair.
      pairs: Number of pairs, integers ``(bins,)``.
      samples: The means after random relabellings, float64 ``(permutations, bins)``; None where no key was
        given.
      left_out: Dead units.
    """

    distance: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    pairs: np.ndarray
    samples: np.ndarray | None = dataclasses.field(default=None, repr=False)
    left_out: int = 0

    @property
    def null_mean(self) -> np.ndarray | None:
        """The null's mean in every bin."""
        return None if self.samples is None else self.samples.mean(axis=0)

    @property
    def null_low(self) -> np.ndarray | None:
        """Where the null's central 95 % begin."""
        return None if self.samples is None else np.quantile(self.samples, 0.025, axis=0)

    @property
    def null_high(self) -> np.ndarray | None:
        """Where they end."""
        return None if self.samples is None else np.quantile(self.samples, 0.975, axis=0)

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON, without the samples; None where there is no error."""
        names = "distance mean error pairs null_mean null_low null_high left_out".split()
        found = {name: np.asarray(getattr(self, name)).tolist() for name in names}
        return found | {"error": [None if np.isnan(error) else error for error in self.error.tolist()]}


@moved(centre=CENTRE)
def neighbour_cosine(
    similarity: jax.typing.ArrayLike,
    grid: Grid,
    *,
    pairs: Literal["neighbours", "diagonal", "all"] = "neighbours",
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Mean similarity between neighbouring units: ``mean s_ij`` over ``pairs``.

    Dead units have no direction: they are left out of the pairs and of the relabelling.

    Args:
      similarity: ``(units, units)``, of :func:`cosines` or :func:`correlations`, two units of it alive.
      grid: The layer's grid.
      pairs: ``"neighbours"``, one step apart along one grid dimension (4 in a plane); ``"diagonal"``, one
        step along each of two or more; ``"all"``, every pair, which no relabelling changes, so that its
        null is the value itself and ``z`` is 0.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between -1 and 1.

    Raises:
      ValueError: If ``similarity`` is none, does not fit the grid, has no two neighbours alive or only
        identical units; if the null has no spread; if ``permutations`` is below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> similarity = topography.cosines(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))
      >>> score = topography.neighbour_cosine(similarity, Grid((16,)), key=jax.random.key(0))
      >>> round(score.value, 3), score.z > 3
      (0.978, True)

    Source:
      ``neighbour cosine`` after Lee et al., "Topographic deep artificial neural networks", 2020, who
      compare neighbouring units' tuning; Mantel, 1967, for the permutation null.
    """
    if pairs not in ("neighbours", "diagonal", "all"):
        raise ValueError(f'pairs must be "neighbours", "diagonal" or "all", got {pairs!r}.')
    check_permutations(permutations)
    matrix, alive = check_similarity(similarity, grid)
    first, second = _all_pairs(grid) if pairs == "all" else neighbours(grid, diagonal=pairs == "diagonal").T
    counts = alive[first] & alive[second]
    if not counts.any():
        what = "neighbouring" if pairs == "neighbours" else "diagonally neighbouring"
        raise ValueError(
            f"similarity has no two {what} units that are alive ({alive.sum()} of {grid.units} are), so there "
            "is nothing to average. Give another grid or a layer with more live units."
        )
    weights = counts / counts.sum()
    order = orders(None if pairs == "all" else key, permutations, alive)
    sums = pair_sums(matrix, first, second, weights, order)
    if pairs == "all" and key is not None:
        return Score(float(sums[0]), np.repeat(sums, permutations), _dead(alive))
    return score(sums, _dead(alive))


@moved(centre=CENTRE)
def distance_correlation(
    similarity: jax.typing.ArrayLike,
    grid: Grid,
    *,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Mantel's r: Pearson's correlation over all pairs of ``s_ij`` with ``1 / (1 + D_ij)``.

    ``D`` are the units' Euclidean distances in grid steps. Dead units are left out, and stay where they are
    in the null.

    Args:
      similarity: ``(units, units)``, of :func:`cosines` or :func:`correlations`, three units of it alive.
      grid: The layer's grid.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between -1 and 1.

    Raises:
      ValueError: If ``similarity`` is none, does not fit the grid or has only identical units; if its values
        or the distances between its live units are all the same; if ``permutations`` is below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> similarity = topography.cosines(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))
      >>> score = topography.distance_correlation(similarity, Grid((16,)), key=jax.random.key(0))
      >>> score.value > 0.8, score.z > 3
      (True, True)

    Source:
      Mantel, 1967; 1 / (1 + D) as in Margalit et al., "A unifying framework for functional organization
      in early and higher ventral visual cortex", Neuron 2024.
    """
    check_permutations(permutations)
    matrix, alive = check_similarity(similarity, grid)
    first, second = _all_pairs(grid)
    live = alive[first] & alive[second]
    closeness = _centred(1 / (1 + distances(grid)[first, second]), live)
    values = _centred(matrix[first, second], live)
    sizes = np.linalg.norm(closeness), np.linalg.norm(values)
    for size, what in zip(sizes, ("grid distances", "cosines"), strict=True):
        if size <= 1e-5 * np.sqrt(live.sum()):
            raise ValueError(
                f"The {what} between the {alive.sum()} live units are all the same, so nothing correlates "
                "with them: wanted at least three units that differ."
            )
    weights = closeness / (sizes[0] * sizes[1])
    # The weights add up to 0, so the mean matters to the rounding alone.
    shifted = matrix - matrix[first, second][live].mean()
    order = orders(key, permutations, alive)
    return score(pair_sums(shifted, first, second, weights, order), _dead(alive))


@moved(centre=CENTRE)
def correlation_by_distance(
    similarity: jax.typing.ArrayLike,
    grid: Grid,
    *,
    width: float = 1.0,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> DistanceCurve:
    """Mean similarity between units against their distance on the grid, in bins.

    Bin ``b`` holds the pairs with ``floor(D / width + 0.5) == b``: for a width of 1 the first one has the
    neighbours at 1 and at ``sqrt(2)``. Dead units are left out.

    Args:
      similarity: ``(units, units)``, of :func:`cosines` or :func:`correlations`, two units of it alive.
      grid: The layer's grid.
      width: Width of a bin in grid steps, positive.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`DistanceCurve` of the bins that hold pairs: mean distance, mean similarity, standard error of
      that mean as if pairs were independent (NaN for a single pair), number of pairs, and the null in every
      bin. ``smoothness(1 - curve.mean)`` sums it up.

    Raises:
      ValueError: If ``similarity`` is none, does not fit the grid or has only identical units; if ``width``
        is not positive; if ``permutations`` is below 2; if the null has no spread.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> similarity = topography.cosines(jnp.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))
      >>> curve = topography.correlation_by_distance(similarity, Grid((3,)))
      >>> curve.distance.tolist(), curve.mean.round(3).tolist(), curve.pairs.tolist()
      ([1.0, 2.0], [0.707, 0.0], [2, 1])
    """
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"width must be a positive number of grid steps, got {width!r}.")
    check_permutations(permutations)
    matrix, alive = check_similarity(similarity, grid)
    first, second = _all_pairs(grid)
    distance = distances(grid)[first, second]
    live = alive[first] & alive[second]
    held, bins = np.unique(np.floor(distance / width + 0.5).astype(int), return_inverse=True)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(bins[live], values[live], held.size)

    values, count = matrix[first, second].astype(np.float64), total(np.ones(bins.size))
    divisor = np.maximum(count, 1)
    mean = total(values) / divisor
    squares = total((values - mean[bins]) ** 2)
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
    by_bin = np.argsort(bins, kind="stable")
    column = np.arange(bins.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = np.zeros((3, held.size, sizes.max()))
    table[:, bins[by_bin], column] = np.stack([first, second, live / divisor[bins]])[:, by_bin]
    i, j, weights = table
    sums = pair_sums(matrix, i, j, weights, orders(key, permutations, alive))
    samples = sums[1:, used]
    check_spread(samples)
    return dataclasses.replace(curve, samples=samples)


def _all_pairs(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of units, each once."""
    first, second = np.triu_indices(grid.units, 1)
    return first.astype(np.int32), second.astype(np.int32)


def _centred(values: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Values less the mean of those that are live, 0 elsewhere."""
    values = values.astype(np.float64)
    return np.where(live, values - values[live].mean(), 0)


def _dead(alive: np.ndarray) -> int:
    """How many units are left out."""
    return int(alive.size - alive.sum())
