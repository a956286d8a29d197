"""The cost of smoothing the gradients of a network."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Sequence
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.benchmark import noise
from experiments.benchmark.noise import option
from experiments.benchmark.timing import Call, compiled, interleaved, machine
from experiments.markdown import quartiles, table
from experiments.nets import NETS, build
from lgnn_jax import ConvLayout, Grid, lgnn

_log = logging.getLogger("experiments")


@click.command("filter")
@option(
    "--nets",
    default=",".join(NETS),
    help="Networks whose gradients are smoothed, at full width and 100 classes.",
)
@option("--repeats", default=30, type=click.IntRange(3), help="Timings of each form.")
@option(
    "--batches",
    default="32,128",
    help="Batch sizes at which a whole training step of the first net is timed; of the others, the last.",
)
@click.option("--no-steps", is_flag=True, help="Leave the training steps out, which take most of the time.")
def filter_command(nets: str, repeats: int, batches: str, no_steps: bool) -> None:
    """The cost of smoothing the gradients of a network, in copies of them in memory.

    alone: lgnn as a program of its own. added: what chain(lgnn, add_decayed_weights, sgd) takes beyond the
    same without lgnn, compiled with the update of the parameters. literal: the padded depthwise convolution
    that the method is defined by, in XLA. Algorithm 1: the same as the paper writes it, in PyTorch on the
    CPU, and depthwise the faster way to write that.
    """
    try:
        sizes = [int(size) for size in batches.split(",")]
    except ValueError:
        raise click.UsageError(f"--batches takes numbers such as 32,128, got {batches!r}.") from None
    names = noise.chosen(nets, NETS, "net")
    torch = importlib.util.find_spec("torch") is not None
    if not torch:
        _log.info("PyTorch is not installed; its columns stay empty (pip install torch)")
    rows, lines = [], []
    for index, name in enumerate(names):
        _log.info(f"{name} ...")
        cost = filter_cost(name, repeats, torch)
        steps = (
            {}
            if no_steps
            else {size: step_seconds(name, size) for size in (sizes if not index else sizes[-1:])}
        )
        rows.append(_row(name, cost, steps))
        added = np.median(cost["added"])
        for size, seconds in steps.items():
            lines.append(
                f"{name}, batch {size}: a step takes {seconds:.2f} s, of which lgnn {added * 1e3:.1f} ms, "
                f"{added / seconds:.2%}"
            )
    print(f"{machine()}; median (quartiles) of {repeats}", "", *table(_HEADER, rows), sep="\n")
    if lines:
        print(
            "",
            "Gradients, and so the cost, do not depend on batch or image size; a step does:",
            "",
            sep="\n",
        )
        print("\n".join(f"- {line}" for line in lines))


_HEADER = [
    "net",
    "MB",
    "copy, ms",
    "alone",
    "added",
    "literal",
    "Algorithm 1 (PyTorch)",
    "depthwise (PyTorch)",
]
_HEADER += ["of a step", "temporary", "compiling"]


def _row(name: str, cost: dict[str, Any], steps: dict[int, float]) -> list[str]:
    copy = np.median(cost["copy"])

    def copies(key: str) -> str:
        return quartiles(cost[key] / copy) if key in cost else "-"

    size = max(steps, default=None)
    return [
        name,
        f"{cost['bytes'] / 1e6:.0f}",
        f"{copy * 1e3:.2f}",
        copies("alone"),
        copies("added"),
        copies("literal"),
        copies("algorithm 1"),
        copies("depthwise"),
        "-" if size is None else f"{np.median(cost['added']) / steps[size]:.2%} at {size}",
        f"{cost['temporary'] / 1e3:.0f} kB (largest layer {cost['largest'] / 1e6:.1f} MB)",
        f"{cost['compiling']:+.1f} s",
    ]


def kernels(net: str) -> list[jax.Array]:
    """Random gradients of a network's parameters, in the order of its tree."""
    module = build(net)
    shapes = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 3))
    )
    draw = np.random.default_rng(0).standard_normal
    return [jnp.asarray(draw(leaf.shape), jnp.float32) for leaf in jax.tree.leaves(shapes["params"])]


