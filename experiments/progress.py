"""Progress of one or several runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_BETWEEN_LINES = 20.0  # Seconds, where there is no terminal; the end of a run always gets a line.


class Reporter:
    """Shows where a job of ``runs`` runs, with ``steps`` steps in all, has got to; a context manager."""

    def __init__(self, runs: int, steps: int, console: Console | None = None):
        self._console = console or Console(stderr=True, soft_wrap=True, highlight=False)
        self._runs, self._steps = runs, max(steps, 1)
        self._run, self._name, self._done = 0, "", 0
        self._started = self._last_line = time.monotonic()
        self._computed = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=self._steps)

    def __enter__(self) -> Self:
        """Starts the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False)

    def begin(self, name: str) -> None:
        """A run begins."""
        self._run, self._name = self._run + 1, name
        self._bar.update(self._task, description=f"[{self._run}/{self._runs}] {name}: compiling")

    def skip(self, name: str, steps: int) -> None:
        """A run was finished before."""
        self._run += 1
        self._done += steps
        self._bar.update(self._task, completed=self._done)
        self.say(f"[{self._run}/{self._runs}] {name}: finished before")

    def advance(self, steps: int, epoch: str, loss: float, accuracy: float, rate: float) -> None:
        """``steps`` more steps are done, in ``epoch`` (like ``3/8``), at ``rate`` images a second."""
        self._done += steps
        self._computed += steps
        status = (
            f"[{self._run}/{self._runs}] {self._name}: epoch {epoch}, loss {loss:.3f}, "
            f"accuracy {accuracy:.1%}, {rate:.0f} images/s"
        )
        self._bar.update(self._task, completed=self._done, description=status)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > _BETWEEN_LINES:
            self._last_line = now
            left = (now - self._started) / self._computed * (self._steps - self._done)
            self.say(f"{status}, {duration(left)} left")

    def end(self, accuracy: float, seconds: float) -> None:
        """The run is over, with this test accuracy."""
        self._last_line = time.monotonic()
        left = (self._last_line - self._started) / max(self._computed, 1) * (self._steps - self._done)
        rest = f", {duration(left)} left" if self._run < self._runs else ""
        self.say(
            f"[{self._run}/{self._runs}] {self._name}: test accuracy {accuracy:.2%} "
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
