"""The log of a run: a line an epoch in metrics.jsonl, and the same as TensorBoard's events beside it."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Self

from tensorboardX import SummaryWriter

from experiments import hosts
from experiments.files import write_text

METRICS = "metrics.jsonl"
# TensorBoard's names, by which it groups curves.
_TAGS = {
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "learning_rate": "schedule/learning_rate",
    "sigma": "schedule/sigma",
    "images_per_second": "speed/images_per_second",
}


class Log:
    """Writes a run's log, which keeps its first ``epochs`` lines; a context manager.

    The first host alone writes.
    """

    def __init__(self, folder: pathlib.Path, epochs: int):
        self._path, self._events = folder / METRICS, None
        if not hosts.first():
            return
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        write_text(self._path, "".join(lines[:epochs]))
        if not epochs:
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        # TensorBoard then leaves out what an interrupted process wrote from this step on.
        purged = json.loads(lines[epochs - 1])["step"] + 1 if epochs else None
        self._events = SummaryWriter(str(folder), purge_step=purged)

    def __enter__(self) -> Self:
        """The log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes its files."""
        if self._events is not None:
            self._events.close()

    def write(self, line: dict[str, Any]) -> None:
        """Adds an epoch, at once and whole."""
        if self._events is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, tag in _TAGS.items():
            if line[name] is not None:
                self._events.add_scalar(tag, line[name], line["step"])
        self._events.flush()
