"""The neighbourhood function as steps along the units' axis, with a coefficient a unit for each.

Row-major, a neighbour on the grid is a constant step away: 1 along a row of an ``(m, n)`` grid, ``n`` along a
column. A step that would leave the grid has the coefficient 0, and the border's own share stays with the unit
itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._grid import Grid
from lgnn_jax._neighbourhood import Window, sources

# Above this many taps in all (7x7, say) a pass is made for every grid dimension.
_MOST_TAPS_AT_ONCE = 27

# By steps along the units' axis, the coefficient of every unit.
Stencil = dict[int, jax.Array]


def passes(
    grid: Grid, weights: jax.Array, window: Window, *, kept: bool, most: int = _MOST_TAPS_AT_ONCE
) -> list[list[Stencil]]:
    """The stencils of the grid's dimensions, in groups that are each worth one pass over memory.

    Args:
      grid: The grid.
      weights: The window's taps.
      window: The window.
      kept: Whether coefficients are to be kept in memory, or worked out anew for every weight.
      most: Taps in all above which a pass is made for every grid dimension.
    """
    stencils = [
        _stencil(grid, dimension, weights, window, kept)
        for dimension, length in enumerate(grid.shape)
        if length > 1 or not window.normalise
    ]
    at_once = math.prod(len(stencil) + 1 for stencil in stencils) <= most
    return [stencils] if at_once else [[stencil] for stencil in stencils]


def _stencil(grid: Grid, dimension: int, weights: jax.Array, window: Window, kept: bool) -> Stencil:
    """What every unit reads of others along one grid dimension; nought where that would leave the grid."""
    length, stride = grid.shape[dimension], math.prod(grid.shape[dimension + 1 :])
    stencil = {}
    for step, selection in _reads(length, window, grid.wrap).items():
        each = np.repeat(selection, stride, axis=0)
        everywhere = np.tile(each, (grid.units // len(each), 1))
        stencil[step * stride] = _kept(everywhere, weights) if kept else _anew(everywhere, weights)
    return stencil


def _kept(taken: np.ndarray, weights: jax.Array) -> jax.Array:
    """Sums of the taps that each unit takes, as a product, whose result XLA keeps in memory."""
    return jnp.matmul(jnp.asarray(taken, weights.dtype), weights, precision=lax.Precision.HIGHEST)


def _anew(taken: np.ndarray, weights: jax.Array) -> jax.Array:
    """The same as selects, which XLA fuses with what reads them: an accelerator is spared a launch."""
    terms = [jnp.where(taken[:, tap], weights[tap], 0) for tap in np.flatnonzero(taken.any(axis=0))]
    return functools.reduce(jnp.add, terms)


@functools.lru_cache(maxsize=256)
def _reads(length: int, window: Window, wrap: bool) -> dict[int, np.ndarray]:
    """By steps along a dimension, which taps of each unit read the unit that far away, ``(length, size)``."""
    source = sources(length, window, wrap)
    steps = source - np.arange(length)[:, None]
    return {int(step): steps == step for step in np.unique(steps) if step}


def nested(
    stepped: Callable[[int], jax.Array],
    scaled: Callable[[jax.Array, jax.Array], jax.Array],
    stencils: Sequence[Stencil],
    total: jax.Array | None,
    offset: int = 0,
) -> jax.Array:
    """The stencils one within the other at an offset: ``total * y + sum_s c_s (y_s - y)`` for each.

    As differences, because a unit's coefficients add up to ``total`` (None for one): that saves loading one
    of them, and leaves constants exactly as they are.
    """
    if not stencils:
        return stepped(offset)
    outer, *inner = stencils
    centre = nested(stepped, scaled, inner, total, offset)

    def difference(step: int, coefficient: jax.Array) -> jax.Array:
        there = nested(stepped, scaled, inner, total, offset + step)
        return scaled(there - centre, coefficient)

    differences = [difference(step, coefficient) for step, coefficient in outer.items()]
    return functools.reduce(jnp.add, [centre if total is None else total * centre, *differences])
