"""Every metric of a network's layers: of its weights, and of its responses to images that it was not trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from experiments import nets
from experiments.config import Run
from experiments.data.dataset import SIZE
from experiments.nets import activations, ordering
from experiments.run.augment import normalise
from experiments.run.step import Images, PlacedData
from experiments.run.weights import convolutions
from lgnn_jax import Grid, fitted_score, inspect, topography
from lgnn_jax.inspect import ResponseStatistics, accumulate

Layers = Mapping[str, tuple[Grid, np.ndarray]]
# What is kept of a score, in this order.
COLUMNS = ("value", "null_low", "null_high", "p")
_OF_ORDER = ("value", "null_high")
_SHUFFLED = 5  # Arrangements of shuffled weights, which differ little; each takes a moment.


def responses(config: Run, variables: Any, placed: PlacedData) -> dict[str, ResponseStatistics]:
    """Statistics of the layers' activations after the ReLU on the test images, by paths of kernels.

    The network computes in float32, whatever it was trained in.
    """
    module = nets.build(config.net.name, placed.classes, config.net.width)
    images, labels, mean, std = placed.test
    images = np.asarray(images).reshape(-1, SIZE, SIZE, 3)
    labels = np.asarray(labels)
    # As NumPy arrays: what lies on several devices would be computed on all of them.
    respond = functools.partial(_shown(module), variables, np.asarray(mean), np.asarray(std))
    return accumulate(respond, images, labels, classes=placed.classes, top=1)


@functools.lru_cache(maxsize=8)
def _shown(module: nn.Module) -> Callable[..., dict[str, jax.Array]]:
    """The activations of a network, compiled once for all runs of it."""

    @jax.jit
    def run(variables: Any, mean: jax.Array, std: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
        x = normalise(images, mean, std)
        _, seen = module.apply(variables, x, train=False, mutable=["intermediates"])
        return activations.shown(seen["intermediates"])

    return run


def arranged(
    config: Run,
    variables: Any,
    training: Images,
    statistics: Mapping[str, ResponseStatistics],
    superclass_of: tuple[int, ...],
) -> dict[str, Any]:
    """What :func:`compact` keeps of the same network with its units in order: by their weights, by their responses.

    Orders are fitted on the network's weights, and on its responses to training images; responses are measured
    on the images of ``statistics``. The neighbour cosine of the order by weights is measured on what it was fitted
    on; ``fitted`` has beside it what the same algorithm makes of shuffled weights.
    """
    layers, kept = convolutions(config, variables["params"]), {}
    for by in (ordering.WEIGHTS, ordering.RESPONSES):
        found = ordering.orders(config.net, variables, training, by)
        kept[by] = in_order(layers, statistics, found, superclass_of)
    kept["fitted"] = {path: _fitted(*layer) for path, layer in layers.items() if path in found}
    return kept


def in_order(
    layers: Layers,
    statistics: Mapping[str, ResponseStatistics],
    orders: Mapping[str, np.ndarray],
    superclass_of: tuple[int, ...],
) -> dict[str, Any]:
    """What :func:`compact` keeps of the layers of ``orders``, with their units in these."""
    moved = {path: layers[path] for path in orders}
    # What an order does not change, and what no table asks for, is left out: summaries are small.
    return compact(measure(moved, statistics, superclass_of, orders=orders), _OF_ORDER, scalars=False)


def _fitted(grid: Grid, kernel: np.ndarray) -> dict[str, Any]:
    """The neighbour cosine of the weights in the order fitted on them, beside that of shuffled weights."""
    rows = np.asarray(topography.filters(kernel)).T
    score = fitted_score(
        rows, grid, similarity=topography.cosines, key=jax.random.key(0), permutations=_SHUFFLED
    )
    return {column: _digits(score.summary()[column]) for column in _OF_ORDER}


def compact(
    scores: Mapping[str, Any], columns: Sequence[str] = COLUMNS, scalars: bool = True
) -> dict[str, Any]:
    """What a summary keeps of :func:`measure`, to four digits: the layers, and a list over them of every number.

    Of a score these are its ``columns``, of a scalar its value; None stands where a metric is not defined.
    """
    kinds = {"score": tuple(columns)} | ({"scalar": ("value",)} if scalars else {})
    kept = {}
    for name, metric in topography.METRICS.items():
        found = [
            (score["metrics"] if metric.kind == "score" else score).get(name) for score in scores.values()
        ]
        shown = kinds.get(metric.kind, ())
        if shown and any(value is not None for value in found):
            plain = [value if isinstance(value, dict) else {"value": value} for value in found]
            kept[name] = {column: [_digits(value.get(column)) for value in plain] for column in shown}
    return {"layers": list(scores), "metrics": kept}


def _digits(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float | np.floating) else value


def measure(
    layers: Layers,
    statistics: Mapping[str, ResponseStatistics],
    superclass_of: tuple[int, ...],
    progress: Callable[[int, int], object] | None = None,
    *,
    orders: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Every metric of every layer, with its null; a metric that is not defined for a layer says why.

    Args:
      layers: Grid and kernel by path.
      statistics: Of the responses, by path; a layer without them is measured by its weights alone.
      superclass_of: The group of every class; empty where there are none.
      progress: Called with numbers of layers, done and in all.
      orders: By path another order of the units; layers without one are as they are.
    """
    scores: dict[str, Any] = {}
    for done, (name, (grid, kernel)) in enumerate(layers.items()):
        if progress is not None:
            progress(done, len(layers))
        values = inspect.measure(
            grid, kernel, statistics.get(name), superclass_of=superclass_of, order=(orders or {}).get(name)
        )
        with_null = {metric for metric in values if topography.METRICS[metric].kind == "score"}
        scores[name] = {
            "grid": grid.shape,
            "metrics": {metric: value for metric, value in values.items() if metric in with_null},
            **{metric: value for metric, value in values.items() if metric not in with_null},
        }
    return scores
