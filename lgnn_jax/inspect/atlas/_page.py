"""Assembling the page and writing it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from lgnn_jax import topography
from lgnn_jax._grid import Grid
from lgnn_jax.inspect.atlas._checks import (
    check_images,
    check_networks,
    check_superclasses,
    every_layer,
)
from lgnn_jax.inspect.atlas._encoding import as_bytes, sheet
from lgnn_jax.inspect.atlas._layer import layer_block
from lgnn_jax.inspect.atlas._model import Layer, Shown

FORMAT = "lgnn_jax.atlas"
VERSION = 2
_SHEET = 6000  # Test images that a page carries at most.
# The order of the files of web/ in the page's one script.
_SCRIPTS = (
    "state",
    "steps",
    "data",
    "maps",
    "difference",
    "regions",
    "grid",
    "filters",
    "panel",
    "metrics",
    "paint",
    "start",
)


def write_page(
    path: str | os.PathLike[str],
    networks: Sequence[Shown],
    *,
    images: Any,
    class_names: Sequence[str],
    superclass_names: Sequence[str] = (),
    superclass_of: Sequence[int] = (),
    threshold: float = 5.0,
    title: str = "Atlas of a network",
    same_units: bool = False,
) -> None:
    """Writes the page; its data are described in ``docs/atlas.md``.

    Two networks stand side by side, unit by unit, so they must have the same layers on the same grids.

    Args:
      path: The file, in a folder that exists; it is replaced in one step.
      networks: One or two, the baseline first.
      images: The test images that ``top_images`` counts, ``(images, height, width, 1 or 3)``, bytes or
        floats in [0, 1].
      class_names: A name a class.
      superclass_names: A name a group of classes; none where there are no groups.
      superclass_of: The group of every class, integers from 0 without a gap.
      threshold: A unit responds to a class if its t is larger; regions are connected units that do.
      title: The page's heading.
      same_units: Whether unit k is the same in both networks, as in two that were trained from one start; the page
        shows their difference then too.

    Raises:
      ValueError: If something does not fit; nothing is written then.

    Example:
      >>> import numpy as np, pathlib, tempfile
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import atlas
      >>> from lgnn_jax.inspect import accumulate
      >>> images = np.random.default_rng(0).random((6, 1, 1, 3))
      >>> found = accumulate(lambda x: {"in": x}, images, [0, 0, 0, 1, 1, 1], classes=2, top=2)["in"]
      >>> net = atlas.Shown("mine", [atlas.layer("in", None, Grid((3, 1)), found)])
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "atlas.html"
      >>> atlas.write_page(path, [net], images=images, class_names=["day", "night"])
      >>> path.read_text().startswith("<!doctype html>")
      True
    """
    path = check_folder(path)
    networks, names = list(networks), [str(name) for name in class_names]
    check_networks(networks, names)
    check_superclasses(names, superclass_names, superclass_of)
    if same_units and len(networks) != 2:
        raise ValueError("same_units is of two networks, but there is one; leave it out.")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite t such as 5.0, got {threshold!r}.")
    images, earlier = as_bytes(images), []
    check_images(networks, len(images))
    groups = [int(group) for group in superclass_of]
    used = _used(networks)
    blocks = _blocks([network.layers for network in networks], groups, threshold, used, images)
    start = _start([block for _, block in blocks[-len(networks[-1].layers) :]])
    for step in range(len(networks[0].earlier)):
        layers = [list(network.earlier.values())[step] for network in networks]
        made = _blocks(layers, groups, threshold, used, images)
        earlier += [(f"{name}-{step}", block) for name, block in made]
    overview = {
        "format": FORMAT,
        "version": VERSION,
        "title": str(title),
        "threshold": float(threshold),
        "classes": names,
        "superclasses": [str(name) for name in superclass_names],
        "superclass_of": groups,
        "layers": [{"name": str(x.name), "shape": _plane(x.grid)} for x in networks[0].layers],
        "networks": [_network_block(network) for network in networks],
        "metrics": {name: _meaning(name) for name in _metrics(networks)},
        "start": start,
        "same_units": bool(same_units),
        "steps": [str(step) for step in networks[0].steps] if networks[0].earlier else [],
        "arranged_first": _arranged_first([block for _, block in blocks]),
    }
    first = [("atlas", overview)] + [x for x in blocks if x[0].endswith(f"-{start}")]
    rest = [x for x in blocks if x not in first] + earlier + [("images", sheet(images[used]))]
    _replace(path, _page(first, rest))


def check_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path, in a folder that exists."""
    path = pathlib.Path(path)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{str(path.parent)!r} is no folder to write {path.name!r} to; make it first.")
    return path


