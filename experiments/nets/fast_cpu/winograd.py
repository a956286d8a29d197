"""3x3 convolutions as sixteen matrix products: Winograd's minimal filtering F(2x2, 3x3).

Every 2x2 tile of the output needs a 4x4 window of the input. In one dimension, with a window ``d`` and a
kernel ``g``,

    y = A' [(G g) * (B' d)],

four products where there are six, and in two dimensions 16 where there are 36. B, G and A are additions
and halvings (Lavin and Gray, 2016, https://arxiv.org/abs/1509.09308), so that the result is as exact as
the direct sum. Here a grid of arrays ``[row][column]`` holds what belongs to one place of all windows.

In bfloat16 only the factors of the products are rounded; their sums and the transforms are in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.nets.fast_cpu.products import (
    Grid,
    Line,
    depth_to_space,
    over_pixels,
    separable,
    shifted,
    times_matrix,
    times_transpose,
)

Array = jax.Array


@jax.custom_vjp
def convolve(x: Array, kernel: Array) -> Array:
    """Convolution of ``x`` (batch, height, width, in), both sides even, with a 3x3 HWIO kernel, zero padded.

    It is computed in the type of ``x``.
    """
    products = _paired(times_matrix, _windows(x), _weights(kernel, x.dtype))
    return depth_to_space(separable(products, _to_outputs, _to_outputs)).astype(x.dtype)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The adjoint of every stage, in turn; what JAX derives by itself takes twice as long.

    The compiler merges the windows' transformation with the forward pass's.
    """
    x, kernel = saved
    spread = _tiles(gradient)
    of_weights = _paired(over_pixels, _windows(x), spread)
    of_windows = _paired(times_transpose, spread, _weights(kernel, x.dtype))
    along_rows, along_columns = (functools.partial(_from_windows, axis=axis) for axis in (2, 1))
    of_x = depth_to_space(separable(of_windows, along_rows, along_columns))
    of_kernel = jnp.stack([jnp.stack(line) for line in separable(of_weights, _from_weights, _from_weights)])
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


convolve.defvjp(_forward, _backward)


def _windows(x: Array) -> Grid:
    """B'dB: a 4x4 grid of ``(batch, height / 2, width / 2, in)``."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    if x.dtype == jnp.bfloat16:
        # The sixteen transforms then read this, rather than twice as much in float32.
        padded = lax.optimization_barrier(padded)
    padded = padded.astype(jnp.float32)

    def differences(line):
        first, second, third, fourth = line
        return first - third, second + third, third - second, second - fourth

    rows = differences([padded[:, i : i + height : 2] for i in range(4)])
    grid = [differences([row[:, :, j : j + width : 2] for j in range(4)]) for row in rows]
    return _rounded(grid, x.dtype)


def _from_windows(line: Line, axis: int) -> Line:
    """What even and odd pixels get from their window and its neighbours along an axis."""
    first, second, third, fourth = line
    even = second - third + fourth - shifted(fourth, axis, 1)
    odd = second + third - first + shifted(first, axis, -1)
    return even, odd


def _weights(kernel: Array, dtype: Any) -> Grid:
    """G g G': a 4x4 grid of ``(in, out)``."""

    def spread(line):
        first, second, third = line
        outer = (first + third) * 0.5
        return first, outer + second * 0.5, outer - second * 0.5, third

    return _rounded(separable(kernel.astype(jnp.float32), spread, spread), dtype)


def _from_weights(line: Line) -> Line:
    """The adjoint of G g."""
    first, second, third, fourth = line
    half = (second + third) * 0.5
    return first + half, (second - third) * 0.5, half + fourth


def _to_outputs(line: Line) -> Line:
    """A' m."""
    first, second, third, fourth = line
    return first + second + third, second - third - fourth


def _tiles(y: Array) -> Grid:
    """A y A', the adjoint of the outputs: a 4x4 grid of ``(batch, height / 2, width / 2, out)``."""
    wide = y.astype(jnp.float32)

    def spread(even, odd):
        return even, even + odd, even - odd, -odd

    rows = spread(wide[:, 0::2], wide[:, 1::2])
    return _rounded([spread(row[:, :, 0::2], row[:, :, 1::2]) for row in rows], y.dtype)


def _rounded(grid: Grid, dtype: Any) -> Grid:
    return [[value.astype(dtype) for value in line] for line in grid]


def _paired(product: Callable[[Array, Array], Array], first: Grid, second: Grid) -> Grid:
    """The products of what stands in the same place of two grids."""
    return [
        [product(a, b) for a, b in zip(*lines, strict=True)] for lines in zip(first, second, strict=True)
    ]
