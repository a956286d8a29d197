"""In which order a network's units lie best on their grids: what is tied, how alike units are, and the order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import nets
from experiments.data.dataset import SIZE
from experiments.nets import activations
from lgnn_jax import Ties, ties, topography

if TYPE_CHECKING:
    from experiments.config import Net
    from experiments.run.step import Images

WEIGHTS, RESPONSES, BOTH = BY = (
    "weights",
    "responses",
    "both",
)  # What makes units alike; both is the mean.
FITTED_ON = 2000  # Training images whose responses an order is fitted on, at most.
_BATCH = 500


def orders(
    net: Net,
    variables: Any,
    training: Images,
    by: str,
    *,
    images: int = FITTED_ON,
    start: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """By the path of a kernel the order of its units, ``order[p]`` the unit that comes to place ``p``.

    Layers whose units are tied, such as those of a residual sum, get one order. A layer that is missing cannot be
    reordered.

    Args:
      net: The network.
      variables: Its parameters and running statistics.
      training: Its training images.
      by: What makes units alike, one of ``BY``.
      images: How many of the training images, the same for all runs, are looked at for responses.
      start: Orders from which to go on.
    """
    alike = similarities(net, variables, training, by, images=images)
    return tied(net, variables).orders(alike, net.layout.layers(variables["params"]), start=start)


def tied(net: Net, variables: Any) -> Ties:
    """Which axes of the network's variables must be permuted together."""
    leaves, structure = jax.tree.flatten(variables)
    shapes = tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return _tied(net.name, net.width, _classes(net, variables), structure, shapes)


@functools.lru_cache(maxsize=8)
def _tied(name: str, width: float, classes: int, structure: Any, shapes: tuple[Any, ...]) -> Ties:
    variables = structure.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in shapes])
    module = nets.build(name, classes, width)
    image = jax.ShapeDtypeStruct((2, SIZE, SIZE, 3), jnp.float32)
    return ties(lambda variables, images: module.apply(variables, images, train=False), variables, image)


def similarities(
    net: Net, variables: Any, training: Images, by: str, *, images: int = FITTED_ON
) -> dict[str, np.ndarray]:
    """How alike the units of every layer are, ``(units, units)`` by the path of its kernel."""
    found: list[dict[str, Any]] = []
    if by != RESPONSES:
        found.append(
            {path: topography.cosines(kernel) for path, kernel in _kernels(net, variables).items()}
        )
    if by != WEIGHTS:
        seen = responses(net, variables, training, images)
        found.append({path: topography.correlations(means) for path, means in seen.items()})
    shared = [path for path in found[0] if all(path in each for each in found)]
    return {path: _mean([np.asarray(each[path]) for each in found]) for path in shared}


def _mean(similarities: list[np.ndarray]) -> np.ndarray:
    """The mean, with nothing in the rows of units that are dead in one of them."""
    alive = np.logical_and.reduce([np.diagonal(each) > 0 for each in similarities])
    return np.where(alive[:, None] & alive, np.mean(similarities, axis=0), 0)


def _kernels(net: Net, variables: Any) -> dict[str, Any]:
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    return {layer.path: leaves[layer.path] for layer in net.layout.layers(variables["params"])}


def responses(net: Net, variables: Any, training: Images, images: int = FITTED_ON) -> dict[str, np.ndarray]:
    """Means over space of the activations of all layers on training images, ``(images, units)``.

    The images are as they are, not cropped or mirrored; the network computes in float32.
    """
    total = training.labels.shape[0]
    chosen = np.random.default_rng(0).permutation(total)[:images].astype(np.int32)
    batch = min(_BATCH, len(chosen))
    filled = np.resize(chosen, -(-len(chosen) // batch) * batch)
    module = nets.build(net.name, _classes(net, variables), net.width)
    # As NumPy arrays: what lies on several devices would be computed on all of them.
    variables = jax.device_get(variables)
    parts = [
        jax.device_get(_means(module)(variables, jax.device_get(training.normalised(part))))
        for part in np.split(filled, len(filled) // batch)
    ]
    return {path: np.concatenate([part[path] for part in parts])[: len(chosen)] for path in parts[0]}


@functools.lru_cache(maxsize=8)
def _means(module: nn.Module) -> Callable[..., dict[str, jax.Array]]:
    """The program that gives the activations of a network by layer, averaged over space."""

    @jax.jit
    def run(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        _, seen = module.apply(variables, images, train=False, mutable=["intermediates"])
        return {path: maps.mean((1, 2)) for path, maps in activations.shown(seen["intermediates"]).items()}

    return run


def _classes(net: Net, variables: Any) -> int:
    return np.shape(variables["params"][nets.NETS[net.name].head]["bias"])[0]