def _blocks(
    layers: Sequence[Sequence[Layer]],
    groups: list[int],
    threshold: float,
    used: np.ndarray,
    images: np.ndarray,
) -> list[tuple[str, dict[str, Any]]]:
    """The data of all layers of all networks, by the element's name."""
    return [
        (f"layer-{n}-{index}", layer_block(shown, groups, threshold, used, images))
        for n, own in enumerate(layers)
        for index, shown in enumerate(own)
    ]


def _used(networks: list[Shown]) -> np.ndarray:
    """Ascending indices of the test images on the page: every unit's best, as many as fit."""
    tops = [shown.top_images for network in networks for shown in every_layer(network)]
    for keep in range(max(top.shape[1] for top in tops), 0, -1):
        used = np.unique(np.concatenate([top[:, :keep].ravel() for top in tops]))
        if len(used) <= _SHEET:
            break
    return used


def _meaning(name: str) -> str:
    """What a metric is; words in brackets after its name say what it was measured on."""
    known = topography.METRICS.get(name) or topography.METRICS.get(name.split(" (")[0])
    return known.meaning if known else ""


def _network_block(network: Shown) -> dict[str, Any]:
    accuracy = network.class_accuracy
    return {
        "title": str(network.title),
        "facts": [[str(name), str(fact)] for name, fact in network.facts.items()],
        "class_accuracy": None if accuracy is None else np.asarray(accuracy).round(4).tolist(),
    }


def _metrics(networks: list[Shown]) -> list[str]:
    """The names of all metrics, in the order of their first use."""
    return list(
        dict.fromkeys(
            name
            for network in networks
            for shown in every_layer(network)
            for name in (*shown.scores, *shown.arranged_scores)
        )
    )


def _plane(grid: Grid) -> list[int]:
    """The grid's rows and columns; a line is one row."""
    return list(grid.shape) if len(grid.shape) == 2 else [1, grid.units]


def _start(blocks: list[dict[str, Any]]) -> int:
    """The layer whose regions are fewest beside chance, in the better of its orders; the last without any."""
    found = []
    for place, block in enumerate(blocks):
        for regions in filter(None, (block["regions"], block["arranged_regions"])):
            chance = regions["preferred"]["chance"]
            z = None if chance is None else chance["count"].get("z")
            found.append((np.inf if z is None else z, -place))
    return -min(found)[1]


def _arranged_first(blocks: list[dict[str, Any]]) -> bool | None:
    """Whether neighbours respond more alike in the arranged orders, the mean of the layers; None without any."""
    both = [_order_of(block) for block in blocks if block["order"] is not None]
    return bool(np.mean([arranged - native for native, arranged in both]) > 0) if both else None


def _order_of(block: dict[str, Any]) -> tuple[float, float]:
    """How much order a layer has as trained and arranged, -1 where that is not defined."""
    found = block["neighbour_correlation"]
    native, arranged = (-1.0 if found[name] is None else found[name] for name in ("native", "arranged"))
    return native, arranged


def _page(first: list[tuple[str, Any]], rest: list[tuple[str, Any]]) -> str:
    """The page: what the script needs to begin, the script, then all other data."""
    folder = resources.files("lgnn_jax.inspect.atlas") / "web"
    html, css = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css"))
    js = "\n".join((folder / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)
    parts = {
        "STYLE_HASH": _hash(css),
        "SCRIPT_HASH": _hash(js),
        "STYLE": css,
        "FIRST": _data(first),
        "SCRIPT": js,
        "REST": _data(rest),
    }
    return re.sub("@([A-Z_]+)@", lambda place: parts[place[1]], html)  # One pass: data are not searched.


def _hash(text: str) -> str:
    """What the Content-Security-Policy calls an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(blocks: list[tuple[str, Any]]) -> str:
    """Blocks of JSON in which no name can end a script or begin a comment."""
    return "\n".join(
        f'<script type="application/json" id="{name}">'
        + json.dumps(block, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        + "</script>"
        for name, block in blocks
    )


def _replace(path: pathlib.Path, text: str) -> None:
    """Writes a file beside ``path`` and puts it in its place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
