"""A trained network as one self-contained HTML page, for people who do not read code.

The page is data, described in ``docs/atlas.md``, with the script and style sheet of ``atlas_page``. It asks
the network for nothing, and its Content-Security-Policy forbids it to.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jax
import numpy as np
from PIL import Image

from lgnn_jax import topography
from lgnn_jax.grid import Grid, neighbours
from lgnn_jax.inspect.filters import tiles
from lgnn_jax.inspect.regions import regions
from lgnn_jax.inspect.responses import ResponseStatistics, check_grid

FORMAT, VERSION = "lgnn_jax.atlas", 1
_SIDE = 48  # Pixels of a picture on the page; larger ones are averaged down.
_SMALL = 16  # Pictures below it are kept without loss; WebP would blur one into the next.
_SHEET = 6000  # Test pictures that a page carries at most.
_WEBP = 16383  # Largest side of a WebP, pixels.
_NEARLY_ZERO = 1e-3  # Of the median norm, as in topography.dead_share.

# What a metric says, by the names that experiments/inspect.py gives them.
_MEANINGS = {
    "weights: neighbour cosine": "How alike the weights of filters next to each other on the grid are: 1 is "
    "the same direction, 0 unrelated, −1 opposite.",
    "weights: diagonal cosine": "The same for filters that touch at a corner.",
    "weights: distance correlation": "Whether filters are the more alike in their weights, the nearer they sit "
    "on the grid: 1 is always, 0 no relation.",
    "weights: trustworthiness": "Whether the filters next to a filter on the grid are those with the most "
    "similar weights: 1 is always, 0.5 chance.",
    "responses: neighbour correlation": "How alike filters next to each other on the grid respond to the test "
    "pictures: 1 is in step, 0 unrelated, −1 opposite.",
    "responses: distance correlation": "Whether filters respond the more alike, the nearer they sit on the "
    "grid: 1 is always, 0 no relation.",
    "responses: Moran's I of class means": "Whether the average response to a class is alike at filters next "
    "to each other: 1 is smooth, 0 scattered, −1 a chessboard.",
    "responses: Moran's I of selectivity": "Whether filters that prefer a class sit together: 1 is in one "
    "place, 0 scattered, −1 a chessboard.",
    "responses: Moran's I of superclass selectivity": "Whether filters that prefer a group of classes sit "
    "together: 1 is in one place, 0 scattered, −1 a chessboard.",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """What the page shows of one layer of one network; made by :func:`layer`.

    Args:
      name: The layer's name.
      grid: Its grid, of one or two dimensions.
      statistics: Its responses to the test pictures.
      cosines: Cosines between the filters' weights, in [-1, 1], ``(units, units)``, NaN where a filter is
        zero; None where there are no weights to show.
      pictures: A picture of every filter, floats in [0, 1], ``(units, height, width, 3)``; None for the
        test picture that excites it most.
      source: What ``pictures`` are: ``visualisation``, ``weights`` or, without any, ``images``.
      dead: Filters that no picture excites or whose weights are (nearly) zero, booleans ``(units,)``.
      scores: By metric a mapping with ``value`` and, where there is a null, ``null_mean``, ``null_low``,
        ``null_high`` and ``z``; or ``{"undefined": reason}``.
    """

    name: str
    grid: Grid
    statistics: ResponseStatistics
    cosines: np.ndarray | None
    pictures: np.ndarray | None
    source: str
    dead: np.ndarray
    scores: Mapping[str, Mapping[str, Any]]

    @functools.cached_property
    def correlations(self) -> np.ndarray:
        """Correlations of responses, ``(units, units)``, NaN with a constant unit."""
        return self.statistics.correlation(constant="nan")

    @property
    def class_means(self) -> np.ndarray:
        """Mean responses, ``(classes, units)``."""
        return self.statistics.class_means

    @functools.cached_property
    def selectivity(self) -> np.ndarray:
        """Welch's t of every class against the rest, ``(classes, units)``, NaN of a constant unit."""
        return self.statistics.selectivity(constant="nan")

    @property
    def top_images(self) -> np.ndarray:
        """The test pictures that excite each unit most, best first, ``(units, top)``."""
        return self.statistics.top_images


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network on the page.

    Args:
      title: Its name, such as ``baseline``.
      layers: Its layers, at least one.
      class_accuracy: Share of each class's test pictures that it recognises, ``(classes,)``, in [0, 1].
      facts: Short facts by name, such as ``{"test accuracy": "31.2 %"}``.
    """

    title: str
    layers: Sequence[Layer]
    class_accuracy: np.ndarray | None = None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def layer(
    name: str,
    kernel: jax.typing.ArrayLike | None,
    grid: Grid,
    statistics: ResponseStatistics,
    *,
    visualisation: Any = None,
    scores: Mapping[str, Any] | None = None,
) -> Layer:
    """What the page shows of a layer.

    Without feature visualisation its filters are drawn by their weights where they see RGB, else by the test
    picture that excites them most.

    Args:
      name: The layer's name on the page.
      kernel: Its weights, the filters on ``grid.axis``; None where there are none to compare.
      grid: Its grid, of one or two dimensions.
      statistics: Of :func:`lgnn_jax.inspect.responses.accumulate` over the test pictures.
      visualisation: Pictures of all its filters: ``pictures`` in [0, 1] ``(units, height, width, 1 or 3)``,
        ``dead`` ``(units,)`` and ``units``, which must be all of them in order.
      scores: By name a :class:`lgnn_jax.topography.Score`, a mapping with its fields, or
        ``{"undefined": reason}``.

    Returns:
      A :class:`Layer`.

    Raises:
      ValueError: If the grid has more than two dimensions or does not fit, weights are not finite, the
        visualisation is not of all units, a class has a single test picture, or a score has no value.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import atlas
      >>> from lgnn_jax.inspect.responses import accumulate
      >>> x = np.random.default_rng(0).standard_normal((6, 4))
      >>> found = accumulate(lambda x: {"conv": x}, x, [0, 0, 0, 1, 1, 1], classes=2, top=2)["conv"]
      >>> shown = atlas.layer("conv", np.ones((1, 1, 3, 4)), Grid((2, 2)), found)
      >>> shown.source, shown.pictures.shape, shown.cosines.shape
      ('weights', (4, 1, 1, 3), (4, 4))
    """
    if len(grid.shape) > 2:
        raise ValueError(
            f"The page draws grids of one or two dimensions, but {name!r} has {grid}. Lay it out on two."
        )
    check_grid(grid, statistics.units, f"layer {name!r}")
    cosines, dead = None, np.zeros(grid.units, bool)
    if kernel is not None:
        cosines, dead = _cosines(name, kernel, grid)
    pictures, source = _weights(kernel, grid), "weights"
    if visualisation is not None:
        pictures, source = _visualised(name, visualisation, grid.units), "visualisation"
        dead = dead | np.asarray(visualisation.dead, bool)
    if pictures is None:
        source = "images"
    plain = {metric: _plain(name, metric, score) for metric, score in (scores or {}).items()}
    made = Layer(name, grid, statistics, cosines, pictures, source, dead, plain)
    _ = made.selectivity  # Raises where it is not defined.
    return made


def _cosines(name: str, kernel: Any, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Cosines between filters, NaN with one that is zero, and which are zero or nearly so."""
    rows = np.asarray(topography.filters(kernel, grid), np.float64)
    if not np.isfinite(rows).all():
        raise ValueError(f"The weights of {name!r} hold NaN or infinite values; give finite ones.")
    norms = np.linalg.norm(rows, axis=1)
    unit = rows / np.where(norms > 0, norms, np.nan)[:, None]
    return np.clip(unit @ unit.T, -1, 1), norms <= _NEARLY_ZERO * np.median(norms)


