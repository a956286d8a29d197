"""The page's data, feature visualisation and what responses are summed up to, of one small network."""

import base64
import dataclasses
import functools
import io
import json
import re
import types

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, inspect, topography
from lgnn_jax.inspect import ablate, accumulate, atlas, class_maps, per_class_accuracy, regions
from tests.golden import Golden
from tests.lgnn_jax.pins import network

Image = pytest.importorskip("PIL.Image")
SETTING = {
    "steps": 12,
    "learning_rate": 0.05,
    "hold": 1.0,
    "b1": 0.9,
    "b2": 0.999,
    "pad": 2,
    "jitter": 3,
    "scales": (0.9, 1.0, 1.1),
    "jitter_after": 1,
}

# Calls into the library.


def setting(**changes):
    return dataclasses.replace(inspect.SMALL, **SETTING | changes)


def visualise(
    layer, *, seed=0, key=7, size=(12, 12, 3), units=None, objective="channel", batch=64, **changes
):
    return inspect.visualise(
        network.responses(network.kernels(seed)),
        layer,
        units,
        key=jax.random.key(key),
        setting=setting(**changes),
        shape=size,
        objective=objective,
        batch=batch,
    )


@functools.cache
def statistics(seed=0):
    pictures, labels = network.images()
    run = network.responses(network.kernels(seed))
    return accumulate(
        lambda x: run(x.astype(np.float32) / 255),
        pictures,
        labels,
        classes=len(network.CLASSES),
        batch=16,
        top=4,
    )


def grid(layer):
    return Grid(network.SHAPES[layer])


def shown(seed, layer, visualisation=None):
    """A layer of the page, with a metric's score and one that is not defined."""
    kernel = network.kernels(seed)[layer]
    scores = {
        "weights: neighbour cosine": topography.neighbour_cosine(
            topography.cosines(kernel), grid(layer), key=jax.random.key(0), permutations=100
        ),
        "responses: Moran's I of class means": topography.morans_i(
            statistics(seed)[layer].class_means, grid(layer)
        ),
        "of our own": {"undefined": "for a reason"},
    }
    return atlas.layer(
        layer, kernel, grid(layer), statistics(seed)[layer], visualisation=visualisation, scores=scores
    )


def write(path, count=2, **options):
    made = types.SimpleNamespace(
        units=np.arange(12),
        images=np.random.default_rng(3).random((12, 20, 20, 3)),
        dead=np.arange(12) == 3,
    )
    nets = [
        atlas.Shown(title, [shown(seed, "first"), shown(seed, "second", made if seed else None)], *about)
        for seed, (title, *about) in enumerate(
            [
                ("baseline",),
                ("LGNN", np.array([0.5, 0.25, 1.0]), {"test accuracy": "58 %", "sigma": "0.5"}),
            ]
        )
    ][:count]
    atlas.write_page(
        path,
        nets,
        images=network.images()[0],
        class_names=network.CLASSES,
        **{"superclass_names": network.GROUPS, "superclass_of": network.GROUP_OF, "threshold": 2.0}
        | options,
    )


# The page.


def blocks(text):
    """The JSON of the page by element, in its order."""
    found = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', text, re.S)
    return {name: json.loads(block) for name, block in found}


