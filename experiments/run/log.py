"""The log of a run: a line an epoch in metrics.jsonl, and the same as TensorBoard's events beside it."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any, Self

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from experiments.config import Run
from experiments.errors import FailedRun
from experiments.machine import hosts
from experiments.machine.files import write_text
from experiments.run.step import Totals

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


def epoch_line(
    config: Run,
    epoch: int,
    steps: int,
    totals: Totals,
    tested: tuple[np.ndarray, float],
    rate: float | None,
) -> dict[str, Any]:
    """What the log says of an epoch.

    Args:
      config: The run.
      epoch: From 0.
      steps: Of an epoch.
      totals: Of its training.
      tested: Which test images are then right, bool ``(test,)``, and the mean loss.
      rate: Images a second, where they are known.
    """
    correct, test_loss = tested
    return {
        "epoch": epoch + 1,
        "step": (epoch + 1) * steps,
        "learning_rate": float(config.recipe.learning_rate(steps)(epoch * steps)),
        **config.method.logged(config, epoch * steps, steps),
        "train_loss": float(totals.loss) / int(totals.examples),
        "train_accuracy": int(totals.correct) / int(totals.examples),
        "test_loss": test_loss,
        "test_accuracy": float(correct.mean()),
        "images_per_second": None if rate is None else round(rate, 1),
    }


class Log:
    """Writes a run's log, which keeps its first ``epochs`` lines; a context manager.

    The first host alone writes.

    Raises:
      FailedRun: If there are fewer lines to keep.
    """

    def __init__(self, folder: pathlib.Path, epochs: int):
        self._path = folder / METRICS
        self._events: EventsWriter | None = None
        if not hosts.first():
            return
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        if len(lines) < epochs:
            raise FailedRun(
                f"{self._path} has {len(lines)} lines, but the newest checkpoint is after epoch {epochs}. Put the "
                f"lost lines back, or remove {folder} to start anew."
            )
        write_text(self._path, "".join(lines[:epochs]))
        for old in () if epochs else folder.glob("events.out.tfevents.*"):
            old.unlink()
        # One of this second may be there already.
        self._events = EventsWriter(str(folder / "events"), f".{epochs}")
        if epochs:
            # TensorBoard then leaves out what an interrupted process wrote from this step on.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._event(json.loads(lines[epochs - 1])["step"] + 1, session_log=start)

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
        # What a method adds stands in a group of its own.
        tags = {name: _TAGS.get(name, f"method/{name}") for name in line if name not in ("epoch", "step")}
        known = {tag: line[name] for name, tag in tags.items() if line[name] is not None}
        values = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in known.items()]
        self._event(line["step"], summary=summary_pb2.Summary(value=values))

    def _event(self, step: int, **content: Any) -> None:
        assert self._events is not None
        self._events.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))
        self._events.flush()