def _weights(kernel: Any, grid: Grid) -> np.ndarray | None:
    """The filters as pictures, ``(units, height, width, 3)``, where they see RGB."""
    if kernel is None or np.ndim(kernel) != 4:
        return None
    first = np.moveaxis(np.asarray(kernel), grid.axis, -1)
    if grid.axis in (0, -4):  # OIHW, now IHWO.
        first = np.moveaxis(first, 0, 2)
    if first.shape[2] != 3:
        return None
    return tiles(first, Grid((grid.units, 1)))[:, 0]


def _visualised(name: str, visualisation: Any, units: int) -> np.ndarray:
    """The visualisation's pictures in three channels."""
    pictures = np.asarray(visualisation.pictures, np.float32)
    if not np.array_equal(visualisation.units, np.arange(units)):
        raise ValueError(
            f"The visualisation of {name!r} must be of units 0 to {units - 1} in order, got "
            f"{np.size(visualisation.units)} units. Visualise all channels."
        )
    if pictures.ndim != 4 or len(pictures) != units or pictures.shape[-1] not in (1, 3):
        raise ValueError(
            f"The visualisation of {name!r} must have pictures ({units}, height, width, 1 or 3), got "
            f"shape {pictures.shape}."
        )
    if np.shape(visualisation.dead) != (units,):
        raise ValueError(
            f"The visualisation of {name!r} must say of {units} units whether they are dead, got "
            f"shape {np.shape(visualisation.dead)}."
        )
    if not (pictures.min() >= 0 and pictures.max() <= 1):
        raise ValueError(f"The visualisation of {name!r} must be in [0, 1]; scale its pictures.")
    return np.repeat(pictures, 3, -1) if pictures.shape[-1] == 1 else pictures


