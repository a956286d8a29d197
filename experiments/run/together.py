"""The program of several runs at once: they differ in the seed and in how far the neighbourhood reaches.

A small network leaves an accelerator idle between its operations; several side by side fill it. What differs is
data of the program: seeds, the order of examples, and sigma, which is 0 for a baseline.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import nets
from experiments.config import Run
from experiments.nets.fast_cpu import mapped
from experiments.optimizers import AFTER
from experiments.run.step import (
    Images,
    Keys,
    PlacedData,
    Totals,
    TrainState,
    classified,
    initial_variables,
    keys,
    make_step,
    order,
)
from lgnn_jax import LGNNState, Window, lgnn

_EVALUATED = 500  # Test images at once.


def family(config: Run) -> Run:
    """What a run shares with those that one program can make beside it.

    Raises:
      ValueError: If a sigma is not all that there is to its method.
    """
    if not config.method.sigma_alone:
        raise ValueError(f"Runs of {config.method.name!r} cannot be made together; leave --together out.")
    return config.having(seed=0, variant="constant", sigma=0.5)


class Together:
    """The program of several runs of a :func:`family`, as many on every device.

    Args:
      configs: The runs; they differ in seed, variant and sigma alone.
      placed: Their data, on devices of this process.
      at_once: Steps that are handed to the device together. Accelerators then need not wait for the host; on a
        CPU, convolutions within a loop lose their threads.

    Raises:
      ValueError: If the runs are of several families, or do not divide over the devices.
    """

    def __init__(self, configs: Sequence[Run], placed: PlacedData, at_once: int | None = None):
        if len({family(config) for config in configs}) != 1:
            raise ValueError("Runs that are made together differ in seed, variant and sigma alone.")
        if len(configs) % len(placed.devices):
            raise ValueError(
                f"{len(configs)} runs do not divide over {len(placed.devices)} devices; give as many runs to every "
                "device."
            )
        self.configs, self.placed = tuple(configs), placed
        self.steps = placed.train_examples // configs[0].recipe.batch
        self._at_once = at_once or (1 if jax.default_backend() == "cpu" else self.steps)
        first = self._first = family(configs[0])
        self._module = nets.build(first.net.name, placed.classes, first.net.width, dtype=first.net.dtype)
        self._advance = jax.jit(self._steps, donate_argnums=0)
        self._evaluate = jax.jit(self._tested)

    def of(self, configs: Sequence[Run]) -> Self:
        """The same compiled program for as many other runs of the family."""
        found = copy.copy(self)
        found.configs = tuple(configs)
        return found

    def start(self, begun: Mapping[str, Any] | None = None) -> tuple[TrainState, Keys]:
        """The runs' states and keys, each leaf with a leading axis of runs.

        ``begun`` are the first variables of all of them where they are not drawn.
        """
        drawn, states = [keys(config.seed) for config in self.configs], []
        for key in drawn:
            variables = begun or initial_variables(self._module, key.init)
            states.append(
                TrainState.new(variables["params"], variables["batch_stats"], self._optimizer(0.0))
            )
        return self._stacked(states), self._stacked(drawn)

    def apart(self, states: TrainState) -> list[TrainState]:
        """Every run's state as NumPy arrays, as the run alone has it."""
        found = []
        host = jax.device_get(states)
        for index, config in enumerate(self.configs):
            state = jax.tree.map(lambda leaf, index=index: np.asarray(leaf[index]), host)
            alone = jax.eval_shape(config.optimizer(self.steps).init, state.params)
            # A baseline of its own smooths nothing, and has no state for it.
            smoothing = (
                state.opt_state[self._place] if jax.tree.leaves(alone[self._place]) else alone[self._place]
            )
            found.append(self._with(state, smoothing))
        return found

    def joined(self, states: Sequence[TrainState]) -> TrainState:
        """The program's states, from those that :meth:`apart` gives."""
        return self._stacked([self._with(state, LGNNState(np.int32(state.step))) for state in states])

    @property
    def _place(self) -> int:
        """Of the smoothing in the optimizer's chain."""
        return int(self._first.method.smooth == AFTER)

    def _with(self, state: TrainState, smoothing: Any) -> TrainState:
        parts = list(state.opt_state)
        parts[self._place] = smoothing
        return state._replace(opt_state=tuple(parts))

    def _stacked(self, trees: Sequence[Any]) -> Any:
        return self.placed.spread(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees))

    def epoch(
        self, states: TrainState, drawn: Keys, epoch: int, done: int = 0
    ) -> Iterator[tuple[int, TrainState]]:
        """The epoch's steps done and the states then, part by part, of which each uses up the one before.

        Args:
          states: After ``done`` of the epoch's steps.
          drawn: The runs' keys.
          epoch: From 0.
          done: Steps of it that are done.
        """
        batches = np.stack(
            [
                order(config.seed, epoch, self.placed.train_examples, config.recipe.batch)
                for config in self.configs
            ],
            axis=1,
        )
        sigmas = np.array([self._sigma(config, epoch) for config in self.configs], np.float32)
        if not done:
            # Placed as they come out of the program, for which it would else be compiled once more.
            states = states._replace(totals=self._stacked([Totals.zero()] * len(self.configs)))
        for start in range(done, self.steps, self._at_once):
            part = batches[start : start + self._at_once]
            states = self._advance(states, self.placed.train, drawn, part, sigmas)
            yield start + len(part), states

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
        if len(self.configs) > len(self.placed.devices):
            return self.placed.over_devices(mapped(jax.vmap(function, in_axes=axes)), axes)

        def alone(*arguments: Any) -> Any:
            chosen = [
                argument if axis is None else jax.tree.map(lambda leaf: leaf[0], argument)
                for argument, axis in zip(arguments, axes, strict=True)
            ]
            return jax.tree.map(lambda leaf: leaf[None], function(*chosen))

        return self.placed.over_devices(alone, axes)

    def _steps(
        self, states: TrainState, data: Images, drawn: Keys, batches: jax.Array, sigmas: jax.Array
    ) -> TrainState:
        """Steps ``(steps, runs, batch)`` in turn."""
        padding = nets.NETS[self._first.net.name].padding

        def step(state, data, drawn, examples, sigma):
            tx = self._optimizer(sigma)
            made = make_step(self._module, tx, padding=padding, flip=self._first.recipe.flip, axis=None)
            return made(state, data, drawn, examples)

        each = self._each(step, (0, None, 0, 0, 0))
        if len(batches) == 1:
            return each(states, data, drawn, batches[0], sigmas)
        return jax.lax.scan(
            lambda states, part: (each(states, data, drawn, part, sigmas), None), states, batches
        )[0]

    def _tested(self, params: Any, batch_stats: Any, data: Images, batches: jax.Array) -> Any:
        each = self._each(functools.partial(classified, self._module), (0, 0, None, None))
        return jax.lax.map(lambda examples: each(params, batch_stats, data, examples), batches)
