"""What is claimed of ordered networks, measured of finished runs, beside the same measured by other means."""

import collections
import dataclasses
import json
import shutil
import types

import jax
import numpy as np
import pytest

from experiments import data as datasets
from experiments.run import results
from experiments.run.augment import normalise
from experiments.run.claim import claim
from experiments.run.step import PlacedData
from experiments.study import claims
from experiments.study.claims import ARRANGED, NATIVE
from lgnn_jax import Grid, distances
from lgnn_jax.inspect import linear_probe, linen_ablated, linen_responses


@pytest.fixture(scope="module")
def data():
    return datasets.load("digits")


@pytest.fixture
def subject(finished, data):
    _, configs, folders = finished
    return claims.subject(configs["constant"][0], folders["constant"][0], data, PlacedData(data))


def test_measures_beside_the_library_on_a_finished_run(subject, finished, data, tmp_path):
    summary = results.read(finished[2]["constant"][0])
    found = claims.measure(subject)
    assert set(found) == {"images", "accuracy", *claims.MEASURES} and found["images"] == 364
    assert found["accuracy"] == pytest.approx(summary["test_accuracy"], abs=1e-3)

    scale = tuple(map(np.float32, data.statistics()))
    images = np.asarray(normalise(data.test_images, *map(jax.numpy.asarray, scale)))
    layer, order = subject.last, subject.orders[ARRANGED][subject.last]
    predict = linen_ablated(subject.module, subject.variables, layer, images, train=False)
    mask = np.ones(len(order), np.float32)
    mask[order[:5]] = 0
    ours = subject.predict(subject.without({layer: order[:5]}), data.test_images)
    np.testing.assert_array_equal(ours, predict(mask))
    assert (ours != subject.predict(subject.variables, data.test_images)).any()

    respond = linen_responses(subject.module, subject.variables, [layer], train=False)
    train = np.asarray(normalise(data.train_images, *map(jax.numpy.asarray, scale)))
    train, test = (
        np.maximum(np.asarray(respond(x)[layer]), 0).mean((1, 2))[:, order] for x in (train, images)
    )
    grid = subject.grids[layer]
    wanted = linear_probe(train, data.train_labels, test, data.test_labels, classes=10, pool=(grid, (2, 2)))
    assert found["probe"][ARRANGED] == pytest.approx(wanted.accuracy, abs=0.02)

    for name in (NATIVE, ARRANGED):
        assert 1 <= found["ablation"][name]["regions"] <= 10
    wide = {name: found["preferences"][layer][name]["count"]["value"] for name in (NATIVE, ARRANGED)}
    assert wide[ARRANGED] <= wide[NATIVE]
    assert len(json.dumps(found)) < 10_000


def spy(**more):
    """A subject of one layer of 16 units that notes what it is asked."""
    asked = []
    grid = Grid((4, 4))
    order = np.arange(16)[::-1]
    of = types.SimpleNamespace(
        variables={"params": {"a": {"kernel": np.ones((3, 4), np.float32), "bias": np.ones(4)}}},
        orders={NATIVE: {"a": np.arange(16)}, ARRANGED: {"a": order}},
        grids={"a": grid},
        accuracy=lambda variables, images=None: asked.append((variables, images)) or 0.5,
        without=lambda units: units,
    )
    vars(of).update(more)
    return of, asked


def test_noise_has_a_share_of_every_kernels_norm():
    of, asked = spy()
    assert claims.weight_noise(of) == {"0.01": 0.5, "0.05": 0.5, "0.1": 0.5}
    changes = [tree["params"]["a"]["kernel"] - 1 for tree, _ in asked]
    lengths = [np.linalg.norm(change) / np.sqrt(12) for change in changes]
    np.testing.assert_allclose(lengths, np.repeat([0.01, 0.05, 0.1], 3), rtol=1e-4)
    assert len({change.tobytes() for change in changes}) == 9
    assert all((tree["params"]["a"]["bias"] == 1).all() for tree, _ in asked)


