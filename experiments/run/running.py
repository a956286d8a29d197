"""Runs on their way: steps, evaluations and checkpoints, and what may interrupt them."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.errors import FailedRun, Stopped
from experiments.machine import hosts
from experiments.machine.process import StopSignals
from experiments.run.alone import Alone
from experiments.run.checkpoint import Checkpoints
from experiments.run.log import epoch_line
from experiments.run.progress import Reporter
from experiments.run.step import Totals, TrainState
from experiments.run.together import Together

_BETWEEN_READINGS = 0.25  # Seconds between readings of loss and accuracy from the device.


class Running:
    """Runs of one program on their way, from their start or from the newest step of which all have a checkpoint.

    Attributes:
      states: Of the program, after the steps that are done.
      correct: Which test images each run classified correctly after its last epoch, bool ``(runs, test)``.
      failed: By the run's place, why it has failed; the others go on.
    """

    def __init__(
        self,
        program: Alone | Together,
        checkpoints: Sequence[Checkpoints],
        signals: StopSignals,
        report: Reporter,
        begun: Mapping[str, Any] | None = None,
    ):
        self._program, self._checkpoints = program, checkpoints
        self._signals, self._report = signals, report
        runs = len(program.configs)
        self._name = program.configs[0].name if runs == 1 else f"{runs} runs"
        self._started = time.monotonic()
        self._earlier = 0.0  # Seconds of the processes before this one.
        self.states, self._drawn = program.start(begun)
        self.correct, self.failed = np.zeros((runs, 0), bool), dict[int, str]()
        self._done, self._untimed = 0, True
        self._test_seconds = math.inf  # Of the last test; the first one is compiled too.
        self._resume()

    def _resume(self) -> None:
        like, until = self._program.apart(self.states), None
        while True:
            found = [one.newest(state, until) for one, state in zip(self._checkpoints, like, strict=True)]
            steps = {0 if saved is None else int(saved.state.step) for saved in found}
            if len(steps) == 1:
                break
            until = min(steps)
        self._done = hosts.agreed(steps.pop())
        if not self._done:
            return
        # What another host than the first has not read, it learns.
        states = [state if saved is None else saved.state for saved, state in zip(found, like, strict=True)]
        self.states = self._program.joined(states)
        self._earlier = max(0.0 if saved is None else saved.seconds for saved in found)
        runs, epochs = len(found), self._program.configs[0].recipe.epochs
        self._report.resume(self._name, runs * self._done, runs * epochs * self._steps)

    @property
    def _steps(self) -> int:
        return self._program.steps

    @property
    def epochs_logged(self) -> int:
        """How many lines of the log there are to keep; one that may be missing is written anew."""
        return max(self._done - 1, 0) // self._steps

    def begins(self, epoch: int) -> bool:
        """Whether no step of an epoch is done, and all of those before it."""
        return self._done == epoch * self._steps

    def seconds(self) -> float:
        """What the runs have taken until now, interruptions not counted."""
        return self._earlier + time.monotonic() - self._started

    def states_apart(self) -> list[TrainState]:
        """Every run's state as NumPy arrays."""
        return self._program.apart(self.states)

    def epoch(self, epoch: int) -> list[dict[str, Any]]:
        """Makes an epoch, or what is left of it; a line of the log for every run."""
        rate = self._train(epoch)
        totals = self._read(epoch, over=True)
        started = time.monotonic()
        self.correct, losses = self._program.evaluate(self.states)
        self._test_seconds = time.monotonic() - started
        return [
            epoch_line(
                config,
                epoch,
                self._steps,
                jax.tree.map(lambda leaf, run=run: leaf[run], totals),
                (self.correct[run], float(losses[run])),
                rate,
            )
            for run, config in enumerate(self._program.configs)
        ]

    def _train(self, epoch: int) -> float | None:
        """Makes an epoch's steps; a run's images a second, if this process made any."""
        batch, first = self._program.configs[0].recipe.batch, epoch * self._steps
        clock = _Clock(batch)
        parts = self._program.epoch(self.states, self._drawn, epoch, self._done - first)
        for done, self.states in parts:
            steps, self._done = first + done - self._done, first + done
            last = done == self._steps
            if self._untimed and not (last and steps == 1):
                jax.block_until_ready(self.states)
                self._report.compiled()
                clock = _Clock(batch, unread=steps)
            else:
                clock.step(steps)
            self._untimed = False
            ahead = self._test_seconds if last else 0.0
            due = any([one.due(ahead=ahead) for one in self._checkpoints])
            if due or last or clock.since_reading() > _BETWEEN_READINGS:
                self._show(epoch, clock)
                if due and len(self.failed) < len(self._checkpoints):
                    self._save()
            self._stop_if_asked()
        return clock.rate

    def _read(self, epoch: int, over: bool = False) -> Totals:
        """The totals as they are on the device, with an axis of runs.

        If no run's loss is finite, that ends them; of several hosts when the epoch is ``over`` and all know it.
        """
        totals, configs = (
            jax.tree.map(np.atleast_1d, jax.device_get(self.states.totals)),
            self._program.configs,
        )
        for run in np.flatnonzero(totals.first_bad_step != np.iinfo(np.int32).max):
            reason = f"the loss is not finite at step {totals.first_bad_step[run]} (epoch {epoch + 1})"
            mend = "Try a smaller learning rate or weight decay."
            self.failed.setdefault(int(run), f"{configs[run].name}: {reason}. {mend}")
        if len(self.failed) == len(configs) and (over or not hosts.several()):
            raise FailedRun(" ".join(self.failed.values()))
        return totals

    def _show(self, epoch: int, clock: _Clock) -> None:
        """Shows mean loss and accuracy."""
        totals, config, runs = self._read(epoch), self._program.configs[0], len(self._program.configs)
        self._report.advance(
            clock.read() * runs,
            f"{epoch + 1}/{config.recipe.epochs}",
            float(np.mean(totals.loss / totals.examples)),
            float(np.mean(totals.correct / totals.examples)),
            (clock.rate or 0.0) * runs,
        )

    def _save(self) -> None:
        for one, state in zip(self._checkpoints, self.states_apart(), strict=True):
            one.save(self._done, state, self.seconds())

    def _stop_if_asked(self) -> None:
        received = self._signals.received
        if hosts.asked_to_stop():
            received = signal.SIGTERM
        if received is None:
            return
        self._save()
        for one in self._checkpoints:
            one.finish()
        what = f"the {{}} of step {self._done} {{}} saved".format(
            *(("state", "is") if len(self._checkpoints) == 1 else ("states", "are"))
        )
        raise Stopped(
            f"{self._name}: stopped by {received.name}, {what}; the same command goes on from there",
            received,
        )


class _Clock:
    """Steps and images a second within an epoch."""

    def __init__(self, batch: int, unread: int = 0):
        self._batch, self._steps, self._unread = batch, 0, unread
        self._started = self._last = time.monotonic()
        self.rate: float | None = None

    def step(self, steps: int) -> None:
        """Counts steps."""
        self._steps += steps
        self._unread += steps

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
