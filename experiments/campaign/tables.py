"""The paper's tables from the summaries of however many of their runs are finished."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.campaign import paired, report
from experiments.campaign.paper import Row, Table
from experiments.config import Run
from experiments.machine.files import write_json, write_text
from experiments.recipes import recipe
from experiments.run import results
from experiments.run.progress import duration
from lgnn_jax.inspect import magnitudes

Entry = dict[str, Any]
_NOT_YET = "not yet run"


@dataclasses.dataclass(frozen=True)
class Line:
    """A row made concrete: its runs, one a seed from 0, and whether the paper's numbers apply."""

    row: Row
    configs: tuple[Run, ...]
    comparable: bool


@dataclasses.dataclass(frozen=True)
class Section:
    """A table of concrete rows, with the command that makes it and sentences on what was adapted."""

    table: Table
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


def gather(section: Section, out: pathlib.Path) -> list[Entry]:
    """What is known of every row: plain values for JSON, None where nothing is known yet."""
    found = [_summaries(line, out) for line in section.lines]
    baselines = {
        line.row.net: runs
        for line, runs in reversed(list(zip(section.lines, found, strict=True)))
        if line.row.variant == "baseline"
    }
    entries = []
    for line, runs in zip(section.lines, found, strict=True):
        seeds = range(len(line.configs))
        values = [runs[seed]["test_accuracy"] if seed in runs else None for seed in seeds]
        known = [value for value in values if value is not None]
        entries.append(
            {
                "net": line.row.net,
                "row": line.row.label,
                "runs": [config.name for config in line.configs],
                "test_accuracy": values,
                "median": statistics.median(known) if known else None,
                "paper_median": line.row.accuracy if line.comparable else None,
                "difference": None
                if line.row.variant == "baseline"
                else difference(runs, baselines[line.row.net]),
                "magnitudes": [_magnitudes(run) for run in runs.values()],
                "paper_magnitudes": line.row.magnitudes if line.comparable else None,
                "commits": [
                    (runs[seed]["commits"] or ["unknown"]) if seed in runs else None for seed in seeds
                ],
                **_origin(runs.values()),
            }
        )
    return entries


def _summaries(line: Line, out: pathlib.Path) -> dict[int, results.Summary]:
    """The summaries of a row's finished runs by seed."""
    folders = {config.seed: results.find(config, out) for config in line.configs}
    return {seed: results.read(folder) for seed, folder in folders.items() if folder is not None}


def difference(runs: dict[int, results.Summary], baseline: dict[int, results.Summary]) -> Entry | None:
    """The difference to the baseline over the seeds that both have, of 1; None if there is none."""
    seeds = sorted(runs.keys() & baseline.keys())
    if not seeds:
        return None
    each = [runs[seed]["test_accuracy"] - baseline[seed]["test_accuracy"] for seed in seeds]
    ours, theirs = (
        np.stack([results.correct(group[seed]) for seed in seeds]) for group in (runs, baseline)
    )
    return {
        "seeds": seeds,
        "each": each,
        "mean": statistics.fmean(each),
        "t_interval": paired.t_interval(each),
        "bootstrap_interval": paired.bootstrap_interval(ours, theirs),
    }


def _magnitudes(summary: results.Summary) -> Entry | None:
    """The statistics of Table III; None where they are not defined."""
    norms = np.array(summary["first_layer_magnitudes"])
    try:
        found = magnitudes(norms[None])._asdict()
    except ValueError:  # All are zero.
        return None
    return {"log_deviation" if name == "log_std" else name: value for name, value in found.items()}


def _origin(runs: Iterable[results.Summary]) -> Entry:
    """Where and with what runs were made, and how long one took."""
    runs = list(runs)
    return {
        "hardware": sorted({_hardware(run) for run in runs}),
        "seconds": statistics.median(run["seconds"] for run in runs) if runs else None,
    }


def _hardware(summary: results.Summary) -> str:
    versions = summary["versions"]
    return f"{results.hardware(**summary['hardware'])}, jax {versions['jax']}, Python {versions['python']}"


def markdown(section: Section, entries: list[Entry], out: pathlib.Path) -> str:
    """A section as Markdown: its table, what its columns mean, topography, and where every row is from."""
    comparable = any(line.comparable for line in section.lines)
    notes = [*section.table.notes, *(section.table.paper_notes if comparable else ()), *section.notes]
    lines = [f"### {section.title}", "", *(f"- {note}." for note in notes), *([""] if notes else [])]
    if section.table.of_magnitudes:
        lines += _magnitude_lines(entries, comparable)
    else:
        lines += _accuracy_lines(entries, comparable)
        for net in dict.fromkeys(line.row.net for line in section.lines):
            runs = {
                line.row.label: list(_summaries(line, out).values())
                for line in section.lines
                if line.row.net == net
            }
            runs = {label: summaries for label, summaries in runs.items() if summaries}
            if runs:
                lines += ["", f"#### {net}", "", *report.topography_lines(runs)]
    lines += ["", "#### Where every row is from", "", f"`{section.command}`", ""]
    lines += report.table(
        ["net", "row", "commit (by seed)", "hardware", "time of a run (median)"],
        [
            [
                entry["net"],
                entry["row"],
                _commits(entry["commits"]),
                "; ".join(entry["hardware"]) or "-",
                "-" if entry["seconds"] is None else duration(entry["seconds"]),
            ]
            for entry in entries
        ],
    )
    return "\n".join(lines) + "\n"


