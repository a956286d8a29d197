"""The atlas of one or two networks: a page to explore their layers."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from experiments import data as datasets
from experiments import nets
from experiments.inspect.networks import Network
from lgnn_jax.inspect import FeatureVisualisation, atlas


def write_atlas(
    path: pathlib.Path,
    networks: dict[str, Network],
    earlier: dict[str, dict[int, Network]],
    pictures: dict[str, dict[str, FeatureVisualisation]],
    data: datasets.Dataset,
) -> None:
    """Writes the page.

    Args:
      path: The file.
      networks: By title.
      earlier: By title, and by the number of epochs, ascending, the same network then.
      pictures: By title and layer.
      data: The networks' data set.
    """
    atlas.write_page(
        path,
        [
            atlas.Shown(
                title,
                _layers(found, pictures[title]),
                class_accuracy=found.class_accuracy,
                facts=_facts(found),
                earlier={f"epoch {epoch}": _layers(then, {}) for epoch, then in earlier[title].items()},
                at=f"epoch {found.config.recipe.epochs}",
            )
            for title, found in networks.items()
        ],
        images=data.test_images,
        class_names=_readable(data.class_names),
        superclass_names=_readable(data.superclasses[0]),
        superclass_of=data.superclasses[1],
        same_units=len(networks) > 1 and len({found.config.seed for found in networks.values()}) == 1,
    )


def _layers(found: Network, pictures: Mapping[str, FeatureVisualisation]) -> list[atlas.Layer]:
    return [
        atlas.layer(
            nets.layer_name(layer),
            kernel,
            grid,
            found.responses[layer],
            visualisation=pictures.get(layer),
            scores=found.scores[layer]["metrics"],
            order=found.orders[layer],
            arranged_scores=found.arranged[layer]["metrics"],
        )
        for layer, (grid, kernel) in found.layers.items()
    ]


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
