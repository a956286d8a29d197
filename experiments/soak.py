"""Kills a run again and again and says what was lost: ``python -m experiments.soak``."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import random
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import click

from experiments import cli
from experiments.campaign.report import table
from experiments.errors import FailedRun
from experiments.run import results

_log = logging.getLogger("experiments")

_STEP = struct.Struct("<qd")  # A step that is done, and the time of the clock that all processes share.
_PIPE = "LGNN_JAX_SOAK_PIPE"
_PATIENCE = 600  # Seconds for a process to begin its steps.
_PARTIAL = "checkpoints/*tmp*"  # What Orbax calls a checkpoint that it has not finished.


@dataclasses.dataclass(frozen=True)
class Kill:
    """One interruption: by which signal, after which step, and what it cost."""

    number: signal.Signals
    inside_a_save: bool
    reached: int
    kept: int
    seconds_lost: float


@dataclasses.dataclass
class _Process:
    """A run in a process of its own, and the times of its steps."""

    popen: subprocess.Popen[str]
    pipe: int
    steps: dict[int, float] = dataclasses.field(default_factory=dict)

    def look(self) -> None:
        """Takes notice of the steps done by now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.pipe, _STEP.size * 1024):
                self.steps |= dict(_STEP.iter_unpack(data))

    def end(self, number: signal.Signals | None = None) -> str:
        """Waits for its end, sending ``number`` before, and returns what it complained of."""
        if number is not None:
            self.popen.send_signal(number)
        _, errors = self.popen.communicate()
        self.look()
        os.close(self.pipe)
        return errors


def soak(
    arguments: list[str], out: pathlib.Path, kills: int, interval: float, seed: int = 0
) -> tuple[list[Kill], bool]:
    """Makes a run twice, once undisturbed and once killed ``kills`` times.

    Every second kill strikes while a checkpoint is being written, the others at any time; every fifth is a
    SIGTERM, the others are SIGKILLs.

    Args:
      arguments: Of ``python -m experiments.train``, without those for folder and checkpoints.
      out: An empty folder.
      kills: How many.
      interval: Seconds of work that a kill may cost.
      seed: Of the moments.

    Returns:
      The kills, and whether the final weights are the same bit for bit.

    Raises:
      FailedRun: If a process fails on its own account, or the run is over before its last kill.
    """
    draw = random.Random(seed)
    undisturbed, disturbed = out / "undisturbed", out / "disturbed"
    process = _start(arguments, undisturbed, interval)
    _expect(0, process, process.end())
    done: list[Kill] = []
    known: dict[int, float] = {}  # When every step was done, the last time that it was.
    struck: tuple[signal.Signals, bool, int] | None = None
    while True:
        process = _start(arguments, disturbed, interval)
        begun = len(done) + (struck is not None)  # The cost of the last one is not known yet.
        last = begun == kills
        if not last:
            moment = draw.uniform(0, 2 * interval)
            number = signal.SIGTERM if begun % 5 == 4 else signal.SIGKILL
            inside = _await_moment(process, disturbed, moment, inside_a_save=begun % 2 == 1)
            errors = process.end(number)
            _expect(-number if number == signal.SIGKILL else 128 + number, process, errors)
        else:
            _expect(0, process, process.end())
        if struck is not None:
            done.append(_cost(struck, process.steps, known))
            _log.info(f"kill {len(done)} of {kills}: {_words(done[-1])}")
        if last:
            return done, _digest(undisturbed) == _digest(disturbed)
        known |= process.steps
        struck = number, inside, max(process.steps)


def _start(arguments: list[str], out: pathlib.Path, interval: float) -> _Process:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    command = [sys.executable, "-m", "experiments.soak", "run", *arguments]
    command += ["--out", str(out), "--checkpoint-every", str(interval)]
    popen = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[writing],
        env=os.environ | {_PIPE: str(writing)},
    )
    os.close(writing)
    return _Process(popen, reading)


def _expect(code: int, process: _Process, errors: str) -> None:
    if process.popen.returncode != code:
        early = " before its last kill: give it more --epochs or fewer --kills" if code else ""
        raise FailedRun(
            f"the run ended with exit code {process.popen.returncode} instead of {code}{early}. {errors[-2000:]}"
        )


