"""Where training begins: with weights that are drawn, or with those of a finished run."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from experiments.config import Run
from experiments.run import results
from experiments.run.weights import WEIGHTS, load_weights

# By whatever else they differ, one begins with the other's weights. Tested are images on which neither was trained.
_SHARED = ("net", "width", "split", "test_split")


def check(config: Run, out: pathlib.Path) -> None:
    """Refuses a run that is to begin with the weights of one that ``out`` does not hold, or of another network.

    Raises:
      click.UsageError: If so.
    """
    name = config.recipe.start
    if not name:
        return
    folder = out / name
    if pathlib.Path(name).name != name or not (folder / results.SUMMARY).exists():
        raise click.UsageError(
            f"start must name a finished run in {str(out)!r}, where no {results.SUMMARY} of {name!r} is. Give the "
            "name of its folder, or choose another --out."
        )
    if not (folder / WEIGHTS).is_dir():
        raise click.UsageError(
            f"{str(folder)!r} holds no {WEIGHTS}, with which training could start. Make that run anew."
        )
    theirs, ours = Run.of(results.read(folder)["config"]).settings(), config.settings()
    differences = [
        f"{key} is {theirs[key]!r} there and {ours[key]!r} here"
        for key in (*_SHARED, *(["data"] if config.data.digest else []))  # Unread, a set has only a source.
        if theirs[key] != ours[key]
    ]
    if differences:
        raise click.UsageError(
            f"Training cannot start with the weights of {name}: {'; '.join(differences)}."
        )


def variables(config: Run, out: pathlib.Path) -> dict[str, Any] | None:
    """Parameters and running statistics with which a run begins; None where they are drawn.

    Raises:
      click.UsageError: If they are not there, are damaged, or are of another network.
    """
    if not config.recipe.start:
        return None
    check(config, out)
    return load_weights(out / config.recipe.start)
