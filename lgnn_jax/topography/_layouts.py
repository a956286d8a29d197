"""Metrics of a grid as a layout of its units: are those nearest on it those most alike?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

from lgnn_jax._grid import Grid, distances
from lgnn_jax._moved import moved
from lgnn_jax.topography._null import Score, check_permutations, orders, pair_sums, score
from lgnn_jax.topography._similarity import CENTRE, check_similarity


@moved(centre=CENTRE)
def trustworthiness(
    similarity: jax.typing.ArrayLike,
    grid: Grid,
    *,
    neighbours: int = 5,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Whether neighbours on the grid are neighbours among the filters, by rank of their similarities.

    ``1 - 2 / (n k (2n - 3k - 1)) * sum_i sum_{j in U_i} max(0, r(i, j) - k)``, where ``k`` is
    ``neighbours``, ``n`` the number of live units, ``U_i`` the ``k`` nearest units on the grid and
    ``r(i, j)`` the rank of unit ``j`` by its similarity with unit ``i``, the most similar first. A grid
    has many equal distances: units that tie for the last places share them, so this is the mean over ways
    of breaking ties. Equal similarities share their mean rank.

    Args:
      similarity: ``(units, units)``, of :func:`cosines` or :func:`correlations`. Dead units are left out.
      grid: The layer's grid.
      neighbours: Nearest units looked at, at least 1 and less than half of the live units.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between 0 and 1, about a half by chance.

    Raises:
      ValueError: If ``similarity`` is none, does not fit the grid or has only identical units; if
        ``neighbours`` is out of range; if the null has no spread; if ``permutations`` is below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> similarity = topography.cosines(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))
      >>> score = topography.trustworthiness(similarity, Grid((16,)), key=jax.random.key(0))
      >>> score.value > 0.99, score.z > 3
      (True, True)

    Source:
      Venna, Kaski, "Neighborhood preservation in nonlinear projection methods", ICANN 2001; as
      ``sklearn.manifold.trustworthiness(..., metric="cosine")``, which breaks ties as they come.
    """
    from scipy.stats import rankdata  # Takes half a second to import, which no other metric needs.

    check_permutations(permutations)
    matrix, alive = check_similarity(similarity, grid)
    live = np.flatnonzero(alive)
    n, k = live.size, neighbours
    if not 1 <= k < n / 2:
        raise ValueError(
            f"neighbours must be at least 1 and less than half of the {n} live units, got {neighbours!r}."
        )
    among = np.ix_(live, live)
    distance = -matrix[among]
    np.fill_diagonal(distance, -np.inf)  # A unit comes first for itself, at rank 0.
    penalty = np.zeros(matrix.shape)
    penalty[among] = (rankdata(distance, axis=1) - 1 - k).clip(0)
    share = _nearest(distances(grid)[among], k)
    first, second = np.nonzero(share)
    weights = 2 / (n * k * (2 * n - 3 * k - 1)) * share[first, second]
    order = orders(key, permutations, alive)
    sums = pair_sums(penalty, live[first], live[second], weights, order)
    return score(1 - sums, int(grid.units - n))


def _nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """How much of each unit is among the ``k`` nearest of each: 1, 0, or a share where units tie."""
    distance = distance.copy()
    np.fill_diagonal(distance, np.inf)
    last = np.sort(distance, axis=1)[:, k - 1 : k]
    closer, tied = distance < last - 1e-9, np.abs(distance - last) <= 1e-9
    return closer + tied * (k - closer.sum(1, keepdims=True)) / tied.sum(1, keepdims=True)


