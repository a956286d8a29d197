"""Tables and pictures of finished runs: what smoothing did to accuracy and to the layers."""

from __future__ import annotations

import math
import pathlib
import statistics
from typing import Any

import numpy as np

from experiments import nets
from experiments.config import Run
from experiments.machine.files import write_json, write_text
from experiments.run import results
from experiments.run.results import Summary, spread
from experiments.run.weights import convolutions, load_weights
from lgnn_jax import Grid
from lgnn_jax.inspect import plots


def accuracies(runs: dict[str, list[Summary]]) -> list[dict[str, Any]]:
    """A row a variant: its test accuracies, their median, and its paired differences to the baseline.

    Args:
      runs: Summaries by variant, in the order of the seeds, which are the same for every variant.
    """
    baseline = [run["test_accuracy"] for run in runs.get("baseline", [])]
    rows = []
    for variant, summaries in runs.items():
        values = [run["test_accuracy"] for run in summaries]
        paired = [value - other for value, other in zip(values, baseline, strict=True)] if baseline else []
        rows.append(
            {
                "variant": variant,
                "median": statistics.median(values),
                "all": values,
                "paired_differences": paired if variant != "baseline" else [],
            }
        )
    return rows


def topographies(runs: dict[str, list[Summary]]) -> list[dict[str, Any]]:
    """A row a convolution: its grid, and every variant's neighbour cosine with its null, mean over seeds.

    The band of the null is that of the mean: the seeds' deviations added as independent ones. A layer
    whose cosine is not defined in one of the runs has None.
    """
    grids = next(iter(runs.values()))[0]["grids"]
    rows = []
    for layer, grid in grids.items():
        row: dict[str, Any] = {"layer": layer, "grid": grid, "variants": {}}
        for variant, summaries in runs.items():
            scores = [run["neighbour_cosine"][layer] for run in summaries]
            row["variants"][variant] = _mean_score(scores) if all(scores) else None
        rows.append(row)
    return rows


def _mean_score(scores: list[dict[str, float]]) -> dict[str, float]:
    value, centre = (statistics.fmean(score[field] for score in scores) for field in ("value", "null_mean"))
    below, above = (
        math.hypot(*(score[field] - score["null_mean"] for score in scores)) / len(scores)
        for field in ("null_low", "null_high")
    )
    z = sum(score["z"] for score in scores) / math.sqrt(len(scores))
    return {
        "value": value,
        "null_mean": centre,
        "null_low": centre - below,
        "null_high": centre + above,
        "z": z,
    }


def markdown(title: str, runs: dict[str, list[Summary]], notes: tuple[str, ...] = ()) -> str:
    """Both tables as Markdown."""
    seeds = len(next(iter(runs.values())))
    lines = [f"### {title}", "", *(f"{note}." for note in notes), *([""] if notes else [])]
    lines += [
        f"Test accuracy in % after the last epoch, {seeds} paired seed{'s' if seeds > 1 else ''}.",
        "",
    ]
    lines += table(
        ["variant", "median", "all", "difference to baseline: mean (all)"],
        [
            [
                row["variant"],
                f"{row['median']:.2%}"[:-1],
                " ".join(f"{value:.2%}"[:-1] for value in row["all"]),
                _differences(row["paired_differences"]),
            ]
            for row in accuracies(runs)
        ],
    )
    lines += ["", *topography_lines(runs)]
    return "\n".join(lines) + "\n"


def topography_lines(runs: dict[str, list[Summary]]) -> list[str]:
    """The table of :func:`topographies` as Markdown, with what it shows."""
    return [
        "Neighbour cosine: how alike the filters of neighbouring grid units are, from -1 to 1, mean over "
        "seeds. In brackets the null, what chance gives: 95 % of 1000 random relabellings of the same filters.",
        "",
        *table(
            ["layer", "grid", *runs],
            [
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
                for row in topographies(runs)
            ],
        ),
    ]


def _differences(values: list[float]) -> str:
    if not values:
        return "-"
    each = " ".join(f"{value * 100:+.2f}" for value in values)
    return f"{statistics.fmean(values) * 100:+.2f} ({each})"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with columns of even width, readable as plain text."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)) + " |"
        for row in [header, *rows]
    ]
    return [lines[0], "|" + "|".join("-" * (size + 2) for size in widths) + "|", *lines[1:]]


def write(
    title: str,
    configs: dict[str, list[Run]],
    folders: dict[str, list[pathlib.Path]],
    out: pathlib.Path,
    notes: tuple[str, ...] = (),
) -> str:
    """Writes ``table.md``, ``table.json`` and pictures of the first seed's networks to ``out``.

    Returns:
      The tables as Markdown.
    """
    runs = {variant: [results.read(folder) for folder in paths] for variant, paths in folders.items()}
    table = markdown(title, runs, notes)
    write_text(out / "table.md", table)
    write_json(
        out / "table.json",
        {
            "title": title,
            "notes": notes,
            "accuracy": accuracies(runs),
            "neighbour_cosine": topographies(runs),
            "runs": {variant: [path.name for path in paths] for variant, paths in folders.items()},
        },
    )
    layers = {
        variant: convolutions(configs[variant][0], load_weights(paths[0])["params"])
        for variant, paths in folders.items()
    }
    _draw(layers, configs[next(iter(folders))][0].net.name, out)
    return table


def _draw(layers: dict[str, dict[str, tuple[Grid, np.ndarray]]], net: str, out: pathlib.Path) -> None:
    """Pictures of networks of a kind, given as grids and kernels of their layers by variant."""
    grids = {name: grid for name, (grid, _) in next(iter(layers.values())).items()}
    first = next(iter(grids))
    most = max(grid.units for grid in grids.values())
    role = nets.NETS[net].role
    large = next(name for name, grid in grids.items() if grid.units == most and role(name) != nets.SHORTCUT)

    def kernels(name: str) -> dict[str, np.ndarray]:
        return {variant: found[name][1] for variant, found in layers.items()}

    figure, _ = plots.first_layer(kernels(first), grids[first])
    figure.suptitle(
        "first layer, first seed; every filter from its smallest to its largest weight", fontsize=9
    )
    figure.savefig(out / "first_layer.png", dpi=150)
    rows, columns = grids[large].shape[0], grids[large].shape[-1]
    chosen = {(rows // 4, columns // 4), (rows // 2, columns // 2), (3 * rows // 4, 3 * columns // 4)}
    units = sorted(row * columns + column for row, column in chosen)
    figure, _ = plots.correlation_maps(kernels(large), grids[large], units)
    figure.suptitle(f"{nets.layer_name(large)}, first seed", fontsize=11)
    figure.savefig(out / "correlations.png", dpi=150)
    short = {name: nets.layer_name(name) for name in spread(list(grids), 8)}
    figure, _ = plots.offset_maps(
        {variant: {short[name]: found[name][1] for name in short} for variant, found in layers.items()},
        {short[name]: grids[name] for name in short},
    )
    figure.suptitle("first seed; grey: no such pair of filters", fontsize=9)
    figure.savefig(out / "organisation.png", dpi=150)
