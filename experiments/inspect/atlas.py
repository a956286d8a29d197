"""The atlas of one or two networks: a page to explore their layers."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from experiments import data as datasets
from experiments import nets
from experiments.inspect.networks import Network
from lgnn_jax.inspect import FeatureVisualisation, atlas


def write_atlas(
    path: pathlib.Path,
    networks: dict[str, Network],
    pictures: dict[str, dict[str, FeatureVisualisation]],
    scores: dict[str, dict[str, Any]],
    arranged: dict[str, dict[str, Any]],
    data: datasets.Dataset,
) -> None:
    """Writes the page; pictures and scores, as trained and arranged, are by network and layer."""
    atlas.write_page(
        path,
        [
            atlas.Shown(
                title,
                [
                    atlas.layer(
                        nets.layer_name(layer),
                        kernel,
                        grid,
                        found.responses[layer],
                        visualisation=pictures[title].get(layer),
                        scores=scores[title][layer]["metrics"],
                        order=found.orders[layer],
                        arranged_scores=arranged[title][layer]["metrics"],
                    )
                    for layer, (grid, kernel) in found.layers.items()
                ],
                class_accuracy=found.class_accuracy,
                facts=_facts(found),
            )
            for title, found in networks.items()
        ],
        images=data.test_images,
        class_names=_readable(data.class_names),
        superclass_names=_readable(data.superclasses[0]),
        superclass_of=data.superclasses[1],
        same_units=len(networks) > 1 and len({found.config.seed for found in networks.values()}) == 1,
    )


def _readable(names: Sequence[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _facts(found: Network) -> dict[str, str]:
    """What a reader should know of a run."""
    config, net = found.config, found.config.net
    return {
        "network": net.name if net.width == 1 else f"{net.name} at {net.width:g} of its width",
        "images": config.data.name + (f", {config.data.how}" if config.data.how else ""),
        "training": f"{config.method.name}, {config.recipe.epochs} epochs, seed {config.seed}",
        "test accuracy": f"{found.accuracy:.1%}",
    }
