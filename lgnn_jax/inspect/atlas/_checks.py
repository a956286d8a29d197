"""Whether networks, names and images fit each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lgnn_jax.inspect.atlas._model import Layer, Shown


def every_layer(network: Shown) -> list[Layer]:
    """The layers at all steps of training."""
    return [layer for layers in network.steps.values() for layer in layers]


def check_networks(networks: list[Shown], class_names: list[str]) -> None:
    """Raises ``ValueError`` for networks that cannot stand side by side, or do not have the classes."""
    if len(networks) not in (1, 2):
        raise ValueError(f"The page shows one network or two side by side, got {len(networks)}.")
    shapes = [[(x.name, x.grid.shape) for x in network.layers] for network in networks]
    if not shapes[0]:
        raise ValueError(f"{networks[0].title!r} has no layers; give at least one.")
    if shapes[0] != shapes[-1]:
        differing = [pair for pair in zip(*shapes, strict=False) if pair[0] != pair[1]]
        got = (
            f"{differing[0][0]} and {differing[0][1]}"
            if differing
            else " and ".join(f"{len(layers)} layers" for layers in shapes)
        )
        raise ValueError(
            f"Two networks must have the same layers on the same grids to stand side by side, got {got}."
        )
    if len(networks) == 2 and networks[0].title == networks[1].title:
        raise ValueError(f"Both networks are called {networks[0].title!r}; give them different titles.")
    steps = [list(network.steps) for network in networks]
    if steps[0] != steps[-1]:
        raise ValueError(
            "Two networks must have the same steps of training to stand side by side, got "
            f"{steps[0]} and {steps[1]}."
        )
    for network in networks:
        if network.at in network.earlier:
            raise ValueError(
                f"{network.at!r} of {network.title!r} is both at the end and earlier; name it otherwise."
            )
        for step, layers in network.earlier.items():
            if [(x.name, x.grid) for x in layers] != [(x.name, x.grid) for x in network.layers]:
                raise ValueError(
                    f"{network.title!r} must have the same layers on the same grids at {step!r}."
                )
    for network in networks:
        for shown in every_layer(network):
            classes = len(shown.statistics.class_counts)
            if classes != len(class_names):
                raise ValueError(
                    f"class_names must name the {classes} classes of {shown.name!r} in "
                    f"{network.title!r}, got {len(class_names)} names."
                )
        accuracy = network.class_accuracy
        if accuracy is None:
            continue
        given = np.asarray(accuracy)
        if given.shape != (len(class_names),) or not ((given >= 0) & (given <= 1)).all():
            raise ValueError(
                f"class_accuracy of {network.title!r} must be {len(class_names)} shares from 0 to 1, got "
                f"shape {given.shape}{f' from {given.min():g} to {given.max():g}' if given.size else ''}."
            )


def check_superclasses(classes: list[str], names: Sequence[str], groups: Sequence[int]) -> None:
    given = np.asarray(groups if len(groups) else np.zeros(0, int))
    if not len(names) and not given.size:
        return
    whole = given.shape == (len(classes),) and np.issubdtype(given.dtype, np.integer)
    if not whole or not np.array_equal(np.unique(given), np.arange(len(names))):
        raise ValueError(
            f"superclass_of must hold for each of {len(classes)} classes the number of its superclass, all "
            f"from 0 to {len(names) - 1} used, got {list(groups)[:10]} of length {len(groups)}."
        )


def check_images(networks: list[Shown], count: int) -> None:
    for network in networks:
        for shown in every_layer(network):
            if shown.statistics.count != count:
                raise ValueError(
                    f"images must be the {shown.statistics.count} test images of the statistics of "
                    f"{shown.name!r} in {network.title!r}, got {count}."
                )
