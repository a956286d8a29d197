"""Accuracy against order: the runs of a plan as one table and one figure, of however many are finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments import nets
from experiments.config import Run
from experiments.data import Dataset
from experiments.machine.files import write_json, write_text
from experiments.markdown import table
from experiments.nets import ordering
from experiments.options import Options
from experiments.run import results
from experiments.run.log import METRICS as LOG
from experiments.study import claims, claims_tables, paired
from experiments.study.claims import ARRANGED, NATIVE, ORDERS
from experiments.study.frame import difference
from experiments.study.plan import Plan

Entry = dict[str, Any]

COSINE, CORRELATION, MORAN, DPQ = AXES = ("cosine", "correlation", "moran", "dpq")
# What order is measured by: its title, its metrics, of which the first that is known counts, and what the
# arranged network is arranged by.
_ORDER: dict[str, tuple[str, tuple[str, ...], str]] = {
    COSINE: ("neighbour cosine of weights", ("weights: neighbour cosine",), ordering.WEIGHTS),
    CORRELATION: (
        "neighbour correlation of responses",
        ("responses: neighbour correlation",),
        ordering.RESPONSES,
    ),
    MORAN: (
        "Moran's I of selectivity",
        ("responses: Moran's I of superclass selectivity", "responses: Moran's I of selectivity"),
        ordering.RESPONSES,
    ),
    DPQ: ("DPQ of responses", ("responses: distance preservation quality",), ordering.RESPONSES),
}
_GUARDS = {
    "dimension": "responses: effective dimension",
    "dead": "weights: dead filters",
    "constant": "responses: constant units",
}
_NOT_YET = "not yet run"


@dataclasses.dataclass(frozen=True)
class Line:
    """A row made concrete: its runs, one a seed."""

    name: str
    configs: tuple[Run, ...]

    @property
    def baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.configs[0].method.name == "baseline"


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The runs of a plan, and where tables and figures of them go."""

    name: str
    title: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    folder: pathlib.Path
    out: pathlib.Path

    @property
    def runs(self) -> list[Run]:
        """Every run in the order in which they are made: the seeds in turn, and of a seed the baseline first."""
        made = [
            (config.seed, not line.baseline, at, config)
            for at, line in enumerate(self.lines)
            for config in line.configs
        ]
        return [config for *_, config in sorted(made, key=lambda each: each[:3])]

    @property
    def groups(self) -> list[tuple[str, Sequence[Run]]]:
        """The runs of every row, by its name."""
        return [(line.name, line.configs) for line in self.lines]


def prepare(plan: Plan, options: Options, data: Dataset) -> Frontier:
    """A plan with all its configurations checked.

    Raises:
      click.UsageError: If a run cannot be made of this data set.
    """
    made = [(row.name, *plan.runs(row, options, data)) for row in plan.rows]
    lines = tuple(Line(name, configs) for name, configs, _ in made)
    first = lines[0].configs[0]
    names = "\n".join(sorted(config.name for line in lines for config in line.configs))
    digest = hashlib.sha256(names.encode()).hexdigest()[:8]
    title = f"{plan.title}: {first.net.name} on {data.name}{first.how}, {first.recipe.epochs} epochs"
    folder = options.out / f"{plan.name}-{first.subject}-{digest}"
    notes = tuple(dict.fromkeys(note for *_, notes in made for note in notes))
    return Frontier(plan.title, title, lines, notes, folder, options.out)


def entries(made: Frontier) -> list[Entry]:
    """What is known of every row, means over its finished seeds: plain values for JSON."""
    found = [_values(line, made.out) for line in made.lines]
    base = next(
        (runs for line, runs in zip(made.lines, found, strict=True) if line.baseline),
        {},
    )
    return [_entry(line, runs, base) for line, runs in zip(made.lines, found, strict=True)]


