"""Finished runs: where they are, what is known of them, and the small part of them that is published."""

from __future__ import annotations

import base64
import functools
import json
import os
import pathlib
import subprocess
from typing import Any

import numpy as np

from experiments import cli
from experiments.config import RunConfig
from experiments.train import METRICS, SUMMARY, write_json

PUBLISHED = pathlib.Path(__file__).parent / "results"
LARGEST = 50_000  # Bytes of a published run.
_LINES = 50  # Of its log.
_ORIGIN = "origin.json"

Summary = dict[str, Any]


def find(config: RunConfig, out: pathlib.Path) -> pathlib.Path | None:
    """The folder with a run's summary: under ``out`` or else published; None if it is not finished."""
    for folder in (out / config.name, published(config)):
        if (folder / SUMMARY).exists():
            return folder
    return None


def published(config: RunConfig) -> pathlib.Path:
    """Where a run is published, whether it is or not."""
    return PUBLISHED / config.set_name / config.digest


def read(folder: pathlib.Path) -> Summary:
    """A finished run's summary, with the ``commits`` it was made at, as far as they are known."""
    summary = json.loads((folder / SUMMARY).read_text())
    return {"commits": _commits(folder)} | summary


def correct(summary: Summary) -> np.ndarray:
    """Which test pictures a run classified correctly, bool ``(pictures,)``."""
    bits = np.frombuffer(base64.b64decode(summary["test_correct"]), np.uint8)
    return np.unpackbits(bits, count=summary["test_examples"]).astype(bool)


def hardware(backend: str, devices: int, kind: str, cpus: int | None) -> str:
    """Devices in words."""
    if backend == "cpu":
        return f"{cpus} CPU cores" + (f" as {devices} devices" if devices > 1 else "")
    return f"{devices} x {kind}"


def sign(folder: pathlib.Path) -> None:
    """Notes in a run's folder which commit makes it; a run that was interrupted may be made by several."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _ORIGIN, {"commits": list(dict.fromkeys([*_commits(folder), commit()]))})


def _commits(folder: pathlib.Path) -> list[str]:
    origin = folder / _ORIGIN
    return json.loads(origin.read_text())["commits"] if origin.exists() else []


@functools.cache
def commit() -> str:
    """The commit of the checkout that runs, with a ``+`` if files differ from it; else the word ``unknown``."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(pathlib.Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):  # No git, or no checkout.
        return "unknown"


def publish(config: RunConfig, out: pathlib.Path) -> bool:
    """Copies the summary and 50 lines of the log of a finished run to ``experiments/results``.

    Returns:
      Whether there was something to copy: a run that is published is left as it is.
    """
    source, target = out / config.name, published(config)
    if (target / SUMMARY).exists() or not (source / SUMMARY).exists():
        return False
    lines = (source / METRICS).read_text().splitlines(keepends=True)
    summary = read(source)
    size = len(json.dumps(summary, indent=1)) + sum(map(len, lines[:1])) * _LINES
    if size > LARGEST:
        raise cli.FailedRun(f"{config.name} would take {size} bytes published, more than {LARGEST}.")
    target.mkdir(parents=True, exist_ok=True)
    (target / METRICS).write_text("".join(spread(lines, _LINES)))
    write_json(target / SUMMARY, summary)  # Last: it is what makes the run count as finished.
    return True


def spread(items: list[Any], most: int) -> list[Any]:
    """At most ``most`` of the items at even distances, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text so that the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(
        f"{path.name}.{os.getpid()}.tmp"
    )  # Several processes may write the same table.
    partial.write_text(text)
    partial.replace(path)
