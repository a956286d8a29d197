"""The runs behind tables and figures: which they are, what is left of them, and making them."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping

import jax

from experiments.campaign import paper, plan, report
from experiments.campaign.tables import Line, Section
from experiments.config import Run
from experiments.data import Dataset
from experiments.errors import FailedRun, Taken
from experiments.machine import hosts
from experiments.options import Options
from experiments.recipes import recipe
from experiments.run import results
from experiments.run.progress import Reporter, duration
from experiments.run.step import PlacedData, Trainer
from experiments.train import run

_log = logging.getLogger("experiments")


@dataclasses.dataclass(frozen=True)
class Job:
    """Tables and figures of a data set, with the runs that they need."""

    name: str
    options: Options
    sections: tuple[Section, ...]
    figures: dict[str, tuple[Line, ...]]

    @property
    def runs(self) -> list[Run]:
        """Every run once: cheap nets first, of a net the seeds in turn, of a seed all rows together."""
        lines = [line for section in self.sections for line in section.lines]
        lines += [line for group in self.figures.values() for line in group]
        unique = {config.name: config for line in lines for config in line.configs}
        return sorted(unique.values(), key=lambda config: (paper.NETS.index(config.net.name), config.seed))

    @property
    def folder(self) -> pathlib.Path:
        """Where tables and figures go: its name says of what, its end is a hash of which runs."""
        runs = self.runs
        widths = {config.net.width for config in runs} - {1}
        width = "".join(f"-w{width:g}" for width in widths)
        digest = hashlib.sha256("\n".join(sorted(config.name for config in runs)).encode()).hexdigest()[:8]
        return self.options.out / f"{self.name}-{runs[0].data.file_name}{width}-{digest}"

    @property
    def unfinished(self) -> list[Run]:
        """What is left to be made."""
        return [config for config in self.runs if results.find(config, self.options.out) is None]


def prepare(
    name: str,
    tables: Mapping[str, paper.Table],
    figures: Iterable[str],
    options: Options,
    data: Dataset,
    *,
    seeds: int,
    shorten: float,
) -> Job:
    """A job with all its configurations checked; tables come by name, figures are of the first seed."""
    sections = []
    for table_name, table in tables.items():
        made = [_line(row, options, data, seeds, shorten) for row in table.rows]
        notes = dict.fromkeys(f"{line.row.net}: {note}" for line, notes in made for note in notes)
        command = _command(table_name, table, options, seeds, shorten)
        sections.append(Section(table, tuple(line for line, _ in made), command, tuple(notes)))
    drawn = {
        figure: tuple(_line(row, options, data, 1, shorten)[0] for row in paper.FIGURES[figure].rows)
        for figure in figures
    }
    return Job(name, options, tuple(sections), drawn)


def row_options(row: paper.Row, options: Options, shorten: float) -> Options:
    """The options of a row's runs."""
    overrides = options.overrides | row.overrides
    if shorten != 1:
        overrides["epochs"] = max(1, round(shorten * recipe(row.net, options.data).epochs))
    return dataclasses.replace(options, overrides=overrides)


def _line(
    row: paper.Row, options: Options, data: Dataset, seeds: int, shorten: float
) -> tuple[Line, tuple[str, ...]]:
    """A row with its runs, and what was adapted for them."""
    first, notes = row_options(row, options, shorten).configure(data, variant=row.variant, seed=0)
    configs = tuple(dataclasses.replace(first, seed=seed) for seed in range(seeds))
    return Line(row, configs, paper.comparable(first, data)), notes


def _command(name: str, table: paper.Table, options: Options, seeds: int, shorten: float) -> str:
    """The command that makes the runs of a table."""
    words = [f"python -m experiments.reproduce {name}"]
    nets = dict.fromkeys(row.net for row in table.rows)
    if len(nets) < len({row.net for row in paper.TABLES[name].rows}):
        words.append(f"--nets {','.join(nets)}")
    words.append(options.arguments)
    if shorten != 1:
        words.append(f"--shorten {shorten:g}")
    return " ".join([*words, f"--seeds {seeds}"])


