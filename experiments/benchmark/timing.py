"""What the benchmarks share: the machine they ran on, compilation, and fair turns."""

from __future__ import annotations

import math
import os
import pathlib
import platform
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

Call = Callable[[], Any]
Form = TypeVar("Form", bound=Hashable)


def machine() -> str:
    """The hardware and versions that a measurement was made with."""
    device = jax.local_devices()[0]
    where = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    if device.platform != "cpu":
        where = f"{jax.local_device_count()} x {device.device_kind}"
    return f"{where}, jax {jax.__version__}, Python {platform.python_version()}"


class Others:
    """What share of the CPU other programs of the machine take from now on, where Linux tells.

    A comparison suffers from them: threads that wait for each other at every operation, as PyTorch's do on a
    CPU, lose many times more than threads that share what there is to do.
    """

    def __init__(self):
        self._begun, self._before = time.perf_counter(), self._seconds()

    def share(self) -> float | None:
        """Between 0 and 1; None where it is not known."""
        if self._before is None:
            return None
        available = (time.perf_counter() - self._begun) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (self._seconds() - self._before) / available))

    @staticmethod
    def _seconds() -> float | None:
        try:
            total = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
        except OSError:
            return None
        user, nice, system, _, _, *interrupts = map(int, total[1:9])
        busy = user + nice + system + sum(interrupts)
        return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


def compiled(f: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """``f``, compiled for these arguments ahead of its first call; ``options`` are those of ``jax.jit``."""
    return jax.jit(f, **options).lower(*args).compile()


def first_calls(forms: Mapping[Form, Call]) -> dict[Form, float]:
    """Seconds of every form's first call, which compiles it."""
    times = {}
    for name, call in forms.items():
        started = time.perf_counter()
        jax.block_until_ready(call())
        times[name] = time.perf_counter() - started
    return times


def interleaved(
    forms: Mapping[Form, Call],
    repeats: int,
    *,
    seconds: float = math.inf,
    fewest: int = 2,
    warm: bool = False,
) -> dict[Form, list[float]]:
    """Seconds a call, every form in turn, so that whatever else the machine does meets them all.

    A turn is in random order, as what ran before a call has its part in how long it takes. One more goes
    before, untimed: a program's second call took twice as long as later ones where others were compiled
    in between.
    Accelerators get several calls at once, whose start-up then overlaps.

    Args:
      forms: What is timed.
      repeats: Timings of each form.
      seconds: There are fewer repeats where another one would take longer than this in all.
      fewest: There are no fewer than so many.
      warm: Whether every form has been called before.
    """
    at_once = 1 if jax.default_backend() == "cpu" else 20
    if not warm:
        first_calls(forms)
    for call in forms.values():
        jax.block_until_ready(call())
    times: dict[Form, list[float]] = {name: [] for name in forms}
    turns, names = np.random.default_rng(0), list(forms)
    begun = time.perf_counter()
    for repeat in range(repeats):
        spent = time.perf_counter() - begun
        if repeat >= fewest and spent * (repeat + 1) / repeat > seconds:
            break
        for index in turns.permutation(len(names)):
            name, call = names[index], forms[names[index]]
            started = time.perf_counter()
            for _ in range(at_once):
                result = call()
            jax.block_until_ready(result)
            times[name].append((time.perf_counter() - started) / at_once)
    return times