def _plain(name: str, metric: str, score: Any) -> dict[str, Any]:
    """A score as the page keeps it."""
    fields = score._asdict() if isinstance(score, topography.Score) else score
    if isinstance(fields, Mapping) and "undefined" in fields:
        return {"undefined": str(fields["undefined"])}
    if not isinstance(fields, Mapping) or not math.isfinite(fields.get("value", math.nan)):
        raise ValueError(
            f"{metric!r} of {name!r} must be a Score, a mapping with a finite value, or "
            f"{{'undefined': reason}}; got {score!r}."
        )
    null = {key: fields.get(key) for key in ("null_mean", "null_low", "null_high", "z")}
    return {"value": float(fields["value"])} | {
        key: None if bound is None else float(bound) for key, bound in null.items()
    }


def write(
    path: str | os.PathLike[str],
    networks: Sequence[Network],
    *,
    images: Any,
    class_names: Sequence[str],
    superclass_names: Sequence[str] = (),
    superclass_of: Sequence[int] = (),
    threshold: float = 5.0,
    title: str = "Atlas of a network",
) -> None:
    """Writes the page; its data are described in ``docs/atlas.md``.

    Two networks stand side by side, unit by unit, so they must have the same layers on the same grids.

    Args:
      path: The file, in a folder that exists; it is replaced in one step.
      networks: One or two, the baseline first.
      images: The test pictures that ``top_images`` counts, ``(images, height, width, 1 or 3)``, bytes or
        floats in [0, 1].
      class_names: A name a class.
      superclass_names: A name a group of classes; none where there are no groups.
      superclass_of: The group of every class, integers from 0 without a gap.
      threshold: A unit responds to a class if its t is larger; regions are connected units that do.
      title: The page's heading.

    Raises:
      ValueError: If something does not fit; nothing is written then.

    Example:
      >>> import numpy as np, pathlib, tempfile
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import atlas
      >>> from lgnn_jax.inspect.responses import accumulate
      >>> images = np.random.default_rng(0).random((6, 1, 1, 3))
      >>> found = accumulate(lambda x: {"in": x}, images, [0, 0, 0, 1, 1, 1], classes=2, top=2)["in"]
      >>> net = atlas.Network("mine", [atlas.layer("in", None, Grid((3, 1)), found)])
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "atlas.html"
      >>> atlas.write(path, [net], images=images, class_names=["day", "night"])
      >>> path.read_text().startswith("<!doctype html>")
      True
    """
    path = pathlib.Path(path)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{str(path.parent)!r} is no folder to write {path.name!r} to; make it first.")
    networks, names = list(networks), [str(name) for name in class_names]
    _check_networks(networks, names)
    _check_superclasses(names, superclass_names, superclass_of)
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite t such as 5.0, got {threshold!r}.")
    pictures = _bytes(images)
    _check_images(networks, len(pictures))
    groups = [int(group) for group in superclass_of]
    used = _used(networks)
    blocks = [
        (f"layer-{n}-{index}", _layer_block(shown, groups, threshold, used, pictures))
        for n, network in enumerate(networks)
        for index, shown in enumerate(network.layers)
    ]
    start = _start(networks[-1])
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
        "metrics": {name: _MEANINGS.get(name, "") for name in _metrics(networks)},
        "start": start,
    }
    first = [("atlas", overview)] + [x for x in blocks if x[0].endswith(f"-{start}")]
    rest = [x for x in blocks if x not in first] + [("images", _sheet(pictures[used]))]
    _replace(path, _page(first, rest))