def make(job: Job, data: Dataset, done: Callable[[], None]) -> None:
    """Makes what is left of a job's runs, and calls ``done`` after each.

    Runs that another process makes come last: by then it has finished them, or left them.

    Raises:
      FailedRun: At the end, if runs failed; the others are made all the same.
    """
    runs = job.runs
    unfinished = {config.name for config in (job.unfinished if hosts.first() else ())}
    left = [config for config in runs if hosts.agreed(config.name in unfinished)]
    if not left:
        return
    programs = _Programs(PlacedData(data))
    steps = sum(
        config.recipe.epochs * (programs.placed.train_examples // config.recipe.batch) for config in left
    )
    failed: list[str] = []
    with Reporter(len(left), steps) as progress:
        taken = []
        for wait, configs in ((False, left), (True, taken)):
            for config in configs:
                options = {"every": job.options.checkpoint_every, "wait": wait}
                try:
                    run(programs.of(config), config.seed, job.options.out, progress, **options)
                except Taken:
                    taken.append(config)
                    continue
                except FailedRun as error:
                    failed.append(str(error))
                    progress.say(f"failed: {error}")
                done()
    if failed:
        raise FailedRun(f"{len(failed)} of {len(left)} runs failed: {' '.join(failed)}")


class _Programs:
    """The compiled programs of a job: those of one net at a time, shared by its seeds."""

    def __init__(self, placed: PlacedData):
        self.placed = placed
        self._trainers: dict[str, Trainer] = {}

    def of(self, config: Run) -> Trainer:
        """The programs of a run."""
        if self._trainers and next(iter(self._trainers.values())).config.net.name != config.net.name:
            self._trainers.clear()
        name = dataclasses.replace(config, seed=0).name
        if name not in self._trainers:
            self._trainers[name] = Trainer(config, self.placed)
        return self._trainers[name]


def describe(job: Job, data: Dataset) -> str:
    """A job's runs as Markdown: how long, how much work, and what is left, timed by a few steps of each net."""
    placed, unfinished = PlacedData(data), {config.name for config in job.unfinished}
    speed: dict[str, tuple[float, float]] = {}
    rows, work_left, seconds_left = [], 0, 0.0
    for label, configs in _groups(job):
        left = [config for config in configs if config.name in unfinished]
        work = plan.run_multiply_adds(configs[0], placed)
        net = configs[0].net.name
        if left and net not in speed:
            _log.info(f"timing a few steps of {net} ...")
            speed[net] = plan.measure(left[0], placed)
        row = [net, label, f"{len(configs) - len(left)} of {len(configs)}", str(configs[0].recipe.epochs)]
        row += [_short(plan.multiply_adds(net, placed.classes, configs[0].net.width)), _short(work)]
        if left:
            compiling, rate = speed[net]
            work_left += len(left) * work
            seconds_left += compiling + len(left) * work / rate
            row += [duration(work / rate), duration(compiling + len(left) * work / rate)]
        else:
            row += ["-", "-"]
        rows.append(row)
    header = ["net", "row", "finished", "epochs", "multiply-adds a picture", "of a run", "time of a run"]
    lines = [
        f"### {job.name} on {data.name}{job.runs[0].how}: plan",
        "",
        "Multiply-adds (two FLOPs each) are of convolutions and the dense layer: a picture's forward and backward "
        "pass, and a whole run with its tests after every epoch. Times are of a few steps on this "
        "machine, what is left with compiling.",
        "",
        *report.table([*header, "time left"], rows),
        "",
        f"{len(unfinished)} of {len(job.runs)} runs left: {_short(work_left)} multiply-adds"
        + (f", about {duration(seconds_left)} on {_here()}" if unfinished else ""),
    ]
    return "\n".join(lines)


def _groups(job: Job) -> list[tuple[str, list[Run]]]:
    """A job's runs that differ in nothing but the seed, in the order they are made, by what a table calls them."""
    named = [line for section in job.sections for line in section.lines]
    named += [line for group in job.figures.values() for line in group]
    labels = {
        config.name: (line.row.net, line.row.label) for line in reversed(named) for config in line.configs
    }
    groups: dict[tuple[str, str], list[Run]] = {}
    for config in job.runs:
        groups.setdefault(labels[config.name], []).append(config)
    return [(label, configs) for (_, label), configs in groups.items()]


def _short(number: float) -> str:
    """A number with a prefix, such as ``457 M``."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g}"


def _here() -> str:
    """The machine that this runs on."""
    device = jax.local_devices()[0]
    return results.hardware(
        device.platform, jax.device_count(), device.device_kind, os.cpu_count(), jax.process_count()
    )
