"""Gathering the statistics of responses over a data set, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lgnn_jax._dtypes import at_least_float32
from lgnn_jax.inspect._checks import check_labels, filled, positive
from lgnn_jax.inspect._statistics import ResponseStatistics

Responses = Callable[[Any], Mapping[str, jax.typing.ArrayLike]]


def accumulate(
    responses: Responses,
    images: Any,
    labels: jax.typing.ArrayLike,
    *,
    classes: int,
    batch: int = 256,
    top: int = 9,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, ResponseStatistics]:
    """Statistics of every layer over a data set; the maps of one batch at a time are in memory.

    The last batch is filled up with the first image, so that ``responses`` sees one shape; what was
    filled up is cut off again. An image's responses must not depend on the others of its batch.

    Args:
      responses: ``responses(images)`` gives by layer an array ``(batch, ..., units)``, the dots being
        space; see :func:`lgnn_jax.inspect.linen_responses`.
      images: At least two, ``(images, ...)``, sliced as ``images[start:stop]``; of any type that
        ``responses`` takes.
      labels: Integers ``(images,)`` from 0 to ``classes - 1``; every class has an image.
      classes: Number of classes, positive.
      batch: Images at a time, positive.
      top: Most activating images to keep for each unit, positive and at most the number of images.
      progress: Called as ``progress(done, total)`` with numbers of images after every batch.

    Returns:
      By layer its :class:`ResponseStatistics`.

    Raises:
      ValueError: If an argument is out of range, a class has no image, or a response is NaN or infinite.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect import accumulate
      >>> images = np.arange(6.0).reshape(6, 1, 1, 1)  # Responses are the images themselves.
      >>> found = accumulate(lambda x: {"input": x}, images, [0, 0, 0, 1, 1, 1], classes=2, batch=4, top=2)
      >>> found["input"].class_means.ravel().tolist(), found["input"].top_images.tolist()
      ([1.0, 4.0], [[5, 4]])
      >>> found["input"].selectivity().round(2).ravel().tolist()
      [-3.67, 3.67]
    """
    classes, batch, top = (
        positive(name, value) for name, value in (("classes", classes), ("batch", batch), ("top", top))
    )
    labels = check_labels(labels, classes)
    total = len(labels)
    if len(images) != total:
        raise ValueError(f"There are {len(images)} images and {total} labels.")
    if total < 2 or top > total:
        raise ValueError(f"Statistics with top={top} need at least {max(2, top)} images, got {total}.")
    batch = min(batch, total)
    layers: dict[str, _Sums] = {}
    for start in range(0, total, batch):
        stop = min(start + batch, total)
        found = _summaries(responses, images, start, stop, batch)
        if not layers:
            layers = {layer: _Sums(layer, means[0], classes, top) for layer, (means, _) in found.items()}
        if found.keys() != layers.keys():
            raise ValueError(f"responses gave layers {list(found)}, and {list(layers)} before.")
        for layer, (means, maxima) in found.items():
            layers[layer].add(means, maxima, labels[start:stop], start)
        if progress is not None:
            progress(stop, total)
    counts = np.bincount(labels, minlength=classes)
    return {layer: sums.statistics(counts) for layer, sums in layers.items()}


@jax.jit
def _over_space(maps: dict[str, jax.Array]) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Mean and maximum over space of maps ``(batch, ..., units)``, at least float32."""

    def reduce(x):
        x = at_least_float32(x)
        space = tuple(range(1, x.ndim - 1))
        return x.mean(space), x.max(space)

    return {layer: reduce(x) for layer, x in maps.items()}


def _summaries(
    responses: Responses, images: Any, start: int, stop: int, batch: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By layer the means and maxima over space ``(stop - start, units)`` of some images."""
    maps = dict(responses(filled(images, start, stop, batch)))
    if not maps:
        raise ValueError("responses gave no layers.")
    for layer, x in maps.items():
        if np.ndim(x) < 2 or np.shape(x)[0] != batch or 0 in np.shape(x):
            raise ValueError(
                f"responses must be arrays ({batch}, ..., units) for {batch} images; {layer!r} has shape "
                f"{np.shape(x)}."
            )
    found = {}
    for layer, (means, maxima) in jax.device_get(_over_space(maps)).items():
        means, maxima = means[: stop - start].astype(np.float64), maxima[: stop - start]
        bad = np.argwhere(~(np.isfinite(means) & np.isfinite(maxima)))
        if len(bad):
            image, unit = bad[0]
            raise ValueError(
                f"Responses of {layer!r} are NaN or infinite, first unit {unit} to image {start + image}."
            )
        found[layer] = means, maxima
    return {layer: found[layer] for layer in maps}


class _Sums:
    """What :func:`accumulate` adds up for one layer."""

    def __init__(self, layer: str, first: np.ndarray, classes: int, top: int):
        units = len(first)
        self.layer, self.shift, self.top = layer, first.copy(), top
        self.class_sums = np.zeros((classes, units))
        self.class_squares = np.zeros((classes, units))
        self.products = np.zeros((units, units))
        self.top_images = np.zeros((0, units), np.int64)
        self.top_values = np.zeros((0, units))

    def add(self, means: np.ndarray, maxima: np.ndarray, labels: np.ndarray, start: int) -> None:
        """Adds images ``start, start + 1, ...`` with their means and maxima, ``(images, units)`` each."""
        x = means - self.shift
        order = np.argsort(labels, kind="stable")
        seen, first = np.unique(labels[order], return_index=True)
        self.class_sums[seen] += np.add.reduceat(x[order], first)
        self.class_squares[seen] += np.add.reduceat(x[order] ** 2, first)
        self.products += x.T @ x
        images = np.broadcast_to(np.arange(start, start + len(x))[:, None], x.shape)
        values = np.concatenate([self.top_values, maxima])
        best = np.argsort(-values, axis=0, kind="stable")[: self.top]
        self.top_values = np.take_along_axis(values, best, 0)
        self.top_images = np.take_along_axis(np.concatenate([self.top_images, images]), best, 0)

    def statistics(self, counts: np.ndarray) -> ResponseStatistics:
        """The sums as they are now."""
        return ResponseStatistics(
            self.layer,
            counts,
            self.shift,
            self.class_sums,
            self.class_squares,
            self.products,
            self.top_images.T,
            self.top_values.T,
        )
