"""From the summaries of finished runs to rows of plain values, of however many there are."""

from __future__ import annotations

import math
import pathlib
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.run import results
from experiments.study import paired
from experiments.study.orders import orders
from experiments.study.study import Line, Section
from lgnn_jax.inspect import magnitudes

Entry = dict[str, Any]


def rows(section: Section, out: pathlib.Path) -> list[Entry]:
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
                else difference(runs, baselines.get(line.row.net, {})),
                "magnitudes": [_magnitudes(run) for run in runs.values()],
                "paper_magnitudes": line.row.magnitudes if line.comparable else None,
                "commits": [
                    (runs[seed]["commits"] or ["unknown"]) if seed in runs else None for seed in seeds
                ],
                **_origin(runs.values()),
                "topography": _topography(list(runs.values())),
                "order": orders(line.row.net, list(runs.values())),
            }
        )
    return entries


def by_layer(entries: list[Entry]) -> list[Entry]:
    """A row a convolution: its grid, and every finished row's neighbour cosine with its null, mean over seeds."""
    known = {entry["row"]: entry["topography"] for entry in entries if entry["topography"]}
    first = next(iter(known.values()), {})
    return [
        {
            "layer": layer,
            "grid": score["grid"],
            "variants": {label: layers[layer]["score"] for label, layers in known.items()},
        }
        for layer, score in first.items()
    ]


def _summaries(line: Line, out: pathlib.Path) -> dict[int, results.Summary]:
    """The summaries of a row's finished runs by seed."""
    folders = {config.seed: results.find(config, out) for config in line.configs}
    return {seed: results.read(folder) for seed, folder in folders.items() if folder is not None}


def _topography(runs: list[results.Summary]) -> Entry:
    """Grid and neighbour cosine by layer, mean over seeds.

    The band of the null is that of the mean: the seeds' deviations added as independent ones. A layer
    whose cosine is not defined in one of the runs has None.
    """
    found = {}
    for layer, grid in runs[0]["grids"].items() if runs else ():
        scores = [run["neighbour_cosine"][layer] for run in runs]
        found[layer] = {"grid": grid, "score": _mean_score(scores) if all(scores) else None}
    return found


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
    versions, together = summary["versions"], summary.get("together", 1)
    others = f", {together} runs at once" if together > 1 else ""
    where = results.hardware(**summary["hardware"])
    return f"{where}{others}, jax {versions['jax']}, Python {versions['python']}"
