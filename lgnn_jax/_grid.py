"""Grids of units: shapes, coordinates, neighbours and distances.

Everything here is static: Python integers and NumPy arrays, known before anything is traced.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Mapping, Sequence

import numpy as np

from lgnn_jax._moved import moved


def as_shape(shape: object) -> tuple[int, ...]:
    """``shape`` as a tuple of positive integers."""
    problem = f"A grid shape is one or more positive integers such as (8, 8), got {shape!r}."
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence):
        raise ValueError(problem)
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise ValueError(problem) from None
    if not sizes or min(sizes) < 1 or any(isinstance(size, bool) for size in shape):
        raise ValueError(problem)
    return sizes


_AXIS = "A grid has no axis: write Layer(path, Grid(shape), axis), or give the axis to smooth or cosines."
_WRAP = "Whether the grid is a torus is its own: Grid(shape, wrap=True)."


@moved(axis=_AXIS)
@dataclasses.dataclass(frozen=True)
class Grid:
    """Units laid out on a grid in row-major order: geometry, and nothing else.

    Unit ``k`` of an ``(m, n)`` grid sits at row ``k // n`` and column ``k % n``.

    Args:
      shape: Size of every grid dimension, all positive; any number of dimensions.
      wrap: Whether opposite borders touch, which closes the grid to a torus: for smoothing, neighbours,
        distances, regions and every metric alike.

    Raises:
      ValueError: If ``shape`` is not a sequence of positive integers or ``wrap`` is not a bool.

    Example:
      >>> from lgnn_jax import Grid
      >>> Grid((32, 16)).units
      512
    """

    shape: tuple[int, ...]
    wrap: bool = False

    def __post_init__(self):
        object.__setattr__(self, "shape", as_shape(self.shape))
        if not isinstance(self.wrap, bool):
            raise ValueError(f"wrap must be True or False, got {self.wrap!r}. {_AXIS}")

    @property
    def units(self) -> int:
        """Number of units on the grid."""
        return math.prod(self.shape)

    @property
    def size(self) -> str:
        """The shape as people write it, such as ``32x16``."""
        return "x".join(map(str, self.shape))


def as_grid(grid: object) -> Grid:
    """``grid``, if it is one."""
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, such as Grid((8, 8)), got {grid!r}.")
    return grid


def check_grid(grid: Grid, units: int, name: str) -> None:
    """Raises ``ValueError`` unless the grid holds the units of what is called ``name``."""
    as_grid(grid)
    if grid.units != units:
        raise ValueError(
            f"{name} has {units} units, but a grid of {grid.size} holds {grid.units}. "
            f"Give a grid whose product is {units}."
        )


def check_axis(grid: Grid, shape: Sequence[int], axis: int, name: str = "array") -> int:
    """The axis counted from the first, of an array that holds the grid's units along it.

    Raises:
      ValueError: If ``axis`` is no integer, not one of ``shape``'s, or does not hold the grid's units.

    Example:
      >>> from lgnn_jax._grid import Grid, check_axis
      >>> check_axis(Grid((4, 2)), (3, 3, 16, 8), -1)
      3
    """
    as_grid(grid)
    axis = as_axis(axis)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"{name} of shape {tuple(shape)} has no axis {axis}, where a grid of {grid.size} expects its "
            f"{grid.units} units. Choose an axis between {-len(shape)} and {len(shape) - 1}."
        )
    if shape[axis] != grid.units:
        raise ValueError(
            f"{name} of shape {tuple(shape)} has {shape[axis]} units on axis {axis}, but "
            f"a grid of {grid.size} holds {grid.units}. "
            f"Give a grid whose product is {shape[axis]}, or the right axis."
        )
    return axis % len(shape)


def as_axis(axis: object) -> int:
    """``axis`` as an integer."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise ValueError(f"axis must be an integer, got {axis!r}.")
    return operator.index(axis)


