"""Progress of one or several runs: a bar on a terminal that can show one, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from experiments.machine import hosts

_BETWEEN_LINES = 20.0  # Seconds, where there is no terminal; the end of a run always gets a line.


class Reporter:
    """Shows where a job of ``runs`` runs, with ``steps`` steps in all, has got to; a context manager."""

    def __init__(self, runs: int, steps: int, console: Console | None = None):
        self._console = console or Console(
            stderr=True, soft_wrap=True, highlight=False, quiet=not hosts.first()
        )
        # Rich takes a file for a terminal if FORCE_COLOR or TTY_COMPATIBLE says so, and draws nothing where TERM is
        # dumb: a bar is for what is a terminal to both.
        self._drawn = self._console.is_interactive and self._console.file.isatty()
        self._runs, self._steps = runs, max(steps, 1)
        self._run, self._name, self._short, self._done = 0, "", "", 0
        self._last = self._last_line = time.monotonic()
        self._timed_steps, self._timed_seconds, self._start_up = 0, 0.0, 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            disable=not self._drawn,
        )
        self._task = self._bar.add_task("starting", total=self._steps, left="")

    def __enter__(self) -> Self:
        """Starts the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays, of the first host."""
        self._console.print(text, markup=False)

    def begin(self, name: str, short: str, runs: int = 1) -> None:
        """A run begins, or ``runs`` at once; ``short`` is its name where there is little room."""
        self._run, self._name, self._short = self._run + runs, name, short
        self._last = time.monotonic()
        self._bar.update(self._task, description=f"[{self._run}/{self._runs}] {short}: compiling")

    def skip(self, name: str, steps: int) -> None:
        """A run was finished before."""
        self._run += 1
        self._done += steps
        self._bar.update(self._task, completed=self._done)
        self.say(f"[{self._run}/{self._runs}] {name}: finished before")

    def resume(self, name: str, done: int, steps: int) -> None:
        """The run goes on after the first ``done`` of its ``steps``."""
        self._done += done
        self._bar.update(self._task, completed=self._done)
        self.say(f"[{self._run}/{self._runs}] {name}: goes on from step {done} of {steps}")

    def compiled(self) -> None:
        """The run's programs are compiled and its first step is done: from here on steps are timed."""
        now = time.monotonic()
        self._start_up, self._last = now - self._last, now

    def advance(self, steps: int, epoch: str, loss: float, accuracy: float, rate: float) -> None:
        """``steps`` more steps are done, in ``epoch`` (like ``3/8``), at ``rate`` images a second.

        Loss and accuracy are those of training.
        """
        now = time.monotonic()
        self._done += steps
        self._timed_steps += steps
        self._timed_seconds += now - self._last
        self._last = now
        left = self._left()
        self._bar.update(
            self._task,
            completed=self._done,
            description=f"[{self._run}/{self._runs}] {self._short} {epoch} loss {loss:.3f} train {accuracy:.1%} "
            f"{rate:.0f}/s",
            left=left,
        )
        if not self._drawn and rate and now - self._last_line > _BETWEEN_LINES:
            self._last_line = now
            self.say(
                f"[{self._run}/{self._runs}] {self._name}: epoch {epoch}, loss {loss:.3f}, training accuracy "
                f"{accuracy:.1%}, {rate:.0f} images/s, {left}"
            )

    def at(self, done: int, status: str) -> None:
        """``done`` of this run's steps are done, where there is no more to tell than ``status``."""
        now = time.monotonic()
        before = self._steps // self._runs * (self._run - 1)
        self._timed_steps, self._timed_seconds = before + done, self._timed_seconds + now - self._last
        self._done, self._last = before + done, now
        self._bar.update(
            self._task,
            completed=self._done,
            description=f"[{self._run}/{self._runs}] {self._short} {status}",
            left=self._left(),
        )
        if not self._drawn and now - self._last_line > _BETWEEN_LINES:
            self._last_line = now
            self.say(f"[{self._run}/{self._runs}] {self._name}: {status}, {self._left()}")

    def _left(self) -> str:
        """The time that what is left takes: its steps, and the start of every run to come."""
        if not self._timed_steps:
            return ""
        steps = self._timed_seconds / self._timed_steps * (self._steps - self._done)
        return f"{duration(steps + self._start_up * (self._runs - self._run))} left"

    def end(self, accuracy: float, seconds: float, name: str | None = None) -> None:
        """The run is over, with this test accuracy; ``name`` is its own where there are several at once."""
        self._last_line = time.monotonic()
        left = self._left()
        rest = f", {left}" if left and self._run < self._runs else ""
        self.say(
            f"[{self._run}/{self._runs}] {name or self._name}: test accuracy {accuracy:.2%} "
            f"after {duration(seconds)}{rest}"
        )


def duration(seconds: float) -> str:
    """Seconds as ``12 s``, ``3 min 05 s`` or ``2 h 10 min``.

    Example:
      >>> duration(184.2), duration(7800)
      ('3 min 05 s', '2 h 10 min')
    """
    whole = max(0, math.ceil(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
