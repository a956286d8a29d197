"""Tables and figures out of many runs."""

from __future__ import annotations

import hashlib
import logging
import pathlib

import click
from click.core import ParameterSource

from experiments import cli
from experiments.campaign import commands as campaign
from experiments.campaign import report
from experiments.config import Run
from experiments.machine import hosts
from experiments.options import Options, run_options
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer
from experiments.train import run

_log = logging.getLogger("experiments")


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
        compare(options, tuple(dict.fromkeys(variants.split(","))), seeds)


for command in campaign.commands:
    main.add_command(command)


def compare(options: Options, variants: tuple[str, ...], seeds: int) -> None:
    """Runs every variant with every seed, the seeds in turn, and writes the comparison."""
    for variant in variants:
        options.check(variant=variant)
    data = options.load()
    configs: dict[str, list[Run]] = {}
    notes: tuple[str, ...] = ()
    for variant in variants:
        pairs = [options.configure(data, variant=variant, seed=seed) for seed in range(seeds)]
        configs[variant], notes = [config for config, _ in pairs], pairs[0][1]
    for note in notes:
        _log.info(note)
    placed = PlacedData(data)
    trainers = {variant: Trainer(runs[0], placed) for variant, runs in configs.items()}
    steps = sum(config.recipe.epochs for runs in configs.values() for config in runs) * (
        next(iter(trainers.values())).steps_per_epoch
    )
    folders: dict[str, list[pathlib.Path]] = {variant: [] for variant in variants}
    with Reporter(len(variants) * seeds, steps) as progress:
        for seed in range(seeds):
            for variant in variants:
                made = run(trainers[variant], seed, options.out, progress, every=options.checkpoint_every)
                folders[variant].append(made)
    if not hosts.first():
        return
    first = configs[variants[0]][0]
    out = options.out / _comparison_name(first, folders)
    print(report.write(_title(first), configs, folders, out, notes))
    print(out)


def _title(config: Run) -> str:
    return f"{config.net.name} on {config.data.name}{config.how}, {config.recipe.epochs} epochs"


def _comparison_name(config: Run, folders: dict[str, list[pathlib.Path]]) -> str:
    """What the compared runs share, and a hash of which they are."""
    names = sorted(folder.name for group in folders.values() for folder in group)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    return f"compare-{config.subject}-{digest}"


if __name__ == "__main__":
    cli.start(main)