@moved(centre=CENTRE)
def distance_preservation_quality(
    similarity: jax.typing.ArrayLike,
    grid: Grid,
    *,
    p: float = 16,
    ties: Literal["mean", "best"] = "mean",
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """DPQ: how much of the distances between units a walk outwards on the grid preserves.

    ``DPQ_p = |g(grid)|_p / |g(best)|_p`` with the gains ``g_k = max(0, 1 - d_k / d)`` for ``k`` from 1 to
    ``n - 1``: ``d`` is the mean distance between the ``n`` live units, and ``d_k`` the mean distance of a
    unit to ``k`` others, those nearest on the grid or, for ``best``, those most alike. The distance is
    ``sqrt(2 - 2 s)``, the Euclidean distance between filters of length 1, as the definition asks for a
    Euclidean one; ``1 - s`` is half its square.

    Args:
      similarity: ``(units, units)``, of :func:`cosines` or :func:`correlations`, three units of it alive.
        Dead units are left out.
      grid: The layer's grid.
      p: The norm's exponent, at least 1; the larger, the more the nearest units count.
      ties: In which order units at the same grid distance come: ``"mean"``, the mean over all orders, so that
        noise scores nearly 0; ``"best"``, the most alike first, as in the authors' program, by which noise
        scores well above 0, most of all on small grids.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between 0 and 1.

    Raises:
      ValueError: If ``similarity`` is none, does not fit the grid or has only identical units; if its values
        between live units are all the same; if ``p`` or ``ties`` is out of range; if the null has no spread;
        if ``permutations`` is below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> similarity = topography.cosines(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))
      >>> score = topography.distance_preservation_quality(similarity, Grid((16,)), key=jax.random.key(0))
      >>> score.value > 0.98, score.mean < 0.2
      (True, True)

    Source:
      Barthel, Hezel, Jung, Schall, "Improved evaluation and generation of grid layouts using distance
      preservation quality and linear assignment sorting", Computer Graphics Forum 2023.
    """
    if not p >= 1:
        raise ValueError(f"p must be the exponent of a norm, at least 1, got {p!r}.")
    if ties not in ("mean", "best"):
        raise ValueError(f'ties must be "mean" or "best", got {ties!r}.')
    check_permutations(permutations)
    matrix, alive = check_similarity(similarity, grid)
    among = np.ix_(alive, alive)
    # In float32, which relabels several times as fast: it stays in the cache.
    distance = np.sqrt((2 - 2 * matrix[among].astype(np.float64)).clip(0)).astype(np.float32)
    np.fill_diagonal(distance, 0)
    best = _gains(np.sort(distance, axis=1)[:, 1:].mean(0, np.float64))
    if not best.max() > 1e-5:
        raise ValueError(
            f"The cosines between the {len(distance)} live units are all the same, so no layout preserves "
            "them better than another: wanted at least three units that differ."
        )
    walk = _walk_mean if ties == "mean" else _walk_best
    along = walk(distances(grid)[among])
    order = orders(key, permutations, np.full(len(distance), True))
    relabelled = (distance.take(units, 0).take(units, 1) for units in order)
    norms = np.array([np.linalg.norm(_gains(along(content)), p) for content in relabelled])
    return score(norms / np.linalg.norm(best, p), int(alive.size - len(distance)))


def _gains(along: np.ndarray) -> np.ndarray:
    """``max(0, 1 - d_k / d)`` from the mean distance of all units to their ``k``-th other."""
    count = np.arange(1, along.size + 1)
    return (1 - np.cumsum(along) / count / along.mean()).clip(0)


def _walk_mean(places: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """From all distances to their mean over units by place of the walk, where those that tie share their mean.

    A ring is the places ``start`` to ``stop`` of a walk, at the same distance on the grid. Pairs in rings of
    the same places count alike: they are added up, and spread over the places.
    """
    n = len(places)
    pairs, squares = _outwards(places)
    new = np.diff(squares, axis=1, prepend=-1) > 0
    edges = np.append(np.flatnonzero(new), new.size)
    starts, sizes = edges[:-1] % (n - 1), np.diff(edges)
    kinds, kind = np.unique(starts * n + starts + sizes, return_inverse=True)
    start, stop = np.divmod(kinds, n)
    by_pair = np.repeat(kind, sizes)
    by_kind = np.argsort(by_pair, kind="stable")
    pairs, first = pairs.ravel()[by_kind], np.searchsorted(by_pair[by_kind], np.arange(kinds.size))

    def along(distance: np.ndarray) -> np.ndarray:
        sums = np.add.reduceat(distance.ravel().take(pairs), first, dtype=np.float64)
        height = sums / ((stop - start) * n)
        return np.cumsum(np.bincount(start, height, n) - np.bincount(stop, height, n))[:-1]

    return along


def _walk_best(places: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The same where, of those that tie, the most alike comes first."""
    pairs, squares = _outwards(places)
    ring = np.cumsum(np.diff(squares, axis=1, prepend=-1) > 0, axis=1) * 3.0  # Distances are at most 2.

    def along(distance: np.ndarray) -> np.ndarray:
        return (np.sort(ring + distance.ravel().take(pairs), axis=1) - ring).mean(0)

    return along


def _outwards(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every unit's pairs with all others, the nearest first, as flat indices; and their distances squared."""
    n = len(places)
    squares = np.rint(places**2).astype(int)
    np.fill_diagonal(squares, -1)
    others = np.argsort(squares, axis=1, kind="stable")[:, 1:]
    return np.arange(n)[:, None] * n + others, np.take_along_axis(squares, others, 1)
