"""What the networks share: convolution, batch normalisation, dropout by example, and widths."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from experiments.models import patches, winograd

Array = jax.Array


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, at least one."""
    return max(1, round(channels * width))


def normal(deviation: float) -> Any:
    """An untruncated normal initialiser."""
    return nn.initializers.normal(stddev=deviation)


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
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
        default=functools.partial(_by_convolution, stride=stride),
    )


def _by_convolution(x: Array, kernel: Array, *, stride: int) -> Array:
    pad = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


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
        x, cpu=_max_of_slices, default=lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))
    )


@jax.custom_vjp
def _max_of_slices(x: Array) -> Array:
    a, b, c, d = _quarters(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = _max_of_slices(x)
    return largest, (x, largest)


def _pool_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """The gradient where the largest value is, in equal shares if it is there several times.

    JAX's own gradient of the slices pads them, which in bfloat16 took a quarter of VGG-11's step.
    """
    x, largest = saved
    batch, height, width, channels = largest.shape
    equal = sum((quarter == largest).astype(jnp.float32) for quarter in _quarters(x))
    share = (gradient.astype(jnp.float32) / equal).astype(x.dtype)
    tiled = x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
    chosen = tiled == largest[:, :, None, :, None]
    out = jnp.where(chosen, share[:, :, None, :, None], jnp.zeros((), x.dtype))
    out = out.reshape(batch, 2 * height, 2 * width, channels)
    margins = ((0, 0), (0, x.shape[1] - 2 * height), (0, x.shape[2] - 2 * width), (0, 0))
    return (jnp.pad(out, margins),)


_max_of_slices.defvjp(_pool_forward, _pool_backward)


def _quarters(x: Array) -> list[Array]:
    """The four pixels of every 2x2 window."""
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    return [x[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]


class Conv(nn.Module):
    """A square convolution without bias, padded by half its size, kernel ``(size, size, in, features)``.

    ``deviation`` is the standard deviation of its normal initialisation; None means He's ``sqrt(2 / fan_in)``.
    """

    features: int
    size: int = 3
    stride: int = 1
    deviation: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``(batch, height, width, in)`` to ``(batch, height / stride, width / stride, features)``."""
        fan_in = self.size * self.size * x.shape[-1]
        deviation = (2 / fan_in) ** 0.5 if self.deviation is None else self.deviation
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", normal(deviation), shape, jnp.float32)
        return convolve(x, kernel, self.stride)


def batch_norm(train: bool, axis: str | None, dtype: Any, name: str) -> nn.BatchNorm:
    """Batch normalisation as in the paper's code base: momentum 0.9, epsilon 1e-5.

    With ``axis``, statistics are over the replicas of that axis too. The result is of type ``dtype``;
    statistics and parameters are float32.
    """
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, axis_name=axis, dtype=dtype, name=name
    )


class Dropout(nn.Module):
    """Dropout whose mask depends on the example's index, so that it is the same on any number of devices."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool, examples: Array) -> Array:
        """Drops values of ``x`` (batch, ...) when training; ``examples`` holds the batch's indices."""
        if not train or self.rate == 0:
            return x
        key = self.make_rng("dropout")
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(examples)
        kept = jax.vmap(lambda key: _bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros_like(x))


def _bernoulli(key: Array, probability: float, shape: tuple[int, ...]) -> Array:
    """Draws of ``shape``, of one axis or more, true with a probability to the nearest of 65536ths.

    Two draws share 32 random bits, since to make the bits took 4 % of a step of WRN-16-8 on a CPU; JAX
    makes as many for 16 of them.
    """
    bits = jax.random.bits(key, (-(-shape[0] // 2), *shape[1:]), jnp.uint32)
    halves = jnp.concatenate([bits >> 16, bits & 0xFFFF])[: shape[0]]
    return halves < round(probability * 2**16)