def _check_networks(networks: list[Network], class_names: list[str]) -> None:
    """Raises ``ValueError`` for networks that cannot stand side by side, or do not have the classes."""
    if len(networks) not in (1, 2):
        raise ValueError(f"The page shows one network or two side by side, got {len(networks)}.")
    shapes = [[(x.name, x.grid.shape) for x in network.layers] for network in networks]
    if not shapes[0]:
        raise ValueError(f"{networks[0].title!r} has no layers; give at least one.")
    if shapes[0] != shapes[-1]:
        differing = [pair for pair in zip(*shapes, strict=False) if pair[0] != pair[1]]
        got = (
            f"{differing[0][0]} and {differing[0][1]}"
            if differing
            else " and ".join(f"{len(layers)} layers" for layers in shapes)
        )
        raise ValueError(
            f"Two networks must have the same layers on the same grids to stand side by side, got {got}."
        )
    if len(networks) == 2 and networks[0].title == networks[1].title:
        raise ValueError(f"Both networks are called {networks[0].title!r}; give them different titles.")
    for network in networks:
        for shown in network.layers:
            classes = len(shown.statistics.class_counts)
            if classes != len(class_names):
                raise ValueError(
                    f"class_names must name the {classes} classes of {shown.name!r} in "
                    f"{network.title!r}, got {len(class_names)} names."
                )
        accuracy = network.class_accuracy
        if accuracy is None:
            continue
        given = np.asarray(accuracy)
        if given.shape != (len(class_names),) or not ((given >= 0) & (given <= 1)).all():
            raise ValueError(
                f"class_accuracy of {network.title!r} must be {len(class_names)} shares from 0 to 1, got "
                f"shape {given.shape}{f' from {given.min():g} to {given.max():g}' if given.size else ''}."
            )


def _check_superclasses(classes: list[str], names: Sequence[str], groups: Sequence[int]) -> None:
    given = np.asarray(groups if len(groups) else np.zeros(0, int))
    if not len(names) and not given.size:
        return
    whole = given.shape == (len(classes),) and np.issubdtype(given.dtype, np.integer)
    if not whole or not np.array_equal(np.unique(given), np.arange(len(names))):
        raise ValueError(
            f"superclass_of must hold for each of {len(classes)} classes the number of its superclass, all "
            f"from 0 to {len(names) - 1} used, got {list(groups)[:10]} of length {len(groups)}."
        )


def _bytes(images: Any) -> np.ndarray:
    """Pictures as bytes in three channels."""
    given = np.asarray(images)
    if given.ndim != 4 or given.shape[-1] not in (1, 3) or 0 in given.shape:
        raise ValueError(f"images must be (images, height, width, 1 or 3), got shape {given.shape}.")
    if np.issubdtype(given.dtype, np.floating):
        if not (given.min() >= 0 and given.max() <= 1):
            raise ValueError(
                f"images of floats must be in [0, 1], got {given.min():g} to {given.max():g}; undo their "
                "normalisation, or give bytes."
            )
        given = np.rint(given * 255).astype(np.uint8)
    if given.dtype != np.uint8:
        raise ValueError(f"images must be uint8 or floats in [0, 1], got {given.dtype}.")
    return np.repeat(given, 3, -1) if given.shape[-1] == 1 else given


def _check_images(networks: list[Network], count: int) -> None:
    for network in networks:
        for shown in network.layers:
            if shown.statistics.count != count:
                raise ValueError(
                    f"images must be the {shown.statistics.count} test pictures of the statistics of "
                    f"{shown.name!r} in {network.title!r}, got {count}."
                )


def _used(networks: list[Network]) -> np.ndarray:
    """Ascending indices of the test pictures on the page: every unit's best, as many as fit."""
    tops = [shown.top_images for network in networks for shown in network.layers]
    for keep in range(max(top.shape[1] for top in tops), 0, -1):
        used = np.unique(np.concatenate([top[:, :keep].ravel() for top in tops]))
        if len(used) <= _SHEET:
            break
    return used