def grid_shape(units: int, table: Mapping[int, Sequence[int]] | None = None) -> tuple[int, ...]:
    """The grid for a layer of ``units`` filters: ``table`` first, else the most square ``(m, n)``.

    Without an entry in the table, ``n`` is the largest divisor of ``units`` with ``n * n <= units``
    and ``m = units // n``, so ``m >= n``; a prime width becomes a column ``(units, 1)``.

    Args:
      units: Number of filters, positive.
      table: Shapes by width, as in the paper's lookup table. A shape's product must be its width.

    Returns:
      The grid's shape; ``(m, n)`` with ``m * n == units`` unless the table says otherwise.

    Raises:
      ValueError: If ``units`` is not a positive integer or the table's shape does not hold it.

    Example:
      >>> from lgnn_jax import grid_shape
      >>> grid_shape(64), grid_shape(512), grid_shape(512, {512: (64, 8)})
      ((8, 8), (32, 16), (64, 8))

    Source:
      Tan, Khan, Guan, "Locality Guided Neural Networks for Explainable Artificial Intelligence",
      IJCNN 2020, section III ("SOM dimensions are a lookup table").
    """
    try:
        count = operator.index(units)
    except TypeError:
        count = 0
    if count < 1 or isinstance(units, bool):
        raise ValueError(f"units must be a positive integer, got {units!r}.")
    if table is not None and count in table:
        shape = as_shape(table[count])
        if math.prod(shape) != count:
            raise ValueError(
                f"The table lays {count} units out as {'x'.join(map(str, shape))}, which holds "
                f"{math.prod(shape)}. Give a shape whose product is {count}."
            )
        return shape
    n = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
    return count // n, n


@functools.lru_cache(maxsize=256)
def coordinates(grid: Grid) -> np.ndarray:
    """Grid position of every unit, an integer array ``(units, len(grid.shape))``, row-major.

    Example:
      >>> from lgnn_jax._grid import Grid, coordinates
      >>> coordinates(Grid((2, 2))).tolist()
      [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    positions = np.indices(grid.shape).reshape(len(grid.shape), -1).T.copy()
    positions.setflags(write=False)
    return positions


def separations(grid: Grid) -> tuple[np.ndarray, ...]:
    """Steps between all positions along each grid dimension, an integer array ``(length, length)`` each.

    On a torus they go the short way round. The squared distance of two units is the sum of their squares.

    Example:
      >>> from lgnn_jax._grid import Grid, separations
      >>> [steps.tolist() for steps in separations(Grid((1, 3), wrap=True))]
      [[[0]], [[0, 1, 1], [1, 0, 1], [1, 1, 0]]]
    """
    found = []
    for length in grid.shape:
        steps = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
        found.append(np.minimum(steps, length - steps) if grid.wrap else steps)
    return tuple(found)


def _offsets(grid: Grid) -> np.ndarray:
    """Absolute coordinate differences ``(units, units, dims)``, the short way round on a torus."""
    position = coordinates(grid)
    offset = np.abs(position[:, None, :] - position[None, :, :])
    return np.minimum(offset, np.array(grid.shape) - offset) if grid.wrap else offset


@moved(wrap=_WRAP)
@functools.lru_cache(maxsize=64)
def neighbours(grid: Grid, *, diagonal: bool = False) -> np.ndarray:
    """Pairs of neighbouring units, each once: an integer array ``(pairs, 2)``, ascending.

    Args:
      grid: The grid; on a torus units at opposite borders are neighbours.
      diagonal: False for the nearest neighbours (4 in a plane), one step along one dimension. True
        for the diagonal ones, one step along each of two or more dimensions.

    Example:
      >>> from lgnn_jax import Grid, neighbours
      >>> neighbours(Grid((2, 2))).tolist()
      [[0, 1], [0, 2], [1, 3], [2, 3]]
    """
    position, sizes, pairs = coordinates(as_grid(grid)), np.array(grid.shape), set()
    for step in itertools.product((-1, 0, 1), repeat=len(grid.shape)):
        target = position + np.array(step)
        inside = np.full(grid.units, True) if grid.wrap else ((target >= 0) & (target < sizes)).all(1)
        target %= sizes
        steps = (target != position).sum(1)  # On a torus a step along a length of 1 leads nowhere.
        chosen = inside & (steps >= 2 if diagonal else steps == 1)
        for i, j in zip(
            np.flatnonzero(chosen), np.ravel_multi_index(target[chosen].T, grid.shape), strict=True
        ):
            pairs.add((min(i, j), max(i, j)))
    found = np.array(sorted(pairs), dtype=np.int32).reshape(-1, 2)
    found.setflags(write=False)
    return found


@moved(wrap=_WRAP)
def distances(grid: Grid) -> np.ndarray:
    """Euclidean distances between all units in grid steps, a float array ``(units, units)``.

    On a torus they go the short way round.

    Example:
      >>> from lgnn_jax import Grid, distances
      >>> distances(Grid((1, 3))).tolist()
      [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """
    return np.sqrt((_offsets(as_grid(grid)) ** 2).sum(-1, dtype=np.float64))
