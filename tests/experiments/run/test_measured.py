"""What a run measures of its network before it ends."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data as datasets
from experiments import nets
from experiments.config import configure
from experiments.run import results
from experiments.run.augment import normalise
from experiments.run.measured import COLUMNS, compact, measure, responses
from experiments.run.step import PlacedData
from experiments.run.weights import convolutions
from lgnn_jax import topography
from lgnn_jax.inspect import linen_responses


def test_it_is_of_held_out_images_after_the_relu(shallow):
    data = datasets.load("digits")
    config, _ = configure(data, width=1 / 16)
    module = nets.build("vgg11", 10, 1 / 16)
    variables = jax.device_get(module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    layers = convolutions(config, variables["params"])
    seen = responses(config, variables, PlacedData(data))
    scores = compact(measure(layers, seen, ()))
    images = normalise(jnp.asarray(data.test_images), *map(jnp.float32, data.statistics()))
    maps = linen_responses(module, variables, list(layers), train=False)(images)
    assert scores["layers"] == list(layers)
    for index, (name, (grid, _)) in enumerate(layers.items()):
        means = np.maximum(np.asarray(maps[name], np.float64), 0).mean((1, 2))
        by_class = [means[data.test_labels == label].mean(0) for label in range(10)]
        np.testing.assert_allclose(seen[name].class_means, np.stack(by_class), rtol=2e-4, atol=1e-5)
        together = topography.correlations(means.astype(np.float32))
        expected = topography.neighbour_cosine(together, grid, key=jax.random.key(0))
        found = scores["metrics"]["responses: neighbour correlation"]
        assert found["value"][index] == pytest.approx(expected.value, abs=2e-3)
        assert found["p"][index] == pytest.approx(expected.p, abs=0.02)


def test_a_summary_holds_every_metric_that_has_a_null(finished):
    _, configs, folders = finished
    summary = results.read(folders["constant"][0])
    kept = summary["topography"]
    wanted = {
        name
        for name, metric in topography.METRICS.items()
        if metric.kind != "curve" and "superclass" not in name  # The digits have none.
    }
    assert kept["layers"] == list(summary["grids"]) and set(kept["metrics"]) == wanted
    columns = kept["metrics"]["weights: neighbour cosine"]
    assert list(columns) == list(COLUMNS)
    for column in ("value", "null_low", "null_high"):
        whole = [score[column] for score in summary["neighbour_cosine"].values()]
        np.testing.assert_allclose(columns[column], whole, rtol=1e-3)


def test_what_is_not_defined_is_said_so():
    defined = {"value": 0.123456, "null_low": -1.0, "null_high": 1.0, "p": 0.5, "z": 1.0}
    scores = {
        layer: {"metrics": dict.fromkeys(_names("score"), score), **dict.fromkeys(_names("scalar"), 3)}
        for layer, score in (("a", defined), ("b", {"undefined": "why"}))
    }
    kept = compact(scores)["metrics"]
    assert kept["weights: neighbour cosine"]["value"] == [0.1235, None]
    assert kept["responses: constant units"] == {"value": [3, 3]}


def _names(kind):
    return [name for name, metric in topography.METRICS.items() if metric.kind == kind]


def test_the_summary_of_the_deepest_net_is_below_its_limit():
    """What it takes with the longest numbers that there may be."""
    score = dict.fromkeys(
        ("value", "null_mean", "null_low", "null_high", "z", "left_out", "p"), -0.000123456789012345
    )
    layer = {
        "metrics": dict.fromkeys(_names("score"), score),
        **dict.fromkeys(_names("scalar"), -0.0001234567),
    }
    paths = [f"group_{index}_block_0/conv_0/kernel" for index in range(28)]
    deep = {
        "topography": compact(dict.fromkeys(paths, layer)),
        "neighbour_cosine": dict.fromkeys(paths, score),
        "rest": "x" * 4000,
    }
    assert len(json.dumps(deep, indent=1)) < results.LARGEST
