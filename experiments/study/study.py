"""What is shown of many runs: tables and figures whose rows are runs, before any of them is made."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Mapping

from experiments.config import Run
from experiments.data import Dataset
from experiments.options import Options
from experiments.recipes import recipe
from experiments.study import paper

COMPARISON = "compare"  # The name of the study that is none of the paper's.


@dataclasses.dataclass(frozen=True)
class Line:
    """A row made concrete: its runs, one a seed from 0, and whether the paper's numbers apply."""

    row: paper.Row
    configs: tuple[Run, ...]
    comparable: bool


@dataclasses.dataclass(frozen=True)
class Section:
    """A table of concrete rows, with the command that makes it and sentences on what was adapted."""

    table: paper.Table
    lines: tuple[Line, ...]
    command: str
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What is shown, of which data, and in which way it is less than the paper's."""
        first = self.lines[0].configs[0]
        lengths = {
            line.row.net: (line.configs[0].recipe.epochs, recipe(line.row.net, first.data.name).epochs)
            for line in self.lines
        }
        others = [
            f"{epochs} of {whole} epochs ({net})"
            for net, (epochs, whole) in lengths.items()
            if epochs != whole
        ]
        return f"{self.table.title}, on {first.data.name}{first.how}" + "".join(
            f", {other}" for other in others
        )


@dataclasses.dataclass(frozen=True)
class Study:
    """Tables and figures of a data set, with the runs that they need; ``subject`` is a part of file names."""

    name: str
    subject: str
    options: Options
    sections: tuple[Section, ...]
    figures: Mapping[str, tuple[Line, ...]] = dataclasses.field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        """All rows, those of tables before those of figures."""
        groups = [*(section.lines for section in self.sections), *self.figures.values()]
        return [line for group in groups for line in group]

    @property
    def runs(self) -> list[Run]:
        """Every run once: cheap nets first, of a net the seeds in turn, of a seed all rows together."""
        unique = {config.name: config for line in self.lines for config in line.configs}
        return sorted(unique.values(), key=lambda config: (paper.NETS.index(config.net.name), config.seed))

    @property
    def groups(self) -> list[tuple[str, list[Run]]]:
        """Runs that differ in nothing but the seed, in the order they are made, by what a table calls them."""
        labels = {
            config.name: (line.row.net, line.row.label)
            for line in reversed(self.lines)
            for config in line.configs
        }
        groups: dict[tuple[str, str], list[Run]] = {}
        for config in self.runs:
            groups.setdefault(labels[config.name], []).append(config)
        return [(label, configs) for (_, label), configs in groups.items()]

    @property
    def folder(self) -> pathlib.Path:
        """Where tables and figures go: its name says of what, its end is a hash of which runs."""
        names = "\n".join(sorted(config.name for config in self.runs))
        digest = hashlib.sha256(names.encode()).hexdigest()[:8]
        return self.options.out / f"{self.name}-{self.subject}-{digest}"


def prepare(
    name: str,
    tables: Mapping[str, paper.Table],
    figures: Iterable[str],
    options: Options,
    data: Dataset,
    *,
    seeds: int,
    shorten: float,
) -> Study:
    """The paper's tables, by name, and figures, of the first seed, with all their configurations checked."""
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
    first = next(
        line for group in (*(s.lines for s in sections), *drawn.values()) for line in group
    ).configs[0]
    width = "" if first.net.width == 1 else f"-w{first.net.width:g}"
    return Study(name, first.data.file_name + width, options, tuple(sections), drawn)


def comparison(variants: Iterable[str], options: Options, data: Dataset, *, seeds: int) -> Study:
    """Methods with the same network, recipe and seeds beside each other, as a table of its own."""
    rows = tuple(paper.Row(options.overrides["net"], variant, variant) for variant in variants)
    made = [_line(row, options, data, seeds, 1.0) for row in rows]
    first, notes = made[0][0].configs[0], made[-1][1]
    title = f"{first.net.name} on {data.name}{first.how}, {first.recipe.epochs} epochs"
    section = Section(paper.Table(title, rows), tuple(line for line, _ in made), "", notes)
    return Study(COMPARISON, first.subject, options, (section,))


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
    if len(nets) < len({row.net for row in (paper.TABLES | paper.OWN)[name].rows}):
        words.append(f"--nets {','.join(nets)}")
    words.append(options.arguments)
    if shorten != 1:
        words.append(f"--shorten {shorten:g}")
    return " ".join([*words, f"--seeds {seeds}"])