def _entry(line: Line, runs: Mapping[int, Entry], base: Mapping[int, Entry]) -> Entry:
    known = list(runs.values())
    shared = [] if line.baseline else sorted(runs.keys() & base.keys())
    return {
        "row": line.name,
        "variant": line.configs[0].method.name,
        "runs": [config.name for config in line.configs],
        "seeds": sorted(runs),
        "test_accuracy": [runs[seed]["accuracy"] for seed in sorted(runs)],
        "accuracy": _mean([each["accuracy"] for each in known]),
        "order": {
            axis: {order: _mean([each[axis][order] for each in known]) for order in ORDERS} for axis in AXES
        },
        "regions": {
            what: {
                order: _columns([each["regions"][what][order] for each in known if each["regions"]])
                for order in ORDERS
            }
            for what in ("count", "largest")
        },
        **{name: _mean([each[name] for each in known]) for name in _GUARDS},
        "rate": _mean([_ratio(runs[seed]["rate"], base[seed]["rate"]) for seed in shared]),
        "differences": _differences(runs, base, shared),
        "claims": claims_tables.means([each["claims"] for each in known if each["claims"]]),
    }


def _values(line: Line, out: pathlib.Path) -> dict[int, Entry]:
    """What is known of every finished run of a row, by seed."""
    found = {}
    for config in line.configs:
        folder = results.find(config, out)
        if folder is None:
            continue
        summary, claimed, net = results.read(folder), claims.read(folder), config.net.name
        blocks = {NATIVE: summary["topography"], **summary.get("arranged", {})}
        found[config.seed] = {
            "summary": summary,
            "accuracy": summary["test_accuracy"],
            **{
                axis: {
                    NATIVE: _layers(net, blocks[NATIVE], names),
                    ARRANGED: _layers(net, blocks.get(by), names),
                }
                for axis, (_, names, by) in _ORDER.items()
            },
            **{name: _layers(net, blocks[NATIVE], (metric,)) for name, metric in _GUARDS.items()},
            "rate": _rate(folder),
            "claims": claimed,
            "regions": _regions(net, claimed["preferences"]) if claimed else None,
        }
    return found


def _layers(net: str, block: Any, names: Sequence[str]) -> float | None:
    """The mean over the layers after the first, of the first metric that is known."""
    known = [name for name in names if block and name in block["metrics"]]
    if not known:
        return None
    return _mean(
        [
            value
            for layer, value in zip(block["layers"], block["metrics"][known[0]]["value"], strict=True)
            if nets.NETS[net].role(layer) != nets.STEM
        ]
    )


def _regions(net: str, preferences: Mapping[str, Any]) -> Entry:
    """Likewise of how many regions there are and how large: the value and its null's ends."""
    layers = [found for path, found in preferences.items() if nets.NETS[net].role(path) != nets.STEM]
    return {
        what: {order: _columns([layer[order][what] for layer in layers]) for order in ORDERS}
        for what in ("count", "largest")
    }


def _columns(scores: Sequence[Entry | None]) -> Entry | None:
    known = [score for score in scores if score]
    return {column: _mean([score[column] for score in known]) for column in known[0]} if known else None


