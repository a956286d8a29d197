"""Prints, for one CPU device, how many instructions of a kind the compiled programs have, as JSON."""

import json
import re

import jax
import jax.numpy as jnp
import optax

from lgnn_jax import Grid, HeatKernel, Window, lgnn, smooth

KINDS = (
    "fusion",
    "copy",
    "transpose",
    "concatenate",
    "pad",
    "gather",
    "dot",
    "while",
    "call",
    "custom-call",
)
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.-]+ = .*? ([a-z][a-z-]*)\(", re.M)


def smoothing(shape, dtype="float32", window=Window(), axis=-1, wrap=False):
    """``smooth`` of a kernel of ``shape``, on a grid of most square shape."""
    grid = Grid({64: (8, 8), 128: (16, 8), 24: (2, 3, 4)}[shape[axis]], wrap)
    return jax.jit(lambda x: smooth(x, grid, 0.5, window, axis=axis)), [jax.ShapeDtypeStruct(shape, dtype)]


def chain():
    """A step of the whole chain over a small tree like VGG's."""
    widths = (3, 64, 64, 128)
    params = {
        f"conv_{i}": {"kernel": jnp.zeros((3, 3, a, b)), "bias": jnp.zeros(b)}
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
    } | {"dense": {"kernel": jnp.zeros((128, 10)), "bias": jnp.zeros(10)}}
    tx = optax.chain(lgnn(0.5), optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1)), [params, tx.init(params), params]


PROGRAMS = {
    "flat, float32": lambda: smoothing((3, 3, 64, 128)),
    "flat, bfloat16": lambda: smoothing((3, 3, 64, 128), "bfloat16"),
    "flat, 7 taps": lambda: smoothing((3, 3, 64, 128), window=Window(7)),
    "flat, torus": lambda: smoothing((3, 3, 64, 128), wrap=True),
    "flat, three dimensions": lambda: smoothing((3, 3, 64, 24)),
    "shifted": lambda: smoothing((128, 64, 3, 3), axis=0),
    "heat kernel": lambda: smoothing((3, 3, 64, 128), window=HeatKernel()),
    "chain": chain,
}


def counts(program, arguments):
    """Instructions by kind, in all computations of the compiled program."""
    found = _INSTRUCTION.findall(program.lower(*arguments).compile().as_text())
    return {kind: found.count(kind) for kind in KINDS}


if __name__ == "__main__":
    assert jax.device_count() == 1, jax.devices()
    print(json.dumps({name: counts(*make()) for name, make in PROGRAMS.items()}))
