"""The fast form of :func:`lgnn_jax.smooth` on a single CPU device, for units on the last axis.

The array is one line of memory, in which a neighbour on the grid is a constant step away: 1 along a row of the
grid, ``n`` along a column of an ``(m, n)`` grid. A 3x4 grid, the filters of two input channels in a row::

    channel 0                             channel 1
    0  1  2  3 | 4  5  6  7 | 8  9 10 11 || 0  1  2  3 | 4  5  6  7 | ...
                    ^--^--^                 row neighbours of 5: steps -1 and +1
       ^------------^------------^          column neighbours of 5: steps -4 and +4
             3 has no right neighbour: a step +1 would read 4, so its coefficient is 0,
             and the border's own share stays with 3 itself.

So the sum over a neighbourhood is a sum of slices of the same line, shifted by those steps, each times one
coefficient a unit. There is no transposition and no padded copy: XLA makes one vectorised loop of it, and fuses
that with the update that follows. Only the first and the last row of memory, whose steps leave the line, are
worked out apart, on a line with zeros around it.

Of so many taps that a pass is made for every grid dimension, the first one is a product of the grid's rows with
the window's matrix, which costs as much as a copy: XLA would work out a first sum within the second, several times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from lgnn_jax._grid import Grid
from lgnn_jax._neighbourhood import Window, window_matrix
from lgnn_jax._stencils import Stencil, nested, passes

_LONGEST_ROW = 32  # Of a grid, up to which a product with a matrix is as fast as memory.


def flat(x: jax.Array, weights: jax.Array, *, grid: Grid, window: Window) -> jax.Array:
    """All grid dimensions at once, as sums over constant steps in memory; the units are on the last axis."""
    y, total = x, None if window.normalise else weights.sum()
    groups, row = passes(grid, weights, window, kept=True), grid.shape[-1]
    if len(groups) > 1 and 1 < row <= _LONGEST_ROW:
        groups.pop()
        matrix = window_matrix(row, weights, window, grid.wrap)
        rows = x.reshape(-1, row).astype(matrix.dtype)
        y = jnp.matmul(rows, matrix.T, precision=lax.Precision.HIGHEST).reshape(x.shape)
    for group in groups:
        y = _pass(y, group, total, weights.dtype)
    return y.astype(x.dtype)


def _pass(
    x: jax.Array, stencils: Sequence[Stencil], total: jax.Array | None, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """``x`` (..., units) with the stencils applied one within the other, in a single loop over memory."""
    if not stencils:
        return x
    line, units = x.reshape(-1), x.shape[-1]
    reach = sum(max(map(abs, stencil), default=0) for stencil in stencils)
    outside = jnp.zeros(reach, x.dtype)

    def box(source: jax.Array, start: int, shape: tuple[int, ...]) -> jax.Array:
        """The result for the weights from ``start`` of a line on, all of whose steps stay on the line."""
        size = math.prod(shape)

        def stepped(offset: int) -> jax.Array:
            first = start + offset
            return lax.slice(source, (first,), (first + size,)).reshape(shape).astype(dtype)

        def term(value: jax.Array, coefficient: jax.Array) -> jax.Array:
            return lax.broadcast_in_dim(coefficient, value.shape, (value.ndim - 1,)) * value

        return nested(stepped, term, stencils, total)

    if line.size == units:
        return box(jnp.concatenate([outside, line, outside]), reach, x.shape)
    first_row = box(jnp.concatenate([outside, line[: units + reach]]), reach, (units,))
    last_row = box(jnp.concatenate([line[line.size - units - reach :], outside]), reach, (units,))

    def pieces(start: int, shape: tuple[int, ...], at_start: bool, at_end: bool) -> jax.Array:
        """The same for part of ``x`` that may hold its first or its last row, whose steps leave the line.

        Cut along whole axes, never across: XLA then takes the choice of the piece out of the inner loop.
        """
        if not (at_start or at_end):
            return box(line, start, shape)
        if len(shape) == 1:
            return first_row if at_start else last_row
        count, inner = shape[0], shape[1:]
        size = math.prod(inner)
        if count == 1:
            return pieces(start, inner, at_start, at_end)[None]
        parts = []
        if at_start:
            parts.append(pieces(start, inner, True, False)[None])
        if count > at_start + at_end:
            middle = (count - at_start - at_end, *inner)
            parts.append(box(line, start + at_start * size, middle))
        if at_end:
            parts.append(pieces(start + (count - 1) * size, inner, False, True)[None])
        return jnp.concatenate(parts)

    return pieces(0, x.shape, True, True)
