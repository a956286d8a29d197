"""What is claimed of ordered networks: robustness to noise, corruption and pruning, regions of a function.

All of it is measured on a finished run's weights and held-out images, and kept beside them. A measure is a
function of a :class:`Subject` and an entry of :data:`MEASURES`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import click
import flax.linen as nn
import jax
import numpy as np

from experiments import nets
from experiments.config import Run
from experiments.data import Dataset
from experiments.data.corruptions import CORRUPTIONS
from experiments.errors import Taken
from experiments.machine.files import write_json, write_text
from experiments.nets import activations, ordering
from experiments.run import results
from experiments.run.augment import normalise
from experiments.run.claim import claim
from experiments.run.measured import responses
from experiments.run.step import PlacedData
from experiments.run.weights import WEIGHTS, convolutions, load_weights
from lgnn_jax import Grid, Ties, distances
from lgnn_jax.inspect import (
    ResponseStatistics,
    ablate,
    label_regions,
    linear_probe,
    preferred,
    region_scores,
)

CLAIMS = "claims.json"
VERSION = 1  # Of what is measured: another one is measured anew.
IMAGES = 2000  # Held-out images, at most, of every class alike; for a probe as many training images.
ABLATED_IMAGES = 1000  # Likewise for ablations, of which there are many.
NOISE = (0.01, 0.05, 0.1)  # Of each kernel's norm.
PRUNED = (0.1, 0.3, 0.5)  # Of each layer's filters.
DRAWS = 3
NATIVE, ARRANGED = ORDERS = ("native", "arranged")
_REPETITIONS = 4  # Random choices of units beside an ablated region.
_BATCH = 500
_BLOCK = 2  # Units each way whose responses are pooled.

Claims = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained network with what it is measured on.

    ``orders`` has for every layer that can be reordered which unit lies at which place of its grid, as trained
    and arranged by responses to training images. ``statistics`` are of all held-out images.
    """

    module: nn.Module
    variables: Any
    ties: Ties
    grids: Mapping[str, Grid]
    orders: Mapping[str, Mapping[str, np.ndarray]]
    statistics: Mapping[str, ResponseStatistics]
    groups: tuple[int, ...]  # The superclass of every class; the classes themselves where there are none.
    training: tuple[np.ndarray, np.ndarray]  # Images and labels.
    held_out: tuple[np.ndarray, np.ndarray]
    scale: tuple[np.ndarray, np.ndarray]  # Mean and std of training images.
    last: str  # The layer whose regions are ablated and pooled.

    def predict(self, variables: Any, images: np.ndarray) -> np.ndarray:
        """The classes that the network predicts with other weights."""
        return self._run(variables, images)[0].argmax(-1)

    def respond(self, images: np.ndarray) -> np.ndarray:
        """Means over space of the last layer's activations ``(images, units)``."""
        return self._run(self.variables, images)[1]

    def accuracy(self, variables: Any, images: np.ndarray | None = None) -> float:
        """The share of held-out images, or of others in their place, that are classified correctly."""
        own, labels = self.held_out
        return float((self.predict(variables, own if images is None else images) == labels).mean())

    def without(self, units: Mapping[str, np.ndarray]) -> Any:
        """The network's variables with some units of some layers removed, from all that reads them too."""
        removed = {self.ties.group_of(f"params/{path}", -1): gone for path, gone in units.items()}
        taken: dict[str, list[tuple[Any, np.ndarray]]] = {}
        for group, gone in removed.items():
            for member in self.ties.groups[group].members:
                taken.setdefault(member.path, []).append((member, gone))

        def cut(path: Any, leaf: Any) -> Any:
            for member, gone in taken.get(jax.tree_util.keystr(path, simple=True, separator="/"), ()):
                shape = leaf.shape
                split = shape[: member.axis] + (member.before, -1, member.after) + shape[member.axis + 1 :]
                parts = np.array(leaf).reshape(split)
                parts[(slice(None),) * (member.axis + 1) + (gone,)] = 0
                leaf = parts.reshape(shape)
            return leaf

        params = jax.tree_util.tree_map_with_path(cut, {"params": self.variables["params"]})
        return {**self.variables, **params}

    def _run(self, variables: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = min(_BATCH, len(images))
        filled = np.resize(np.arange(len(images)), -(-len(images) // batch) * batch)
        program = _program(self.module, self.last)
        parts = [
            jax.device_get(program(variables, *self.scale, images[part]))
            for part in np.split(filled, len(filled) // batch)
        ]
        logits, means = (np.concatenate(each)[: len(images)] for each in zip(*parts, strict=True))
        return logits, means


@functools.lru_cache(maxsize=8)
def _program(module: nn.Module, layer: str) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Logits and a layer's mean activations, compiled once for all runs of a network."""

    @jax.jit
    def run(variables: Any, mean: Any, std: Any, images: Any) -> tuple[jax.Array, jax.Array]:
        x = normalise(images, mean, std)
        logits, seen = module.apply(variables, x, train=False, mutable=["intermediates"])
        return logits, activations.shown(seen["intermediates"])[layer].mean((1, 2))

    return run


def subject(config: Run, folder: pathlib.Path, data: Dataset, placed: PlacedData) -> Subject:
    """A finished run's network, with its order and its responses.

    Raises:
      click.UsageError: If its weights cannot be read.
    """
    variables = load_weights(folder)
    layers = convolutions(config, variables["params"])
    orders = ordering.orders(config.net, variables, placed.train, ordering.RESPONSES)
    role = nets.NETS[config.net.name].role
    return Subject(
        nets.build(config.net.name, data.classes, config.net.width),
        variables,
        ordering.tied(config.net, variables),
        {path: grid for path, (grid, _) in layers.items()},
        {NATIVE: {path: np.arange(len(order)) for path, order in orders.items()}, ARRANGED: orders},
        responses(config, variables, placed),
        data.superclasses[1] or tuple(range(data.classes)),
        _balanced(data.train_images, data.train_labels, data.classes, IMAGES),
        _balanced(data.test_images, data.test_labels, data.classes, IMAGES),
        tuple(map(np.float32, data.statistics())),
        [path for path in layers if path in orders and role(path) != nets.SHORTCUT][-1],
    )


def _balanced(
    images: np.ndarray, labels: np.ndarray, classes: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first images of every class, at most ``most`` in all but at least one of each."""
    each = max(1, most // classes)
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in range(classes)]))
    return images[chosen], labels[chosen]


def weight_noise(of: Subject) -> Claims:
    """Accuracy with Gaussian noise on every kernel, as long as a share of its norm; means over draws."""

    def noisy(share: float, draw: np.random.Generator) -> Any:
        def add(path: Any, leaf: Any) -> Any:
            if path[-1].key != "kernel":
                return leaf
            noise = draw.standard_normal(leaf.shape, np.float32)
            return leaf + noise * (share * np.linalg.norm(leaf) / np.linalg.norm(noise))

        return jax.tree_util.tree_map_with_path(add, of.variables)

    return {
        f"{share:g}": _mean(
            [of.accuracy(noisy(share, np.random.default_rng(draw))) for draw in range(DRAWS)]
        )
        for share in NOISE
    }


def corruptions(of: Subject) -> Claims:
    """Accuracy on held-out images made worse."""
    return {
        name: of.accuracy(of.variables, worse(of.held_out[0], np.random.default_rng(0)))
        for name, worse in CORRUPTIONS.items()
    }


def pruning(of: Subject) -> Claims:
    """Accuracy without a share of every layer's filters: scattered ones, or as many that lie together."""
    found: Claims = {}
    for share in PRUNED:
        kinds: dict[str, list[float]] = {"scattered": [], **{order: [] for order in ORDERS}}
        for seed in range(DRAWS):
            draw = np.random.default_rng(seed)
            places = {path: _places(of.grids[path], share, draw) for path in of.orders[NATIVE]}
            chosen = {"scattered": {path: apart for path, (apart, _) in places.items()}}
            for name, orders in of.orders.items():
                chosen[name] = {path: orders[path][together] for path, (_, together) in places.items()}
            for kind, units in chosen.items():
                kinds[kind].append(of.accuracy(of.without(units)))
        found[f"{share:g}"] = {kind: _mean(values) for kind, values in kinds.items()}
    return found


def _places(grid: Grid, share: float, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A share of a grid's places: scattered at random, and as many nearest to one of them."""
    count = round(share * grid.units)
    centre = draw.integers(grid.units)
    together = np.argsort(distances(grid)[centre], kind="stable")[:count]
    return draw.choice(grid.units, count, replace=False), together


def preferences(of: Subject) -> Claims:
    """By layer and order how many regions of a preferred superclass there are and how large, with their nulls."""
    found: Claims = {}
    for path in of.orders[NATIVE]:
        labels = _preferred(of, path)
        if (labels < 0).all():
            continue
        found[path] = {
            name: {
                what: {"value": score.value, "null_low": score.low, "null_high": score.high}
                for what, score in (("count", scores.count), ("largest", scores.largest))
            }
            for name, orders in of.orders.items()
            for scores in [region_scores(labels[orders[path]], of.grids[path], key=jax.random.key(0))]
        }
    return found


def _preferred(of: Subject, path: str) -> np.ndarray:
    return preferred(of.statistics[path].selectivity(of.groups, constant="nan"))


def ablation(of: Subject) -> Claims:
    """What ablating the largest region of every superclass does to its own accuracy and to that of others.

    Of the last layer, means over superclasses that have a region; ``random`` is what as many random units of the
    layer do to the superclass itself.
    """
    groups = np.asarray(of.groups)
    images, labels = _balanced(*of.held_out, len(groups), ABLATED_IMAGES)
    units, wanted = of.grids[of.last].units, _preferred(of, of.last)

    @functools.cache
    def without(*gone: int) -> np.ndarray:
        return of.predict(of.without({of.last: np.array(gone, int)}), images)

    def predict(mask: Any) -> np.ndarray:
        return without(*np.flatnonzero(np.asarray(mask) == 0).tolist())

    found: Claims = {}
    for name, orders in of.orders.items():
        order, changes = orders[of.last], []
        largest: dict[int, np.ndarray] = {}
        for region in label_regions(wanted[order], of.grids[of.last]):
            largest.setdefault(region.label, order[region.members])
        for group, gone in largest.items():
            result = ablate(
                predict,
                labels,
                gone,
                units=units,
                classes=len(groups),
                key=jax.random.key(0),  # As many random units are the same for all superclasses.
                repetitions=_REPETITIONS,
            )
            own = groups == group
            means = result.change[own], result.change[~own], result.random_mean[own]
            changes.append((len(gone), *(float(values.mean()) for values in means)))
        columns = zip(*changes, strict=True) if changes else [()] * 4
        found[name] = dict(zip(("units", "own", "others", "random"), map(_mean, columns), strict=True)) | {
            "regions": len(changes)
        }
    return found


def probe(of: Subject) -> Claims:
    """Accuracy of a linear probe on the last layer's responses, all of them, and pooled over blocks of the grid.

    ``random`` is that of blocks of as many random units, mean over draws.
    """
    grid = of.grids[of.last]
    block = tuple(_BLOCK if side % _BLOCK == 0 else 1 for side in grid.shape)
    train, test = of.respond(of.training[0]), of.respond(of.held_out[0])
    classes = len(of.groups)

    def fit(order: np.ndarray, pool: Any) -> float:
        columns = train[:, order], of.training[1], test[:, order], of.held_out[1]
        return linear_probe(*columns, classes=classes, pool=pool).accuracy

    own = {name: orders[of.last] for name, orders in of.orders.items()}
    shuffled = [np.random.default_rng(draw).permutation(grid.units) for draw in range(DRAWS)]
    try:
        return {
            "units": math.prod(block),
            "all": fit(own[NATIVE], None),
            **{name: fit(order, (grid, block)) for name, order in own.items()},
            "random": _mean([fit(order, (grid, block)) for order in shuffled]),
        }
    except ValueError as error:  # No response varies.
        return {"undefined": str(error)}


MEASURES: Mapping[str, Callable[[Subject], Claims]] = {
    "weight_noise": weight_noise,
    "corruptions": corruptions,
    "pruning": pruning,
    "preferences": preferences,
    "ablation": ablation,
    "probe": probe,
}


def measure(of: Subject) -> Claims:
    """All measures by name, to four digits."""
    found: Claims = {"images": len(of.held_out[1]), "accuracy": of.accuracy(of.variables)}
    return _digits(found | {name: each(of) for name, each in MEASURES.items()})


def read(folder: pathlib.Path) -> Claims | None:
    """What was measured of the weights of a finished run; None if nothing was, or of others, or it is damaged."""
    try:
        found = json.loads((folder / CLAIMS).read_text("utf-8"))
        known = found["version"], found["params_digest"]
        return found if known == (VERSION, results.read(folder)["params_digest"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def publish(config: Run, out: pathlib.Path) -> None:
    """Copies what was measured of a finished run beside its published summary, if that is not there."""
    source, target = out / config.name / CLAIMS, results.published(config)
    if source.exists() and (target / results.SUMMARY).exists() and read(target) is None:
        write_text(target / CLAIMS, source.read_text("utf-8"))


def complete(
    config: Run,
    folder: pathlib.Path,
    data: Dataset,
    placed: Callable[[], PlacedData],
    say: Callable[[str], object],
) -> None:
    """Measures a finished run and keeps that in its folder, if its weights are there and that was not done.

    A run that another process holds is left to that one, and one whose weights cannot be read as it is.
    """
    if read(folder) is not None or not (folder / WEIGHTS).exists():
        return
    try:
        with claim(folder, wait=False, say=say):
            if read(folder) is not None:
                return
            say(f"measuring {folder.name} ...")
            found = measure(subject(config, folder, data, placed()))
            about = {"version": VERSION, "params_digest": results.read(folder)["params_digest"]}
            write_json(folder / CLAIMS, about | found)
    except Taken:
        return
    except click.UsageError as error:  # Nothing that a training should wait for.
        say(f"{folder.name} is not measured: {error.format_message()}")


def _mean(values: Any) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _digits(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _digits(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float | np.floating) else value
