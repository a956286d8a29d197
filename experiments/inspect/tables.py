"""Metrics and magnitudes of networks as tables."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments import data as datasets
from experiments import nets
from experiments.inspect.networks import PARTS, Network
from experiments.markdown import table
from experiments.run.progress import Reporter
from lgnn_jax import Grid, topography
from lgnn_jax.inspect import ResponseStatistics, magnitudes

_MAGNITUDES = (
    "Table III of the paper: L2 norms of the first layer's filters, the smallest and largest of those that are not "
    "exactly zero, and the standard deviation of their natural logarithms. Filters that no gradient reaches are "
    "worn off by weight decay, so a small spread and few tiny filters mean that few were idle."
)


def measure(found: Network, data: datasets.Dataset, progress: Reporter) -> dict[str, Any]:
    """Every metric of every layer, with its null; a metric that is not defined for a layer says why."""
    scores: dict[str, Any] = {}
    for done, (name, (grid, kernel)) in enumerate(found.layers.items()):
        progress.at(PARTS * done // len(found.layers), f"layer {done + 1} of {len(found.layers)}")
        given = _inputs(kernel, found.responses[name], data.superclass_of)
        values = {
            metric: _defined(lambda f=entry, x=given[entry.of, entry.takes], g=grid: _plain(f, x(), g))
            for metric, entry in topography.METRICS.items()
            if (entry.of, entry.takes) in given
        }
        with_null = {metric for metric in values if topography.METRICS[metric].kind == "score"}
        scores[name] = {
            "grid": grid.shape,
            "metrics": {metric: value for metric, value in values.items() if metric in with_null},
            **{metric: value for metric, value in values.items() if metric not in with_null},
        }
    return scores


def _inputs(
    kernel: np.ndarray, statistics: ResponseStatistics, superclass_of: tuple[int, ...]
) -> dict[tuple[str, str], Callable[[], Any]]:
    """What metrics are of and take, each computed once and when it is asked for."""

    def selectivity(groups: tuple[int, ...] | None = None) -> np.ndarray:
        # A constant unit, which prefers no class, has a t of 0; they are counted.
        return np.where(statistics.constant, 0, statistics.selectivity(groups, constant="nan"))

    inputs: dict[tuple[str, str], Callable[[], Any]] = {
        ("weights", "kernel"): lambda: kernel,
        ("weights", "similarity"): lambda: topography.cosines(kernel),
        ("responses", "similarity"): lambda: statistics.similarity,
        ("responses", "covariance"): lambda: statistics.live_covariance,
        ("responses", "class means"): lambda: statistics.class_means,
        ("responses", "selectivity"): selectivity,
    }
    if superclass_of:
        inputs["responses", "superclass selectivity"] = lambda: selectivity(superclass_of)
    return {name: functools.cache(compute) for name, compute in inputs.items()}


def _plain(metric: topography.Metric, given: Any, grid: Grid) -> Any:
    """What a metric gives, as plain values for JSON."""
    found = metric(given, grid, key=jax.random.key(0))
    if metric.kind == "score":
        return found.summary()
    if metric.kind == "curve":
        return found.summary() | {"smoothness": _defined(lambda: topography.smoothness(1 - found.mean))}
    return found._asdict() if hasattr(found, "_asdict") else found


def _defined(compute: Callable[[], Any]) -> Any:
    """What ``compute`` gives, or why it is not defined."""
    try:
        return compute()
    except ValueError as error:
        return {"undefined": str(error)}


def topography_table(
    networks: dict[str, Network], data: datasets.Dataset, scores: dict[str, dict[str, Any]]
) -> str:
    """The metrics with a null as Markdown, a table a metric: a row a layer, a column a network."""
    first = next(iter(scores.values()))
    metrics = next(iter(first.values()))["metrics"]
    config = next(iter(networks.values())).config
    split = "" if config.data.split == datasets.FULL else f" ({config.data.split} split)"
    where, epochs = f"{config.data.name}{split}", config.recipe.epochs
    lines = [
        f"# {config.net.name} at width {config.net.width:g} on {where}, {epochs} epochs",
        "",
        *(f"- {title}: {found.config.name}" for title, found in networks.items()),
        "",
        "How organised the layers are; larger is more organised. In brackets what chance gives each network: 95 % "
        "of 1000 random relabellings of the same filters or units; z is the distance from their mean in their "
        f"standard deviations. Of {len(first) * len(metrics)} values a network, one in twenty leaves its brackets "
        "by chance.",
        "",
        f"Weights: cosines between filters. Responses: over the {len(data.test_labels)} test images, means over "
        "space. Neighbours are 4, diagonal ones 4; distance correlation: of all cosines with 1 / (1 + distance); "
        "Moran's I: of maps over the grid, the mean response to every class or Welch's t of it.",
        "",
    ]
    if data.superclass_names:
        lines += [f"Superclasses: {', '.join(data.superclass_names)}.", ""]
    for metric in metrics:
        rows = [
            [
                nets.layer_name(layer),
                *(_cell(network[layer]["metrics"][metric]) for network in scores.values()),
            ]
            for layer in first
        ]
        meaning = topography.METRICS[metric].meaning
        lines += [f"### {metric}", "", meaning, "", *table(["layer", *scores], rows), ""]
    rows = [
        [
            nets.layer_name(layer),
            *(_guard(network[layer]) for network in scores.values()),
        ]
        for layer in first
    ]
    lines += [
        "### guards",
        "",
        "Identical filters would score as perfect topography: the effective dimension of the responses (1 if all "
        "are alike), the share of filters that are (nearly) zero, and the units that never change.",
        "",
    ]
    return "\n".join([*lines, *table(["layer", *scores], rows)]) + "\n"


def _cell(score: dict[str, Any]) -> str:
    if "undefined" in score:
        return "not defined"
    return f"{score['value']:.2f} [{score['null_low']:.2f}, {score['null_high']:.2f}] z {score['z']:.1f}"


def _guard(layer: dict[str, Any]) -> str:
    dimension = layer["responses: effective dimension"]
    shown = "not defined" if isinstance(dimension, dict) else f"{dimension:.1f}"
    dead, constant = layer["weights: dead filters"], layer["responses: constant units"]
    share = "not defined" if "undefined" in dead else f"{dead['value']:.1%}"
    return f"dimension {shown}, dead {share}, constant {constant}"


def magnitude_table(networks: dict[str, Network]) -> str:
    """Table III: the magnitudes of the first layer's filters."""
    rows = []
    for title, found in networks.items():
        grid, kernel = next(iter(found.layers.values()))
        size = magnitudes(kernel)
        rows.append(
            [
                title,
                f"{size.smallest:.4g}",
                f"{size.largest:.4g}",
                f"{size.log_std:.4f}",
                f"{size.small} of {grid.units}",
                str(size.zero),
            ]
        )
    header = [
        "network",
        "smallest",
        "largest",
        "deviation of log",
        "under 1e-3 of the median",
        "exactly zero",
    ]
    return "\n".join([_MAGNITUDES, "", *table(header, rows)]) + "\n"
