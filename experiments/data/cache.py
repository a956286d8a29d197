"""Data sets kept decoded in ``$LGNN_JAX_CACHE``, by default ``~/.cache/lgnn_jax``."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from experiments.data.dataset import Dataset
from experiments.machine.files import write_arrays

_FORMAT = 3


def cached(key: Iterable[str], read: Callable[[], Dataset], enabled: bool) -> Dataset:
    """What ``read`` gives, kept decoded in a file that ``key`` names."""
    if not enabled:
        return read()
    digest = hashlib.sha256("\n".join([str(_FORMAT), *key]).encode()).hexdigest()[:24]
    folder = pathlib.Path(os.environ.get("LGNN_JAX_CACHE") or "~/.cache/lgnn_jax").expanduser()
    file = folder / f"{digest}.npz"
    if file.exists():
        with contextlib.suppress(Exception):  # What a damaged zip raises is of a dozen kinds.
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
                arrays = dict(stored)
            about = json.loads(arrays.pop("about").tobytes())
            about = {
                name: tuple(value) if isinstance(value, list) else value for name, value in about.items()
            }
            return Dataset(**about, **arrays)
    data = read()
    fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    about = json.dumps({name: value for name, value in fields.items() if name not in arrays})
    with contextlib.suppress(OSError):  # A cache that cannot be written is no reason to stop.
        write_arrays(file, about=np.frombuffer(about.encode(), np.uint8), **arrays)
    return data
