"""Convolution as one matrix product (im2col): every output pixel's patch of the input times the kernel."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from experiments.nets.fast_cpu.products import (
    Line,
    depth_to_space,
    over_pixels,
    separable,
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
    """The adjoint of every stage, in turn; JAX derives a padding with gaps for every tap of the kernel."""
    x, kernel = saved
    rows, columns = kernel.shape[:2]
    of_kernel = over_pixels(_patches(x, (rows, columns), stride), gradient).reshape(kernel.shape)
    of_patches = times_transpose(gradient, _matrix(kernel, x.dtype))
    taps = jnp.split(of_patches, rows * columns, axis=-1)
    grid = [taps[start : start + columns] for start in range(0, len(taps), columns)]
    along_rows, along_columns = (functools.partial(_from_taps, axis=axis, stride=stride) for axis in (2, 1))
    of_x = depth_to_space(separable(grid, along_rows, along_columns))[:, : x.shape[1], : x.shape[2]]
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


def _from_taps(line: Line, axis: int, stride: int) -> Line:
    """The adjoint of patches along one axis (col2im): for every residue of the stride, its pixels' sums."""
    sums = []
    for residue in range(stride):
        moves = [(residue + len(line) // 2 - tap, part) for tap, part in enumerate(line)]
        parts = [shifted(part, axis, -by // stride) for by, part in moves if by % stride == 0]
        sums.append(sum(parts[1:], parts[0]) if parts else jnp.zeros_like(line[0]))
    return sums
