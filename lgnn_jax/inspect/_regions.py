"""Regions of the grid that respond to a class, and what the network is without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lgnn_jax._grid import Grid, check_grid, neighbours
from lgnn_jax._moved import moved
from lgnn_jax._random import generator
from lgnn_jax.inspect._checks import check_labels, positive


class Region(NamedTuple):
    """Connected units that respond to a class.

    ``shared`` says for every other class how many of the units respond to it too, where any do.
    """

    label: int
    members: np.ndarray  # Flat indices of the units, ascending, (size,).
    shared: dict[int, int]

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.members)


@moved(wrap="Whether the grid is a torus is its own: Grid(shape, wrap=True).")
def regions(selectivity: jax.typing.ArrayLike, grid: Grid, *, threshold: float) -> list[Region]:
    """Connected regions of units whose t for a class is above a threshold.

    Units are connected along one grid dimension, one step apart (4 neighbours in a plane); on a torus across
    the border too.

    Args:
      selectivity: t of every class and unit, ``(classes, units)``, as of
        :meth:`lgnn_jax.inspect.ResponseStatistics.selectivity`. A unit that is NaN for all
        classes (constant) belongs to no region.
      grid: The layer's grid.
      threshold: A unit responds to a class if its t is larger.

    Returns:
      The regions, by class, the largest first and among equals that with the lowest unit.

    Raises:
      ValueError: If the grid does not fit, the threshold is NaN, or a unit is NaN for some classes only.

    Example:
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import regions
      >>> t = [[5, 4, 0, 9], [0, 6, 0, 0]]
      >>> for region in regions(t, Grid((1, 4)), threshold=3):
      ...     print(region.label, region.members.tolist(), region.shared)
      0 [0, 1] {1: 1}
      0 [3] {}
      1 [1] {0: 1}
    """
    t = np.asarray(selectivity, np.float64)
    if t.ndim != 2 or np.isnan(threshold):
        raise ValueError(
            f"selectivity must be (classes, units) and threshold a number, got shape {t.shape} and {threshold}."
        )
    check_grid(grid, t.shape[1], "selectivity")
    undefined = np.isnan(t)
    mixed = undefined.any(0) & ~undefined.all(0)
    if mixed.any():
        raise ValueError(f"selectivity is NaN for some classes of unit {np.flatnonzero(mixed)[0]}.")
    active, found = t > threshold, []
    for label, components in enumerate(_components(active, neighbours(grid))):
        for members in sorted(components, key=lambda members: (-len(members), members[0])):
            common = active[:, members].sum(1)
            shared = {int(other): int(common[other]) for other in np.flatnonzero(common) if other != label}
            found.append(Region(label, members, shared))
    return found


def _components(active: np.ndarray, near: np.ndarray) -> list[list[np.ndarray]]:
    """By class the connected components of its active units, each ascending: one graph for all classes."""
    classes, units = active.shape
    label, pair = np.nonzero(active[:, near[:, 0]] & active[:, near[:, 1]])
    first, second = (label * units + near[pair, side] for side in (0, 1))
    edges = coo_array((np.ones(len(pair), bool), (first, second)), shape=(active.size, active.size))
    nodes = np.flatnonzero(active)
    component = connected_components(edges, directed=False)[1][nodes]
    order = np.argsort(component, kind="stable")
    found: list[list[np.ndarray]] = [[] for _ in range(classes)]
    for members in (
        np.split(nodes[order], np.flatnonzero(np.diff(component[order])) + 1) if len(nodes) else ()
    ):
        found[members[0] // units].append(members % units)
    return found


def per_class_accuracy(
    predictions: jax.typing.ArrayLike, labels: jax.typing.ArrayLike, classes: int
) -> np.ndarray:
    """The share of every class's images that are classified correctly.

    Args:
      predictions: Classes ``(images,)``, integers from 0 to ``classes - 1``.
      labels: The true ones, likewise; every class has an image.
      classes: Number of classes, positive.

    Returns:
      Floats in [0, 1], ``(classes,)``.

    Raises:
      ValueError: If a class has no image, or classes are out of range.

    Example:
      >>> from lgnn_jax.inspect import per_class_accuracy
      >>> per_class_accuracy([0, 1, 1], [0, 0, 1], classes=2).tolist()
      [0.5, 1.0]
    """
    classes = positive("classes", classes)
    true = check_labels(labels, classes)
    predicted = check_labels(predictions, classes, "predictions", every=False)
    if len(predicted) != len(true):
        raise ValueError(f"There are {len(predicted)} predictions and {len(true)} labels.")
    right = np.bincount(true[predicted == true], minlength=classes)
    return right / np.bincount(true, minlength=classes)


class Ablation(NamedTuple):
    """Accuracy per class and its changes, each ``(classes,)``.

    ``low`` to ``high`` is the central 95 % of the changes when as many random units are ablated.
    """

    accuracy: np.ndarray
    change: np.ndarray
    random_mean: np.ndarray
    random_low: np.ndarray
    random_high: np.ndarray


def ablate(
    predict: Callable[[Any], jax.typing.ArrayLike],
    labels: jax.typing.ArrayLike,
    members: jax.typing.ArrayLike,
    *,
    units: int,
    classes: int,
    key: jax.Array,
    repetitions: int = 100,
    progress: Callable[[int, int], object] | None = None,
) -> Ablation:
    """What ablating a region does to every class's accuracy, against ablating random units.

    Args:
      predict: From a mask ``(units,)``, 0 for ablated units and 1 for others, to the predicted classes
        ``(images,)``; for Flax linen :func:`lgnn_jax.inspect.linen_ablated`.
      labels: The true classes ``(images,)``; every class has an image.
      members: Indices of the units to ablate, at least one, none twice.
      units: Number of units of the layer.
      classes: Number of classes.
      key: A PRNG key for the choice of random units, out of all units.
      repetitions: Random choices, at least 2.
      progress: Called as ``progress(done, total)`` with numbers of predictions after each.

    Returns:
      A :class:`Ablation`; a region is special to a class where ``change`` is below ``random_low``.

    Raises:
      ValueError: If members are not on the layer, or an argument is out of range.

    Example:
      >>> import jax, numpy as np
      >>> from lgnn_jax.inspect import ablate
      >>> labels = np.array([0, 1, 2, 3])  # Class k is seen by unit k alone, and is called 0 without it.
      >>> predict = lambda mask: np.where(mask[labels] > 0, labels, 0)
      >>> ablate(predict, labels, [2], units=4, classes=4, key=jax.random.key(0)).change.tolist()
      [0.0, 0.0, -1.0, 0.0]
    """
    units, repetitions = positive("units", units), positive("repetitions", repetitions)
    if repetitions < 2:
        raise ValueError(f"repetitions must be at least 2, got {repetitions}.")
    region = np.asarray(members)
    legal = region.ndim == 1 and len(region) > 0 and np.issubdtype(region.dtype, np.integer)
    if not legal or region.min() < 0 or region.max() >= units or len(set(region.tolist())) < len(region):
        raise ValueError(f"members must be distinct indices from 0 to {units - 1}, got {region.tolist()}.")

    def accuracy(ablated: np.ndarray) -> np.ndarray:
        mask = np.ones(units, np.float32)
        mask[ablated] = 0
        return per_class_accuracy(predict(mask), labels, classes)

    draw = generator(key)
    draws = [draw.choice(units, len(region), replace=False) for _ in range(repetitions)]
    found = []
    for ablated in [np.zeros(0, np.int64), region, *draws]:
        found.append(accuracy(ablated))
        if progress is not None:
            progress(len(found), repetitions + 2)
    intact, without, *random = found
    changes = np.array(random) - intact[None]
    low, high = np.quantile(changes, (0.025, 0.975), axis=0)
    return Ablation(intact, without - intact, changes.mean(0), low, high)
