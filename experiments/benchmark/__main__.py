"""The command line: ``python -m experiments.benchmark``, a subcommand a benchmark."""

from __future__ import annotations

import click

from experiments import cli
from experiments.benchmark.arrange import arrange_command
from experiments.benchmark.feature_vis import feature_vis_command
from experiments.benchmark.filter import filter_command
from experiments.benchmark.train import train_command


@click.group()
def main() -> None:
    """Measures what things cost, as ratios within one run: machines are shared and timings noisy."""


main.add_command(arrange_command)
main.add_command(filter_command)
main.add_command(feature_vis_command)
main.add_command(train_command)

if __name__ == "__main__":
    cli.start(main)
