"""Augmentation on the device, from uint8 pictures, by example: the same whatever the number of devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

PAD = 4


def example_keys(key: jax.Array, examples: jax.Array) -> jax.Array:
    """One key an example, from a step's key and the examples' indices in the training set ``(batch,)``."""
    return jax.vmap(lambda example: jax.random.fold_in(key, example))(examples)


def normalise(images: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    """uint8 pictures as float32, less the mean and over the deviation of every channel (of 1)."""
    mean, deviation = mean.reshape(1, 1, 1, -1), deviation.reshape(1, 1, 1, -1)
    return (images.astype(jnp.float32) / 255 - mean) / deviation


def crop_and_flip(images: jax.Array, keys: jax.Array, *, padding: str, flip: bool) -> jax.Array:
    """Pads pictures by 4, crops them back at a random place and mirrors half of them.

    Args:
      images: ``(batch, height, width, channels)``, normalised.
      keys: One key an example, ``(batch,)``.
      padding: ``constant`` (zeros, which is the mean colour) or ``reflect``.
      flip: Whether to mirror.
    """
    tops, lefts, sides = jax.vmap(_draw)(keys)
    padded = jnp.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode=padding)
    x = jax.lax.platform_dependent(padded, tops, lefts, cpu=_by_slices, default=_by_selects)
    return jnp.where(sides[:, None, None, None], x[:, :, ::-1], x) if flip else x


def _draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where an image's crop begins, and whether it is mirrored."""
    place, side = jax.random.split(key)
    top, left = jax.random.randint(place, (2,), 0, 2 * PAD + 1)
    return top, left, jax.random.bernoulli(side)


def _by_slices(padded: jax.Array, tops: jax.Array, lefts: jax.Array) -> jax.Array:
    """A slice an image, which accelerators would cut one after the other."""
    height, width = (size - 2 * PAD for size in padded.shape[1:3])

    def one(image, top, left):
        return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, image.shape[-1]))

    return jax.vmap(one)(padded, tops, lefts)


def _by_selects(padded: jax.Array, tops: jax.Array, lefts: jax.Array) -> jax.Array:
    """Rows, then columns, selected among all that there can be, which a CPU takes thirty times as long for."""
    x = padded
    for axis, starts in ((1, tops), (2, lefts)):
        length = x.shape[axis] - 2 * PAD
        chosen = jax.lax.slice_in_dim(x, 0, length, axis=axis)
        for start in range(1, 2 * PAD + 1):
            there = jax.lax.slice_in_dim(x, start, start + length, axis=axis)
            chosen = jnp.where((starts == start)[:, None, None, None], there, chosen)
        x = jax.lax.optimization_barrier(chosen)  # Fused, rows would be selected anew for every column.
    return x
