"""Making several runs as one program: checkpoints, logs, weights and summaries are those of each alone."""

from __future__ import annotations

import contextlib
import math
import pathlib
import signal
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.errors import FailedRun, Stopped, Taken
from experiments.machine import origin
from experiments.machine.files import write_json
from experiments.machine.process import StopSignals
from experiments.run import checkpoint, results
from experiments.run.checkpoint import Checkpoints
from experiments.run.claim import claim
from experiments.run.log import Log, epoch_line
from experiments.run.make import CHECKPOINT_SECONDS
from experiments.run.progress import Reporter
from experiments.run.summary import summarise
from experiments.run.together import Together
from experiments.run.weights import save_weights


def run_together(
    program: Together,
    out: pathlib.Path,
    report: Reporter,
    *,
    every: float = CHECKPOINT_SECONDS,
) -> list[pathlib.Path]:
    """Makes the program's runs in folders of their own under ``out``, as :func:`experiments.run.make.run` does.

    A checkpoint is that of a run alone, with which both go on. It is written between the parts of an epoch that
    the program makes at once: on a CPU steps, on an accelerator epochs. Runs of unequal checkpoints go on from the
    newest step that all have. One whose loss is not finite has no summary; the others go on.

    Args:
      program: The runs.
      out: Folder of all runs.
      report: Shows how far they are.
      every: Seconds of work that an interruption may cost.

    Returns:
      The folders of those that are finished.

    Raises:
      ValueError: If one of them is finished, or a class has too few test images for their summaries; nothing is
        touched then.
      FailedRun: At the end, if the loss of one was not finite, or if the disk is full.
      Stopped: If a signal asks for it; the states are on disk.
      Taken: If another process makes one of them.
      click.UsageError: If a folder is of another run.
    """
    program.placed.check_tested()
    folders = [out / config.name for config in program.configs]
    for config, folder in zip(program.configs, folders, strict=True):
        results.check_folder(folder, config)
        if (folder / results.SUMMARY).exists():
            raise ValueError(f"{config.name} is finished in {str(out)!r}; leave it out.")
    with contextlib.ExitStack() as opened:
        for config, folder in zip(program.configs, folders, strict=True):
            opened.enter_context(claim(folder, wait=False, say=report.say))
            if (folder / results.SUMMARY).exists():
                raise Taken(f"another process has finished {config.name}")
        for config, folder in zip(program.configs, folders, strict=True):
            origin.sign(folder)
            write_json(folder / results.CONFIG, config.flat())
        signals = opened.enter_context(StopSignals(signal.SIGINT, signal.SIGTERM))
        saved = [
            opened.enter_context(Checkpoints(folder, config, every, report.say))
            for config, folder in zip(program.configs, folders, strict=True)
        ]
        names = sorted({config.method.name for config in program.configs})
        report.begin(f"{len(folders)} runs", f"{len(folders)} x {'/'.join(names)}", runs=len(folders))
        making = _Making(program, saved, signals, report)
        logs = [opened.enter_context(Log(folder, making.epochs_logged)) for folder in folders]
        for epoch in range(making.epochs_logged, program.configs[0].recipe.epochs):
            for log, line in zip(logs, making.epoch(epoch), strict=True):
                log.write(line)
        failed = making.write(folders)
    made = [folder for folder in folders if (folder / results.SUMMARY).exists()]
    for folder in made:
        checkpoint.remove(folder)
    if signals.received:
        raise Stopped(f"stopped after {len(made)} runs were finished", signals.received)
    if failed:
        raise FailedRun(" ".join(failed))
    return made


