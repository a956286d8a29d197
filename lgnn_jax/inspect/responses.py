"""How a layer's units respond to images: statistics over a whole data set, gathered batch by batch."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax.grid import Grid

Responses = Callable[[Any], Mapping[str, jax.typing.ArrayLike]]
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # Relative; a spread below it is none.


@dataclasses.dataclass(frozen=True, eq=False)
class ResponseStatistics:
    """What one layer's units did on a data set; made by :func:`accumulate`.

    A unit's response to an image is the mean of its map over space; for ``top_images`` it is the maximum.
    Sums are of responses less ``shift``, in float64, so that large means do not eat small spreads.

    Args:
      layer: The layer's name, for error messages.
      class_counts: Images of each class, integers ``(classes,)``, all at least 1.
      shift: The responses to the first image, ``(units,)``.
      class_sums: Sums over each class's images, ``(classes, units)``.
      class_squares: Sums of squares likewise.
      products: Sums over all images of products of two units' responses, ``(units, units)``.
      top_images: Indices of the images that excite each unit most, best first, the earlier first among
        equals, ``(units, top)``.
      top_values: The maxima over space there, ``(units, top)``.
    """

    layer: str
    class_counts: np.ndarray
    shift: np.ndarray
    class_sums: np.ndarray
    class_squares: np.ndarray
    products: np.ndarray
    top_images: np.ndarray
    top_values: np.ndarray

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.shift)

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.class_counts.sum())

    @property
    def mean(self) -> np.ndarray:
        """Mean responses, ``(units,)``."""
        return self.shift + self.class_sums.sum(0) / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariances of the units' responses, ``(units, units)``."""
        sums = self.class_sums.sum(0)
        return (self.products - np.outer(sums, sums) / self.count) / (self.count - 1)

    @property
    def variance(self) -> np.ndarray:
        """Unbiased variances of the responses, ``(units,)``."""
        return np.maximum(np.diagonal(self.covariance), 0)

    @property
    def constant(self) -> np.ndarray:
        """Which units respond to every image alike, to float32's precision, booleans ``(units,)``."""
        return self.variance <= (_ROUNDING * np.abs(self.mean)) ** 2

    @property
    def class_means(self) -> np.ndarray:
        """Mean responses to each class, ``(classes, units)``."""
        return self.grouped_means()

    def grouped_means(self, superclass_of: Any = None) -> np.ndarray:
        """Mean responses to each class or superclass, ``(classes or superclasses, units)``.

        Args:
          superclass_of: The superclass of each class, integers ``(classes,)`` from 0 without a gap; None
            for the classes themselves.
        """
        counts, sums, _ = self._grouped(superclass_of)
        return self.shift + sums / counts[:, None]

    def correlation(self, *, constant: str = "raise") -> np.ndarray:
        """Pearson correlations of the units' responses over images, in [-1, 1], ``(units, units)``.

        Args:
          constant: ``raise`` where a unit is constant, or ``nan`` to put NaN in its row and column.

        Raises:
          ValueError: If a unit is constant (with ``raise``).
        """
        covariance, dead = self.covariance, self._constant_units(constant)
        deviation = np.sqrt(np.where(dead, np.nan, self.variance))
        correlation = np.clip(covariance / np.outer(deviation, deviation), -1, 1)
        np.fill_diagonal(correlation, np.where(dead, np.nan, 1))
        return correlation

    @property
    def effective_dimension(self) -> float:
        """Participation ratio of the responses' PCA, as :func:`lgnn_jax.topography.effective_dimension`."""
        covariance = self.covariance
        if self.constant.all():
            raise ValueError(
                f"No unit of {self.layer!r} varies over the images, so they have no dimension."
            )
        return float(np.trace(covariance) ** 2 / (covariance**2).sum())

    def selectivity(self, superclass_of: Any = None, *, constant: str = "raise") -> np.ndarray:
        """Welch's t of every class against the rest: ``(m_c - m_r) / sqrt(v_c / n_c + v_r / n_r)``.

        Args:
          superclass_of: As for :meth:`grouped_means`.
          constant: ``raise`` where a unit is constant, or ``nan`` to put NaN in its column.

        Returns:
          Floats ``(classes or superclasses, units)``, positive where a class excites a unit more than the
          others do; infinite where the means differ and nothing varies beside it.

        Raises:
          ValueError: If a unit is constant (with ``raise``), or a class or the rest has a single image.
        """
        dead = self._constant_units(constant)
        counts, sums, squares = self._grouped(superclass_of)
        few = np.flatnonzero((counts < 2) | (self.count - counts < 2))
        if len(few):
            raise ValueError(
                f"t of {self.layer!r} needs two images of a class and two of the others; class "
                f"{few[0]} has {counts[few[0]]} of {self.count}."
            )
        mean, error = _mean_and_error(counts, sums, squares)
        rest, rest_error = _mean_and_error(
            self.count - counts, sums.sum(0) - sums, squares.sum(0) - squares
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (mean - rest) / np.sqrt(error + rest_error)
        return np.where(dead, np.nan, np.where(mean == rest, 0.0, t))

    def _constant_units(self, policy: str) -> np.ndarray:
        if policy not in ("raise", "nan"):
            raise ValueError(f"constant must be 'raise' or 'nan', got {policy!r}.")
        dead = self.constant
        if policy == "raise" and dead.any():
            raise ValueError(
                f"{dead.sum()} of {self.units} units of {self.layer!r} respond to all images alike (unit "
                f"{np.flatnonzero(dead)[0]}, for one), where this is not defined. Pass constant='nan' to "
                "have NaN there."
            )
        return dead

    def _grouped(self, superclass_of: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts, sums and sums of squares by class or superclass."""
        if superclass_of is None:
            return self.class_counts, self.class_sums, self.class_squares
        given, classes = np.asarray(superclass_of), len(self.class_counts)
        if given.shape != (classes,) or not np.issubdtype(given.dtype, np.integer):
            raise ValueError(
                f"superclass_of must hold an integer for each of {classes} classes, got shape "
                f"{given.shape} of {given.dtype}."
            )
        names = np.unique(given)
        if not np.array_equal(names, np.arange(len(names))):
            raise ValueError(f"superclass_of must number superclasses from 0 without a gap, got {names}.")
        member = (names[:, None] == given).astype(np.int64)
        return member @ self.class_counts, member @ self.class_sums, member @ self.class_squares


def _mean_and_error(
    counts: np.ndarray, sums: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means by group and their squared standard errors."""
    n = counts[:, None]
    return sums / n, np.maximum(squares - sums * sums / n, 0) / (n - 1) / n


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
        space; see :func:`lgnn_jax.inspect.capture.linen_responses`.
      images: At least two, ``(images, ...)``, sliced as ``images[start:stop]``; of any type that
        ``responses`` takes.
      labels: Integers ``(images,)`` from 0 to ``classes - 1``; every class has an image.
      classes: Number of classes, positive.
      batch: Images at a time, positive.
      top: Most exciting images to keep for each unit, positive and at most the number of images.
      progress: Called as ``progress(done, total)`` with numbers of images after every batch.

    Returns:
      By layer its :class:`ResponseStatistics`.

    Raises:
      ValueError: If an argument is out of range, a class has no image, or a response is NaN or infinite.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect.responses import accumulate
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


def class_maps(statistics: ResponseStatistics, grid: Grid, superclass_of: Any = None) -> np.ndarray:
    """Mean responses to each class, laid out on the grid.

    Args:
      statistics: A layer's.
      grid: The layer's grid.
      superclass_of: The superclass of each class, integers ``(classes,)`` from 0; None for classes.

    Returns:
      Floats ``(classes or superclasses, *grid.shape)``.

    Raises:
      ValueError: If the grid does not hold the layer's units.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect.responses import accumulate, class_maps
      >>> images = np.arange(8.0).reshape(2, 1, 1, 4)
      >>> found = accumulate(lambda x: {"input": x}, images, [0, 1], classes=2, top=1)
      >>> class_maps(found["input"], Grid((2, 2))).tolist()
      [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 3.
    """
    check_grid(grid, statistics.units, f"layer {statistics.layer!r}")
    return statistics.grouped_means(superclass_of).reshape(-1, *grid.shape)


def check_grid(grid: Grid, units: int, name: str) -> None:
    """Raises ``ValueError`` unless the grid holds the units of what is called ``name``."""
    if grid.units != units:
        raise ValueError(
            f"{name} has {units} units, but a grid of {'x'.join(map(str, grid.shape))} holds {grid.units}. "
            f"Give a grid whose product is {units}."
        )


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


@jax.jit
def _over_space(maps: dict[str, jax.Array]) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Mean and maximum over space of maps ``(batch, ..., units)``, at least float32."""

    def reduce(x):
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
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
