"""What the page shows: networks and their layers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lgnn_jax import topography
from lgnn_jax._grid import Grid, check_axis, check_grid
from lgnn_jax._tree import unboxed
from lgnn_jax.inspect._checks import permutation
from lgnn_jax.inspect._filters import tiles
from lgnn_jax.inspect._statistics import ResponseStatistics
from lgnn_jax.topography._liveness import nearly_zero


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """What the page shows of one layer of one network; made by :func:`layer`.

    Args:
      name: The layer's name.
      grid: Its grid, of one or two dimensions.
      statistics: Its responses to the test images.
      cosines: Cosines between the filters' weights, in [-1, 1], ``(units, units)``, NaN where a filter is
        zero; None where there are no weights to show.
      images: An image of every filter, floats in [0, 1], ``(units, height, width, 3)``; None for the
        test image that activates it most.
      source: What ``images`` are: ``visualisation``, ``weights`` or, without any, ``images``.
      dead: Filters that no image activates, found or of the test images, or whose weights are (nearly) zero,
        booleans ``(units,)``.
      scores: By metric a mapping with ``value`` and, where there is a null, ``null_mean``, ``null_low``,
        ``null_high`` and ``z``; or ``{"undefined": reason}``.
      order: An order of the filters, integers ``(units,)``: the filter at every place of the grid. Everything
        else is in the order of the network, where filter ``k`` lies at place ``k``. None where there is no other.
      arranged_scores: As ``scores``, in ``order``.
    """

    name: str
    grid: Grid
    statistics: ResponseStatistics
    cosines: np.ndarray | None
    images: np.ndarray | None
    source: str
    dead: np.ndarray
    scores: Mapping[str, Mapping[str, Any]]
    order: np.ndarray | None = None
    arranged_scores: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def correlations(self) -> np.ndarray:
        """Correlations of responses, ``(units, units)``, NaN with a constant unit."""
        return self.statistics.correlation(constant="nan")

    @property
    def class_means(self) -> np.ndarray:
        """Mean responses, ``(classes, units)``."""
        return self.statistics.class_means

    @functools.cached_property
    def selectivity(self) -> np.ndarray:
        """Welch's t of every class against the rest, ``(classes, units)``, NaN of a constant unit."""
        return self.statistics.selectivity(constant="nan")

    @property
    def top_images(self) -> np.ndarray:
        """The test images that activate each unit most, best first, ``(units, top)``."""
        return self.statistics.top_images


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A network on the page.

    Args:
      title: Its name, such as ``baseline``.
      layers: Its layers, at least one.
      class_accuracy: Share of each class's test images that it recognises, ``(classes,)``, in [0, 1].
      facts: Short facts by name, such as ``{"test accuracy": "31.2 %"}``.
      earlier: The same layers before, from checkpoints of the run: by name, such as ``epoch 10``, the earliest
        first. With the order of the last, the page shows how it came about; their own show how much there was.
      at: What the layers themselves are called beside them.
    """

    title: str
    layers: Sequence[Layer]
    class_accuracy: np.ndarray | None = None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    earlier: Mapping[str, Sequence[Layer]] = dataclasses.field(default_factory=dict)
    at: str = "the end"

    @property
    def steps(self) -> dict[str, Sequence[Layer]]:
        """The layers by step of training, the last ones last."""
        return {**self.earlier, self.at: self.layers}


def layer(
    name: str,
    kernel: Any,
    grid: Grid,
    statistics: ResponseStatistics,
    *,
    axis: int = -1,
    visualisation: Any = None,
    scores: Mapping[str, Any] | None = None,
    order: Any = None,
    arranged_scores: Mapping[str, Any] | None = None,
) -> Layer:
    """What the page shows of a layer.

    Without feature visualisation its filters are drawn by their weights where they see RGB, else by the test
    image that activates them most.

    Args:
      name: The layer's name on the page.
      kernel: Its weights, in a box of Flax's or not; None where there are none to compare.
      grid: Its grid, of one or two dimensions.
      statistics: Of :func:`lgnn_jax.inspect.accumulate` over the test images.
      axis: The weights' axis that counts the filters: -1 for HWIO, 0 for OIHW.
      visualisation: Images of all its filters: ``images`` in [0, 1] ``(units, height, width, 1 or 3)``,
        ``dead`` ``(units,)`` and ``units``, which must be all of them in order. A filter that responds to test
        images differently is not dead, whatever ``dead`` says.
      scores: By name a :class:`lgnn_jax.topography.Score`, a mapping with the fields of its summary, or
        ``{"undefined": reason}``.
      order: Another order of the filters, shown beside that of the network: a permutation ``(units,)`` with the
        filter at every place of the grid, as of :func:`lgnn_jax.arrange`, fitted on other than the test images.
        Kernel, statistics and visualisation stay in the order of the network.
      arranged_scores: As ``scores``, measured in ``order``.

    Returns:
      A :class:`Layer`.

    Raises:
      ValueError: If the grid has more than two dimensions or does not fit, weights are not finite, the
        visualisation is not of all units, a class has a single test image, a score has no value, the order is no
        permutation of the units, or there are scores of an order and no order.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import accumulate, atlas
      >>> x = np.random.default_rng(0).standard_normal((6, 4))
      >>> found = accumulate(lambda x: {"conv": x}, x, [0, 0, 0, 1, 1, 1], classes=2, top=2)["conv"]
      >>> shown = atlas.layer("conv", np.ones((1, 1, 3, 4)), Grid((2, 2)), found)
      >>> shown.source, shown.images.shape, shown.cosines.shape
      ('weights', (4, 1, 1, 3), (4, 4))
    """
    if len(grid.shape) > 2:
        raise ValueError(
            f"The page draws grids of one or two dimensions, but {name!r} has {grid}. Lay it out on two."
        )
    check_grid(grid, statistics.units, f"layer {name!r}")
    cosines, dead = None, np.zeros(grid.units, bool)
    if kernel is not None:
        check_axis(grid, np.shape(unboxed(kernel)), axis, f"kernel of {name!r}")
        cosines, dead = _cosines(name, kernel, axis)
    images, source = None if kernel is None else _weights(kernel, grid, axis), "weights"
    if visualisation is not None:
        images, source = _visualised(name, visualisation, grid.units), "visualisation"
        # A gradient that does not reach the image, as behind a ReLU, does not say that no image does.
        dead = dead | (np.asarray(visualisation.dead, bool) & statistics.constant)
    if images is None:
        source = "images"
    if order is not None:
        order = permutation(order, grid.units, name)
    elif arranged_scores:
        raise ValueError(f"arranged_scores of {name!r} were measured in an order; give it as order.")
    plain, arranged = (
        {metric: plain_score(name, metric, score) for metric, score in (given or {}).items()}
        for given in (scores, arranged_scores)
    )
    made = Layer(name, grid, statistics, cosines, images, source, dead, plain, order, arranged)
    _ = made.selectivity  # Raises where it is not defined.
    return made


def _cosines(name: str, kernel: Any, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines between filters, NaN with one that is zero, and which are zero or nearly so."""
    if not np.isfinite(np.asarray(unboxed(kernel))).all():
        raise ValueError(f"The weights of {name!r} hold NaN or infinite values; give finite ones.")
    similarity = np.asarray(topography.cosines(kernel, axis), np.float64)
    zero = np.diagonal(similarity) == 0
    norms = np.linalg.norm(np.asarray(topography.filters(kernel, axis), np.float64), axis=1)
    return np.where(zero[:, None] | zero, np.nan, similarity), nearly_zero(norms)