def decoded(value):
    """A block with its arrays as numbers; of sheets, which may be lossy, the sizes and the tiles' mean colours."""
    if isinstance(value, list):
        return [decoded(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "data" not in value:
        return {name: decoded(inner) for name, inner in value.items()}
    data, about = base64.b64decode(value["data"]), {k: x for k, x in value.items() if k != "data"}
    if "type" in value:
        codes = np.frombuffer(data, value["type"]).reshape(value["shape"])
        if "scale" not in value:
            return about | {"values": codes}
        undefined = np.iinfo(codes.dtype).min
        return about | {
            "values": np.where(codes == undefined, np.nan, value["offset"] + value["scale"] * codes)
        }
    with Image.open(io.BytesIO(data)) as image:
        sheet, kind = np.asarray(image, np.float64) / 255, image.format
    height, width, columns = value["height"], value["width"], value["columns"]
    rows = sheet.shape[0] // height
    means = sheet.reshape(rows, height, columns, width, 3).mean((1, 3)).reshape(-1, 3)
    return about | {"format": kind, "size": sheet.shape, "tiles": means.round(4)}


# Of arrays, a step of their codes; 127ths and 65,535ths of a range.
STEPS = {"correlations": 8e-3, "cosines": 8e-3, "means": 2e-5, "t": 1e-3, "tiles": 6e-3, "z": 1e-3}
page = Golden(__file__, "atlas", rtol=1e-4, loose=STEPS)


@functools.cache
def payload(folder, count):
    path = folder / f"{count}.html"
    if count == 1:
        write(path, 1, superclass_names=(), superclass_of=(), threshold=3.0, title="One")
    else:
        write(path)
    return blocks(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("atlas")


BLOCKS = {
    1: ["atlas", "layer-0-0", "layer-0-1", "images"],
    2: ["atlas", "layer-0-0", "layer-0-1", "layer-1-0", "layer-1-1", "images"],
}


@pytest.mark.parametrize("count, block", [(count, block) for count in BLOCKS for block in BLOCKS[count]])
def test_the_pages_data(folder, count, block):
    found = payload(folder, count)
    assert sorted(found) == sorted(BLOCKS[count])
    page.check(f"{count} shown: {block}", decoded(found[block]))
    if block == "images":  # Below sixteen pixels without loss.
        with Image.open(io.BytesIO(base64.b64decode(found[block]["data"]))) as image:
            shown, sheet = set(), np.asarray(image)
        for row, column in np.ndindex(sheet.shape[0] // 12, sheet.shape[1] // 12):
            shown.add(sheet[12 * row : 12 * row + 12, 12 * column : 12 * column + 12].tobytes())
        assert len(shown & {one.tobytes() for one in network.images()[0]}) == found[block]["count"]


@pytest.mark.parametrize("count", BLOCKS)
def test_the_order_of_the_pages_data(folder, count):
    page.check(f"{count} shown: order", list(payload(folder, count)))


def test_no_block_is_pinned_in_vain():
    page.check_cases([f"{count} shown: {name}" for count in BLOCKS for name in ["order", *BLOCKS[count]]])


# Feature visualisation. Steps amplify rounding: with twelve of them it stays below a thousandth.


def objectives(found):
    return {
        "layer": found.layer,
        "units": found.units,
        "shape": found.images.shape,
        "dead": found.dead,
        "start": found.start,
        "values": found.values,
        "mean": found.images.mean((1, 2)),
        "deviation": found.images.std((1, 2)),
    }


VISUALISATIONS = {
    "first": lambda: visualise("first"),
    "second": lambda: visualise("second"),
    "in batches": lambda: visualise("second", batch=5),
    "some units": lambda: visualise("second", units=[7, 2, 7]),
    "neuron": lambda: visualise("second", objective="neuron"),
    "other key": lambda: visualise("first", key=8),
    "other size, correlated": lambda: visualise("first", size=(13, 10, 3), decorrelate=False),
}
pictures = Golden(__file__, "feature_vis", rtol=1e-3, atol=2e-6, loose={"mean": 1e-3, "deviation": 1e-3})


def param(case):
    """Each compiles for seconds: two by default."""
    return pytest.param(case, marks=() if case in ("second", "neuron") else pytest.mark.slow)


@pytest.mark.parametrize("case", [param(case) for case in VISUALISATIONS])
def test_objectives(case):
    pictures.check(case, objectives(VISUALISATIONS[case]()))


def test_how_data_excite():
    """Of the network's images, and of pictures that are the images' first ones."""
    run, data = network.responses(network.kernels()), network.images()[0]
    units = np.arange(12)
    made = inspect.FeatureVisualisation(
        "second", units, data[:12].astype(np.float32) / 255, 0.0 * units, 0.0 * units, units == 4
    )
    beyond = inspect.share_beyond(made, run, data, 0.7, batch=16)
    activations = inspect.mean_activations(run, "second", data[:5], batch=2)
    pictures.check("share beyond", beyond._asdict() | {"excitation": activations})


def test_no_visualisation_is_pinned_in_vain():
    pictures.check_cases([*VISUALISATIONS, "share beyond"])


# Responses and regions.


def summed(layer):
    found = statistics()[layer]
    arrays = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return arrays | {
        "units": found.units,
        "count": found.count,
        "mean": found.mean,
        "variance": found.variance,
        "constant": found.constant,
        "class means": found.class_means,
        "group means": found.grouped_means(network.GROUP_OF),
        "correlation": found.correlation(constant="nan"),
        "selectivity": found.selectivity(constant="nan"),
        "group selectivity": found.selectivity(network.GROUP_OF, constant="nan"),
        "effective dimension": found.effective_dimension,
        "class maps": class_maps(found, grid(layer)),
    }


def found_regions(wrap):
    t = np.random.default_rng(6).standard_normal((3, 30))
    t[:, 17] = np.nan  # A constant unit.
    return [region._asdict() for region in regions(t, Grid((6, 5), wrap), threshold=0.4)]


def silenced():
    """By the class whose mean response is nearest."""
    responses, (_, labels) = np.random.default_rng(5).random((45, 12)), network.images()
    responses[:, :3] += np.eye(3)[labels]
    means = np.stack([responses[labels == label].mean(0) for label in range(3)])

    def predict(mask):
        return ((mask * responses)[:, None] - (mask * means)[None]).__pow__(2).sum(-1).argmin(1)

    effect = ablate(predict, labels, [0, 1], units=12, classes=3, key=jax.random.key(2), repetitions=20)
    return effect._asdict() | {"intact": per_class_accuracy(predict(np.ones(12)), labels, 3)}


SUMS = {
    "first": lambda: summed("first"),
    "second": lambda: summed("second"),
    "regions": lambda: found_regions(False),
    "regions on a torus": lambda: found_regions(True),
    "silenced": silenced,
}
sums = Golden(
    __file__, "responses", rtol=1e-4, atol=1e-6, loose={"selectivity": 1e-3, "group selectivity": 1e-3}
)


@pytest.mark.parametrize("case", SUMS)
def test_responses(case):
    sums.check(case, SUMS[case]())


def test_no_response_is_pinned_in_vain():
    sums.check_cases(SUMS)
