"""Accuracy against order, of the runs of a plan: ``python -m experiments.frontier PLAN``."""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Sequence

import click

from experiments import cli, methods, sweep
from experiments.config import Run
from experiments.data import Dataset
from experiments.machine import hosts
from experiments.options import Options, run_options
from experiments.run import results
from experiments.run.step import PlacedData
from experiments.study import claims, frontier, plan, scatter
from experiments.study.frontier import Frontier

_log = logging.getLogger("experiments")


@functools.partial(run_options, without=tuple(methods.options()), data=None, net=None)
@click.argument(
    "file", metavar="PLAN", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path)
)
@click.option(
    "--shorten",
    metavar="F",
    type=click.FloatRange(0, 1, min_open=True),
    help="Factor on the epochs and milestones of the net's recipe; weight decay grows so that a run spends the "
    "same budget, up to 0.01 (vgg19: 0.0025).  [default: the plan's]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    help="Number of paired seeds, from 0, of rows that name none.  [default: the plan's]",
)
@click.option(
    "--plan",
    "dry",
    is_flag=True,
    help="Show the runs and what they take, from a few timed steps; run nothing.",
)
@click.option(
    "--publish",
    is_flag=True,
    help="Copy the summaries of the finished runs, and what was measured of them, to experiments/results, where "
    "they count as finished.",
)
def _main(
    options: Options,
    file: pathlib.Path,
    shorten: float | None,
    seeds: int | None,
    dry: bool,
    publish: bool,
) -> None:
    """Makes the runs of a plan, and shows accuracy against order.

    PLAN is a TOML file: settings of all runs, and rows, each a method with its settings
    (experiments/plans/screening.toml is one). Options given here come before the plan's settings.

    Runs that are finished in --out are not made again, and one that was interrupted goes on from its last
    checkpoint. A seed's baseline comes first, then its other rows. Every finished run is measured: what noise,
    corrupted images, pruning and ablation do to it. Tables and figure are rewritten after every run; stop and go
    on as you like, or start the same command twice: two processes share the runs.
    """
    if shorten is not None and options.overrides.get("epochs") is not None:
        raise click.UsageError("--epochs and --shorten both set the length of a run; give one of them.")
    if dry and publish:
        raise click.UsageError("--plan runs nothing, so there is nothing to --publish; give one of them.")
    given, options = plan.read(file).given(options, shorten, seeds)
    given.check(options)
    data = options.load()
    made = frontier.prepare(given, options, data)
    left = sweep.unfinished(made.runs, options.out)
    text = sweep.plan(made.name, made.groups, data, options.out) if dry or left else ""
    if dry:
        print(text)
    else:
        _carry_out(made, left, text, options, data, publish)


def _carry_out(
    made: Frontier, left: Sequence[Run], text: str, options: Options, data: Dataset, publish: bool
) -> None:
    """Makes what is left of a plan, and measures, writes and draws what is finished after every run."""
    for line in filter(None, [text, *made.notes, f"results: {made.folder}"]):
        _log.info(line)
    _log.info(f"{len(made.runs) - len(left)} of {len(made.runs)} runs are finished")
    placed = functools.cache(lambda: PlacedData(data))

    def refresh() -> str:
        if not hosts.first():
            return ""
        for config in made.runs:
            folder = results.find(config, options.out)
            if folder is not None:
                claims.complete(config, folder, data, placed, _log.info)
            if publish:
                results.publish(config, options.out)
                claims.publish(config, options.out)
        return frontier.write(made, scatter.draw)

    refresh()
    sweep.make(left, data, options.out, refresh, every=options.checkpoint_every, keep=options.keep_epochs)
    if hosts.first():
        print(refresh(), made.folder, sep="\n")


main = click.command("frontier")(_main)

if __name__ == "__main__":
    cli.start(main)