def _layer_block(
    shown: Layer, groups: list[int], threshold: float, used: np.ndarray, images: np.ndarray
) -> dict[str, Any]:
    """The data of one layer of one network."""
    statistics, t = shown.statistics, [shown.selectivity]
    means = [shown.class_means]
    if groups:
        means.append(statistics.grouped_means(groups))
        t.append(statistics.selectivity(groups, constant="nan"))
    found = regions(np.concatenate(t), shown.grid, threshold=threshold)
    tops = shown.top_images
    missing = np.flatnonzero(np.isin(tops, used, invert=True).any(0))
    tops = tops[:, : int(missing[0]) if len(missing) else None]
    pictures = shown.pictures
    return {
        "correlations": _triangle(shown.correlations),
        "cosines": None if shown.cosines is None else _triangle(shown.cosines),
        "means": _quantised(np.concatenate([*means, statistics.mean[None]])),
        "t": _quantised(np.concatenate(t)),
        "top_images": _packed(np.searchsorted(used, tops).astype("<i4")),
        "regions": [[region.label, region.members.tolist()] for region in found],
        "dead": np.flatnonzero(shown.dead).tolist(),
        "constant": np.flatnonzero(statistics.constant).tolist(),
        "pictures": _sheet(images[shown.top_images[:, 0]] if pictures is None else _bytes(pictures))
        | {"source": shown.source},
        "scores": shown.scores,
    }


def _network_block(network: Network) -> dict[str, Any]:
    accuracy = network.class_accuracy
    return {
        "title": str(network.title),
        "facts": [[str(name), str(fact)] for name, fact in network.facts.items()],
        "class_accuracy": None if accuracy is None else np.asarray(accuracy).round(4).tolist(),
    }


def _metrics(networks: list[Network]) -> list[str]:
    """The names of all metrics, in the order of their first use."""
    return list(dict.fromkeys(x for network in networks for shown in network.layers for x in shown.scores))


def _plane(grid: Grid) -> list[int]:
    """The grid's rows and columns; a line is one row."""
    return list(grid.shape) if len(grid.shape) == 2 else [1, grid.units]


def _start(network: Network) -> int:
    """The layer whose neighbours respond most alike beside all pairs."""
    order = []
    for shown in network.layers:
        correlations, pairs = shown.correlations, neighbours(shown.grid)
        near, far = (x[np.isfinite(x)] for x in (correlations[tuple(pairs.T)], correlations))
        order.append(near.mean() - far.mean() if len(near) > 8 else -1.0)
    return int(np.argmax(order))


def _packed(values: np.ndarray, **about: Any) -> dict[str, Any]:
    """An array as the page reads it."""
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"type": values.dtype.name, "shape": list(values.shape), **about, "data": data}


def _triangle(matrix: np.ndarray) -> dict[str, Any]:
    """A symmetric matrix in [-1, 1]: its lower triangle with the diagonal, row by row, in 127ths."""
    lower = matrix[np.tril_indices(len(matrix))]
    code = np.where(np.isnan(lower), -128, np.rint(np.nan_to_num(lower) * 127)).astype(np.int8)
    return _packed(code, scale=1 / 127, offset=0.0)


def _quantised(values: np.ndarray) -> dict[str, Any]:
    """Floats in 65,535 steps from the smallest to the largest; infinities become these two."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    offset = (low + high) / 2
    scale = max((high - low) / 65534, 1e-30)
    steps = np.rint((np.clip(np.nan_to_num(values, nan=offset), low, high) - offset) / scale)
    code = np.where(np.isnan(values), -32768, np.clip(steps, -32767, 32767)).astype("<i2")
    return _packed(code, scale=scale, offset=offset)


def _sheet(pictures: np.ndarray) -> dict[str, Any]:
    """Pictures ``(count, height, width, 3)`` of bytes in rows on one WebP."""
    count, height, width, _ = pictures.shape
    if max(height, width) > _SIDE:
        shrink = _SIDE / max(height, width)
        height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
        size, box = (width, height), Image.Resampling.BOX
        pictures = np.stack([np.asarray(Image.fromarray(x).resize(size, box)) for x in pictures])
    columns = math.ceil(math.sqrt(count * height / width))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    canvas = np.full((rows * columns, height, width, 3), 255, np.uint8)
    canvas[:count] = pictures
    canvas = canvas.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    canvas = canvas.reshape(rows * height, columns * width, 3)
    if max(canvas.shape) > _WEBP:
        raise ValueError(f"{count} pictures of {height}x{width} do not fit one sheet of the page.")
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "WEBP", lossless=max(height, width) < _SMALL, quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return {"count": count, "columns": columns, "height": height, "width": width, "data": data}


def _page(first: list[tuple[str, Any]], rest: list[tuple[str, Any]]) -> str:
    """The page: what the script needs to begin, the script, then all other data."""
    folder = resources.files("lgnn_jax.inspect") / "atlas_page"
    html, css, js = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
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
