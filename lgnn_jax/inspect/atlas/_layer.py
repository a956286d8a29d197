"""The data of one layer of one network, as ``docs/atlas.md`` describes them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from lgnn_jax._grid import Grid, neighbours
from lgnn_jax.inspect._region_null import group_region_scores, region_scores
from lgnn_jax.inspect._regions import NONE, active_regions, label_regions, preferred
from lgnn_jax.inspect.atlas._encoding import (
    as_bytes,
    by_column,
    counted,
    kept_as,
    likeness,
    packed,
    quantised,
    runs,
    sheet,
)
from lgnn_jax.inspect.atlas._model import Layer, plain_score

_BEST = 5  # Classes of a unit, and units of a class, with the largest t.
_SHARP = 2**17  # Means of so many classes and units are kept in 65,535 steps, of more in 63.


def layer_block(
    shown: Layer, groups: list[int], threshold: float, used: np.ndarray, images: np.ndarray
) -> dict[str, Any]:
    """The data of one layer of one network.

    Args:
      shown: The layer.
      groups: The superclass of every class, empty without superclasses.
      threshold: Above which t a unit responds to a class.
      used: Ascending indices of the test images that are on the page.
      images: All test images, as bytes.
    """
    statistics, classes = shown.statistics, len(shown.statistics.class_counts)
    t, means = shown.selectivity, shown.class_means
    wanted, first = t, 0  # What units are said to prefer: superclasses where there are any.
    if groups:
        wanted, first = statistics.selectivity(groups, constant="nan"), classes
        t = np.concatenate([t, wanted])
        means = np.concatenate([means, statistics.grouped_means(groups)])
    means = np.concatenate([means, statistics.mean[None]])
    labels = preferred(wanted, threshold=threshold)
    labels = np.where(labels == NONE, NONE, labels + first)
    found, order = (t, labels, shown.grid, threshold), shown.order
    tops = shown.top_images
    missing = np.flatnonzero(np.isin(tops, used, invert=True).any(0))
    tops = tops[:, : int(missing[0]) if len(missing) else None]
    return {
        "correlations": likeness(shown.correlations),
        "cosines": None if shown.cosines is None else likeness(shown.cosines),
        "neighbour_correlation": {
            "native": _neighbour_correlation(shown.correlations, shown.grid),
            "arranged": None
            if order is None
            else _neighbour_correlation(shown.correlations, shown.grid, order),
        },
        "means": quantised(means) if means.size <= _SHARP else by_column(means),
        "preferences": _best("groups", t[:classes].T),
        "responders": _best("units", t),
        "preferred": counted(labels),
        "order": None if order is None else counted(order),
        "regions": _regions(*found, np.arange(shown.grid.units)),
        "arranged_regions": None if order is None else _regions(*found, order),
        "top_images": counted(np.searchsorted(used, tops)),
        "dead": np.flatnonzero(shown.dead).tolist(),
        "constant": np.flatnonzero(statistics.constant).tolist(),
        "pictures": _pictures(shown, len(used), images) | {"source": shown.source},
        "scores": shown.scores,
        "arranged_scores": shown.arranged_scores,
    }


def _pictures(shown: Layer, used: int, images: np.ndarray) -> dict[str, Any]:
    """An image a unit, but none where those that activate units most are as good on the sheet of all images."""
    if shown.images is not None:
        return sheet(as_bytes(shown.images))
    size = images.shape[1:3]
    if kept_as(shown.grid.units, *size) == kept_as(used, *size):
        return {}
    return sheet(images[shown.top_images[:, 0]])


def _best(of: str, t: np.ndarray) -> dict[str, Any]:
    """The columns with the largest t in every row, the largest first, and those t; NaN last."""
    known = np.where(np.isnan(t), -np.inf, t)
    chosen = np.argsort(-known, axis=1, kind="stable")[:, :_BEST]
    return {of: counted(chosen), "t": quantised(np.take_along_axis(t, chosen, 1))}


def _neighbour_correlation(matrix: np.ndarray, grid: Grid, order: np.ndarray | None = None) -> float | None:
    """The mean correlation of units next to each other, without constant ones; None without any."""
    first, second = (neighbours(grid) if order is None else order[neighbours(grid)]).T
    near = matrix[first, second]
    near = near[np.isfinite(near)]
    return float(near.mean()) if len(near) else None


def _regions(
    t: np.ndarray, labels: np.ndarray, grid: Grid, threshold: float, order: np.ndarray
) -> dict[str, Any]:
    """Regions of every group and of what units prefer, beside chance, where the units lie in an order."""
    active, labels = t[:, order] > threshold, labels[order]
    alive = ~np.isnan(t[0, order])
    parts = active_regions(active, grid)
    chance = group_region_scores(active, grid, alive=alive, key=jax.random.key(0))
    numbers = [[x.count.low, x.count.high, x.largest.low, x.largest.high] for x in chance]
    scores = None
    if (labels != NONE).any():
        found = region_scores(labels, grid, alive=alive, key=jax.random.key(0))
        scores = {
            name: plain_score(name, "regions", score)
            for name, score in (("count", found.count), ("largest", found.largest), ("mean", found.mean))
        }
    return {
        "preferred": {
            "members": runs([order[region.members] for region in label_regions(labels, grid)], grid.units),
            "chance": scores,
        },
        "groups": {
            "counts": packed(active.sum(1).astype("<i4")),
            "members": runs([order[members] for _, members in parts], grid.units),
            "chance": quantised(np.array(numbers, np.float64)),
        },
    }
