"""Rows as Markdown and JSON: the paper's tables, and a comparison of methods."""

from __future__ import annotations

import statistics

from experiments import nets
from experiments.machine.files import write_json, write_text
from experiments.markdown import table
from experiments.run.progress import duration
from experiments.study import orders, paired
from experiments.study.frame import Entry, by_layer, rows
from experiments.study.study import COMPARISON, Section, Study

_NOT_YET = "not yet run"


def write(study: Study) -> str:
    """Writes ``table.md`` and ``table.json`` of the runs that are finished or published to the study's folder.

    Returns:
      The tables as Markdown; empty if there is none.
    """
    if not study.sections:
        return ""
    gathered = [(section, rows(section, study.options.out)) for section in study.sections]
    if study.name == COMPARISON:
        ((section, entries),) = gathered
        text, content = _comparison(section, entries), _plain_comparison(section, entries)
    else:
        text = "\n".join(markdown(section, entries) for section, entries in gathered)
        content = {"tables": [_plain(section, entries) for section, entries in gathered]}
    write_text(study.folder / "table.md", text)
    write_json(study.folder / "table.json", content)
    return text


def _plain(section: Section, entries: list[Entry]) -> Entry:
    """A section for JSON."""
    kept = [
        {
            name: value
            for name, value in entry.items()
            if name != "topography" and (value or name != "order")
        }
        for entry in entries
    ]
    return {"title": section.title, "command": section.command, "notes": section.notes, "rows": kept}


def _plain_comparison(section: Section, entries: list[Entry]) -> Entry:
    """A comparison for JSON."""
    return {
        "title": section.table.title,
        "notes": section.notes,
        "accuracy": [
            {
                "variant": entry["row"],
                "median": entry["median"],
                "all": entry["test_accuracy"],
                "paired_differences": (entry["difference"] or {}).get("each", []),
            }
            for entry in entries
        ],
        "neighbour_cosine": by_layer(entries),
        "order": {entry["row"]: entry["order"] for entry in entries},
        "runs": {entry["row"]: entry["runs"] for entry in entries},
    }


def _comparison(section: Section, entries: list[Entry]) -> str:
    """A comparison as Markdown: its table, and topography."""
    seeds = len(entries[0]["runs"])
    lines = [f"### {section.table.title}", "", *(f"{note}." for note in section.notes)]
    lines += [
        *([""] if section.notes else []),
        f"Test accuracy in % after the last epoch, {seeds} paired seed{'s' if seeds > 1 else ''}.",
        "",
    ]
    header = ["variant", "median", "all", "difference to baseline: mean (all)"]
    cells = [
        [
            entry["row"],
            *_accuracies(entry["test_accuracy"], entry["median"]),
            _differences(entry["difference"]),
        ]
        for entry in entries
    ]
    shown = [*_topography_lines(entries), *_after(orders.lines(entries))]
    return "\n".join([*lines, *table(header, cells), "", *shown]) + "\n"


def _after(lines: list[str]) -> list[str]:
    """Lines that follow others, if there are any."""
    return ["", *lines] if lines else []


def _differences(change: Entry | None) -> str:
    if change is None:
        return "-"
    each = " ".join(f"{value * 100:+.2f}" for value in change["each"])
    return f"{change['mean'] * 100:+.2f} ({each})"


def _topography_lines(entries: list[Entry]) -> list[str]:
    """The table of :func:`experiments.study.frame.by_layer` as Markdown, with what it shows."""
    layers = by_layer(entries)
    if not layers:
        return []
    cells = [
        [
            nets.layer_name(row["layer"]),
            "x".join(map(str, row["grid"])),
            *(
                f"{score['value']:.2f} [{score['null_low']:.2f}, {score['null_high']:.2f}]"
                if score
                else "-"
                for score in row["variants"].values()
            ),
        ]
        for row in layers
    ]
    return [
        "Neighbour cosine: how alike the filters of neighbouring grid units are, from -1 to 1, mean over "
        "seeds. In brackets the null, what chance gives: 95 % of 1000 random relabellings of the same filters.",
        "",
        *table(["layer", "grid", *layers[0]["variants"]], cells),
    ]


def markdown(section: Section, entries: list[Entry]) -> str:
    """A section as Markdown: its table, what its columns mean, topography, and where every row is from."""
    comparable = any(line.comparable for line in section.lines)
    notes = [*section.table.notes, *(section.table.paper_notes if comparable else ()), *section.notes]
    lines = [f"### {section.title}", "", *(f"- {note}." for note in notes), *([""] if notes else [])]
    if section.table.of_magnitudes:
        lines += _magnitude_lines(entries, comparable)
    else:
        lines += _accuracy_lines(entries, comparable)
        for net in dict.fromkeys(entry["net"] for entry in entries):
            of_net = [entry for entry in entries if entry["net"] == net]
            shown = _topography_lines(of_net)
            lines += ["", f"#### {net}", "", *shown] if shown else []
            lines += _after(orders.lines(of_net))
    lines += ["", "#### Where every row is from", "", f"`{section.command}`", ""]
    lines += table(
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
    cells = []
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
        cells.append(row)
    return [
        f"Test accuracy in % after the last epoch, of {seeds} seed{'s' if seeds > 1 else ''}; a difference is in "
        "points, to the baseline of the same seed and so the same initialisation and order.",
        "",
        *table(header, cells),
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
    cells = []
    for entry in entries:
        known = [values for values in entry["magnitudes"] if values is not None]
        found = [_middle([values[name] for values in known]) for name in names]
        theirs = entry["paper_magnitudes"]
        paper = "-" if theirs is None else " / ".join(f"{value:g}" for value in theirs)
        row = [entry["net"], entry["row"], *(found if known else [_NOT_YET, *["-"] * (len(names) - 1)])]
        cells.append([*row, *[paper] * comparable])
    seeds = len(entries[0]["runs"])
    return [
        f"Median over {seeds} seed{'s' if seeds > 1 else ''}, in brackets the lowest and the highest: the smallest "
        "of a few dozen filters says little of one network"
        + (", and the paper gives one number and does not say of which." if comparable else "."),
        "",
        *table(
            ["net", "row", *names.values(), *["paper: smallest / largest / deviation of log"] * comparable],
            cells,
        ),
    ]


def _middle(values: list[float]) -> str:
    """The median, and the range if there is one."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{statistics.median(values):.4g}" + (f" ({low:.4g} to {high:.4g})" if low < high else "")
