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


@dataclasses.dataclass(frozen=True)
class Grid:
    """The units along one axis of an array, laid out on a grid in row-major order.

    Unit ``k`` of an ``(m, n)`` grid sits at row ``k // n`` and column ``k % n``.

    Args:
      shape: Size of every grid dimension, all positive; any number of dimensions.
      axis: The axis of the array that holds the ``prod(shape)`` units. ``-1`` for the output channels
        of a Flax or Haiku kernel (HWIO), ``0`` for those of an Equinox or PyTorch kernel (OIHW).

    Raises:
      ValueError: If ``shape`` is not a sequence of positive integers or ``axis`` is not an integer.

    Example:
      >>> from lgnn_jax import Grid
      >>> Grid((32, 16)).units
      512
    """

    shape: tuple[int, ...]
    axis: int = -1

    def __post_init__(self):
        object.__setattr__(self, "shape", as_shape(self.shape))
        try:
            axis = operator.index(self.axis)
        except TypeError:
            raise ValueError(f"Grid axis must be an integer, got {self.axis!r}.") from None
        object.__setattr__(self, "axis", axis)

    @property
    def units(self) -> int:
        """Number of units on the grid."""
        return math.prod(self.shape)

    def check(self, shape: Sequence[int], name: str = "array") -> None:
        """Raises ``ValueError`` unless an array of ``shape``, called ``name``, has this grid's units.

        Example:
          >>> from lgnn_jax import Grid
          >>> Grid((4, 2)).check((3, 3, 16, 8))
        """
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(
                f"{name} of shape {tuple(shape)} has no axis {self.axis}, where {self} expects its "
                f"{self.units} units. Choose an axis between {-len(shape)} and {len(shape) - 1}."
            )
        if shape[self.axis] != self.units:
            raise ValueError(
                f"{name} of shape {tuple(shape)} has {shape[self.axis]} units on axis {self.axis}, but "
                f"a grid of {'x'.join(map(str, self.shape))} holds {self.units}. "
                f"Give a grid whose product is {shape[self.axis]}, or the right axis."
            )


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
      >>> from lgnn_jax.grid import Grid, coordinates
      >>> coordinates(Grid((2, 2))).tolist()
      [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    positions = np.indices(grid.shape).reshape(len(grid.shape), -1).T.copy()
    positions.setflags(write=False)
    return positions


def _offsets(grid: Grid, wrap: bool) -> np.ndarray:
    """Absolute coordinate differences ``(units, units, dims)``, the short way round on a torus."""
    position = coordinates(grid)
    offset = np.abs(position[:, None, :] - position[None, :, :])
    return np.minimum(offset, np.array(grid.shape) - offset) if wrap else offset


@functools.lru_cache(maxsize=64)
def neighbours(grid: Grid, *, diagonal: bool = False, wrap: bool = False) -> np.ndarray:
    """Pairs of neighbouring units, each once: an integer array ``(pairs, 2)``.

    Args:
      grid: The grid.
      diagonal: False for the nearest neighbours (4 in a plane), one step along one dimension. True
        for the diagonal ones, one step along each of two or more dimensions.
      wrap: Whether opposite borders touch (a torus).

    Example:
      >>> from lgnn_jax.grid import Grid, neighbours
      >>> neighbours(Grid((2, 2))).tolist()
      [[0, 1], [0, 2], [1, 3], [2, 3]]
    """
    position, sizes, pairs = coordinates(grid), np.array(grid.shape), set()
    for step in itertools.product((-1, 0, 1), repeat=len(grid.shape)):
        target = position + np.array(step)
        inside = np.full(grid.units, True) if wrap else ((target >= 0) & (target < sizes)).all(1)
        target %= sizes
        moved = (target != position).sum(1)  # On a torus a step along a length of 1 leads nowhere.
        chosen = inside & (moved >= 2 if diagonal else moved == 1)
        for i, j in zip(
            np.flatnonzero(chosen), np.ravel_multi_index(target[chosen].T, grid.shape), strict=True
        ):
            pairs.add((min(i, j), max(i, j)))
    found = np.array(sorted(pairs), dtype=np.int32).reshape(-1, 2)
    found.setflags(write=False)
    return found


def distances(grid: Grid, *, wrap: bool = False) -> np.ndarray:
    """Euclidean distances between all units in grid steps, a float array ``(units, units)``.

    Example:
      >>> from lgnn_jax.grid import Grid, distances
      >>> distances(Grid((1, 3))).tolist()
      [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """
    return np.sqrt((_offsets(grid, wrap) ** 2).sum(-1, dtype=np.float64))
