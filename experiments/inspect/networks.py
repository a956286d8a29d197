"""Finished runs as networks to look at: weights by layer, and responses to the test pictures."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments import data as datasets
from experiments import nets
from experiments.config import Run
from experiments.errors import check_known
from experiments.nets import ordering
from experiments.run import results
from experiments.run.augment import normalise
from experiments.run.measured import measure
from experiments.run.progress import Reporter
from experiments.run.results import CONFIG, SUMMARY
from experiments.run.weights import convolutions, kept_epochs, load_weights
from lgnn_jax import Grid, inspect
from lgnn_jax.inspect import ResponseStatistics, accumulate

_log = logging.getLogger("experiments")

_TOP = 9  # Test images that are kept of those that activate a unit most.
PARTS = 1000  # Of the work on a network, for the progress bar.


@dataclasses.dataclass(frozen=True)
class Network:
    """A finished run: what it was, its weights by layer, and what its layers did on the test pictures."""

    folder: pathlib.Path
    config: Run
    digest: str  # Of the weights.
    layers: dict[str, tuple[Grid, np.ndarray]]
    seen: inspect.Network  # Of pictures in bytes or in [0, 1].
    accuracy: float  # Of the test pictures, in [0, 1].
    class_accuracy: np.ndarray  # Likewise, (classes,).
    responses: dict[str, ResponseStatistics] = dataclasses.field(default_factory=dict)
    orders: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict
    )  # By responses to training pictures.
    scores: dict[str, Any] = dataclasses.field(default_factory=dict)  # As trained, by layer,
    arranged: dict[str, Any] = dataclasses.field(default_factory=dict)  # and in that order.

    @property
    def has_stem(self) -> bool:
        """Whether its first layer is among those that are looked at."""
        return nets.NETS[self.config.net.name].role(next(iter(self.layers))) == nets.STEM


def read_config(folder: pathlib.Path) -> Run:
    """The configuration of a finished run.

    Raises:
      ValueError: If the folder is none, or its run is not finished.
    """
    for name in (CONFIG, SUMMARY):
        if not (folder / name).exists():
            raise ValueError(f"{str(folder)!r} is no folder of a finished run: it has no {name}.")
    return Run.of(json.loads((folder / CONFIG).read_text()))


def own_data(
    folder: pathlib.Path, config: Run, data: str | None, data_dir: str | None, *, download: bool = False
) -> datasets.Dataset:
    """The data set that a run was trained on; ``data`` names it where its own name does not tell.

    Raises:
      ValueError: If there is none, it now holds other pictures, or too few of a class to look at.
    """
    own = config.data
    loaded = datasets.load(
        data or own.name,
        split=own.split,
        test_split=own.test_split,
        data_dir=data_dir,
        download=download,
    )
    if loaded.digest != own.digest:
        raise ValueError(
            f"{folder.name} was trained on other pictures than {loaded.name!r} now holds. Give its own with "
            "--data and --data-dir."
        )
    loaded.check_tested()
    return loaded


def check_pair(configs: dict[str, Run]) -> None:
    """Raises ``ValueError`` for two runs that cannot stand side by side."""
    if len(configs) < 2:
        return
    run, baseline = configs["run"], configs["baseline"]
    for name in ("net", "width", "data", "split", "test_split", "data_digest", "grids"):
        ours, theirs = run.settings()[name], baseline.settings()[name]
        if ours != theirs:
            raise ValueError(f"The runs differ in {name}: RUN has {ours!r}, BASELINE {theirs!r}.")
    if run.seed != baseline.seed:
        _log.info(f"the runs are no pair: RUN has seed {run.seed}, BASELINE {baseline.seed}")
    if baseline.method.name == run.method.name:
        raise ValueError(f"Both runs are {run.method.name}; give a baseline beside another variant.")


def network(
    folder: pathlib.Path, config: Run, data: datasets.Dataset, names: Sequence[str] | None = None
) -> Network:
    """The network of a run, which computes in float32 whatever it was trained in: pictures need the digits.

    Args:
      folder: The run's.
      config: The run's.
      data: Its data set.
      names: The layers to look at; None for all.

    Raises:
      ValueError: If a name is that of no layer.
    """
    variables = load_weights(folder)
    layers = convolutions(config, variables["params"])
    for name in names or ():
        check_known("layer", name, [nets.layer_name(path) for path in layers])
    if names is not None:
        layers = {path: layer for path, layer in layers.items() if nets.layer_name(path) in names}
    summary = results.read(folder)
    correct = results.correct(summary)
    counts = np.bincount(data.test_labels, minlength=data.classes)
    return Network(
        folder=folder,
        config=config,
        digest=summary["params_digest"],
        layers=layers,
        seen=_seen(config, data, variables, layers),
        accuracy=float(correct.mean()),
        class_accuracy=np.bincount(data.test_labels, correct, data.classes) / counts,
    )


def at_epoch(found: Network, epoch: int, data: datasets.Dataset) -> Network:
    """The same layers after an epoch of which weights are kept, in the orders of the run's end.

    Its accuracy is still that of the end.
    """
    variables = load_weights(found.folder, epoch=epoch)
    layers = convolutions(found.config, variables["params"])
    layers = {path: layers[path] for path in found.layers}
    return dataclasses.replace(
        found,
        layers=layers,
        seen=_seen(found.config, data, variables, layers),
        responses={},
        scores={},
        arranged={},
    )


def common_epochs(networks: Iterable[Network]) -> list[int]:
    """Epochs after which all of these runs keep their weights, ascending."""
    kept = [set(kept_epochs(found.folder)) for found in networks]
    return sorted(set.intersection(*kept))


def _seen(config: Run, data: datasets.Dataset, variables: Any, layers: Iterable[str]) -> inspect.Network:
    """The network as it takes test pictures."""
    mean, deviation = (np.float32(values) for values in data.statistics())
    return inspect.linen(
        nets.build(config.net.name, data.classes, config.net.width),
        variables,
        layers=list(layers),
        preprocess=lambda images: normalise(255 * images, mean, deviation),
        train=False,
    )


def with_responses(found: Network, data: datasets.Dataset, progress: Reporter) -> Network:
    """The same with the statistics of its layers on the test pictures."""
    statistics = accumulate(
        found.seen.activations(),
        data.test_images,
        data.test_labels,
        classes=data.classes,
        top=min(_TOP, len(data.test_labels)),
        progress=lambda done, total: progress.at(PARTS * done // total, f"test pictures {done} of {total}"),
    )
    return dataclasses.replace(found, responses=statistics)


def with_orders(found: Network, data: datasets.Dataset, progress: Reporter) -> Network:
    """The same with an order of every layer's units, by their responses to some of the training pictures."""
    chosen = np.random.default_rng(0).permutation(len(data.train_labels))[: ordering.FITTED_ON]
    orders = inspect.arrange(
        found.seen,
        data.train_images[chosen],
        progress=lambda done, total: progress.at(PARTS * done // total, "training pictures, then layers"),
    )
    return dataclasses.replace(found, orders=orders)


def with_scores(found: Network, data: datasets.Dataset, progress: Reporter, *, arranged: bool) -> Network:
    """The same with every metric of its layers, as trained or in their orders."""
    scores = measure(
        found.layers,
        found.responses,
        data.superclasses[1],
        lambda done, total: progress.at(PARTS * done // total, f"layer {done + 1} of {total}"),
        orders=found.orders if arranged else None,
    )
    return dataclasses.replace(found, **{"arranged" if arranged else "scores": scores})
