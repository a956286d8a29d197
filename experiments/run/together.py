"""Several runs at once, as one program: they differ in the seed and in how far the neighbourhood reaches.

A small network leaves an accelerator idle between its operations; several side by side fill it. What differs is
data of the program: seeds, the order of examples, and sigma, which is 0 for a baseline.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import nets
from experiments.config import Run
from experiments.machine import origin
from experiments.machine.files import write_json
from experiments.methods import Baseline, Constant, Decreasing
from experiments.nets.fast_cpu import mapped
from experiments.run import results
from experiments.run.claim import claim
from experiments.run.log import Log, epoch_line
from experiments.run.step import (
    Images,
    Keys,
    PlacedData,
    Totals,
    TrainState,
    initial_variables,
    keys,
    make_step,
    order,
)
from experiments.run.summary import summarise
from experiments.run.weights import save_weights
from lgnn_jax import Window, lgnn

_OF_SIGMA_ALONE = (Baseline, Constant, Decreasing)
_EVALUATED = 500  # Test images at once.


def family(config: Run) -> Run:
    """What a run shares with those that one program can make beside it.

    Raises:
      ValueError: If its method is none whose sigma is all that there is to it.
    """
    if type(config.method) not in _OF_SIGMA_ALONE:
        raise ValueError(f"Runs of {config.method.name!r} cannot be made together; leave --together out.")
    return config.having(seed=0, variant="constant", sigma=0.5)


class Together:
    """The program of several runs of a :func:`family`, on one device.

    Args:
      configs: The runs; they differ in seed, variant and sigma alone.
      placed: Their data.
      at_once: Steps that are handed to the device together. Accelerators then need not wait for the host; on a
        CPU, convolutions within a loop lose their threads.

    Raises:
      ValueError: If the runs are of several families, or there are several devices.
    """

    def __init__(self, configs: Sequence[Run], placed: PlacedData, at_once: int | None = None):
        if len({family(config) for config in configs}) != 1:
            raise ValueError("Runs that are made together differ in seed, variant and sigma alone.")
        if len(placed.devices) != 1:
            raise ValueError(f"Runs are made together on one device; there are {len(placed.devices)}.")
        self.configs, self.placed = tuple(configs), placed
        self.steps = placed.train_examples // configs[0].recipe.batch
        self._at_once = at_once or (1 if jax.default_backend() == "cpu" else self.steps)
        first = self._first = family(configs[0])
        self._module = nets.build(first.net.name, placed.classes, first.net.width, dtype=first.net.dtype)
        self._advance = jax.jit(self._steps, donate_argnums=0)
        self._evaluate = jax.jit(self._tested)

    def start(self) -> tuple[TrainState, Keys]:
        """The runs' states and keys, each leaf with a leading axis of runs."""
        states, drawn = [], []
        for config in self.configs:
            own = keys(config.seed)
            variables = initial_variables(self._module, own.init)
            params, tx = variables["params"], self._optimizer(0.0)
            states.append(
                TrainState(
                    jnp.zeros((), jnp.int32),
                    params,
                    variables["batch_stats"],
                    tx.init(params),
                    Totals.zero(),
                )
            )
            drawn.append(own)
        stacked = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (states, drawn))
        return self.placed.replicate(tuple(stacked))

    def epoch(self, states: TrainState, drawn: Keys, epoch: int) -> TrainState:
        """The states after another epoch; ``states`` are used up."""
        batches = np.stack(
            [
                order(config.seed, epoch, self.placed.train_examples, config.recipe.batch)
                for config in self.configs
            ],
            axis=1,
        )
        sigmas = np.array([self._sigma(config, epoch) for config in self.configs], np.float32)
        zero = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(self.configs),)), Totals.zero())
        # As it comes out of the program, for which it would else be compiled once more.
        states = states._replace(totals=self.placed.replicate(zero))
        for start in range(0, self.steps, self._at_once):
            part = batches[start : start + self._at_once]
            states = self._advance(states, self.placed.train, drawn, part, sigmas)
        return states

    def evaluate(self, states: TrainState) -> tuple[np.ndarray, np.ndarray]:
        """What every run classifies correctly, bool ``(runs, test)``, and its mean loss, ``(runs,)``."""
        count = self.placed.test_examples
        batches = -(-count // _EVALUATED)
        examples = np.minimum(np.arange(batches * _EVALUATED), count - 1).reshape(batches, -1)
        found = self._evaluate(
            states.params, states.batch_stats, self.placed.test, examples.astype(np.int32)
        )
        correct, losses = (
            np.moveaxis(np.asarray(part), 1, 0).reshape(len(self.configs), -1) for part in found
        )
        return correct[:, :count], losses[:, :count].mean(axis=1)

    def _sigma(self, config: Run, epoch: int) -> float:
        return config.method.logged(config, epoch * self.steps, self.steps)["sigma"]

    def _optimizer(self, sigma: Any) -> optax.GradientTransformation:
        method = self._first.method
        smoothing = lgnn(sigma, layout=method.layout(self._first), window=Window(method.window))
        return optax.chain(*self._first.recipe.descent(smoothing, self.steps, method.smooth))

    def _each(self, function: Any, axes: Any) -> Any:
        """``function`` for every run; a single one is not mapped, so that its program is that of a run alone."""
        if len(self.configs) > 1:
            return mapped(jax.vmap(function, in_axes=axes))

        def alone(*arguments: Any) -> Any:
            chosen = [
                argument if axis is None else jax.tree.map(lambda leaf: leaf[0], argument)
                for argument, axis in zip(arguments, axes, strict=True)
            ]
            return jax.tree.map(lambda leaf: leaf[None], function(*chosen))

        return alone

    def _steps(
        self, states: TrainState, data: Images, drawn: Keys, batches: jax.Array, sigmas: jax.Array
    ) -> TrainState:
        """Steps ``(steps, runs, batch)`` in turn."""
        padding = nets.NETS[self._first.net.name].padding

        def step(state, drawn, examples, sigma):
            tx = self._optimizer(sigma)
            made = make_step(self._module, tx, padding=padding, flip=self._first.recipe.flip, axis=None)
            return made(state, data, drawn, examples)

        each = self._each(step, (0, 0, 0, 0))
        if len(batches) == 1:
            return each(states, drawn, batches[0], sigmas)
        return jax.lax.scan(
            lambda states, part: (each(states, drawn, part, sigmas), None), states, batches
        )[0]

    def _tested(self, params: Any, batch_stats: Any, data: Images, batches: jax.Array) -> Any:
        def test(params, batch_stats, examples):
            variables = {"params": params, "batch_stats": batch_stats}
            logits = self._module.apply(variables, data.normalised(examples), train=False)
            labels = data.labels[examples]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return logits.argmax(-1) == labels, losses

        each = self._each(test, (0, 0, None))
        return jax.lax.map(lambda examples: each(params, batch_stats, examples), batches)


def run_together(program: Together, out: pathlib.Path, say: Callable[[str], object]) -> list[pathlib.Path]:
    """Makes the program's runs in folders of their own under ``out``, as :func:`experiments.run.make.run` does.

    They are not checkpointed. One whose loss is not finite has no summary; the others go on.

    Raises:
      ValueError: If one of them is finished, or a class has too few test images for their summaries; nothing is
        touched then.
      Taken: If another process makes one of them.
      click.UsageError: If a folder is of another run.

    Args:
      program: The runs.
      out: Folder of all runs.
      say: What to do with a line of text.

    Returns:
      The folders of those that are finished.
    """
    started = time.monotonic()
    program.placed.check_tested()
    folders = [out / config.name for config in program.configs]
    for config, folder in zip(program.configs, folders, strict=True):
        results.check_folder(folder, config)
        if (folder / results.SUMMARY).exists():
            raise ValueError(f"{config.name} is finished in {str(out)!r}; leave it out.")
    states, drawn = program.start()
    lines, correct = [], None
    with contextlib.ExitStack() as opened:
        for config, folder in zip(program.configs, folders, strict=True):
            opened.enter_context(claim(folder, wait=False, say=say))
            origin.sign(folder)
            write_json(folder / results.CONFIG, config.flat())
        logs = [opened.enter_context(Log(folder, 0)) for folder in folders]
        for epoch in range(program.configs[0].recipe.epochs):
            begun = time.monotonic()
            states = jax.block_until_ready(program.epoch(states, drawn, epoch))
            rate = program.steps * program.configs[0].recipe.batch / (time.monotonic() - begun)
            totals = jax.device_get(states.totals)
            correct, losses = program.evaluate(states)
            lines = [
                epoch_line(
                    config,
                    epoch,
                    program.steps,
                    jax.tree.map(functools.partial(_of, index), totals),
                    (correct[index], float(losses[index])),
                    rate,
                )
                for index, config in enumerate(program.configs)
            ]
            for log, line in zip(logs, lines, strict=True):
                log.write(line)
            if epoch < 2 or (epoch + 1) % 10 == 0:
                shown = ", ".join(f"{line['test_accuracy']:.2%}" for line in lines)
                say(
                    f"epoch {epoch + 1}: {time.monotonic() - started:.0f} s, {rate:.0f} images/s each; test {shown}"
                )
    seconds = time.monotonic() - started
    made = []
    for index, (config, folder) in enumerate(zip(program.configs, folders, strict=True)):
        if not np.isfinite(lines[index]["train_loss"]):
            say(f"{config.name}: the loss is not finite")
            continue
        params, batch_stats = jax.device_get(
            jax.tree.map(functools.partial(_of, index), (states.params, states.batch_stats))
        )
        variables = {"params": params, "batch_stats": batch_stats}
        save_weights(folder, variables)
        summary = summarise(config, variables, program.placed, correct[index], lines[index], seconds)
        write_json(folder / results.SUMMARY, summary | {"together": len(folders)})
        made.append(folder)
    return made


def _of(index: int, leaf: jax.Array) -> jax.Array:
    return leaf[index]
