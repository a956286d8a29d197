"""Checks of arguments that several modules share."""

from __future__ import annotations

import operator
from typing import Any

import jax
import numpy as np


def check_labels(
    labels: jax.typing.ArrayLike, classes: int, name: str = "labels", *, every: bool = True
) -> np.ndarray:
    """Labels as int64 ``(images,)``, all of them legal and, with ``every``, an image of every class."""
    given = np.asarray(labels)
    if given.ndim != 1 or not len(given) or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"{name} must be integers (images,), got shape {given.shape} of {given.dtype}.")
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
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return count


def filled(images: Any, start: int, stop: int, batch: int) -> Any:
    """``images[start:stop]``, filled up to ``batch`` images with the first of them all."""
    part = images[start:stop]
    if stop - start == batch:
        return part
    return np.concatenate([np.asarray(part), np.repeat(np.asarray(images[:1]), batch - stop + start, 0)])
