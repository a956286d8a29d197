"""One process a run: whoever makes a run holds its folder meanwhile."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator

import filelock

from experiments.errors import Taken
from experiments.machine import hosts

_LOCK = "lock"
_BETWEEN_TRIES = 1.0  # Seconds.


@contextlib.contextmanager
def claim(folder: pathlib.Path, *, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a run's folder; the system frees it if this process is killed.

    Of several hosts the first holds it for all.

    Args:
      folder: The run's folder, made if it is not there.
      wait: Whether to wait while another process holds it.
      say: Is told once that this waits.

    Raises:
      Taken: If another process holds it and ``wait`` is False.
    """
    if hosts.first():
        folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / _LOCK)
    waited = False
    while not hosts.agreed(hosts.first() and _tried(lock)):
        if not wait:
            raise Taken(f"another process makes {folder.name}")
        if not waited:
            say(f"{folder.name}: another process makes this run; waiting for it")
        waited = True
        time.sleep(_BETWEEN_TRIES)
    try:
        yield
    finally:
        lock.release()


def _tried(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    return True
