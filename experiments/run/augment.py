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
    padded = jnp.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode=padding)

    def one(image, key):
        place, side = jax.random.split(key)
        top, left = jax.random.randint(place, (2,), 0, 2 * PAD + 1)
        crop = jax.lax.dynamic_slice(image, (top, left, 0), images.shape[1:])
        return jnp.where(jax.random.bernoulli(side), crop[:, ::-1], crop) if flip else crop

    return jax.vmap(one)(padded, keys)
