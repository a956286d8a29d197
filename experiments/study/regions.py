"""Regions of the grid: neighbouring units that prefer the same class, how many and how large."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lgnn_jax import Grid, neighbours
from lgnn_jax.topography import Score

NONE = -1  # Of a unit that prefers no class.


class Regions(NamedTuple):
    """How many regions there are, which is small where units are in order, and the units of the largest."""

    count: Score
    largest: Score


def preferred(selectivity: np.ndarray) -> np.ndarray:
    """The class that every unit prefers ``(units,)``, ``NONE`` where its selectivity is NaN.

    Example:
      >>> import numpy as np
      >>> preferred(np.array([[1.0, 3.0, np.nan], [2.0, 0.0, np.nan]])).tolist()
      [1, 0, -1]
    """
    undefined = np.isnan(selectivity).any(0)
    return np.where(undefined, NONE, np.where(undefined, 0, selectivity).argmax(0))


def members(labels: np.ndarray, grid: Grid) -> list[np.ndarray]:
    """The units of every region, ascending, the largest region first.

    Args:
      labels: The class of every unit, ``(units,)``; those of ``NONE`` are in no region.
      grid: Where they lie; regions touch at edges (4 neighbours in a plane), on a torus across the border too.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> [units.tolist() for units in members(np.array([0, 1, -1, 0, 1, 1]), Grid((2, 3)))]
      [[1, 4, 5], [0, 3]]
    """
    component, live = _components(labels[None], grid), np.flatnonzero(labels != NONE)
    found = [live[component[live] == one] for one in np.unique(component[live])]
    return sorted(found, key=lambda units: (-len(units), units[0]))


def regions(labels: np.ndarray, grid: Grid, *, seed: int = 0, permutations: int = 1000) -> Regions:
    """How many regions and how large the largest, with the null of relabelling the units that prefer a class.

    Args:
      labels: The class of every unit, ``(units,)``.
      grid: Where they lie.
      seed: Of the relabellings.
      permutations: How many, at least 2.

    Raises:
      ValueError: If no unit prefers a class, or there are fewer than two relabellings.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> halves = regions(np.repeat([0, 1], 32), Grid((8, 8)))
      >>> halves.count.value, halves.largest.value, halves.count.p < 0.01, halves.largest.p < 0.01
      (2.0, 32.0, True, True)
    """
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2, got {permutations}.")
    live = np.flatnonzero(labels != NONE)
    if not len(live):
        raise ValueError(f"None of the {grid.units} units prefers a class, so there are no regions.")
    draw = np.random.default_rng(seed)
    relabelled = np.tile(labels, (permutations + 1, 1))
    relabelled[1:, live] = draw.permuted(relabelled[1:, live], axis=1)
    nodes = np.flatnonzero(relabelled.ravel() != NONE)
    component = _components(relabelled, grid)
    sizes = np.bincount(component[nodes])
    of = np.zeros(len(sizes), np.int64)
    of[component[nodes]] = nodes // grid.units
    counts = np.bincount(of[sizes > 0], minlength=len(relabelled)).astype(float)
    largest = np.zeros(len(relabelled))
    np.maximum.at(largest, of, sizes)
    left_out = grid.units - len(live)
    return Regions(
        Score(float(counts[0]), counts[1:], left_out, "less"),
        Score(float(largest[0]), largest[1:], left_out),
    )


def _components(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The component of every unit of every labelling ``(labellings, units)``, flat; no two share one."""
    first, second = neighbours(grid).T
    which, pair = np.nonzero(labels[:, first] == labels[:, second])
    ends = (which * grid.units + side[pair] for side in (first, second))
    edges = coo_array((np.ones(len(which), bool), tuple(ends)), shape=(labels.size, labels.size))
    return connected_components(edges, directed=False)[1]
