"""A line on how far long work is."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

_PATIENCE = 2.0  # Seconds; nothing is said of what takes less.
_WIDTH = 100


class Line:
    """A line on a stream, written over every second; where that is no terminal, a new one now and then.

    A thread writes it, so that it goes on while something takes long.

    Example:
      >>> from lgnn_jax.inspect._progress import Line
      >>> with Line() as line:
      ...     line("arranging", 1, 4)
    """

    def __init__(
        self, stream: TextIO | None = None, patience: float = _PATIENCE, every: float | None = None
    ):
        self._stream = stream or sys.stderr
        self._over = self._stream.isatty()
        self._patience, self._every = patience, every or (1.0 if self._over else 10.0)
        self._start, self._said = time.monotonic(), "starting"
        self._ended, self._written = threading.Event(), False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Line:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._written and self._over:
            print(file=self._stream)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Says what is done now, and how much of the whole."""
        self._said = f"{done / max(total, 1):4.0%}  {what}"

    def _run(self) -> None:
        wait = self._patience
        while not self._ended.wait(wait):
            text = f"{time.monotonic() - self._start:4.0f} s  {self._said}"[:_WIDTH]
            shown = f"\r{text:{_WIDTH}}" if self._over else f"{text}\n"
            print(shown, end="", file=self._stream, flush=True)
            self._written, wait = True, self._every
