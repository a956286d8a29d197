"""What is claimed of ordered networks as tables, of what :mod:`experiments.study.claims` measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.markdown import table
from experiments.study.claims import ABLATED_IMAGES, ARRANGED, DRAWS, IMAGES, NATIVE

Entry = dict[str, Any]


def means(each: Sequence[Mapping[str, Any]]) -> Entry:
    """Means over runs of all their numbers but those by layer; empty if there is none."""
    return _means([{key: value for key, value in one.items() if key != "preferences"} for one in each])


def _means(each: Sequence[Any]) -> Any:
    if not each:
        return {}
    if isinstance(each[0], Mapping):
        return {key: _means([one[key] for one in each if key in one]) for key in each[0]}
    known = [value for value in each if isinstance(value, int | float)]
    return statistics.fmean(known) if known else None


def lines(entries: Sequence[Entry]) -> list[str]:
    """The tables as Markdown; nothing where nothing is measured."""
    known = [(entry["row"], entry["claims"]) for entry in entries if entry["claims"]]
    return [*_robustness(known), *_pruning(known), *_regions(known)] if known else []


def _robustness(known: Sequence[tuple[str, Entry]]) -> list[str]:
    first = known[0][1]
    header = ["row", "as it is"]
    header += [f"noise {float(share):.0%}" for share in first["weight_noise"]]
    header += [name for name in first["corruptions"]] + ["mean of corruptions"]
    cells = [
        [
            row,
            _percent(found["accuracy"]),
            *map(_percent, found["weight_noise"].values()),
            *map(_percent, found["corruptions"].values()),
            _percent(statistics.fmean(found["corruptions"].values())),
        ]
        for row, found in known
    ]
    return [
        f"Robustness: accuracy in % on up to {IMAGES} held-out images, of every class alike. First with Gaussian "
        f"noise on the weights, as long as a share of every kernel's norm (means of {DRAWS} draws), then with the "
        "images made worse.",
        "",
        *table(header, cells),
        "",
    ]


def _pruning(known: Sequence[tuple[str, Entry]]) -> list[str]:
    titles = {"scattered": "scattered", NATIVE: "together", ARRANGED: "together, arranged"}
    header = ["row", "none"]
    header += [
        f"{float(share):.0%} {title}" for share in known[0][1]["pruning"] for title in titles.values()
    ]
    cells = [
        [
            row,
            _percent(found["accuracy"]),
            *(_percent(kinds[kind]) for kinds in found["pruning"].values() for kind in titles),
        ]
        for row, found in known
    ]
    return [
        "Pruning: accuracy in % of the same images without a share of every layer's filters. They are scattered at "
        "random, or lie together on the grid, as trained and with the units arranged by responses; means of "
        f"{DRAWS} draws.",
        "",
        *table(header, cells),
        "",
    ]


def _regions(known: Sequence[tuple[str, Entry]]) -> list[str]:
    header = ["row", "order", "regions", "units", "own", "random units", "others"]
    header += ["probe: blocks", "probe: random blocks", "probe: all"]
    cells = []
    for row, found in known:
        for order in (NATIVE, ARRANGED):
            ablated, probe = found["ablation"][order], found["probe"]
            cells.append(
                [
                    row if order == NATIVE else "",
                    "as trained" if order == NATIVE else order,
                    _number(ablated["regions"], "{:.0f}"),
                    _number(ablated["units"], "{:.1f}"),
                    *(_points(ablated[name]) for name in ("own", "random", "others")),
                    _percent(probe.get(order)),
                    *(_percent(probe.get(name)) if order == NATIVE else "" for name in ("random", "all")),
                ]
            )
    return [
        "Regions of the last layer. Ablating the largest region of every superclass changes accuracy by so many "
        f"points, on up to {ABLATED_IMAGES} images: that on its own superclass, the same with as many random "
        "units, and that on all others. The probe is linear, on responses averaged over blocks of 2x2 units, over "
        "as many random units, and on all of them; accuracy in %.",
        "",
        *table(header, cells),
        "",
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
