"""The commands for the paper's tables and figures: ``python -m experiments.reproduce table1`` and the like."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import click

from experiments import methods
from experiments.campaign import figures, jobs, paper, tables
from experiments.errors import FailedRun, usage_errors
from experiments.machine import hosts
from experiments.machine.files import write_text
from experiments.options import Options, run_options
from experiments.run import results

_log = logging.getLogger("experiments")

_SET_BY_ROWS = ("net", *methods.options())
# What each command makes: tables and figures.
_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **{name: ((name,), ()) for name in paper.TABLES},
    **{name: ((), (name,)) for name in paper.FIGURES},
    "all": (tuple(paper.TABLES), tuple(paper.FIGURES)),
}
_HELP = {
    "table1": "Table I: VGG-11 and VGG-19, without smoothing, with a constant and a decreasing neighbourhood.",
    "table2": "Table II: WRN-16-8 and WRN-28-10, smoothed in part or as a whole.",
    "table3": "Table III: magnitudes of the first layer's filters of VGG-19, from the runs of Table I.",
    "ablation": "VGG-11 with windows of 3x3 and 5x5 and wider neighbourhoods: accuracy and topography.",
    "fig1": "Figure 1: the first layer's filters of VGG-19.",
    "fig2": "Figure 2: how filters of VGG-11's last layer resemble the others.",
    "fig3": "Figure 3: how VGG-11's last layer responds to classes.",
    "all": "All tables, the ablation and all figures; every run is made once.",
}
_MORE = """

    Runs that are finished in --out or published in experiments/results are not made again, and one that was
    interrupted goes on from its last checkpoint. Tables are rewritten after every run, and say which rows are still
    to come; stop and go on as you like, or start the same command twice: two processes share the runs.
    The paper's numbers stand beside those of its own data set, width and schedule alone.
"""


def _command(name: str) -> click.Command:
    """The command that makes ``name``."""
    table_names, figure_names = _PARTS[name]
    rows = [row for table in table_names for row in paper.TABLES[table].rows]
    rows += [row for figure in figure_names for row in paper.FIGURES[figure].rows]
    nets = tuple(dict.fromkeys(row.net for row in rows))

    def command(options: Options, plan: bool, publish: bool, shorten: float | None, **chosen: Any):
        _refuse_contradictions(options, plan, publish, shorten)
        kept = _nets(name, chosen.get("nets") or ",".join(nets), nets)
        parts = {table: paper.TABLES[table].of(kept) for table in table_names}
        drawn = [figure for figure in figure_names if paper.FIGURES[figure].rows[0].net in kept]
        for row in rows:
            if row.net in kept:
                jobs.row_options(row, options, shorten or 1.0).check(variant=row.variant)
        data = options.load()
        with usage_errors():
            job = jobs.prepare(
                name,
                {table: part for table, part in parts.items() if part.rows},
                drawn,
                options,
                data,
                seeds=chosen.get("seeds", 1),
                shorten=shorten or 1.0,
            )
        if plan:
            lacking = [figures.explain(job, *item) for item in figures.missing(job).items()]
            print(jobs.describe(job, data), *lacking, sep="\n\n")
        else:
            _make(job, data, publish, chosen.get("pictures", "none"), name in paper.FIGURES)

    command.__doc__ = f"{_HELP[name]}{_MORE}"
    for option in reversed(_options(nets, bool(table_names), bool(figure_names) and name != "fig1")):
        command = option(command)
    return click.command(name)(run_options(command, without=_SET_BY_ROWS, data="cifar100"))


def _options(nets: tuple[str, ...], tables: bool, pictures: bool) -> list[Callable[..., Any]]:
    """The options beside the shared ones."""
    found = [
        click.option(
            "--shorten",
            metavar="F",
            type=click.FloatRange(0, 1, min_open=True),
            help="Factor on the epochs and milestones of every net; weight decay grows so that a run spends the "
            "same budget, up to 0.01 (vgg19: 0.0025).  [default: 1]",
        ),
        click.option(
            "--plan",
            is_flag=True,
            help="Show the runs and what they take, from a few timed steps; run nothing.",
        ),
        click.option(
            "--publish",
            is_flag=True,
            help="Copy the summaries of the finished runs to experiments/results, where they count as finished.",
        ),
    ]
    if tables:
        found.append(
            click.option(
                "--seeds",
                default=5,
                show_default=True,
                type=click.IntRange(1),
                help="Number of paired seeds, from 0.",
            )
        )
    if tables and len(nets) > 1:
        found.append(
            click.option(
                "--nets", metavar="NET,...", help=f"Some of its nets.  [default: {','.join(nets)}]"
            )
        )
    if pictures:
        found.append(
            click.option(
                "--pictures",
                type=click.Choice(["small", "lucid", "none"]),
                default="small",
                show_default=True,
                help="How the picture that excites a filter most is made: for 32x32 images, as Lucid does, or not.",
            )
        )
    return found


def _refuse_contradictions(options: Options, plan: bool, publish: bool, shorten: float | None) -> None:
    if shorten is not None and options.overrides.get("epochs") is not None:
        raise click.UsageError("--epochs and --shorten both set the length of a run; give one of them.")
    if plan and publish:
        raise click.UsageError("--plan runs nothing, so there is nothing to --publish; give one of them.")


def _nets(name: str, chosen: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The nets that are asked for."""
    nets = tuple(dict.fromkeys(chosen.split(",")))
    for net in nets:
        if net not in known:
            raise click.UsageError(f"{name} has no net {net!r}; it has {', '.join(known)}.")
    return nets


def _make(job: jobs.Job, data: Any, publish: bool, pictures: str, figures_alone: bool) -> None:
    """Makes what is left of a job, its tables after every run, and its figures at the end.

    Of several hosts, all make the runs and the first one the rest.
    """
    lacking = figures.missing(job) if hosts.first() else {}
    if hosts.agreed(bool(lacking)) and figures_alone:
        raise FailedRun("\n".join(figures.explain(job, *item) for item in lacking.items()))

    def refresh() -> str:
        if not hosts.first():
            return ""
        if publish:
            for config in job.runs:
                results.publish(config, job.options.out)
        return tables.write(list(job.sections), job.options.out, job.folder) if job.sections else ""

    for section in job.sections:
        for note in section.notes:
            _log.info(note)
    _log.info(f"results: {job.folder}")
    if hosts.first():
        _log.info(f"{len(job.runs) - len(job.unfinished)} of {len(job.runs)} runs are finished")
    refresh()
    jobs.make(job, data, refresh)
    if not hosts.first():
        return
    text = refresh()
    shown = figures.draw(job, pictures)
    if shown:
        write_text(job.folder / "figures.md", "\n".join(shown))
    print(*filter(None, [text, *shown]), job.folder, sep="\n")


commands = [_command(name) for name in _PARTS]
