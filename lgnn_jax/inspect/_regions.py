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

NONE = -1  # The label of a unit that is in no region.


class Region(NamedTuple):
    """Connected units that respond to a class, or have one label.

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
    for label, members in active_regions(active, grid):
        common = active[:, members].sum(1)
        shared = {int(other): int(common[other]) for other in np.flatnonzero(common) if other != label}
        found.append(Region(label, members, shared))
    return found


def active_regions(active: np.ndarray, grid: Grid) -> list[tuple[int, np.ndarray]]:
    """The class and the units of every region, in the order of :func:`regions`; booleans ``(classes, units)``."""
    component = component_of(np.where(active, 0, NONE), grid)
    parts = [
        (int(nodes[0]) // grid.units, nodes % grid.units) for nodes in _split(component, active.ravel())
    ]
    return sorted(parts, key=lambda part: (part[0], -len(part[1]), part[1][0]))


def preferred(selectivity: jax.typing.ArrayLike, *, threshold: float | None = None) -> np.ndarray:
    """The class that every unit prefers: the one with the largest t.

    Args:
      selectivity: t of every class and unit, ``(classes, units)``, as for :func:`regions`.
      threshold: A unit whose largest t is not above it prefers none; None to ask for nothing.

    Returns:
      Integers ``(units,)``, -1 for a unit that prefers none: one below the threshold, or one that is NaN, or 0, for
      all classes.

    Raises:
      ValueError: If selectivity is not ``(classes, units)`` with at least one class, or the threshold is NaN.

    Example:
      >>> from lgnn_jax.inspect import preferred
      >>> t = [[5, 1, 0, float("nan")], [0, 2, 0, float("nan")]]
      >>> preferred(t).tolist(), preferred(t, threshold=3).tolist()
      ([0, 1, -1, -1], [0, -1, -1, -1])
    """
    t = np.asarray(selectivity, np.float64)
    if t.ndim != 2 or not len(t) or (threshold is not None and np.isnan(threshold)):
        raise ValueError(
            f"selectivity must be (classes, units) and threshold a number, got shape {t.shape} and {threshold}."
        )
    known = np.where(np.isnan(t), -np.inf, t)
    none = np.isnan(t).all(0) | ~np.nan_to_num(t).any(0)
    if threshold is not None:
        none |= ~(known.max(0) > threshold)
    return np.where(none, NONE, known.argmax(0))


def label_regions(labels: jax.typing.ArrayLike, grid: Grid) -> list[Region]:
    """Connected regions of units with the same label, such as the class that they prefer.

    Args:
      labels: The label of every unit, integers ``(units,)``, -1 for one in no region.
      grid: The layer's grid; units are connected as by :func:`regions`.

    Returns:
      The regions, the largest first and among equals that with the lowest unit; they share no units.

    Raises:
      ValueError: If labels are no integers from -1, or the grid does not fit.

    Example:
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import label_regions
      >>> for region in label_regions([0, 1, -1, 0, 1, 1], Grid((2, 3))):
      ...     print(region.label, region.members.tolist())
      1 [1, 4, 5]
      0 [0, 3]
    """
    given = as_labels(labels, grid)
    found = [
        Region(int(given[members[0]]), members, {})
        for members in _split(component_of(given[None], grid), given != NONE)
    ]
    return sorted(found, key=lambda region: (-region.size, region.members[0]))


def as_labels(labels: Any, grid: Grid) -> np.ndarray:
    """Labels of a grid's units, int64 ``(units,)``."""
    given = np.asarray(labels)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer) or given.min(initial=0) < NONE:
        raise ValueError(
            f"labels must be integers (units,) from {NONE} (none), got shape {given.shape} of {given.dtype}."
        )
    check_grid(grid, len(given), "labels")
    return given.astype(np.int64)


def component_of(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The component of every unit on every map of labels ``(maps, units)``, flat; no two maps share one."""
    first, second = neighbours(grid).T
    which, pair = np.nonzero((labels[:, first] == labels[:, second]) & (labels[:, first] != NONE))
    ends = (which * grid.units + side[pair] for side in (first, second))
    edges = coo_array((np.ones(len(which), bool), tuple(ends)), shape=(labels.size, labels.size))
    return connected_components(edges, directed=False)[1]


def _split(component: np.ndarray, inside: np.ndarray) -> list[np.ndarray]:
    """The flat indices of every component of those that are inside, each ascending."""
    nodes = np.flatnonzero(inside)
    order = np.argsort(component[nodes], kind="stable")
    ends = np.flatnonzero(np.diff(component[nodes][order])) + 1
    return np.split(nodes[order], ends) if len(nodes) else []


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
