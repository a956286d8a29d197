"""The command that makes one run: ``python -m experiments.train``."""

from __future__ import annotations

import logging

import click

from experiments import cli, methods
from experiments.machine import hosts
from experiments.options import Options, run_options
from experiments.run.make import run
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer

_log = logging.getLogger("experiments")


@click.command()
@run_options(without=("together",))
@click.option("--variant", default="constant", show_default=True, help=f"{methods.described()}.")
@click.option("--seed", default=0, show_default=True, help="Initialisation, order, augmentation, dropout.")
def main(options: Options, variant: str, seed: int) -> None:
    """Trains one network once and prints the folder of the run.

    The folder holds config.json, metrics.jsonl, TensorBoard's events, summary.json and the weights. A run that
    was interrupted goes on from its last checkpoint when the same command is given again.
    """
    options.check(variant=variant, seed=seed)
    data = options.load()
    config, notes = options.configure(data, variant=variant, seed=seed)
    for note in notes:
        _log.info(note)
    trainer = Trainer(config, PlacedData(data))
    with Reporter(1, config.recipe.epochs * trainer.steps_per_epoch) as report:
        folder = run(
            trainer, seed, options.out, report, every=options.checkpoint_every, keep=options.keep_epochs
        )
    if hosts.first():
        print(folder)


if __name__ == "__main__":
    cli.start(main)
