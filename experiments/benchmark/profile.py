"""Where the time of a training step goes, by parts of the network, from a trace of the compiled program."""

from __future__ import annotations

import collections
import pathlib
import re
import tempfile
import time
import warnings
from typing import Any, NamedTuple

import jax

from experiments import nets
from experiments.benchmark.noise import Training

PRODUCTS, COPIES, NORM = "matrix products", "patches, transforms", "batch norm, elementwise"
POOL, AUGMENTATION, OPTIMIZER, OTHER = "pooling", "augmentation", "optimizer, lgnn", "other"
GROUPS = (PRODUCTS, COPIES, NORM, POOL, AUGMENTATION, OPTIMIZER, OTHER)

_LAYERS = {pattern for net in nets.NETS.values() for pattern in net.layers}
_LAYER = re.compile(f"/({'|'.join(_LAYERS)}|dense)/")
_POOL = re.compile(
    r"/(cond/branch_\d+_fun|pool|max_pool|reduce_window_max|select_and_scatter_add)\b"
)  # Not in a layer.
_PRODUCT = re.compile(r"dot|ynn|gemm|conv(?!ert)|cublas|cudnn|onednn|custom-call")
_HOLDS_OTHERS = re.compile(r"(while|conditional|call)[.\d]*$")
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name="([^"]*)"', re.MULTILINE)


class Profile(NamedTuple):
    """What a step takes."""

    seconds: float
    shares: dict[str, float]  # Of the time in the trace, by group.
    traced: float  # Time of all instructions in the trace, over that of the step.


def of_step(run: Training, steps: int = 3) -> Profile:
    """The profile of a few steps of a run, which is trained further.

    An instruction that fuses operations of several parts counts with the part that its result is of.
    """
    places = dict(_INSTRUCTION.findall(run.program()))
    jax.block_until_ready(run())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            started = time.perf_counter()
            for _ in range(steps):
                state = run()
            jax.block_until_ready(state)
            seconds = time.perf_counter() - started
        spent = _spent(pathlib.Path(folder), places)
    total = sum(spent.values())
    return Profile(seconds / steps, {name: spent[name] / (total or 1) for name in GROUPS}, total / seconds)


def group(instruction: str, place: str) -> str:
    """The group of an instruction of a compiled step, from its name and its place in the source."""
    if "/augmentation/" in place:
        return AUGMENTATION
    if "/optimizer/" in place:
        return OPTIMIZER
    if _LAYER.search(place):
        product = _PRODUCT.match(instruction) or place.endswith(("/dot_general", "/conv_general_dilated"))
        return PRODUCTS if product else COPIES
    if "jvp(" not in place:
        return OTHER
    return POOL if _POOL.search(place) else NORM


def _spent(folder: pathlib.Path, places: dict[str, str]) -> collections.Counter[str]:
    """Seconds by group: of the devices' planes in the trace, and where there are none, of the host's."""
    [path] = folder.rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    found: collections.Counter[str] = collections.Counter()
    with warnings.catch_warnings():
        # The first event's statistics make a type without a module, of which Python warns since jaxlib 0.12. Where
        # warnings are errors, as in the tests, jaxlib then aborts the process.
        warnings.filterwarnings("ignore", "builtin type", DeprecationWarning)
        for plane in [plane for plane in planes if plane.name.startswith("/device:")] or planes:
            for line in plane.lines:
                for event in line.events:
                    name = _instruction(event, places)
                    if name is not None:
                        found[group(name, places[name])] += event.duration_ns / 1e9
    return found


def _instruction(event: Any, places: dict[str, str]) -> str | None:
    """The instruction that an event in a trace is of; None for others, and for those that hold others."""
    name = event.name if event.name in places else dict(event.stats).get("hlo_op")
    return None if name not in places or _HOLDS_OTHERS.match(name) else name
