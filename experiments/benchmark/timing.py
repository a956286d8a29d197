"""What the benchmarks share: the machine they ran on, compilation, and fair turns."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax

Call = Callable[[], Any]


def machine() -> str:
    """The hardware and versions that a measurement was made with."""
    device = jax.local_devices()[0]
    where = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    if device.platform != "cpu":
        where = f"{jax.local_device_count()} x {device.device_kind}"
    return f"{where}, jax {jax.__version__}, Python {platform.python_version()}"


def compiled(f: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """``f``, compiled for these arguments ahead of its first call; ``options`` are those of ``jax.jit``."""
    return jax.jit(f, **options).lower(*args).compile()


def interleaved(forms: dict[str, Call], repeats: int) -> dict[str, list[float]]:
    """Seconds a call, every form in turn, so that whatever else the machine does meets them all.

    Accelerators get several calls at once, whose start-up then overlaps.
    """
    at_once = 1 if jax.default_backend() == "cpu" else 20
    for call in forms.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, call in forms.items():
            started = time.perf_counter()
            for _ in range(at_once):
                result = call()
            jax.block_until_ready(result)
            times[name].append((time.perf_counter() - started) / at_once)
    return times
