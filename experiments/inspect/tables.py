"""Metrics and magnitudes of networks as tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments import data as datasets
from experiments.campaign import report
from experiments.inspect.networks import PARTS, Network
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
        statistics = found.responses[name]
        metrics = _metrics(kernel, grid, statistics, data.superclass_of)
        scores[name] = {
            "grid": grid.shape,
            "metrics": {
                metric: _defined(lambda f=compute: f()._asdict()) for metric, compute in metrics.items()
            },
            "weights: dead filters": topography.dead_share(kernel, grid)._asdict(),
            "responses: constant units": int(statistics.constant.sum()),
            "responses: effective dimension": _defined(lambda s=statistics: s.effective_dimension),
            "weights: correlation by distance": _defined(lambda k=kernel, g=grid: _curve(k, g)),
        }
    return scores


def _metrics(
    kernel: np.ndarray, grid: Grid, statistics: ResponseStatistics, superclass_of: tuple[int, ...]
) -> dict[str, Callable[[], topography.Score]]:
    """The metrics of a layer that have a null, by name."""
    key = jax.random.key(0)
    # Rows whose cosines are the units' correlations; a constant unit's is zero, which metrics leave out.
    rows = topography.rows_of_similarity(np.nan_to_num(statistics.correlation(constant="nan")))
    by_row, maps = Grid(grid.shape, 0), Grid(grid.shape)

    def selectivity(groups: tuple[int, ...] | None = None) -> np.ndarray:
        # A constant unit, which prefers no class, has a t of 0; they are counted.
        return np.nan_to_num(statistics.selectivity(groups, constant="nan"))

    metrics: dict[str, Callable[[], topography.Score]] = {
        "weights: neighbour cosine": lambda: topography.neighbour_cosine(kernel, grid, key=key),
        "weights: diagonal cosine": lambda: topography.neighbour_cosine(
            kernel, grid, pairs="diagonal", key=key
        ),
        "weights: distance correlation": lambda: topography.distance_correlation(kernel, grid, key=key),
        "weights: trustworthiness": lambda: topography.trustworthiness(kernel, grid, key=key),
        "responses: neighbour correlation": lambda: topography.neighbour_cosine(rows, by_row, key=key),
        "responses: distance correlation": lambda: topography.distance_correlation(rows, by_row, key=key),
        "responses: Moran's I of class means": lambda: topography.morans_i(
            statistics.class_means, maps, key=key
        ),
        "responses: Moran's I of selectivity": lambda: topography.morans_i(selectivity(), maps, key=key),
    }
    if superclass_of:
        metrics["responses: Moran's I of superclass selectivity"] = lambda: topography.morans_i(
            selectivity(superclass_of), maps, key=key
        )
    return metrics


def _defined(compute: Callable[[], Any]) -> Any:
    """What ``compute`` gives, or why it is not defined."""
    try:
        return compute()
    except ValueError as error:
        return {"undefined": str(error)}


def _curve(kernel: np.ndarray, grid: Grid) -> dict[str, Any]:
    """Cosines of weights by distance on the grid, and how smoothly they fall."""
    curve = topography.correlation_by_distance(kernel, grid, key=jax.random.key(0))
    fields = {name: np.asarray(value).tolist() for name, value in curve._asdict().items()}
    return fields | {"smoothness": _defined(lambda: topography.smoothness(1 - curve.mean))}


def topography_table(
    networks: dict[str, Network], data: datasets.Dataset, scores: dict[str, dict[str, Any]]
) -> str:
    """The metrics with a null as Markdown, a table a metric: a row a layer, a column a network."""
    first = next(iter(scores.values()))
    metrics = next(iter(first.values()))["metrics"]
    config = next(iter(networks.values())).config
    lines = [
        f"# {config.net} at width {config.width:g} on {config.data}, {config.epochs} epochs",
        "",
        *(f"- {title}: {found.config.name}" for title, found in networks.items()),
        "",
        "How organised the layers are; larger is more organised. In brackets what chance gives each network: 95 % "
        "of 1000 random relabellings of the same filters or units; z is the distance from their mean in their "
        f"standard deviations. Of {len(first) * len(metrics)} values a network, one in twenty leaves its brackets "
        "by chance.",
        "",
        f"Weights: cosines between filters. Responses: over the {len(data.test_labels)} test pictures, means over "
        "space. Neighbours are 4, diagonal ones 4; distance correlation: of all cosines with 1 / (1 + distance); "
        "trustworthiness: whether neighbours on the grid are nearest in weights, 0.5 by chance, at most 1; Moran's "
        "I: whether maps over the grid (mean response, or Welch's t, of every class) are alike at neighbours.",
        "",
    ]
    if data.superclass_names:
        lines += [f"Superclasses: {', '.join(data.superclass_names)}.", ""]
    for metric in metrics:
        rows = [
            [
                layer.removesuffix("/kernel"),
                *(_cell(network[layer]["metrics"][metric]) for network in scores.values()),
            ]
            for layer in first
        ]
        lines += [f"### {metric}", "", *report.table(["layer", *scores], rows), ""]
    rows = [
        [
            layer.removesuffix("/kernel"),
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
    return "\n".join([*lines, *report.table(["layer", *scores], rows)]) + "\n"


def _cell(score: dict[str, Any]) -> str:
    if "undefined" in score:
        return "not defined"
    return f"{score['value']:.2f} [{score['null_low']:.2f}, {score['null_high']:.2f}] z {score['z']:.1f}"


def _guard(layer: dict[str, Any]) -> str:
    dimension = layer["responses: effective dimension"]
    shown = "not defined" if isinstance(dimension, dict) else f"{dimension:.1f}"
    dead, constant = layer["weights: dead filters"]["value"], layer["responses: constant units"]
    return f"dimension {shown}, dead {dead:.1%}, constant {constant}"


def magnitude_table(networks: dict[str, Network]) -> str:
    """Table III: the magnitudes of the first layer's filters."""
    rows = []
    for title, found in networks.items():
        grid, kernel = next(iter(found.layers.values()))
        size = magnitudes(kernel, grid)
        rows.append(
            [
                title,
                f"{size.smallest:.4g}",
                f"{size.largest:.4g}",
                f"{size.log_deviation:.4f}",
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
    return "\n".join([_MAGNITUDES, "", *report.table(header, rows)]) + "\n"
