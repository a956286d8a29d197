"""Convolution and pooling with forms of their own for CPUs: ``conv`` and ``max_pool``, and ``mapped`` for several.

``patches`` and ``winograd`` write a convolution as matrix products, of which ``products`` has the parts;
``pooling`` is a maximum of slices. Accelerators get XLA's own operations, but for several networks at once.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from experiments.nets.fast_cpu import patches, pooling, winograd

__all__ = ["conv", "mapped", "max_pool"]

Array = jax.Array
_MAPPED = contextvars.ContextVar("_MAPPED", default=False)


def mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which maps over the kernels of several networks, with convolutions as batched matrix products.

    Of a convolution that is mapped over its kernels XLA makes one with groups. On an H200, a step of three VGG-11
    in bfloat16 took 3.95 ms with those and 3.01 ms with products.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any) -> Any:
        token = _MAPPED.set(True)
        try:
            return function(*arguments)
        finally:
            _MAPPED.reset(token)

    return wrapped


def conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolution of ``x`` (batch, height, width, in) with an HWIO kernel of odd size, zero padded by half.

    It is computed in the type of ``x``, with sums in float32, whatever the kernel's type. It has gradients in
    reverse mode alone, and within ``jax.shard_map`` only with ``check_vma=False``.

    On a CPU backend alone it is computed as matrix products: XLA's own CPU convolution is up to a
    hundred times slower on maps of a few pixels and several times slower on wide ones.
    """
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_by_matrix_products, stride=stride),
        default=functools.partial(_by_patches if _MAPPED.get() else _by_convolution, stride=stride),
    )


def _by_convolution(x: Array, kernel: Array, *, stride: int) -> Array:
    pad = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _by_patches(x: Array, kernel: Array, *, stride: int) -> Array:
    return patches.convolve(x, kernel, stride)


def _by_matrix_products(x: Array, kernel: Array, *, stride: int) -> Array:
    """Winograd's form wherever it exists, except on three channels, where it takes 2.2 to 2.7 times as long.

    Against patches times a matrix, forward and backward, in batches of 128 on two cores, in float32 and
    bfloat16, it takes 0.45 of the time on 8x8 maps with 256 channels, 0.5 on 32x32 with 128 and on 4x4 with
    512, 0.6 to 0.8 on 2x2 with 512 and on 16x16 with 16.
    """
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    if kernel.shape[:2] == (3, 3) and stride == 1 and even and x.shape[-1] > 3:
        return winograd.convolve(x, kernel)
    return patches.convolve(x, kernel, stride)


def max_pool(x: Array) -> Array:
    """2x2 max pooling of ``(batch, height, width, channels)``.

    On a CPU backend alone it is written as a maximum of slices, whose gradient is ten times as fast.
    """
    return lax.platform_dependent(
        x, cpu=pooling.max_pool, default=lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))
    )
