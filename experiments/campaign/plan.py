"""What runs take: multiply-adds from the networks' shapes, time from a few steps."""

from __future__ import annotations

import functools
import math
import time

import jax
import jax.numpy as jnp

from experiments import nets
from experiments.config import Run
from experiments.run.step import PlacedData, Trainer, order

_STEPS, _SECONDS = 10, 10.0  # At most so many steps are timed, and no further one after so long.


@functools.cache
def forward_multiply_adds(net: str, classes: int, width: float) -> tuple[int, int]:
    """Multiply-adds of one picture's forward pass, and those of the first layer alone.

    Counted are convolutions and the dense layer, which is all but nothing of the rest.
    """
    module = nets.build(net, classes, width)

    def apply(picture):
        variables = module.init(jax.random.key(0), picture, train=False)
        _, seen = module.apply(variables, picture, train=False, capture_intermediates=True, mutable=True)
        return variables["params"], seen["intermediates"]

    params, outputs = jax.eval_shape(apply, jnp.zeros((1, 32, 32, 3)))
    kernels = {path[:-1]: leaf for path, leaf in _leaves(params) if path[-1] == "kernel"}
    # An output is the kernel's layer's: a dot product as long as a filter for each of its values.
    costs = {
        path[:-2]: leaf.size * math.prod(kernels[path[:-2]].shape[:-1])
        for path, leaf in _leaves(outputs)
        if path[:-2] in kernels
    }
    first = min((path for path, leaf in kernels.items() if leaf.ndim == 4 and leaf.shape[-2] == 3), key=len)
    return sum(costs.values()), costs[first]


def _leaves(tree):
    """Leaves with their paths as tuples of names."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield tuple(str(getattr(key, "key", getattr(key, "idx", key))) for key in path), leaf


def multiply_adds(net: str, classes: int = 100, width: float = 1.0) -> int:
    """Multiply-adds a picture of training: forward, and backward to weights and inputs, but not to the picture.

    Example:
      >>> from experiments.campaign.plan import multiply_adds
      >>> multiply_adds("vgg11")
      456677376
    """
    forward, first = forward_multiply_adds(net, classes, width)
    return 3 * forward - first


def run_multiply_adds(config: Run, placed: PlacedData) -> int:
    """Multiply-adds of a whole run: training, and the test pictures after every epoch."""
    forward, first = forward_multiply_adds(config.net.name, placed.classes, config.net.width)
    seen = placed.train_examples // config.recipe.batch * config.recipe.batch
    return config.recipe.epochs * (seen * (3 * forward - first) + placed.test_examples * forward)


def measure(config: Run, placed: PlacedData) -> tuple[float, float]:
    """Seconds that compiling takes, and multiply-adds a second in the steps that follow."""
    trainer = Trainer(config, placed)
    batches = order(config.seed, 0, placed.train_examples, config.recipe.batch)
    started = time.monotonic()
    state, keys = trainer.start(config.seed)
    state = jax.block_until_ready(trainer.step(state, keys, batches[0]))
    compiled = time.monotonic()
    steps = 0
    while steps < _STEPS and time.monotonic() - compiled < _SECONDS:
        steps += 1
        state = jax.block_until_ready(trainer.step(state, keys, batches[steps % len(batches)]))
    seconds = time.monotonic() - compiled
    work = steps * config.recipe.batch * multiply_adds(config.net.name, placed.classes, config.net.width)
    return compiled - started, work / seconds
