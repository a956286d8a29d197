"""Checks of arguments that several modules share."""

from __future__ import annotations

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_labels(
    labels: jax.typing.ArrayLike, classes: int, name: str = "labels", *, every: bool = True
) -> np.ndarray:
    """Labels as int64 ``(images,)``, all of them legal and, with ``every``, an image of every class."""
    given = np.asarray(labels)
    if given.ndim != 1 or not len(given) or not np.issubdtype(given.dtype, np.integer):
        advice = ""
        if given.ndim == 1 and given.dtype.kind in "USO":
            advice = f" Names become such by np.unique({name}, return_inverse=True)."
        elif given.ndim == 2:
            advice = f" One-hot ones become such by {name}.argmax(-1)."
        raise ValueError(
            f"{name} must be integers (images,), got shape {given.shape} of {given.dtype}.{advice}"
        )
    if given.min() < 0 or given.max() >= classes:
        raise ValueError(
            f"{name} must be from 0 to {classes - 1}, got values from {given.min()} to {given.max()}."
        )
    missing = np.flatnonzero(np.bincount(given, minlength=classes) == 0)
    if every and len(missing):
        raise ValueError(f"{name} of {classes} classes have no image of {missing.tolist()[:10]}.")
    return given.astype(np.int64)


def positive(name: str, value: Any) -> int:
    """``value`` as a positive integer."""
    return _at_least(1, name, value, "a positive integer")


def pixels(name: str, value: Any) -> int:
    """``value`` as a number of pixels."""
    return _at_least(0, name, value, "a number of pixels, an integer from 0")


def _at_least(least: int, name: str, value: Any, wanted: str) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least or isinstance(value, bool):
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")
    return count


def finite_numbers(name: str, values: Any) -> tuple[float, ...]:
    """``values`` as floats, at least one."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite numbers, at least one, got {values!r}.")
    return numbers


def indices(units: Any, count: int, *, least: int = 0) -> np.ndarray:
    """``units`` as indices of ``count`` units, int64 ``(chosen,)``, at least ``least`` of them."""
    chosen = np.asarray(units, np.int64)
    if chosen.ndim != 1 or len(chosen) < least or ((chosen < 0) | (chosen >= count)).any():
        raise ValueError(f"units must be indices from 0 to {count - 1}, got {chosen.tolist()}.")
    return chosen


def permutation(order: Any, units: int, name: str) -> np.ndarray:
    """``order`` as a permutation of the units of what is called ``name``, int64 ``(units,)``."""
    given = np.asarray(order)
    if given.ndim != 1 or not np.array_equal(np.sort(given), np.arange(units)):
        raise ValueError(f"order must be a permutation of the {units} units of {name!r}, got {order!r}.")
    return given.astype(np.int64)


def layer_of(found: Any, layer: str) -> Any:
    """The array of a layer, at least ``(batch, units)``."""
    if layer not in found:
        raise ValueError(f"Unknown layer {layer!r}. responses returns: {', '.join(map(str, found))}.")
    return found[layer]


def filled(images: Any, start: int, stop: int, batch: int) -> Any:
    """``images[start:stop]``, filled up to ``batch`` images with the first of them all."""
    part = images[start:stop]
    if stop - start == batch:
        return part
    return np.concatenate([np.asarray(part), np.repeat(np.asarray(images[:1]), batch - stop + start, 0)])


def unit_range(images: Any) -> jax.Array:
    """Images as float32 in [0, 1]."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return jnp.asarray(images.astype(np.float32) / 255)
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be floats in [0, 1] or uint8, got {images.dtype}.")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"images must be in [0, 1], got values from {images.min():g} to {images.max():g}. Normalise them "
            "inside responses."
        )
    return jnp.asarray(images, jnp.float32)
