"""The paper's figures, of finished runs: what ``python -m experiments.inspect`` draws of each pair of them."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import shlex

from experiments.campaign.jobs import Job
from experiments.campaign.paper import FIGURES
from experiments.campaign.tables import Line
from experiments.options import Options
from experiments.run import results
from experiments.run.weights import WEIGHTS

_log = logging.getLogger("experiments")


def missing(job: Job) -> dict[str, list[Line]]:
    """The rows of every figure whose runs are finished, but published without the weights that it shows."""
    lacking = {}
    for name, lines in job.figures.items():
        folders = {line: results.find(line.configs[0], job.options.out) for line in lines}
        lacking[name] = [
            line
            for line, folder in folders.items()
            if folder is not None and not (folder / WEIGHTS).exists()
        ]
    return {name: lines for name, lines in lacking.items() if lines}


def explain(job: Job, name: str, lines: list[Line]) -> str:
    """What a figure needs and how to get it."""
    runs = ", ".join(line.configs[0].name for line in lines)
    commands = [_remake(job.options, line) for line in lines]
    return (
        f"{name} shows weights, and of {runs} only the summary is here. This makes them again:\n\n"
        + "\n".join(f"    {command}" for command in commands)
    )


def _remake(options: Options, line: Line) -> str:
    """The command that makes the run of a row, also where its summary is published."""
    first = line.configs[0]
    overrides = options.overrides | line.row.overrides | {"epochs": first.recipe.epochs}
    arguments = dataclasses.replace(options, overrides=overrides).arguments
    out = shlex.quote(str(options.out))
    return f"python -m experiments.train {arguments} --variant {first.method.name} --seed {first.seed} --out {out}"


def draw(job: Job, pictures: str) -> list[str]:
    """Draws the figures whose weights are here, each variant beside its baseline.

    Args:
      job: The job, with all its runs finished.
      pictures: How the picture that excites a filter most is made: ``small``, ``lucid`` or ``none``.

    Returns:
      Lines of Markdown that show the figures or say what they need.
    """
    lacking, drawn, lines = missing(job), set(), []
    for name, rows in job.figures.items():
        lines += [f"### {FIGURES[name].title}, on {rows[0].configs[0].data.name}", ""]
        if name in lacking:
            lines += [explain(job, name, lacking[name]), ""]
            continue
        baseline, *others = rows
        for line in others:
            target = f"{line.row.net}-{line.row.label}"
            if target not in drawn:
                drawn.add(target)
                # The first layer's figure shows none.
                _inspect(job, line, baseline, job.folder / target, "none" if name == "fig1" else pictures)
            lines += [f"![{line.row.label}, beside the baseline]({target}/{name}.png)", ""]
    return lines


def _inspect(job: Job, line: Line, baseline: Line, target: pathlib.Path, pictures: str) -> None:
    """Tables and figures of one run beside its baseline."""
    from experiments.inspect.look import look  # Takes time, and tables do not need it.

    shown = {"baseline": baseline, "run": line}
    folders = {name: job.options.out / line.configs[0].name for name, line in shown.items()}
    _log.info(f"drawing {target.name} ...")
    look(folders, target, job.options.data, job.options.data_dir, setting=pictures)
