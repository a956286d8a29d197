"""Making one run: trains, evaluates, writes its log, its checkpoints, its weights and its summary."""

from __future__ import annotations

import dataclasses
import pathlib
import signal

import jax

from experiments.config import Run
from experiments.errors import Stopped
from experiments.machine import hosts, origin
from experiments.machine.files import write_json
from experiments.machine.process import StopSignals
from experiments.run import checkpoint, results
from experiments.run.checkpoint import Checkpoints
from experiments.run.claim import claim
from experiments.run.log import Log
from experiments.run.progress import Reporter
from experiments.run.running import Running
from experiments.run.step import Trainer
from experiments.run.summary import summarise
from experiments.run.weights import save_weights

CHECKPOINT_SECONDS = 60.0


def run(
    trainer: Trainer,
    seed: int,
    out: pathlib.Path,
    report: Reporter,
    *,
    every: float = CHECKPOINT_SECONDS,
    wait: bool = True,
) -> pathlib.Path:
    """Makes the trainer's run with ``seed`` in a folder of its own under ``out``, and returns that folder.

    A run that is finished is left as it is, one that was interrupted goes on from its last checkpoint, and one
    that another process makes is waited for.

    The folder holds ``config.json``, ``metrics.jsonl`` with a line an epoch, TensorBoard's events of the same,
    ``checkpoints`` as long as the run is not finished, the final ``weights`` (Orbax) and, when all is done,
    ``summary.json``. Of several hosts the first one alone writes.

    Args:
      trainer: Its programs.
      seed: Initialisation, order, augmentation, dropout.
      out: Folder of all runs.
      report: Shows how far it is.
      every: Seconds of work that an interruption may cost.
      wait: Whether to wait for another process that makes this run.

    Raises:
      FailedRun: If the loss is not finite or the disk is full. What is on disk stays.
      Stopped: If a signal asks for it; the state is on disk.
      Taken: If another process makes it and ``wait`` is False.
      click.UsageError: If the folder is of another run.
      ValueError: If a class has too few test images for the summary.
    """
    config = dataclasses.replace(trainer.config, seed=seed)
    folder = out / config.name
    if not _finished(folder, config):
        with claim(folder, wait=wait, say=report.say):
            if not _finished(folder, config):  # Somebody else may have finished it meanwhile.
                _make(trainer, config, folder, report, every)
                return folder
    report.skip(config.name, config.recipe.epochs * trainer.steps_per_epoch)
    return folder


def _finished(folder: pathlib.Path, config: Run) -> bool:
    """Whether a run needs no work, as the first host sees it."""
    if hosts.first():
        results.check_folder(folder, config)
    return bool(hosts.agreed(hosts.first() and (folder / results.SUMMARY).exists()))


def _make(trainer: Trainer, config: Run, folder: pathlib.Path, report: Reporter, every: float) -> None:
    """Makes a run, or what is left of it, in a folder that is held."""
    trainer.placed.check_tested()
    report.begin(config.name, f"{config.method.name} s{config.seed}")
    if hosts.first():
        origin.sign(folder)
        write_json(folder / results.CONFIG, config.flat())
    # Where there are several hosts, JAX takes SIGTERM itself, so that they stop after the same step.
    numbers = () if hosts.several() else (signal.SIGINT, signal.SIGTERM)
    with Checkpoints(folder, config, every, report.say) as checkpoints, StopSignals(*numbers) as signals:
        running = Running(trainer, config, checkpoints, signals, report)
        with Log(folder, running.epochs_logged) as log:
            for epoch in range(running.epochs_logged, config.recipe.epochs):
                line, correct = running.epoch(epoch)
                log.write(line)
        seconds = running.seconds()
        params, batch_stats = jax.device_get((running.state.params, running.state.batch_stats))
        if hosts.first():
            variables = {"params": params, "batch_stats": batch_stats}
            save_weights(folder, variables)
            summary = summarise(config, variables, trainer.placed, correct, line, seconds)
            write_json(folder / results.SUMMARY, summary)
    if hosts.first():
        checkpoint.remove(folder)
    report.end(line["test_accuracy"], seconds)
    if signals.received:
        raise Stopped(f"stopped after {config.name} was finished", signals.received)
