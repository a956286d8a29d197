"""A run on its way: steps, evaluations and checkpoints, and what may interrupt them."""

from __future__ import annotations

import math
import signal
import time
from typing import Any

import jax
import numpy as np

from experiments.config import Run
from experiments.errors import FailedRun, Stopped
from experiments.machine import hosts
from experiments.machine.process import StopSignals
from experiments.run.checkpoint import Checkpoints
from experiments.run.log import epoch_line
from experiments.run.progress import Reporter
from experiments.run.step import Totals, Trainer, TrainState, order

_BETWEEN_READINGS = 0.25  # Seconds between readings of loss and accuracy from the device.


class Running:
    """A run on its way, from its start or from its newest checkpoint."""

    def __init__(
        self,
        trainer: Trainer,
        config: Run,
        checkpoints: Checkpoints,
        signals: StopSignals,
        report: Reporter,
    ):
        self._trainer, self._config, self._checkpoints = trainer, config, checkpoints
        self._signals, self._report = signals, report
        self._started = time.monotonic()
        self._earlier = 0.0  # Seconds of the processes before this one.
        self.state, self._keys = trainer.start(config.seed)
        self._done, self._untimed = 0, True
        self._test_seconds = math.inf  # Of the last test; the first one is compiled too.
        self._resume()

    def _resume(self) -> None:
        like = jax.device_get(self.state)
        saved = self._checkpoints.newest(like)
        self._done = hosts.agreed(0 if saved is None else int(saved.state.step))
        if not self._done:
            return
        self.state = self._trainer.placed.replicate(hosts.shared(like if saved is None else saved.state))
        self._earlier = 0.0 if saved is None else saved.seconds
        self._report.resume(self._config.name, self._done, self._config.recipe.epochs * self._steps)

    @property
    def _steps(self) -> int:
        return self._trainer.steps_per_epoch

    @property
    def epochs_logged(self) -> int:
        """How many lines of the log there are to keep; one that may be missing is written anew."""
        return max(self._done - 1, 0) // self._steps

    def seconds(self) -> float:
        """What the run has taken until now, interruptions not counted."""
        return self._earlier + time.monotonic() - self._started

    def epoch(self, epoch: int) -> tuple[dict[str, Any], np.ndarray]:
        """Makes an epoch, or what is left of it; its line of the log, and which test pictures are then right."""
        totals, rate = self._train(epoch)
        started = time.monotonic()
        correct, test_loss = self._trainer.evaluate(self.state)
        self._test_seconds = time.monotonic() - started
        return epoch_line(self._config, epoch, self._steps, totals, (correct, test_loss), rate), correct

    def _train(self, epoch: int) -> tuple[Totals, float | None]:
        """The totals of an epoch after its last step, and images a second if this process made any."""
        config, placed, first = self._config, self._trainer.placed, epoch * self._steps
        batches = order(config.seed, epoch, placed.train_examples, config.recipe.batch)
        if self._done == first:
            if epoch:
                self.state = self._between(epoch)
            self.state = self.state._replace(totals=placed.replicate(Totals.zero()))
        clock = _Clock(config.recipe.batch)
        for examples in batches[self._done - first :]:
            self.state = self._trainer.step(self.state, self._keys, examples)
            self._done += 1
            if self._untimed and self._done < first + self._steps:
                jax.block_until_ready(self.state)
                self._report.compiled()
                clock = _Clock(config.recipe.batch, unread=1)
            else:
                clock.step()
            self._untimed = False
            last = self._done == first + self._steps
            due = self._checkpoints.due(ahead=self._test_seconds if last else 0.0)
            if due or last or clock.since_reading() > _BETWEEN_READINGS:
                finite = self._read(epoch, clock, last)
                if due and finite:
                    self._checkpoints.save(self._done, self.state, self.seconds())
            self._stop_if_asked()
        return jax.device_get(self.state.totals), clock.rate

    def _between(self, epoch: int) -> TrainState:
        """The state with which an epoch begins."""
        placed = self._trainer.placed
        state = self._config.method.between(self._config, self.state, epoch, placed.train)
        if state is self.state:
            return state
        return placed.replicate(hosts.shared(jax.device_get(state)) if hosts.several() else state)

    def _read(self, epoch: int, clock: _Clock, last: bool) -> bool:
        """Reads loss and accuracy from the device, shows them, and says whether the loss is finite.

        One that is not ends the run; where there are several hosts after the epoch, when all know it.
        """
        totals = jax.device_get(self.state.totals)
        finite = totals.first_bad_step == np.iinfo(np.int32).max
        if not finite and (last or not hosts.several()):
            raise FailedRun(
                f"{self._config.name}: the loss is not finite at step {int(totals.first_bad_step)} (epoch "
                f"{epoch + 1}). Try a smaller learning rate or weight decay."
            )
        seen, steps = int(totals.examples), clock.read()
        self._report.advance(
            steps,
            f"{epoch + 1}/{self._config.recipe.epochs}",
            float(totals.loss) / seen,
            int(totals.correct) / seen,
            clock.rate or 0.0,
        )
        return finite

    def _stop_if_asked(self) -> None:
        received = self._signals.received
        if hosts.asked_to_stop():
            received = signal.SIGTERM
        if received is None:
            return
        self._checkpoints.save(self._done, self.state, self.seconds())
        self._checkpoints.finish()
        raise Stopped(
            f"{self._config.name}: stopped by {received.name}, the state of step {self._done} is saved; the same "
            "command goes on from there",
            received,
        )


class _Clock:
    """Steps and images a second within an epoch."""

    def __init__(self, batch: int, unread: int = 0):
        self._batch, self._steps, self._unread = batch, 0, unread
        self._started = self._last = time.monotonic()
        self.rate: float | None = None

    def step(self) -> None:
        """Counts a step."""
        self._steps += 1
        self._unread += 1

    def since_reading(self) -> float:
        """Seconds since the last reading."""
        return time.monotonic() - self._last

    def read(self) -> int:
        """Notes a reading of the device, and returns the steps since the last one."""
        self._last = time.monotonic()
        if self._steps:
            self.rate = self._steps * self._batch / (self._last - self._started)
        unread, self._unread = self._unread, 0
        return unread
