"""How many regions there are and how large they are, beside what there would be by chance."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from lgnn_jax._grid import Grid, check_grid, neighbours
from lgnn_jax._random import generator
from lgnn_jax.inspect._regions import NONE, as_labels, component_of
from lgnn_jax.topography import Score


@dataclasses.dataclass(frozen=True, eq=False)
class RegionScores:
    """What regions of a map are, each with its null: the same of the same units in random places.

    Where units are in order there are few regions, and they are large.

    Args:
      count: How many there are.
      largest: Units of the largest, 0 without one.
      mean: Units of a region in the mean, 0 without one.
    """

    count: Score
    largest: Score
    mean: Score


def region_scores(
    labels: jax.typing.ArrayLike,
    grid: Grid,
    *,
    alive: jax.typing.ArrayLike | None = None,
    key: jax.Array,
    permutations: int = 1000,
) -> RegionScores:
    """How many regions of one label there are and how large they are, with a permutation null.

    Args:
      labels: The label of every unit, such as :func:`preferred` gives, integers ``(units,)``, -1 for none.
      grid: Where the units lie.
      alive: Which units change places, booleans ``(units,)``: the others, such as constant ones, stay where they
        are. None for those that have a label.
      key: A PRNG key for the relabellings.
      permutations: How many, at least 2.

    Returns:
      A :class:`RegionScores`.

    Raises:
      ValueError: If no unit has a label, one that has is not alive, something does not fit the grid, or there are
        fewer than 2 relabellings.

    Example:
      >>> import jax, numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import region_scores
      >>> halves = region_scores(np.repeat([0, 1], 32), Grid((8, 8)), key=jax.random.key(0))
      >>> halves.count.value, halves.largest.value, halves.count.p < 0.01, halves.largest.p < 0.01
      (2.0, 32.0, True, True)
    """
    given = as_labels(labels, grid)
    if (given == NONE).all():
        raise ValueError(f"None of the {grid.units} units has a label, so there are no regions.")
    movable = _alive(alive if alive is not None else given != NONE, (given != NONE), grid, permutations)
    relabelled = np.tile(given, (permutations + 1, 1))
    relabelled[1:, movable] = generator(key).permuted(relabelled[1:, movable], axis=1)
    nodes = np.flatnonzero(relabelled.ravel() != NONE)
    component = component_of(relabelled, grid)[nodes]
    sizes = np.bincount(component)
    of = np.zeros(len(sizes), np.int64)
    of[component] = nodes // grid.units
    counts = np.bincount(of[sizes > 0], minlength=len(relabelled))
    largest = np.zeros(len(relabelled), np.int64)
    np.maximum.at(largest, of, sizes)
    return _scores(int((given != NONE).sum()), counts, largest, int((~movable).sum()))


def group_region_scores(
    active: jax.typing.ArrayLike,
    grid: Grid,
    *,
    alive: jax.typing.ArrayLike | None = None,
    key: jax.Array,
    permutations: int = 1000,
) -> list[RegionScores]:
    """The same of many maps, of the connected units of each that are active, such as those that respond to a class.

    By chance as many units are active in random places, so that maps with as many share their null.

    Args:
      active: Which units are active on each map, booleans ``(maps, units)``, such as ``selectivity > 5``.
      grid: Where the units lie.
      alive: Which units change places, booleans ``(units,)``; None for all.
      key: A PRNG key for the places.
      permutations: How many, at least 2.

    Returns:
      A :class:`RegionScores` a map; one of zeros where no unit is active.

    Raises:
      ValueError: If an active unit is not alive, something does not fit the grid, or there are fewer than 2
        permutations.

    Example:
      >>> import jax, numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import group_region_scores
      >>> square = np.zeros((1, 8, 8), bool)
      >>> square[0, :3, :3] = True
      >>> found, = group_region_scores(square.reshape(1, 64), Grid((8, 8)), key=jax.random.key(0))
      >>> found.count.value, found.count.low > 1, found.largest.value, found.largest.high < 9
      (1.0, True, 9.0, True)

    Source:
      The null grows as in Newman and Ziff, "Efficient Monte Carlo algorithm and high-precision results for
      percolation", Physical Review Letters 85, 2000.
    """
    maps = np.asarray(active)
    if maps.ndim != 2 or maps.dtype != bool:
        raise ValueError(f"active must be booleans (maps, units), got shape {maps.shape} of {maps.dtype}.")
    check_grid(grid, maps.shape[1], "active")
    movable = _alive(
        np.full(grid.units, True) if alive is None else alive, np.any(maps, axis=0), grid, permutations
    )
    component = component_of(np.where(maps, 0, NONE), grid).reshape(maps.shape)
    totals = maps.sum(1)
    counts, largest = _grown(grid, movable, int(totals.max(initial=0)), generator(key), permutations)
    found = []
    for total, here, parts in zip(totals, maps, component, strict=True):
        sizes = np.unique(parts[here], return_counts=True)[1]
        found.append(
            _scores(
                int(total),
                np.concatenate([[len(sizes)], counts[total]]),
                np.concatenate([[sizes.max(initial=0)], largest[total]]),
                int((~movable).sum()),
            )
        )
    return found


def _alive(alive: Any, needed: Any, grid: Grid, permutations: int) -> np.ndarray:
    """Which units change places, after checks of what is asked for."""
    movable = np.asarray(alive)
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2, got {permutations}.")
    if movable.shape != (grid.units,) or movable.dtype != bool:
        raise ValueError(
            f"alive must be {grid.units} booleans, got shape {movable.shape} of {movable.dtype}."
        )
    stuck = np.flatnonzero(needed & ~movable)
    if len(stuck):
        raise ValueError(
            f"Unit {stuck[0]} is in a region, so it must be alive, but alive says that it is not."
        )
    return movable


def _scores(units: int, counts: np.ndarray, largest: np.ndarray, left_out: int) -> RegionScores:
    """Scores of a map of so many units in regions: its own numbers first, then those by chance."""
    mean = units / np.maximum(counts, 1)
    count, most, mean = (values.astype(np.float64) for values in (counts, largest, mean))
    return RegionScores(
        Score(float(count[0]), count[1:], left_out, "less"),
        Score(float(most[0]), most[1:], left_out),
        Score(float(mean[0]), mean[1:], left_out),
    )


def _grown(
    grid: Grid, alive: np.ndarray, most: int, draw: np.random.Generator, permutations: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many regions 0 to ``most`` active units have in random places, and the largest's size.

    Units become active one after the other, in another order in every row, and join the regions beside them.

    Returns:
      Two integer arrays ``(most + 1, permutations)``.
    """
    live = np.flatnonzero(alive)
    order = draw.permuted(np.tile(live, (permutations, 1)), axis=1)
    beside = _beside(grid)
    rows = np.arange(permutations)
    parent = np.tile(np.arange(grid.units + 1), (permutations, 1))
    size = np.zeros((permutations, grid.units + 1), np.int64)  # 0 for a unit that is not active (yet).
    counts, largest = np.zeros((2, most + 1, permutations), np.int64)
    for step in range(most):
        unit = order[:, step]
        size[rows, unit] = 1
        counts[step + 1], largest[step + 1] = counts[step] + 1, np.maximum(largest[step], 1)
        for other in beside[unit].T:
            row = np.flatnonzero(size[rows, other])
            first, second = (_root(parent, row, of[row]) for of in (unit, other))
            apart = first != second
            row, first, second = row[apart], first[apart], second[apart]
            swap = size[row, first] < size[row, second]
            big, small = np.where(swap, second, first), np.where(swap, first, second)
            parent[row, small] = big
            size[row, big] += size[row, small]
            counts[step + 1, row] -= 1
            largest[step + 1, row] = np.maximum(largest[step + 1, row], size[row, big])
    return counts, largest


def _root(parent: np.ndarray, row: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The unit that stands for the region of each unit; the smaller region hangs below the larger."""
    while True:
        above = parent[row, unit]
        if np.array_equal(above, unit):
            return unit
        unit = above


def _beside(grid: Grid) -> np.ndarray:
    """The neighbours of every unit, ``(units, most)``, filled up with ``grid.units``, which is no unit."""
    pairs = neighbours(grid)
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    degree = np.bincount(ends[:, 0], minlength=grid.units)
    found = np.full((grid.units, int(degree.max(initial=0))), grid.units)
    place = np.arange(len(ends)) - np.repeat(np.cumsum(degree) - degree, degree)
    found[ends[:, 0], place] = ends[:, 1]
    return found
