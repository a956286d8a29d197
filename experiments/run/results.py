"""Finished runs: where they are, what is known of them, and the small part of them that is published."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import click
import numpy as np

from experiments.config import Run
from experiments.errors import FailedRun
from experiments.machine import origin
from experiments.machine.files import write_json, write_text
from experiments.run.log import METRICS

SUMMARY, CONFIG = "summary.json", "config.json"
PUBLISHED = pathlib.Path(__file__).parents[1] / "results"
LARGEST = 50_000  # Bytes of a published summary.
_LINES = 50  # Of its log.

Summary = dict[str, Any]


def find(config: Run, out: pathlib.Path) -> pathlib.Path | None:
    """The folder with a run's summary: under ``out`` or else published; None if it is not finished.

    Raises:
      click.UsageError: If the run in such a folder is another one.
    """
    for folder in (out / config.name, published(config)):
        if (folder / SUMMARY).exists():
            check_folder(folder, config)
            return folder
    return None


def check_folder(folder: pathlib.Path, config: Run) -> None:
    """Refuses a folder that is of another run than its name says: it may have been renamed, copied or edited.

    Raises:
      click.UsageError: If it is, with what differs.
    """
    source = folder / (CONFIG if (folder / CONFIG).exists() else SUMMARY)
    if not source.exists():
        return
    try:
        content = json.loads(source.read_text())
        kept = dict(content if source.name == CONFIG else content["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(
            f"{str(source)!r} is damaged ({error}). Put it back, or move {str(folder)!r} away to start anew."
        ) from None
    differences = config.differences(kept)
    if differences:
        raise click.UsageError(
            f"{str(folder)!r} holds another run than {config.name}: {'; '.join(differences)}. Nothing in it was "
            "touched. Move it away, or choose another --out."
        )


def published(config: Run) -> pathlib.Path:
    """Where a run is published, whether it is or not."""
    return PUBLISHED / config.name


def read(folder: pathlib.Path) -> Summary:
    """A finished run's summary, with the ``commits`` it was made at, as far as they are known.

    Raises:
      click.UsageError: If it is damaged.
    """
    source = folder / SUMMARY
    try:
        summary = dict(json.loads(source.read_text()))
    except (ValueError, TypeError) as error:
        raise click.UsageError(
            f"{str(source)!r} is damaged ({error}). Put it back, or remove it to finish the run again."
        ) from None
    return {"commits": origin.commits(folder)} | summary


def correct(summary: Summary) -> np.ndarray:
    """Which test pictures a run classified correctly, bool ``(pictures,)``."""
    bits = np.frombuffer(base64.b64decode(summary["test_correct"]), np.uint8)
    return np.unpackbits(bits, count=summary["test_examples"]).astype(bool)


def hardware(backend: str, devices: int, kind: str, cpus: int | None, hosts: int = 1) -> str:
    """Devices in words; ``devices`` are those of all hosts, ``cpus`` the cores of one."""
    together = f" on {hosts} hosts" if hosts > 1 else ""
    if backend == "cpu":
        return f"{cpus} CPU cores" + (f" as {devices} devices" if devices > 1 else "") + together
    return f"{devices} x {kind}{together}"


def publish(config: Run, out: pathlib.Path) -> bool:
    """Copies the summary and 50 lines of the log of a finished run to ``experiments/results``.

    Returns:
      Whether there was something to copy: a run that is published is left as it is.
    """
    source, target = out / config.name, published(config)
    if (target / SUMMARY).exists() or not (source / SUMMARY).exists():
        return False
    lines = (source / METRICS).read_text().splitlines(keepends=True)
    summary = read(source)
    size = len(json.dumps(summary, indent=1))
    if size > LARGEST:
        raise FailedRun(f"{config.name} would take {size} bytes published, more than {LARGEST}.")
    write_text(target / METRICS, "".join(spread(lines, _LINES)))
    write_json(target / SUMMARY, summary)  # Last: it is what makes the run count as finished.
    return True


def spread(items: list[Any], most: int) -> list[Any]:
    """At most ``most`` of the items at even distances, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]
