"""Which commits of the code have made a run."""

from __future__ import annotations

import functools
import json
import pathlib
import subprocess

from experiments.machine.files import write_json

_ORIGIN = "origin.json"


def sign(folder: pathlib.Path) -> None:
    """Notes in a run's folder which commit makes it; a run that was interrupted may be made by several."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _ORIGIN, {"commits": list(dict.fromkeys([*commits(folder), commit()]))})


def commits(folder: pathlib.Path) -> list[str]:
    """The commits noted there."""
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