class _Making:
    """Runs on their way, from their start or from the newest step of which all have a checkpoint."""

    def __init__(
        self, program: Together, saved: Sequence[Checkpoints], signals: StopSignals, report: Reporter
    ):
        self._program, self._saved, self._signals, self._report = program, saved, signals, report
        self._started, self._earlier = time.monotonic(), 0.0
        self._states, self._drawn = program.start()
        self._done, self._untimed, self._test_seconds = 0, True, math.inf
        self._lines: list[dict[str, Any]] = []
        self._correct = np.zeros((0, 0), bool)
        self._resume()

    def _resume(self) -> None:
        like, until = self._program.apart(self._states), None
        while True:
            found = [one.newest(state, until) for one, state in zip(self._saved, like, strict=True)]
            steps = {0 if one is None else int(one.state.step) for one in found}
            if len(steps) == 1:
                break
            until = min(steps)
        self._done = steps.pop()
        if not self._done:
            return
        self._states = self._program.joined([one.state for one in found])
        self._earlier = max(one.seconds for one in found)
        runs = len(self._saved)
        self._report.resume(
            f"{runs} runs", runs * self._done, runs * self._program.configs[0].recipe.epochs * self._steps
        )

    @property
    def _steps(self) -> int:
        return self._program.steps

    @property
    def epochs_logged(self) -> int:
        """How many lines of the logs there are to keep; one that may be missing is written anew."""
        return max(self._done - 1, 0) // self._steps

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started

    def epoch(self, epoch: int) -> list[dict[str, Any]]:
        """Makes an epoch, or what is left of it; a line of the log for every run."""
        configs, first = self._program.configs, epoch * self._steps
        batch, begun = configs[0].recipe.batch, self._done
        started, rate = time.monotonic(), None
        for done, states in self._program.epoch(self._states, self._drawn, epoch, self._done - first):
            self._states = jax.block_until_ready(states)
            steps, self._done = first + done - self._done, first + done
            if self._untimed:
                self._report.compiled()
                self._untimed, started, begun = False, time.monotonic(), self._done
            else:
                rate = (self._done - begun) * batch / (time.monotonic() - started)
            totals = jax.device_get(self._states.totals)
            seen = np.maximum(totals.examples, 1)
            self._report.advance(
                steps * len(configs),
                f"{epoch + 1}/{configs[0].recipe.epochs}",
                float(np.mean(totals.loss / seen)),
                float(np.mean(totals.correct / seen)),
                (rate or 0.0) * len(configs),
            )
            self._save_if_due(last=done == self._steps)
        started = time.monotonic()
        self._correct, losses = self._program.evaluate(self._states)
        self._test_seconds = time.monotonic() - started
        totals = jax.device_get(self._states.totals)
        self._lines = [
            epoch_line(
                config,
                epoch,
                self._steps,
                jax.tree.map(lambda leaf, index=index: leaf[index], totals),
                (self._correct[index], float(losses[index])),
                rate,
            )
            for index, config in enumerate(configs)
        ]
        return self._lines

    def _save_if_due(self, last: bool) -> None:
        received = self._signals.received
        due = [one.due(ahead=self._test_seconds if last else 0.0) for one in self._saved]
        if not any(due) and received is None:
            return
        for one, state in zip(self._saved, self._program.apart(self._states), strict=True):
            one.save(self._done, state, self._seconds())
        if received is None:
            return
        for one in self._saved:
            one.finish()
        raise Stopped(
            f"{len(self._saved)} runs: stopped by {received.name}, the states of step {self._done} are saved; "
            "the same command goes on from there",
            received,
        )

    def write(self, folders: Sequence[pathlib.Path]) -> list[str]:
        """Writes weights and summaries; what failed, and why."""
        seconds, failed = self._seconds(), []
        states = self._program.apart(self._states)
        for index, (config, folder) in enumerate(zip(self._program.configs, folders, strict=True)):
            if not np.isfinite(self._lines[index]["train_loss"]):
                failed.append(
                    f"{config.name}: the loss is not finite. Try a smaller learning rate or weight decay."
                )
                continue
            variables = {"params": states[index].params, "batch_stats": states[index].batch_stats}
            save_weights(folder, variables)
            summary = summarise(
                config, variables, self._program.placed, self._correct[index], self._lines[index], seconds
            )
            write_json(folder / results.SUMMARY, summary | {"together": len(folders)})
            self._report.end(self._lines[index]["test_accuracy"], seconds, name=config.name)
        return failed
