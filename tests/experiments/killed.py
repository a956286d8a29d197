"""A run that is killed again and again: what every kill cost, and whether its weights are the undisturbed ones."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import statistics
import struct
import subprocess
import sys
import time

from experiments import cli, train
from experiments.markdown import table
from experiments.run import results
from experiments.run.step import Trainer

_STEP = struct.Struct("<qd")  # A step that is done, and the time of the clock that all processes share.
_PIPE = "LGNN_JAX_PIPE_OF_STEPS"
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


def killed(
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
      AssertionError: If a process fails on its own account, or the run is over before its last kill.
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
            print(f"kill {len(done)} of {kills}: {_words(done[-1])}")
        if last:
            return done, _digest(undisturbed) == _digest(disturbed)
        known |= process.steps
        struck = number, inside, max(process.steps)


def _start(arguments: list[str], out: pathlib.Path, interval: float) -> _Process:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    command = [sys.executable, "-m", "tests.experiments.killed", *arguments]
    command += ["--out", str(out), "--checkpoint-every", str(interval)]
    popen = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[writing],
        env=os.environ | {_PIPE: str(writing)},
        cwd=pathlib.Path(__file__).parents[2],
    )
    os.close(writing)
    return _Process(popen, reading)


def _expect(code: int, process: _Process, errors: str) -> None:
    early = " before its last kill: give it more epochs or fewer kills" if code else ""
    found = process.popen.returncode
    assert found == code, f"the run ended with exit code {found} instead of {code}{early}. {errors[-2000:]}"


def _await_moment(process: _Process, out: pathlib.Path, moment: float, *, inside_a_save: bool) -> bool:
    """Waits for the moment, counted from the first step, for a checkpoint to go on from, and then if so wanted for
    a save; whether one was met.
    """
    begun = time.monotonic()
    while not process.steps and process.popen.poll() is None and time.monotonic() - begun < _PATIENCE:
        process.look()
        time.sleep(0.01)
    time.sleep(moment)
    while process.popen.poll() is None and not any(
        path.name.isdigit() for path in out.glob("*/checkpoints/*")
    ):
        time.sleep(0.01)
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


def _tell_steps() -> None:
    """Tells the process that watches this one of every step."""
    pipe, step = int(os.environ[_PIPE]), Trainer.step

    def told(self, state, keys, examples):
        state = step(self, state, keys, examples)
        os.write(pipe, _STEP.pack(int(state.step), time.monotonic()))
        return state

    Trainer.step = told


if __name__ == "__main__":
    _tell_steps()
    cli.start(train.main)
