"""Convolution as one matrix product: every output pixel's patch of the input as a row, times the kernel."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from experiments.models.products import (
    Line,
    interleaved,
    over_pixels,
    shifted,
    times_matrix,
    times_transpose,
)

Array = jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolution of ``x`` (batch, height, width, in) with an HWIO kernel of odd size, zero padded by half.

    It is computed in the type of ``x``.
    """
    return times_matrix(_patches(x, kernel.shape[:2], stride), _matrix(kernel, x.dtype)).astype(x.dtype)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The adjoint of every stage, in turn; what JAX derives for strides pads nine times with gaps."""
    x, kernel = saved
    rows, columns = kernel.shape[:2]
    of_kernel = over_pixels(_patches(x, (rows, columns), stride), gradient).reshape(kernel.shape)
    of_patches = times_transpose(gradient, _matrix(kernel, x.dtype))
    places = jnp.split(of_patches, rows * columns, axis=-1)
    lines = [
        _from_places(places[start : start + columns], 2, stride) for start in range(0, len(places), columns)
    ]
    grid = [_from_places(line, 1, stride) for line in zip(*lines, strict=True)]
    of_x = interleaved(list(zip(*grid, strict=True)))[:, : x.shape[1], : x.shape[2]]
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


convolve.defvjp(_forward, _backward)


def _matrix(kernel: Array, dtype: jnp.dtype) -> Array:
    return kernel.astype(dtype).reshape(-1, kernel.shape[-1])


def _patches(x: Array, size: tuple[int, int], stride: int) -> Array:
    """``(batch, height / stride, width / stride, rows * columns * in)``, the sizes rounded up."""
    (rows, columns), (height, width) = size, x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    slices = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(rows)
        for j in range(columns)
    ]
    return jnp.concatenate(slices, axis=-1)


def _from_places(line: Line, axis: int, stride: int) -> Line:
    """What the places of all patches along an axis add to every ``stride``-th pixel, from each of the first."""
    sums = []
    for first in range(stride):
        moves = [(first + len(line) // 2 - place, part) for place, part in enumerate(line)]
        parts = [shifted(part, axis, -by // stride) for by, part in moves if by % stride == 0]
        sums.append(sum(parts[1:], parts[0]) if parts else jnp.zeros_like(line[0]))
    return sums
