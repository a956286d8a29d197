"""What the networks share: convolution, batch normalisation, dropout by example, and widths."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.nets.fast_cpu import conv

Array = jax.Array


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, at least one."""
    return max(1, round(channels * width))


def normal(deviation: float) -> Any:
    """An untruncated normal initialiser."""
    return nn.initializers.normal(stddev=deviation)


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
        return conv(x, kernel, self.stride)


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