def _await_moment(process: _Process, out: pathlib.Path, moment: float, *, inside_a_save: bool) -> bool:
    """Waits for the moment, counted from the first step, and then if so wanted for a save; whether one was met."""
    begun = time.monotonic()
    while not process.steps and process.popen.poll() is None and time.monotonic() - begun < _PATIENCE:
        process.look()
        time.sleep(0.01)
    time.sleep(moment)
    while inside_a_save and process.popen.poll() is None:
        if any(out.glob(f"*/{_PARTIAL}")):
            return True
        time.sleep(0.0005)
    return any(out.glob(f"*/{_PARTIAL}"))


def _cost(
    struck: tuple[signal.Signals, bool, int], after: dict[int, float], known: dict[int, float]
) -> Kill:
    """What a kill cost, seen from the first step that the next process made."""
    number, inside, reached = struck
    kept = min(after) - 1
    begun = known.get(kept, min(known.values()))
    return Kill(number, inside, reached, kept, known[reached] - begun)


def _digest(out: pathlib.Path) -> str:
    (summary,) = out.glob(f"*/{results.SUMMARY}")
    return results.read(summary.parent)["params_digest"]


def _words(kill: Kill) -> str:
    where = " inside a save" if kill.inside_a_save else ""
    lost = kill.reached - kill.kept
    return (
        f"{kill.number.name}{where} after step {kill.reached}, {lost} steps lost, {kill.seconds_lost:.2f} s"
    )


@contextlib.contextmanager
def _told_steps() -> Iterator[None]:
    """Tells the process that watches this one of every step."""
    from experiments.run.step import Trainer

    pipe, step = int(os.environ[_PIPE]), Trainer.step

    def told(self, state, keys, examples):
        state = step(self, state, keys, examples)
        os.write(pipe, _STEP.pack(int(state.step), time.monotonic()))
        return state

    Trainer.step = told  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.step = step  # type: ignore[method-assign]


@click.group(invoke_without_command=True, subcommand_metavar="", options_metavar="[OPTIONS]")
@click.option("--kills", default=20, show_default=True, type=click.IntRange(1), help="How many.")
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds of work that a kill may cost: --checkpoint-every of the run.",
)
@click.option("--seed-of-moments", default=0, show_default=True, help="Decides when they strike.")
@click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path),
    default="runs/soak",
    show_default=True,
    help="A folder that does not exist yet.",
)
@click.option(
    "--train",
    default="--width 0.125 --epochs 30",
    show_default=True,
    help="Options of python -m experiments.train: what is trained.",
)
@click.pass_context
def main(
    context: click.Context, kills: int, interval: float, seed_of_moments: int, out: pathlib.Path, train: str
) -> None:
    """Makes a run undisturbed and once more with many kills, and compares the weights of both bit for bit.

    Prints what every kill cost; the exit code is 1 if the weights differ, or if a kill cost more than the interval
    and more than one step.
    """
    if context.invoked_subcommand:
        return
    if out.exists():
        raise click.UsageError(f"{str(out)!r} is there already; remove it or choose another --out.")
    done, same = soak(train.split(), out, kills, interval, seed_of_moments)
    print(report(done, same))
    # A single step, with a test of the network before it that may have been compiled, cannot be saved in part.
    worst = max((kill.seconds_lost for kill in done if kill.reached - kill.kept > 1), default=0.0)
    if not same or worst > interval:
        raise FailedRun("the weights differ" if not same else f"a kill cost {worst:.2f} s")


def report(done: list[Kill], same: bool) -> str:
    """What was lost, as Markdown."""
    groups = {
        f"{number.name}{where}": [
            kill for kill in done if kill.number == number and kill.inside_a_save == bool(where)
        ]
        for number in (signal.SIGKILL, signal.SIGTERM)
        for where in (" inside a save", "")
    }
    rows = [
        [
            name,
            str(len(kills)),
            f"{statistics.median(kill.reached - kill.kept for kill in kills):g}",
            f"{max(kill.reached - kill.kept for kill in kills)}",
            f"{statistics.median(kill.seconds_lost for kill in kills):.2f}",
            f"{max(kill.seconds_lost for kill in kills):.2f}",
        ]
        for name, kills in groups.items()
        if kills
    ]
    header = ["kills", "number", "steps lost, median", "most", "seconds lost, median", "most"]
    verdict = "the same bit for bit as undisturbed" if same else "NOT those of the undisturbed run"
    return "\n".join([*table(header, rows), "", f"Final weights: {verdict}."])


@main.command("run", hidden=True, add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_command(arguments: tuple[str, ...]) -> None:
    """A run that tells of its steps."""
    from experiments.train import main as train

    with _told_steps():
        train.main(list(arguments), standalone_mode=False)


if __name__ == "__main__":
    cli.start(main)
