"""Tables and figures out of many runs: ``python -m experiments.reproduce``, ``... table1`` and the like."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.core import ParameterSource

from experiments import cli, methods, sweep
from experiments.config import Run
from experiments.data import Dataset
from experiments.errors import FailedRun, usage_errors
from experiments.machine import hosts
from experiments.machine.files import write_text
from experiments.options import Options, run_options
from experiments.run import results
from experiments.study import figures, paper, study, tables
from experiments.study.study import Study

_log = logging.getLogger("experiments")

_SET_BY_ROWS = ("net", *methods.options())
_TABLES = paper.TABLES | paper.OWN
# What each command makes: tables and figures.
_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **{name: ((name,), ()) for name in _TABLES},
    **{name: ((), (name,)) for name in paper.FIGURES},
    "all": (tuple(paper.TABLES), tuple(paper.FIGURES)),
}
_HELP = {
    "table1": "Table I: VGG-11 and VGG-19, without smoothing, with a constant and a decreasing neighbourhood.",
    "table2": "Table II: WRN-16-8 and WRN-28-10, smoothed in part or as a whole.",
    "table3": "Table III: magnitudes of the first layer's filters of VGG-19, from the runs of Table I.",
    "ablation": "VGG-11 with windows of 3x3 and 5x5 and wider neighbourhoods: accuracy and topography.",
    "order": "How much order VGG-11's layers show as trained, arranged afterwards, and arranged during training.",
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


@click.group(invoke_without_command=True)
@run_options
@click.option(
    "--variants",
    default="baseline,constant,decreasing",
    show_default=True,
    help="What to compare: baseline (no smoothing), constant (the same neighbourhood throughout), decreasing "
    "(it narrows to nothing, eq. 4).",
)
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(1), help="Number of paired seeds, from 0."
)
@click.pass_context
def main(context: click.Context, options: Options, variants: str, seeds: int) -> None:
    """Trains a network with and without locality guidance and shows what it did.

    Without arguments: a small VGG-11 on scikit-learn's handwritten digits, which takes a few minutes and
    no download. It prints test accuracies and how alike neighbouring filters came out, and writes the same
    as Markdown, JSON and pictures to the folder that it prints last.

    The commands below make the paper's tables and figures; their options follow their name.
    """
    given = [
        name for name in context.params if context.get_parameter_source(name) != ParameterSource.DEFAULT
    ]
    if context.invoked_subcommand and given:
        raise click.UsageError(
            f"--{given[0].replace('_', '-')} stands before {context.invoked_subcommand}; options of a command "
            "follow its name."
        )
    if context.invoked_subcommand is None:
        _compare(options, tuple(dict.fromkeys(variants.split(","))), seeds)


def _compare(options: Options, variants: tuple[str, ...], seeds: int) -> None:
    """Runs every variant with every seed, and writes the comparison."""
    for variant in variants:
        options.check(variant=variant)
    data = options.load()
    made = study.comparison(variants, options, data, seeds=seeds)
    _tell_notes(made)

    def draw() -> list[str]:
        figures.compare(made, data)
        return []

    # Its figures show weights, so that runs of which the summary is published are made all the same.
    _make(made, made.runs, data, draw)


def _command(name: str) -> click.Command:
    """The command that makes ``name``."""
    table_names, figure_names = _PARTS[name]
    rows = [row for table in table_names for row in _TABLES[table].rows]
    rows += [row for figure in figure_names for row in paper.FIGURES[figure].rows]
    nets = tuple(dict.fromkeys(row.net for row in rows))

    def command(options: Options, plan: bool, publish: bool, shorten: float | None, **chosen: Any):
        _refuse_contradictions(options, plan, publish, shorten)
        kept = _nets(name, chosen.get("nets") or ",".join(nets), nets)
        parts = {table: _TABLES[table].of(kept) for table in table_names}
        drawn = [figure for figure in figure_names if paper.FIGURES[figure].rows[0].net in kept]
        for row in rows:
            if row.net in kept:
                study.row_options(row, options, shorten or 1.0).check(variant=row.variant)
        data = options.load()
        with usage_errors():
            made = study.prepare(
                name,
                {table: part for table, part in parts.items() if part.rows},
                drawn,
                options,
                data,
                seeds=chosen.get("seeds", 1),
                shorten=shorten or 1.0,
            )
        if plan:
            lacking = [figures.explain(made, *item) for item in figures.missing(made).items()]
            print(sweep.plan(name, made.groups, data, options.out), *lacking, sep="\n\n")
        else:
            _carry_out(made, data, publish, chosen.get("pictures", "none"))

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


def _carry_out(made: Study, data: Dataset, publish: bool, pictures: str) -> None:
    """Makes what is left of a study of the paper's."""
    lacking = figures.missing(made) if hosts.first() else {}
    if hosts.agreed(bool(lacking)) and not made.sections:
        raise FailedRun("\n".join(figures.explain(made, *item) for item in lacking.items()))
    _tell_notes(made)
    left = sweep.unfinished(made.runs, made.options.out)
    _log.info(f"results: {made.folder}")
    _log.info(f"{len(made.runs) - len(left)} of {len(made.runs)} runs are finished")

    def draw() -> list[str]:
        shown = figures.draw(made, pictures)
        if shown:
            write_text(made.folder / "figures.md", "\n".join(shown))
        return shown

    _make(made, left, data, draw, publish=publish)


def _tell_notes(made: Study) -> None:
    for section in made.sections:
        for note in section.notes:
            _log.info(note)


def _make(
    made: Study, runs: Sequence[Run], data: Dataset, draw: Callable[[], list[str]], *, publish: bool = False
) -> None:
    """Makes runs of a study, its tables after every one, and its figures at the end; prints what and where.

    Of several hosts, all make the runs and the first one the rest.
    """

    def refresh() -> str:
        if not hosts.first():
            return ""
        for config in made.runs if publish else ():
            results.publish(config, made.options.out)
        return tables.write(made)

    refresh()
    sweep.make(
        runs,
        data,
        made.options.out,
        refresh,
        every=made.options.checkpoint_every,
        keep=made.options.keep_epochs,
        together=made.options.together,
    )
    if hosts.first():
        text = refresh()
        print(*filter(None, [text, *draw()]), made.folder, sep="\n")


commands = [_command(name) for name in _PARTS]
for _each in commands:
    main.add_command(_each)

if __name__ == "__main__":
    cli.start(main)
