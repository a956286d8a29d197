"""How much order rows of runs show: with their units as trained, and arranged afterwards."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from experiments import nets
from experiments.markdown import table
from experiments.nets import ordering
from experiments.run import results

Entry = dict[str, Any]

NATIVE = "as trained"
_TITLES = {
    NATIVE: NATIVE,
    ordering.WEIGHTS: "arranged by weights",
    ordering.RESPONSES: "arranged by responses",
}
_COSINE, _CORRELATION = "weights: neighbour cosine", "responses: neighbour correlation"
_MORAN = "responses: Moran's I of selectivity", "responses: Moran's I of superclass selectivity"


def orders(net: str, runs: Sequence[results.Summary]) -> dict[str, Entry]:
    """By order and metric the values of every layer after the first, means over seeds, and which are above chance.

    Empty for runs that were published before orders were measured. A layer is above chance where it exceeds its
    null in every run.
    """
    if not runs or not all("arranged" in run for run in runs):
        return {}
    found = {}
    for order in _TITLES:
        each = [run["topography"] if order == NATIVE else run["arranged"][order] for run in runs]
        fitted = [run["arranged"]["fitted"] for run in runs] if order == ordering.WEIGHTS else None
        found[order] = {name: _metric(net, name, each, fitted) for name in _measured(each)}
    return found


def _measured(each: list[Entry]) -> list[str]:
    """The metrics that are shown: of the two kinds of classes the larger ones, where there are such."""
    known = each[0]["metrics"]
    return [_COSINE, _CORRELATION, *[name for name in _MORAN if name in known][-1:]]


def _metric(net: str, name: str, each: list[Entry], fitted: list[Entry] | None) -> Entry:
    in_sample = fitted is not None and name == _COSINE
    layers, values, above = [], [], []
    for place, layer in enumerate(each[0]["layers"]):
        columns = [{key: column[place] for key, column in one["metrics"][name].items()} for one in each]
        nulls = [one[layer] for one in fitted] if in_sample and fitted else columns
        if nets.NETS[net].role(layer) == nets.STEM or any(one["value"] is None for one in columns):
            continue
        layers.append(layer)
        values.append(statistics.fmean(one["value"] for one in columns))
        above.append(
            all(one["value"] > null["null_high"] for one, null in zip(columns, nulls, strict=True))
        )
    return {"layers": layers, "values": values, "above": above, "in_sample": in_sample}


def lines(entries: list[Entry]) -> list[str]:
    """The table as Markdown, with what it shows; nothing where nothing is known."""
    known = [entry for entry in entries if entry["order"]]
    if not known:
        return []
    names = list(dict.fromkeys(name for entry in known for name in entry["order"][NATIVE]))
    cells = [
        [entry["row"], _TITLES[order], *(_cell(metrics.get(name)) for name in names)]
        for entry in known
        for order, metrics in entry["order"].items()
    ]
    return [
        "Order of the units: the lowest and the highest layer after the first, means over seeds. In brackets: how "
        "many layers are above chance, 97.5 % of 1000 random relabellings of the units. Orders are fitted on "
        "training images, responses are measured on test images. A star marks a value of the very weights that the "
        "order was fitted on; its chance is that of arrangements of shuffled weights.",
        "",
        *table(["variant", "order of units", *(_readable(name) for name in names)], cells),
    ]


def _readable(name: str) -> str:
    of, metric = name.split(": ")
    return f"{metric} of {of}" if name in (_COSINE, _CORRELATION) else metric


def _cell(found: Entry | None) -> str:
    if not found or not found["values"]:
        return "-"
    low, high = min(found["values"]), max(found["values"])
    star = "*" * found["in_sample"]
    return f"{low:.2f} to {high:.2f} ({sum(found['above'])} of {len(found['above'])}){star}"
