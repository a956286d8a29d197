"""One run as a group of one: a trainer's steps over all devices of all processes, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.config import Run
from experiments.machine import hosts
from experiments.run.step import Keys, Totals, Trainer, TrainState, order


class Alone:
    """A trainer's run, with the methods of :class:`experiments.run.together.Together`; no leaf has an axis of runs.

    Args:
      trainer: Its programs.
      config: The run, which may differ from the trainer's in its seed.
    """

    def __init__(self, trainer: Trainer, config: Run):
        self._trainer, self.configs, self.placed = trainer, (config,), trainer.placed
        self.steps = trainer.steps_per_epoch

    def start(self, begun: Mapping[str, Any] | None = None) -> tuple[TrainState, Keys]:
        """The run's state and keys; ``begun`` are its first variables where they are not drawn."""
        return self._trainer.start(self.configs[0].seed, begun)

    def apart(self, state: TrainState) -> list[TrainState]:
        """The state as NumPy arrays."""
        return [jax.device_get(state)]

    def joined(self, states: Sequence[TrainState]) -> TrainState:
        """The state that :meth:`apart` gives on the first host, on every device."""
        (state,) = states
        return self.placed.replicate(hosts.shared(state))

    def epoch(
        self, state: TrainState, drawn: Keys, epoch: int, done: int = 0
    ) -> Iterator[tuple[int, TrainState]]:
        """The epoch's steps done and the state then, step by step, each of which uses up the one before."""
        (config,) = self.configs
        if not done:
            state = self._between(state, epoch) if epoch or config.recipe.start else state
            state = state._replace(totals=self.placed.replicate(Totals.zero()))
        batches = order(config.seed, epoch, self.placed.train_examples, config.recipe.batch)
        for step, examples in enumerate(batches[done:], done + 1):
            state = self._trainer.step(state, drawn, examples)
            yield step, state

    def _between(self, state: TrainState, epoch: int) -> TrainState:
        """The state with which an epoch begins."""
        (config,) = self.configs
        changed = config.method.between(config, state, epoch, self.placed.train)
        if changed is state:
            return state
        return self.placed.replicate(hosts.shared(jax.device_get(changed)) if hosts.several() else changed)

    def evaluate(self, state: TrainState) -> tuple[np.ndarray, np.ndarray]:
        """What the run classifies correctly, bool ``(1, test)``, and its mean loss, ``(1,)``."""
        correct, loss = self._trainer.evaluate(state)
        return correct[None], np.array([loss])