def _commits(each: list[list[str] | None]) -> str:
    """Which commits made the run of every seed; one that was interrupted may be made by several."""
    made = [" then ".join(commits or ["-"]) for commits in each]
    return "; ".join(made if len(set(made)) > 1 else made[:1])


def _accuracy_lines(entries: list[Entry], comparable: bool) -> list[str]:
    seeds = len(entries[0]["runs"])
    header = ["net", "row", "median", "all, by seed"] + ["paper's median"] * comparable
    header += ["difference to baseline: mean", "t interval", "bootstrap interval"]
    header += ["paper's difference"] * comparable
    baselines = {entry["net"]: entry["paper_median"] for entry in reversed(entries)}
    rows = []
    for entry in entries:
        change, theirs = entry["difference"] or {}, entry["paper_median"]
        row = [entry["net"], entry["row"], *_accuracies(entry["test_accuracy"], entry["median"])]
        row += [_number(theirs, "{:.2f}")] * comparable
        row += [
            _number(change.get("mean"), "{:+.2%}")
            + _out_of(len(change["seeds"]) if change else 0, seeds, bool(change)),
            _interval(change.get("t_interval")),
            _interval(change.get("bootstrap_interval")),
        ]
        if comparable:
            first = entry["difference"] is None or theirs is None
            row.append("-" if first else f"{theirs - baselines[entry['net']]:+.2f}")
        rows.append(row)
    return [
        f"Test accuracy in % after the last epoch, of {seeds} seed{'s' if seeds > 1 else ''}; a difference is in "
        "points, to the baseline of the same seed and so the same initialisation and order.",
        "",
        *report.table(header, rows),
        "",
        f"- {paired.T_INTERVAL}.",
        f"- {paired.BOOTSTRAP_INTERVAL}.",
    ]


def _accuracies(values: list[float | None], median: float | None) -> list[str]:
    """The median and all values as two cells."""
    if median is None:
        return [_NOT_YET, "-"]
    finished = sum(value is not None for value in values)
    return [
        f"{median:.2%}"[:-1] + _out_of(finished, len(values), True),
        " ".join(_number(value, "{:.2%}") for value in values),
    ]


def _out_of(count: int, planned: int, shown: bool) -> str:
    """How many of the seeds a number is of, if not of all."""
    return f" ({count} of {planned})" if shown and count < planned else ""


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value).removesuffix("%")


def _interval(value: tuple[float, float] | None) -> str:
    return "-" if value is None else f"{value[0] * 100:+.2f} to {value[1] * 100:+.2f}"


def _magnitude_lines(entries: list[Entry], comparable: bool) -> list[str]:
    names = {"smallest": "smallest", "largest": "largest", "log_deviation": "deviation of log"}
    names |= {"small": "under 1e-3 of the median", "zero": "exactly zero"}
    rows = []
    for entry in entries:
        known = [values for values in entry["magnitudes"] if values is not None]
        cells = [_middle([values[name] for values in known]) for name in names]
        theirs = entry["paper_magnitudes"]
        paper = "-" if theirs is None else " / ".join(f"{value:g}" for value in theirs)
        row = [entry["net"], entry["row"], *(cells if known else [_NOT_YET, *["-"] * (len(names) - 1)])]
        rows.append([*row, *[paper] * comparable])
    seeds = len(entries[0]["runs"])
    return [
        f"Median over {seeds} seed{'s' if seeds > 1 else ''}, in brackets the lowest and the highest: the smallest "
        "of a few dozen filters says little of one network"
        + (", and the paper gives one number and does not say of which." if comparable else "."),
        "",
        *report.table(
            ["net", "row", *names.values(), *["paper: smallest / largest / deviation of log"] * comparable],
            rows,
        ),
    ]


def _middle(values: list[float]) -> str:
    """The median, and the range if there is one."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{statistics.median(values):.4g}" + (f" ({low:.4g} to {high:.4g})" if low < high else "")


def write(sections: list[Section], out: pathlib.Path, target: pathlib.Path) -> str:
    """Writes ``table.md`` and ``table.json`` to ``target``, of the runs that are finished in ``out`` or published.

    Returns:
      The tables as Markdown.
    """
    gathered = [gather(section, out) for section in sections]
    text = "\n".join(
        markdown(section, entries, out) for section, entries in zip(sections, gathered, strict=True)
    )
    content = [
        {"title": section.title, "command": section.command, "notes": section.notes, "rows": entries}
        for section, entries in zip(sections, gathered, strict=True)
    ]
    write_text(target / "table.md", text)
    write_json(target / "table.json", {"tables": content})
    return text
