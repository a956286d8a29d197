"""What the matrix forms of a convolution share: products of maps of pixels, and moving their pixels.

A map is ``(batch, height, width, channels)``. Products are summed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

Array = jax.Array
Line = Sequence[Array]
Grid = Sequence[Line]


def times_matrix(x: Array, matrix: Array) -> Array:
    """A map of ``in`` channels times ``(in, out)``."""
    return _product(x, matrix, 3, 0)


def times_transpose(y: Array, matrix: Array) -> Array:
    """A map of ``out`` channels times the transpose of ``(in, out)``."""
    return _product(y, matrix, 3, 1)


def over_pixels(x: Array, y: Array) -> Array:
    """The sum over all pixels of two maps of the products of their channels, ``(in, out)``."""
    # As matrices: over three axes at once the compiler takes a slower way.
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    if x.dtype != jnp.bfloat16:
        return _product(x, y, 0, 0)
    # XLA's CPU compiler multiplies bfloat16 only where matrices lie in rows, and makes others float32 first,
    # which takes twice as long. To turn this one around takes a fifth of what is won.
    return _in_rows(_product(_in_rows(_in_rows(x).T), y, 1, 0))


def shifted(x: Array, axis: int, by: int) -> Array:
    """``x`` moved by some places down an axis, with zeros in the places left; up if negative."""
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, [(by, -by, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])


def interleaved(grid: Grid) -> Array:
    """A grid of maps as one map, whose every ``[row][column]`` pixel is of that member."""
    y = jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)
    batch, height, rows, width, columns, channels = y.shape
    return y.reshape(batch, rows * height, columns * width, channels)


def _product(a: Array, b: Array, over_a: int, over_b: int) -> Array:
    return lax.dot_general(a, b, (((over_a,), (over_b,)), ((), ())), preferred_element_type=jnp.float32)


def _in_rows(matrix: Array) -> Array:
    """``matrix`` with its rows one after the other in memory."""
    return with_layout_constraint(matrix, Layout((0, 1)))
