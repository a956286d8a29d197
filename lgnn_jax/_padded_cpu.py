"""The form of :func:`lgnn_jax.smooth` on CPUs for units on any axis, and for arrays that may be sharded.

The array is shifted along the units' axis, as on accelerators, but cut out of a copy with room at both ends: XLA's
loop for a CPU is vectorised over slices, and not over a padding within it. Where enough units lie between, only
those near the ends are copied::

    units     0 ... reach | reach ... units - reach | ... units - 1
    copied    zeros, 0 to 2 reach                     units - 2 reach to units - 1, zeros
    in place              from the array itself
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from lgnn_jax._grid import Grid
from lgnn_jax._neighbourhood import Window
from lgnn_jax._stencils import Stencil, nested, passes

_MOST_TAPS_AT_ONCE = 9


def padded(
    x: jax.Array, weights: jax.Array, *, grid: Grid, window: Window, axis: int, merged: bool
) -> jax.Array:
    """Sums of ``x`` shifted along the units' axis, one loop over memory a pass.

    Args:
      x: The array.
      weights: The window's taps.
      grid: The grid.
      window: The window.
      axis: The units' axis.
      merged: Whether the axes after it may be made one, for longer inner loops.
    """
    y, total = x, None if window.normalise else weights.sum()
    if merged and axis < x.ndim - 1:
        y = x.reshape(*x.shape[: axis + 1], math.prod(x.shape[axis + 1 :]))
    for group in passes(grid, weights, window, kept=True, most=_MOST_TAPS_AT_ONCE):
        y = _pass(y, [_around(stencil, grid) for stencil in group], total, weights.dtype, axis, grid.wrap)
    return y.reshape(x.shape).astype(x.dtype)


def _around(stencil: Stencil, grid: Grid) -> Stencil:
    """A torus's steps with the shorter way around taken, where units are continued at both ends."""
    if not grid.wrap:
        return stencil
    half = grid.units // 2
    found: Stencil = {}
    for step, coefficient in stencil.items():
        near = (step + half) % grid.units - half
        found[near] = found[near] + coefficient if near in found else coefficient
    return found


def _pass(
    x: jax.Array,
    stencils: Sequence[Stencil],
    total: jax.Array | None,
    dtype: jax.typing.DTypeLike,
    axis: int,
    wrap: bool,
) -> jax.Array:
    """The stencils applied one within the other."""
    units = x.shape[axis]
    reach = sum(max(map(abs, stencil), default=0) for stencil in stencils)

    def units_of(source: jax.Array, start: int, count: int) -> jax.Array:
        return lax.slice_in_dim(source, start, start + count, axis=axis)

    def box(source: jax.Array, start: int, first: int, count: int) -> jax.Array:
        """The result for units from ``first`` on, which lie at ``start`` of the source."""

        def stepped(step: int) -> jax.Array:
            return units_of(source, start + step, count).astype(dtype)

        def scaled(value: jax.Array, coefficient: jax.Array) -> jax.Array:
            own = lax.slice_in_dim(coefficient, first, first + count)
            return lax.broadcast_in_dim(own, value.shape, (axis,)) * value

        return nested(stepped, scaled, stencils, total)

    def with_room(source: jax.Array, before: int, after: int) -> jax.Array:
        """A copy with so many units more at its ends: those around a torus, and zeros on a plane.

        In memory of its own: within the loop it would be worked out anew for every step.
        """
        if wrap:
            around = jnp.concatenate([x] * (1 - (-reach // units)), axis=axis) if reach > units else x
            parts = [
                units_of(around, around.shape[axis] - before, before),
                source,
                units_of(around, 0, after),
            ]
            return lax.optimization_barrier(jnp.concatenate(parts, axis=axis))
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (before, after, 0)
        return lax.optimization_barrier(lax.pad(source, jnp.zeros((), x.dtype), edges))

    if not reach:
        return box(x, 0, 0, units)
    if units <= 2 * reach or axis == x.ndim - 1:
        return box(with_room(x, reach, reach), reach, 0, units)
    first = box(with_room(units_of(x, 0, 2 * reach), reach, 0), reach, 0, reach)
    middle = box(x, reach, reach, units - 2 * reach)
    last = box(with_room(units_of(x, units - 2 * reach, 2 * reach), 0, reach), reach, units - reach, reach)
    return jnp.concatenate([first, middle, last], axis=axis)