def _weights(kernel: Any, grid: Grid, axis: int) -> np.ndarray | None:
    """The filters as images, ``(units, height, width, 3)``, where they see RGB."""
    shape = np.shape(unboxed(kernel))
    if len(shape) != 4 or shape[1 if axis in (0, -4) else 2] != 3:
        return None
    return tiles(kernel, Grid((grid.units, 1)), axis=axis)[:, 0]


def _visualised(name: str, visualisation: Any, units: int) -> np.ndarray:
    """The visualisation's images in three channels."""
    images = np.asarray(visualisation.images, np.float32)
    if not np.array_equal(visualisation.units, np.arange(units)):
        raise ValueError(
            f"The visualisation of {name!r} must be of units 0 to {units - 1} in order, got "
            f"{np.size(visualisation.units)} units. Visualise all channels."
        )
    if images.ndim != 4 or len(images) != units or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"The visualisation of {name!r} must have images ({units}, height, width, 1 or 3), got "
            f"shape {images.shape}."
        )
    if np.shape(visualisation.dead) != (units,):
        raise ValueError(
            f"The visualisation of {name!r} must say of {units} units whether they are dead, got "
            f"shape {np.shape(visualisation.dead)}."
        )
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"The visualisation of {name!r} must be in [0, 1]; scale its images.")
    return np.repeat(images, 3, -1) if images.shape[-1] == 1 else images


def plain_score(name: str, metric: str, score: Any) -> dict[str, Any]:
    """A score as the page keeps it."""
    fields = score.summary() if isinstance(score, topography.Score) else score
    if isinstance(fields, Mapping) and "undefined" in fields:
        return {"undefined": str(fields["undefined"])}
    if not isinstance(fields, Mapping) or not math.isfinite(fields.get("value", math.nan)):
        raise ValueError(
            f"{metric!r} of {name!r} must be a Score, a mapping with a finite value, or "
            f"{{'undefined': reason}}; got {score!r}."
        )
    null = {key: fields.get(key) for key in ("null_mean", "null_low", "null_high", "z")}
    return {"value": float(fields["value"])} | {
        key: None if bound is None else float(bound) for key, bound in null.items()
    }