def _rate(folder: pathlib.Path) -> float | None:
    """Images a second, the median of a run's epochs; None if the log is not there or does not say."""
    try:
        lines = [json.loads(line) for line in (folder / LOG).read_text("utf-8").splitlines()]
        rates = [line["images_per_second"] for line in lines if line["images_per_second"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return statistics.median(rates) if rates else None


def _differences(runs: Mapping[int, Entry], base: Mapping[int, Entry], shared: list[int]) -> Entry:
    """Of what is compared seed by seed the differences to the baseline, and their t interval."""
    if not shared:
        return {}
    ours, theirs = ({seed: group[seed]["summary"] for seed in shared} for group in (runs, base))
    found: Entry = {"accuracy": difference(ours, theirs)}
    for axis in AXES:
        pairs = [(runs[seed][axis][NATIVE], base[seed][axis][NATIVE]) for seed in shared]
        each = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
        if each:
            found[axis] = {"each": each, "mean": _mean(each), "t_interval": paired.t_interval(each)}
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours and theirs else None


def write(made: Frontier, draw: Callable[[list[Entry], str, pathlib.Path], object]) -> str:
    """Writes ``table.md``, ``table.json`` and, with ``draw``, ``frontier.png`` of the runs that are finished.

    Returns:
      The tables as Markdown.
    """
    found = entries(made)
    text = markdown(made, found)
    write_text(made.folder / "table.md", text)
    write_json(made.folder / "table.json", {"title": made.title, "notes": made.notes, "rows": found})
    if any(entry["accuracy"] is not None for entry in found):
        draw(found, made.title, made.folder / "frontier.png")
    return text


def markdown(made: Frontier, found: list[Entry]) -> str:
    """The tables: accuracy and order, paired differences where there are two seeds, and what is claimed."""
    lines = [f"### {made.title}", "", *(f"- {note}." for note in made.notes), *([""] if made.notes else [])]
    lines += [*_order_lines(made, found), *_paired_lines(found), *claims_tables.lines(found)]
    return "\n".join(lines) + "\n"


def _order_lines(made: Frontier, found: list[Entry]) -> list[str]:
    header = ["row", "accuracy", "to baseline"]
    header += [f"{_ORDER[axis][0]}" + "*" * (axis == COSINE) for axis in AXES]
    header += ["regions (chance)", "largest (chance)", "dimension", "dead", "images/s"]
    cells = []
    for entry, line in zip(found, made.lines, strict=True):
        if entry["accuracy"] is None:
            cells.append([entry["row"], _NOT_YET, *["-"] * (len(header) - 2)])
            continue
        change = entry["differences"].get("accuracy")
        done = len(entry["seeds"])
        partly = f" ({done} of {len(line.configs)})" if done < len(line.configs) else ""
        cells.append(
            [
                entry["row"],
                f"{100 * entry['accuracy']:.2f}{partly}",
                "-" if change is None else f"{100 * change['mean']:+.2f}",
                *(_pair(entry["order"][axis], "{:.2f}") for axis in AXES),
                *(_with_chance(entry["regions"][what]) for what in ("count", "largest")),
                _number(entry["dimension"], "{:.1f}"),
                _dead(entry),
                "1" if line.baseline else _number(entry["rate"], "{:.2f}"),
            ]
        )
    return [
        "Test accuracy in % after the last epoch; means over seeds and over all layers but the first. A number of "
        "order is that of the units as trained, then that of the same network arranged afterwards.",
        "",
        *table(header, cells),
        "",
        "- Weights are arranged by weights (*: they are what the order was fitted on), responses by those to "
        "training images; they are measured on held-out images.",
        "- DPQ: distance preservation quality, 1 is as near as can be, 0 no order.",
        "- Regions: neighbouring units that prefer the same superclass (class, where there are none). Chance: 95 % "
        "of 1000 random relabellings, of the units as trained.",
        "- Dimension: effective, of the responses. Dead: the share of filters of no weight, and units that respond "
        "to all images alike.",
        "- Images/s: of training, beside the baseline of the same seed; other work on the machine counts.",
        "",
    ]


def _paired_lines(found: list[Entry]) -> list[str]:
    if not any(len(change["each"]) > 1 for entry in found for change in entry["differences"].values()):
        return []
    header = ["row", "seeds", "accuracy, points", *(_ORDER[axis][0] for axis in AXES)]
    cells = []
    for entry in found:
        changes = entry["differences"]
        if changes:
            cells.append(
                [
                    entry["row"],
                    str(len(changes["accuracy"]["each"])),
                    _interval(changes["accuracy"], 100),
                    *(_interval(changes.get(axis), 1) for axis in AXES),
                ]
            )
    return [
        "Paired differences to the baseline, as trained: mean (t interval).",
        "",
        *table(header, cells),
        "",
        f"- {paired.T_INTERVAL}.",
        "",
    ]


def _interval(change: Entry | None, factor: float) -> str:
    if change is None:
        return "-"
    text = f"{factor * change['mean']:+.2f}"
    interval = change["t_interval"]
    return (
        text if interval is None else f"{text} ({factor * interval[0]:+.2f} to {factor * interval[1]:+.2f})"
    )


def _pair(values: Mapping[str, float | None], form: str) -> str:
    return ", ".join(_number(values[order], form) for order in ORDERS)


def _with_chance(scores: Mapping[str, Entry | None]) -> str:
    native, arranged = (scores[order] for order in ORDERS)
    if native is None or arranged is None:
        return "-"
    chance = f"{native['null_low']:.0f} to {native['null_high']:.0f}"
    return f"{native['value']:.1f}, {arranged['value']:.1f} ({chance})"


def _dead(entry: Entry) -> str:
    share, constant = entry["dead"], entry["constant"]
    return f"{_number(share, '{:.1%}')}, {_number(constant, '{:.1f}')}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