def filter_cost(net: str, repeats: int, torch: bool) -> dict[str, Any]:
    """Seconds of every form, a value a repeat, bytes, and compile time."""
    gradients = kernels(net)
    layers = ConvLayout().layers(gradients)  # Of a list, whose paths are indices.
    filtered = [(gradients[int(layer.path)], layer.grid) for layer in layers]
    only = [g for g, _ in filtered]
    smoothing = lgnn(0.5)
    state = smoothing.init(only)
    alone = compiled(lambda g: smoothing.update(g, state)[0], only)
    copy = compiled(lambda g: [jnp.copy(leaf) for leaf in g], only)
    literal = compiled(
        lambda g: [depthwise(leaf, grid) for leaf, (_, grid) in zip(g, filtered, strict=True)], only
    )
    plain, compiling_plain = _update(optax.identity(), gradients)
    smoothed, compiling = _update(smoothing, gradients)
    forms: dict[str, Call] = {
        "copy": lambda: copy(only),
        "alone": lambda: alone(only),
        "literal": lambda: literal(only),
        "plain": plain,
        "smoothed": smoothed,
    }
    if torch:
        shapes = [grid for _, grid in filtered]
        forms["algorithm 1"] = in_pytorch(only, shapes, depthwise=False)
        forms["depthwise"] = in_pytorch(only, shapes, depthwise=True)
    times = {name: np.array(values) for name, values in interleaved(forms, repeats).items()}
    return times | {
        "added": times["smoothed"] - times["plain"],
        "bytes": sum(leaf.nbytes for leaf in only),
        "largest": max(leaf.nbytes for leaf in only),
        "temporary": alone.memory_analysis().temp_size_in_bytes,
        "compiling": compiling - compiling_plain,
    }


def _update(first: optax.GradientTransformation, gradients: Sequence[jax.Array]) -> tuple[Call, float]:
    """A call that updates parameters in place with ``first`` at the head of the chain, and its compile time."""
    tx = optax.chain(first, optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))

    def step(gradients, params, state):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    carry = [jnp.copy(g) for g in gradients], tx.init(gradients)
    started = time.perf_counter()
    update = compiled(step, gradients, *carry, donate_argnums=(1, 2))
    seconds = time.perf_counter() - started

    def call():
        nonlocal carry
        carry = update(gradients, *carry)
        return carry

    return call, seconds


def depthwise(gradient: jax.Array, grid: Grid, sigma: float = 0.5) -> jax.Array:
    """The method as it is defined: filters to maps, replication padding, a depthwise Gaussian convolution."""
    maps = gradient.reshape(1, -1, *grid.shape)
    channels = maps.shape[1]
    padded = jnp.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    window = jnp.broadcast_to(_gaussian(sigma), (channels, 1, 3, 3))
    smoothed = lax.conv_general_dilated(
        padded, window, (1, 1), "VALID", feature_group_count=channels, precision=lax.Precision.HIGHEST
    )
    return smoothed.reshape(gradient.shape)


def in_pytorch(
    gradients: Sequence[jax.Array], grids: Sequence[Grid], *, depthwise: bool, sigma: float = 0.5
) -> Call:
    """A call of the same in PyTorch, on kernels stored as PyTorch stores them (OIHW), on the CPU; it returns them.

    Algorithm 1 makes every weight of a filter a map of its own, ``(in * height * width, 1, m, n)``; as
    channels of a single one, depthwise, they are convolved faster.
    """
    import torch

    stored = [torch.from_numpy(np.array(g).transpose(3, 2, 0, 1).copy()) for g in gradients]
    window = torch.from_numpy(np.array(_gaussian(sigma)))[None, None]

    @torch.no_grad()
    def call() -> list[Any]:
        results = []
        for gradient, grid in zip(stored, grids, strict=True):
            count = gradient[0].numel()
            images, channels = (1, count) if depthwise else (count, 1)
            maps = gradient.reshape(grid.units, count).T.reshape(images, channels, *grid.shape)
            padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), mode="replicate")
            weights = window.expand(channels, 1, 3, 3).contiguous()
            smoothed = torch.nn.functional.conv2d(padded, weights, groups=channels)
            results.append(smoothed.reshape(count, grid.units).T.reshape(gradient.shape).contiguous())
        return results

    return call


def _gaussian(sigma: float) -> np.ndarray:
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    return np.outer(taps, taps).astype(np.float32) / np.float32(taps.sum() ** 2)


def step_seconds(net: str, batch: int, repeats: int = 2) -> float:
    """The shortest of a few whole training steps with lgnn, in seconds."""
    call = noise.Training(noise.pictures(batch), net=net, variant="constant")
    return min(interleaved({net: call}, repeats)[net])
