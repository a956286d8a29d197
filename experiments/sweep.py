"""Many runs: making them, and what they take: multiply-adds from the networks' shapes, time from a few steps."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
import pathlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp

from experiments import nets
from experiments.config import Run
from experiments.data import Dataset
from experiments.errors import FailedRun, Taken
from experiments.machine import hosts
from experiments.markdown import table
from experiments.run import results
from experiments.run.make import CHECKPOINT_SECONDS, run, run_together
from experiments.run.progress import Reporter, duration
from experiments.run.step import PlacedData, Trainer, order
from experiments.run.together import Together, family

_log = logging.getLogger("experiments")

_ON_ACCELERATORS = 3  # Runs at once: three VGG-11 took 131 s on an H200.
_STEPS, _SECONDS = 10, 10.0  # At most so many steps are timed, and no further one after so long.


def unfinished(runs: Iterable[Run], out: pathlib.Path) -> list[Run]:
    """Those of the runs that are neither finished in ``out`` nor published, as the first host sees it."""
    return [config for config in runs if hosts.agreed(hosts.first() and results.find(config, out) is None)]


def make(
    runs: Sequence[Run],
    data: Dataset,
    out: pathlib.Path,
    done: Callable[[], object],
    *,
    every: float = CHECKPOINT_SECONDS,
    keep: Collection[int] = (),
    together: int | None = None,
) -> None:
    """Makes runs in folders of their own under ``out``, in order, and calls ``done`` after each.

    Runs that another process makes come last: by then it has finished them, or left them.

    Args:
      runs: Alike on every host.
      data: What all are trained on.
      out: Folder of all runs.
      done: Called without arguments.
      every: Seconds of work that an interruption may cost.
      keep: Epochs after which weights are kept too.
      together: At most so many runs are made at once, as one program, where that can be; None for 1 on CPUs and on
        several hosts, and 3 on accelerators.

    Raises:
      FailedRun: At the end, if runs failed; the others are made all the same.
    """
    if not runs:
        return
    programs = _Programs(data)
    if together is None:
        together = 1 if hosts.several() or jax.default_backend() == "cpu" else _ON_ACCELERATORS
    examples = programs.placed.train_examples
    steps = sum(config.recipe.epochs * (examples // config.recipe.batch) for config in runs)
    failed: list[str] = []
    with Reporter(len(runs), steps) as progress:
        taken: list[Run] = []
        for wait, configs in ((False, runs), (True, taken)):
            for group in _groups(configs, out, 1 if wait else together):
                try:
                    if len(group) > 1:
                        run_together(programs.together(group), out, progress, every=every, keep=keep)
                    else:
                        trainer, seed = programs.of(group[0]), group[0].seed
                        run(trainer, seed, out, progress, every=every, keep=keep, wait=wait)
                except Taken:
                    taken.extend(group)
                    continue
                except FailedRun as error:
                    failed.append(str(error))
                    progress.say(f"failed: {error}")
                done()
    if failed:
        raise FailedRun(f"{len(failed)} of {len(runs)} runs failed: {' '.join(failed)}")


def _groups(runs: Sequence[Run], out: pathlib.Path, together: int) -> Iterator[Sequence[Run]]:
    """The runs in groups of at most ``together`` that one program can make, in the order in which they fill up."""
    filling: dict[Run, list[Run]] = {}
    for config in runs:
        if together == 1 or not config.method.sigma_alone or (out / config.name / results.SUMMARY).exists():
            yield [config]
            continue
        group = filling.setdefault(family(config), [])
        group.append(config)
        if len(group) == together:
            yield filling.pop(family(config))
    yield from filling.values()


class _Programs:
    """Compiled programs: those of one net at a time, shared by its seeds."""

    def __init__(self, data: Dataset):
        self._data = data
        self.placed = PlacedData(data)
        self._trainers: dict[str, Trainer] = {}
        self._several: Together | None = None

    def together(self, group: Sequence[Run]) -> Together:
        """The program of several runs, on as many devices as divide them."""
        known = self._several
        if known and (family(known.configs[0]), len(known.configs)) == (family(group[0]), len(group)):
            return known.of(group)
        devices = self.placed.devices
        count = max(n for n in range(1, len(devices) + 1) if len(group) % n == 0)
        placed = self.placed if count == len(devices) else PlacedData(self._data, devices[:count])
        self._several = Together(group, placed)
        return self._several

    def of(self, config: Run) -> Trainer:
        """The programs of a run."""
        if self._trainers and next(iter(self._trainers.values())).config.net.name != config.net.name:
            self._trainers.clear()
        name = dataclasses.replace(config, seed=0).name
        if name not in self._trainers:
            self._trainers[name] = Trainer(config, self.placed)
        return self._trainers[name]


def plan(title: str, groups: Iterable[tuple[str, Sequence[Run]]], data: Dataset, out: pathlib.Path) -> str:
    """Runs as Markdown: how long, how much work, and what is left, timed by a few steps of each net.

    Args:
      title: What they are for.
      groups: Runs that differ in nothing but the seed, with what a table calls them, in the order they are made.
      data: What all are trained on.
      out: Folder of all runs.
    """
    placed, runs_left, count = PlacedData(data), 0, 0
    speed: dict[str, tuple[float, float]] = {}
    rows, work_left, seconds_left, how = [], 0, 0.0, ""
    for label, configs in groups:
        left = unfinished(configs, out)
        work = run_multiply_adds(configs[0], placed)
        net = configs[0].net
        if left and net.name not in speed:
            _log.info(f"timing a few steps of {net.name} ...")
            speed[net.name] = measure(left[0], placed)
        row = [
            net.name,
            label,
            f"{len(configs) - len(left)} of {len(configs)}",
            str(configs[0].recipe.epochs),
        ]
        row += [_short(multiply_adds(net.name, placed.classes, net.width)), _short(work), "-", "-"]
        if left:
            compiling, rate = speed[net.name]
            seconds = compiling + len(left) * work / rate
            row[-2:] = [duration(work / rate), duration(seconds)]
            work_left, seconds_left = work_left + len(left) * work, seconds_left + seconds
        rows.append(row)
        runs_left, count, how = runs_left + len(left), count + len(configs), how or configs[0].how
    header = ["net", "row", "finished", "epochs", "multiply-adds a picture", "of a run", "time of a run"]
    lines = [
        f"### {title} on {data.name}{how}: plan",
        "",
        "Multiply-adds (two FLOPs each) are of convolutions and the dense layer: a picture's forward and backward "
        "pass, and a whole run with its tests after every epoch. Times are of a few steps on this "
        "machine, what is left with compiling.",
        "",
        *table([*header, "time left"], rows),
        "",
        f"{runs_left} of {count} runs left: {_short(work_left)} multiply-adds"
        + (f", about {duration(seconds_left)} on {_here()}" if runs_left else ""),
    ]
    return "\n".join(lines)


def _short(number: float) -> str:
    """A number with a prefix, such as ``457 M``."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g}"


def _here() -> str:
    """The machine that this runs on."""
    device = jax.local_devices()[0]
    return results.hardware(
        device.platform, jax.device_count(), device.device_kind, os.cpu_count(), jax.process_count()
    )


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
      >>> from experiments.sweep import multiply_adds
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