def test_pruned_are_as_many_units_scattered_and_together():
    of, asked = spy()
    found = claims.pruning(of)
    assert set(found) == {"0.1", "0.3", "0.5"} and set(found["0.1"]) == {"scattered", NATIVE, ARRANGED}
    counts = collections.Counter(len(units["a"]) for units, _ in asked)
    assert counts == {2: 9, 5: 9, 8: 9}
    far = distances(of.grids["a"])
    for scattered, native, arranged in zip(*[iter([units["a"] for units, _ in asked])] * 3, strict=True):
        np.testing.assert_array_equal(15 - native, arranged)
        centre = native[0]
        out = np.setdiff1d(np.arange(16), native)
        assert far[centre, native].max() <= far[centre, out].min()
        assert len(set(scattered.tolist())) == len(native)


def test_ablated_are_the_largest_regions_of_every_superclass(monkeypatch):
    """A network that reads every superclass off the left or the right half of the grid alone."""
    half = np.arange(16) % 4 // 2
    labels = np.repeat(np.arange(4), 3)
    of, _ = spy(
        groups=(0, 0, 1, 1),
        held_out=(np.arange(12)[:, None], labels),
        last="a",
        predict=lambda removed, images: np.where(
            np.isin(np.flatnonzero(half == 0), removed["a"]).all() & (labels < 2), 3, labels
        ),
    )
    monkeypatch.setattr(claims, "_preferred", lambda of, path: half)
    found = claims.ablation(of)
    assert found[NATIVE] == {"units": 8, "own": -0.5, "others": 0, "random": 0, "regions": 2}
    assert found[NATIVE] == found[ARRANGED]


def test_as_many_images_of_every_class():
    labels = np.array([0, 1, 0, 0, 2, 1])
    images, kept = claims._balanced(np.arange(6), labels, 3, 6)
    assert images.tolist() == [0, 1, 2, 4, 5] and kept.tolist() == [0, 1, 0, 2, 1]
    assert claims._balanced(np.arange(6), labels, 3, 1)[0].tolist() == [0, 1, 4]


def test_they_are_kept_beside_the_weights_and_measured_once(finished, data, tmp_path, monkeypatch):
    _, configs, folders = finished
    config = configs["constant"][0]
    folder = tmp_path / "runs" / config.name
    shutil.copytree(folders["constant"][0], folder)
    said, measured = [], []
    monkeypatch.setattr(claims, "subject", lambda *_: None)
    monkeypatch.setattr(claims, "measure", lambda _: measured.append(1) or {"accuracy": 0.5})

    def complete():
        claims.complete(config, folder, data, lambda: None, said.append)

    with claim(folder, wait=False, say=said.append):
        complete()
    assert not measured and claims.read(folder) is None  # Another process has it.
    complete()
    complete()
    assert len(measured) == 1 and said == [f"measuring {folder.name} ..."]
    assert claims.read(folder)["accuracy"] == 0.5
    for damaged in ("{", "[]", "{}", (folder / claims.CLAIMS).read_text().replace(": 1", ": 0")):
        (folder / claims.CLAIMS).write_text(damaged)
        assert claims.read(folder) is None
    complete()
    assert len(measured) == 2

    monkeypatch.setattr(results, "PUBLISHED", tmp_path / "results")
    claims.publish(config, tmp_path / "runs")
    assert not results.published(config).exists()
    results.publish(config, tmp_path / "runs")
    claims.publish(config, tmp_path / "runs")
    assert claims.read(results.published(config)) == claims.read(folder)


def test_weights_that_cannot_be_read_keep_nothing_else(finished, data, tmp_path):
    _, configs, folders = finished
    config = configs["constant"][0]
    folder = tmp_path / config.name
    shutil.copytree(folders["constant"][0], folder)
    for file in (folder / "weights").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    said = []
    claims.complete(config, folder, data, lambda: None, said.append)
    assert said[1].startswith(f"{config.name} is not measured: ") and claims.read(folder) is None
    config = dataclasses.replace(config, seed=5)
    claims.complete(config, tmp_path / config.name, data, lambda: None, pytest.fail)
