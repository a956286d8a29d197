"""What the process asks of the machine it runs on, and what the machine asks of the process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any, Self

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory instead of handing it back to the system; elsewhere nothing happens.

    XLA's CPU client allocates and frees its temporaries in every step. By default glibc maps and unmaps
    each large one, and the page faults cost as much as the arithmetic of a small network. What XLA's
    threads free is kept only if they share one heap; with heaps of their own, a step of VGG-11 at a
    quarter of its width still touched 31,000 new pages. No threshold may be left, not even of 2 GB: a step of
    WRN-16-8 needs more, and took 1.4 times as long as now.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 2**28)):
            mallopt(parameter, value)


class StopSignals:
    """SIGTERM, or a first SIGINT, as a wish to stop that is met after the step in hand; a context manager.

    Its arrival is told on standard error. A second SIGINT interrupts at once. Outside the main thread, where
    Python takes no signals, nothing changes.
    """

    def __init__(self, *wanted: signal.Signals):
        self._wanted = wanted if threading.current_thread() is threading.main_thread() else ()
        self._before: dict[signal.Signals, Any] = {}
        self.received: signal.Signals | None = None

    def __enter__(self) -> Self:
        """Takes the signals over."""
        for number in self._wanted:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Gives them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        if self.received == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        # Printing is not for signal handlers: it may be what was interrupted.
        os.write(2, f"\n{self.received.name}: stops after the step in hand and saves\n".encode())
