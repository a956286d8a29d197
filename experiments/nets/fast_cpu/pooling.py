"""2x2 max pooling as a maximum of slices, whose gradient is written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """2x2 max pooling of ``(batch, height, width, channels)``."""
    a, b, c, d = _quarters(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = max_pool(x)
    return largest, (x, largest)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
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


max_pool.defvjp(_forward, _backward)


def _quarters(x: Array) -> list[Array]:
    """The four pixels of every 2x2 window."""
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    return [x[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]
