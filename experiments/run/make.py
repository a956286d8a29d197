"""Making runs: trains, evaluates, writes their logs, checkpoints, weights and summaries."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import signal
from collections.abc import Collection, Sequence
from typing import Any

from experiments.config import Run
from experiments.errors import FailedRun, Stopped, Taken
from experiments.machine import hosts, origin
from experiments.machine.files import write_json
from experiments.machine.process import StopSignals
from experiments.run import checkpoint, results, start
from experiments.run.alone import Alone
from experiments.run.checkpoint import Checkpoints
from experiments.run.claim import claim
from experiments.run.log import Log
from experiments.run.progress import Reporter
from experiments.run.running import Running
from experiments.run.step import Trainer, TrainState
from experiments.run.summary import summarise
from experiments.run.together import Together
from experiments.run.weights import save_weights

CHECKPOINT_SECONDS = 60.0


def run(
    trainer: Trainer,
    seed: int,
    out: pathlib.Path,
    report: Reporter,
    *,
    every: float = CHECKPOINT_SECONDS,
    keep: Collection[int] = (),
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
      keep: Epochs after which its weights are kept too, in ``epochs``; 0 is its start. The last one's are
        ``weights``.
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
                _make(Alone(trainer, config), out, report, every, keep)
                return folder
    report.skip(config.name, config.recipe.epochs * trainer.steps_per_epoch)
    return folder


def run_together(
    program: Together,
    out: pathlib.Path,
    report: Reporter,
    *,
    every: float = CHECKPOINT_SECONDS,
    keep: Collection[int] = (),
) -> list[pathlib.Path]:
    """Makes the program's runs in folders of their own under ``out``, as :func:`run` does.

    A checkpoint is that of a run alone, with which both go on. It is written between the parts of an epoch that
    the program makes at once: on a CPU steps, on an accelerator epochs. Runs of unequal checkpoints go on from the
    newest step that all have. One whose loss is not finite has no summary; the others go on.

    Args:
      program: The runs.
      out: Folder of all runs.
      report: Shows how far they are.
      every: Seconds of work that an interruption may cost.
      keep: Epochs after which their weights are kept too, as by :func:`run`.

    Returns:
      The folders of those that are finished.

    Raises:
      ValueError: If one of them is finished, or a class has too few test images for their summaries; nothing is
        touched then.
      FailedRun: At the end, if the loss of one was not finite; at once, if that of all was, or if the disk is full.
      Stopped: If a signal asks for it; the states are on disk.
      Taken: If another process makes one of them.
      click.UsageError: If a folder is of another run.
    """
    with contextlib.ExitStack() as held:
        program.placed.check_tested()
        for config in program.configs:
            if _finished(out / config.name, config):
                raise ValueError(f"{config.name} is finished in {str(out)!r}; leave it out.")
        for config in program.configs:
            held.enter_context(claim(out / config.name, wait=False, say=report.say))
            if _finished(out / config.name, config):
                raise Taken(f"another process has finished {config.name}")
        return _make(program, out, report, every, keep)


def _finished(folder: pathlib.Path, config: Run) -> bool:
    """Whether a run needs no work, as the first host sees it."""
    if hosts.first():
        results.check_folder(folder, config)
    return bool(hosts.agreed(hosts.first() and (folder / results.SUMMARY).exists()))


def _make(
    program: Alone | Together, out: pathlib.Path, report: Reporter, every: float, keep: Collection[int]
) -> list[pathlib.Path]:
    """Makes runs, or what is left of them, in folders that are held; the folders of those that are finished."""
    program.placed.check_tested()
    configs, folders = program.configs, [out / config.name for config in program.configs]
    begun = start.variables(configs[0], out)
    names = "/".join(sorted({config.method.name for config in configs}))
    if len(configs) == 1:
        what, short = configs[0].name, f"{names} s{configs[0].seed}"
    else:
        what, short = f"{len(configs)} runs", f"{len(configs)} x {names}"
    report.begin(what, short, runs=len(configs))
    if hosts.first():
        for config, folder in zip(configs, folders, strict=True):
            origin.sign(folder)
            write_json(folder / results.CONFIG, config.flat())
    # Where there are several hosts, JAX takes SIGTERM itself, so that they stop after the same step.
    numbers = () if hosts.several() else (signal.SIGINT, signal.SIGTERM)
    with contextlib.ExitStack() as opened:
        checkpoints = [
            opened.enter_context(Checkpoints(folder, config, every, report.say))
            for config, folder in zip(configs, folders, strict=True)
        ]
        signals = opened.enter_context(StopSignals(*numbers))
        running = Running(program, checkpoints, signals, report, begun)
        with contextlib.ExitStack() as logging:
            logs = [logging.enter_context(Log(folder, running.epochs_logged)) for folder in folders]
            for epoch in range(running.epochs_logged, configs[0].recipe.epochs):
                if epoch in keep and running.begins(epoch):
                    _keep(running, folders, epoch)
                lines = running.epoch(epoch)
                for log, line in zip(logs, lines, strict=True):
                    log.write(line)
        seconds, states = running.seconds(), running.states_apart()
        made = [place for place in range(len(configs)) if place not in running.failed]
        for place in made if hosts.first() else ():
            variables = _variables(states[place])
            save_weights(folders[place], variables)
            tested = running.correct[place], lines[place]
            summary = summarise(configs[place], variables, program.placed, *tested, seconds)
            together = {"together": len(configs)} if len(configs) > 1 else {}
            write_json(folders[place] / results.SUMMARY, summary | together)
    for place in made:
        if hosts.first():
            checkpoint.remove(folders[place])
        report.end(lines[place]["test_accuracy"], seconds, name=configs[place].name)
    if signals.received:
        finished = what if len(configs) == 1 else f"{len(made)} runs"
        verb = "was" if len(configs) == 1 else "were"
        raise Stopped(f"stopped after {finished} {verb} finished", signals.received)
    if running.failed:
        raise FailedRun(" ".join(running.failed.values()))
    return [folders[place] for place in made]


def _keep(running: Running, folders: Sequence[pathlib.Path], epoch: int) -> None:
    """Keeps the runs' weights as they are after so many epochs."""
    for place, state in enumerate(running.states_apart()):
        if hosts.first() and place not in running.failed:
            save_weights(folders[place], _variables(state), epoch=epoch)


def _variables(state: TrainState) -> dict[str, Any]:
    """Parameters and running statistics."""
    return {"params": state.params, "batch_stats": state.batch_stats}
