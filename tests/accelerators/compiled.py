"""Prints what programs are when compiled for an accelerator, which need not be there, as JSON.

``python -m tests.accelerators.compiled cuda smooth``. The whole text goes to the file that ``PROGRAM_TEXT`` names,
if it does.
"""

import functools
import json
import math
import os
import pathlib
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies

from experiments import nets
from experiments.config import configure
from experiments.data import Dataset
from experiments.run.step import PlacedData, Trainer
from lgnn_jax import Grid, Window, lgnn, smooth
from tests.accelerators import hlo

DEVICES = 8
TOPOLOGIES = {
    "cuda": {
        "topology": f"1x1x{DEVICES}",
        "target_config": (pathlib.Path(__file__).parent / "h100.txtpb").read_text(),
    },
    "tpu": {"topology_name": "v5e:2x4"},
}
# A kernel's shape, the axis of its units, their grid, and the taps of the window.
SMOOTHED = {
    "64": ((3, 3, 64, 64), -1, (8, 8), 3),
    "512": ((3, 3, 512, 512), -1, (32, 16), 3),
    "512, filters first": ((512, 512, 3, 3), 0, (32, 16), 3),
    "512, 5 taps": ((3, 3, 512, 512), -1, (32, 16), 5),
}
IMAGES, BATCH = 50_000, 128


def compiled(lowered):
    text = lowered.compile().as_text()
    if path := os.environ.get("PROGRAM_TEXT"):
        pathlib.Path(path).write_text(text)
    return hlo.instructions(text)


def on(device, tree):
    """The shapes of a tree, on a device."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def smoothing(devices, name):
    """``smooth`` of one kernel."""
    shape, axis, grid, taps = SMOOTHED[name]
    kernel = on(devices[0], jax.ShapeDtypeStruct(shape, jnp.float32))
    program = compiled(jax.jit(lambda x: smooth(x, Grid(grid), 0.5, Window(taps), axis=axis)).lower(kernel))
    size = math.prod(shape)
    return {
        "passes": hlo.bytes_moved(program) / (2 * 4 * size),
        "relayouts": hlo.relayouts(program, size),
        "collectives": hlo.collectives(program),
    }


def chain(devices, name):
    """The optimizer's step over VGG-11's parameters, with lgnn or without."""
    tx = optax.chain(
        *[lgnn(0.5)] * (name == "lgnn"), optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9)
    )

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    module = nets.build("vgg11", 10, 1.0)
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)["params"]
    )
    params, state = (on(devices[0], tree) for tree in (shapes, jax.eval_shape(tx.init, shapes)))
    program = compiled(jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params))
    smallest = min(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 4)
    return {
        "bytes": hlo.bytes_moved(program),
        "relayouts": hlo.relayouts(program, smallest),
        "collectives": hlo.collectives(program),
    }


def images():
    """A set of which nothing but the shapes is used."""
    train, test = (np.zeros((count, 32, 32, 3), np.uint8) for count in (BATCH, 10))
    labels = np.arange(BATCH, dtype=np.int32) % 10
    return Dataset("nothing", train, labels, test, labels[:10], tuple("abcdefghij"))


def shapes_alone(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def larger(leaf):
    """An array of the set, with as many images as CIFAR's."""
    return jax.ShapeDtypeStruct((IMAGES, *leaf.shape[1:]), leaf.dtype)


def step(devices, name):
    """The experiments' training step on all devices, with lgnn or without."""
    method, precision = name.split()
    data = images()
    variant = {"lgnn": "constant", "plain": "baseline"}[method]
    config, _ = configure(
        data, net="vgg11", width=0.125, variant=variant, precision=precision, batch=BATCH, epochs=2
    )
    with mock.patch.object(jax, "pmap", functools.partial(jax.pmap, devices=devices)):
        trainer = Trainer(config, PlacedData(data))
    state, keys = shapes_alone(jax.eval_shape(lambda: trainer.start(0)))
    train = shapes_alone(trainer.placed.train)
    train = train._replace(images=larger(train.images), labels=larger(train.labels))
    examples = jax.ShapeDtypeStruct((len(devices), BATCH // len(devices)), jnp.int32)
    program = compiled(trainer._step.lower(state, train, keys, examples))
    return {
        "gradients": hlo.collectives(program, 100),
        "collectives": hlo.collectives(program),
        "loops": hlo.loops(program),
        "sets": hlo.results(program, IMAGES * 32 * 32 * 3),
        "selects": sum(one.kind == "select" and "augmentation" in one.scope for one in program),
    }


PROGRAMS = {
    "smooth": (smoothing, SMOOTHED),
    "chain": (chain, ("lgnn", "plain")),
    "step": (step, ("lgnn float32", "plain float32", "lgnn bf16", "plain bf16")),
}


if __name__ == "__main__":
    _, target, kind, *chosen = sys.argv
    devices = topologies.get_topology_desc(platform=target, **TOPOLOGIES[target]).devices
    assert len(devices) == DEVICES, devices
    make, names = PROGRAMS[kind]
    print(json.dumps({name: make(devices, name) for name in chosen or names}))
