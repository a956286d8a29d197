"""What the benchmarks share: the machine they ran on, compilation, and fair turns."""

from __future__ import annotations

import math
import os
import pathlib
import platform
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
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


def turns(
    forms: Collection[Form], repeats: int, *, seconds: float = math.inf
) -> Iterator[tuple[int, Form]]:
    """Every form in turn, so that whatever else the machine does meets them all, with the number of the turn.

    A turn is in random order, as what ran before a call has its part in how long it takes.

    Args:
      forms: What takes turns.
      repeats: How many turns.
      seconds: There are fewer, but two at least, where another one would take longer than this in all.
    """
    draw, names = np.random.default_rng(0), list(forms)
    begun = time.perf_counter()
    for repeat in range(repeats):
        if repeat >= 2 and (time.perf_counter() - begun) * (repeat + 1) / repeat > seconds:
            return
        for index in draw.permutation(len(names)):
            yield repeat, names[index]


def interleaved(
    forms: Mapping[Form, Call], repeats: int, *, seconds: float = math.inf, warm: bool = False
) -> dict[Form, list[float]]:
    """Seconds a call, in the :func:`turns` of the forms.

    One more turn goes before, untimed: a program's second call took twice as long as later ones where others
    were compiled in between. Accelerators get several calls at once, whose start-up then overlaps.

    Args:
      forms: What is timed.
      repeats: Timings of each form.
      seconds: As in :func:`turns`.
      warm: Whether every form has been called before.
    """
    at_once = 1 if jax.default_backend() == "cpu" else 20
    if not warm:
        first_calls(forms)
    for call in forms.values():
        jax.block_until_ready(call())
    times: dict[Form, list[float]] = {name: [] for name in forms}
    for _, name in turns(forms, repeats, seconds=seconds):
        started = time.perf_counter()
        for _ in range(at_once):
            result = forms[name]()
        jax.block_until_ready(result)
        times[name].append((time.perf_counter() - started) / at_once)
    return times
