"""Metrics and magnitudes of networks as tables."""

from __future__ import annotations

from typing import Any

from experiments import data as datasets
from experiments import nets
from experiments.inspect.networks import Network
from experiments.markdown import table
from lgnn_jax import topography
from lgnn_jax.inspect import magnitudes

_MAGNITUDES = (
    "Table III of the paper: L2 norms of the first layer's filters, the smallest and largest of those that are not "
    "exactly zero, and the standard deviation of their natural logarithms. Filters that no gradient reaches are "
    "worn off by weight decay, so a small spread and few tiny filters mean that few were idle."
)


def topography_table(
    networks: dict[str, Network], data: datasets.Dataset, scores: dict[str, dict[str, Any]]
) -> str:
    """The metrics with a null as Markdown, a table a metric: a row a layer, a column a network."""
    first = next(iter(scores.values()))
    metrics = next(iter(first.values()))["metrics"]
    config = next(iter(networks.values())).config
    where, epochs = (
        config.data.name + (f" ({config.data.how})" if config.data.how else ""),
        config.recipe.epochs,
    )
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
    if data.superclasses[0]:
        lines += [f"Superclasses: {', '.join(data.superclasses[0])}.", ""]
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
        [nets.layer_name(layer), *(_guard(network[layer]) for network in scores.values())]
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
