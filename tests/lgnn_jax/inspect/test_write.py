"""One call from networks and images to the page: which images, in which order, measured how."""

import base64
import dataclasses
import io
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lgnn_jax import Grid, topography
from lgnn_jax.inspect import (
    SMALL,
    Setting,
    accumulate,
    arrange,
    atlas,
    function,
    linen,
    linen_responses,
    measure,
)
from lgnn_jax.inspect import _split as split
from lgnn_jax.inspect._measure import measure_both
from tests.lgnn_jax.inspect.public_networks import drawn
from tests.lgnn_jax.inspect.test_atlas import blocks, unpack

DRAW = np.random.default_rng(0)
LABELS = np.arange(60) % 3
IMAGES = np.uint8(np.clip(DRAW.normal(60 + 40 * LABELS[:, None, None, None], 40, (60, 8, 8, 3)), 0, 255))
NAMES = ["dusk", "noon", "dawn"]
NET = nn.Sequential([nn.Conv(16, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(3)])


def variables(seed=0):
    return drawn(NET.init(jax.random.key(0), np.zeros((1, 8, 8, 3))), seed)


def written(tmp_path, networks, images=IMAGES, labels=LABELS, **options):
    page = tmp_path / "atlas.html"
    options = {"class_names": NAMES, "permutations": 50, **options}
    atlas.write(page, networks, images, labels, **options)
    return blocks(page)


def test_an_order_is_fitted_on_half_and_measured_on_the_rest(tmp_path):
    network = linen(NET, variables())
    found = written(tmp_path, network, superclass_names=["dark", "light"], superclass_of=[0, 1, 0], top=4)
    fit, scored = split.halves(LABELS)
    assert sorted([*fit, *scored]) == list(range(60)) and np.bincount(LABELS[fit]).tolist() == [10] * 3
    assert np.bincount(LABELS[scored]).tolist() == [10] * 3
    block, grid = found["layer-0-0"], Grid((4, 4))
    order = arrange(network, IMAGES[fit])["layers_0"]
    np.testing.assert_array_equal(unpack(block["order"]), order)
    responses = linen_responses(NET, variables())
    statistics = accumulate(
        lambda x: responses(np.float32(x) / 255), IMAGES[scored], LABELS[scored], classes=3, top=4
    )["layers_0"]
    np.testing.assert_allclose(
        unpack(block["means"])[:3], statistics.class_means, atol=block["means"]["scale"] + 1e-4
    )
    similarity = statistics.similarity
    expected = topography.neighbour_cosine(similarity, grid, key=jax.random.key(0), permutations=50)
    arranged = topography.neighbour_cosine(similarity[order][:, order], grid).value
    for name, value in (("scores", expected.value), ("arranged_scores", arranged)):
        shown = block[name]["responses: neighbour correlation"]
        np.testing.assert_allclose(shown["value"], value, atol=1e-4)
        np.testing.assert_allclose(shown["null_high"], expected.high, atol=1e-3)
        np.testing.assert_allclose(shown["z"], (value - expected.mean) / expected.samples.std(), rtol=1e-2)
        assert "responses: Moran's I of superclass selectivity" in block[name]
    values = [block[x]["responses: neighbour correlation"] for x in ("scores", "arranged_scores")]
    assert values[1]["value"] > values[1]["null_high"] and values[1]["value"] > values[0]["value"]
    assert dict(found["atlas"]["networks"][0]["facts"])["images"] == "30, and 30 others to arrange by"


def test_logits_in_another_order_than_the_classes_are_told_of(tmp_path):
    """A folder's classes are in the order of the alphabet, which the network need not know."""

    def network(columns):
        return function(
            lambda params, x: {
                "a": x,
                "brightness": jax.nn.one_hot(jnp.int32(x.mean((1, 2, 3)) * 255 - 40) // 40, 3),
            },
            {},
            layers=["a"],
            output=lambda found: found["brightness"][:, columns],
        )

    images = np.uint8(60 + 40 * (2 - LABELS[:, None, None, None]) + np.zeros((8, 8, 3)))
    with pytest.warns(UserWarning) as told:
        found = written(tmp_path, network([0, 1, 2]), images, LABELS)
    assert told[0].filename == __file__
    (message,) = [str(x.message) for x in told]
    assert dict(found["atlas"]["networks"][0]["facts"])["accuracy"] == "33.3% of these images"
    assert "an accuracy of 33.3%, and of 100.0% in another order" in message
    columns = [int(x) for x in re.search(r"x\[:, \[(.*)\]\]", message)[1].split(", ")]
    assert columns == [2, 1, 0]
    found = written(tmp_path, network(columns), images, LABELS)  # Warnings are errors.
    assert dict(found["atlas"]["networks"][0]["facts"])["accuracy"] == "100.0% of these images"
    few = np.arange(12)  # An order of logits fits six images by chance.
    written(tmp_path, network([0, 1, 2]), images[few], LABELS[few])


def test_a_page_without_accuracy_says_why(tmp_path):
    found = written(tmp_path, linen(NET, variables()), labels=LABELS % 2, class_names=NAMES[:2])
    (about,) = found["atlas"]["networks"]
    assert about["class_accuracy"] is None
    assert dict(about["facts"])["accuracy"] == "not known: the network gives 3 logits for 2 classes"


def test_images_of_any_precision(tmp_path):
    draw = np.random.default_rng(1).random((60, 8, 8, 3))
    assert draw.dtype == np.float64
    written(tmp_path, linen(NET, variables()), draw, arranged=False)  # Warnings are errors.


def test_images_to_fit_on_can_be_given(tmp_path):
    network, others = linen(NET, variables()), IMAGES[::-2]
    found = written(tmp_path, network, fit_images=others)
    np.testing.assert_array_equal(unpack(found["layer-0-0"]["order"]), arrange(network, others)["layers_0"])
    images = dict(found["atlas"]["networks"][0]["facts"])["images"]
    assert images == "60, and 30 others to arrange by"
    plain = written(tmp_path, network, arranged=False)
    assert plain["layer-0-0"]["order"] is None and plain["layer-0-0"]["arranged_scores"] == {}


def test_two_networks_side_by_side(tmp_path):
    told = []
    pair = [linen(NET, variables(seed)) for seed in (0, 1)]
    found = written(tmp_path, pair, arranged=False, progress=lambda *at: told.append(at))
    assert [net["title"] for net in found["atlas"]["networks"]] == ["Sequential 1", "Sequential 2"]
    assert unpack(found["layer-0-0"]["means"]).tolist() != unpack(found["layer-1-0"]["means"]).tolist()
    dones, totals = [done for _, done, _ in told], {total for _, _, total in told}
    assert dones == sorted(dones) and len(totals) == 1 and dones[-1] == totals.pop()
    assert {"Sequential 1: images", "Sequential 2: metrics of layers_0"} <= {what for what, _, _ in told}
    named = [linen(NET, variables(), title=title) for title in ("plain", "ours")]
    found = written(tmp_path, named, arranged=False)
    assert [net["title"] for net in found["atlas"]["networks"]] == ["plain", "ours"]


def test_networks_at_earlier_steps_of_training_come_in_the_last_order(tmp_path):
    told, steps = [], {f"epoch {seed}": linen(NET, variables(seed)) for seed in (1, 2)}
    found = written(
        tmp_path, linen(NET, variables()), earlier=steps, at="epoch 9", progress=lambda *at: told.append(at)
    )
    assert found["atlas"]["steps"] == ["epoch 1", "epoch 2", "epoch 9"]
    assert told[-1][1] == told[-1][2]
    alone = written(tmp_path, linen(NET, variables(2)))["layer-0-0"]
    block = found["layer-0-0-1"]
    for name in ("means", "scores", "regions"):
        assert block[name] == alone[name]
    assert block["order"] == found["layer-0-0-0"]["order"] == found["layer-0-0"]["order"]
    other = linen(NET, variables(), grids={"layers_0": (8, 2)})
    for earlier, words in (
        ({"epoch 1": other}, "same layers on the same grids at 'epoch 1'"),
        ({"epoch 1": [other, other]}, "earlier must have 1 networks at 'epoch 1'.* got 2"),
        ({"the end": linen(NET, variables())}, "both at the end and earlier"),
    ):
        with pytest.raises(ValueError, match=words):
            written(tmp_path, linen(NET, variables()), earlier=earlier)


def test_visualisation_is_of_the_network_and_its_preprocessing(tmp_path):
    """A unit that likes what is dark after preprocessing gets a dark image."""

    def apply(w, images):
        return {"light": images.mean((1, 2)) @ w}

    w = jnp.stack([jnp.ones(3), -jnp.ones(3)], 1)
    network = function(apply, w, preprocess=lambda x: -x)
    setting = Setting(
        steps=60, learning_rate=0.1, pad=0, jitter=0, scales=(1.0,), angles=(0.0,), jitter_after=0
    )
    found = written(tmp_path, network, visualise=setting, arranged=False)["layer-0-0"]
    assert found["pictures"]["source"] == "visualisation" and found["dead"] == []
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["pictures"]["data"]))).convert("L"))
    first, second = np.split(np.float32(sheet), 2, found["pictures"]["columns"] - 1)
    assert first.mean() + 60 < second.mean()


def test_a_network_of_one_size_is_told_of_at_once(tmp_path):
    net = nn.Sequential([nn.Conv(4, (3, 3)), lambda x: x.reshape(len(x), -1), nn.Dense(3)])
    network = linen(net, net.init(jax.random.key(0), np.zeros((1, 8, 8, 3))))
    told = []
    with pytest.raises(ValueError, match="takes images of 8x8 but not the canvas of 12x12"):
        larger = dataclasses.replace(SMALL, scales=(1.5,))
        written(tmp_path, network, visualise=larger, progress=lambda *at: told.append(at))
    assert not told
    setting = dataclasses.replace(SMALL, scales=(1.0,), steps=2)
    found = written(tmp_path, network, visualise=setting, arranged=False)
    assert found["layer-0-0"]["pictures"]["source"] == "visualisation"


@pytest.mark.parametrize("counts, fit", [([2, 3, 4], [0, 1, 2]), ([5, 9, 2], [2, 4, 0])])
def test_a_class_keeps_two_images_to_measure_on(counts, fit):
    labels = np.repeat(np.arange(3), counts)
    chosen, rest = split.halves(labels)
    assert np.bincount(labels[chosen], minlength=3).tolist() == fit
    assert (np.bincount(labels[rest], minlength=3) >= 2).all()
    assert (np.diff(chosen) > 0).all() and (np.diff(rest) > 0).all()


def test_no_more_than_two_thousand_images_are_fitted_on():
    fit, rest = split.halves(np.arange(9000) % 10)
    assert len(fit) == 2000 and len(rest) == 7000


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"networks": NET},
            "networks must be one or two of inspect.linen, nnx, equinox, haiku, function or arrays",
        ),
        ({"networks": []}, "one network or two side by side, got 0"),
        ({"images": IMAGES[:-1]}, "There are 59 images and 60 labels"),
        ({"labels": LABELS + 1}, "labels must be from 0 to 2"),
        ({"labels": np.array(NAMES)[LABELS]}, "become such by np.unique(labels, return_inverse=True)"),
        (
            {"labels": np.eye(3)[LABELS]},
            "got shape (60, 3) of float64. One-hot ones become such by labels.argmax",
        ),
        ({"images": IMAGES[:6], "labels": LABELS[:6]}, "Give fit_images=, or arranged=False"),
        (
            {"labels": np.repeat(range(3), [30, 29, 1]), "arranged": False},
            "Two images of a class or more are needed to say what it excites, but 'dawn' has 1 of the images shown",
        ),
        ({"permutations": 1}, "permutations must be at least 2"),
        ({"top": 0}, "top must be a positive integer"),
        ({"superclass_of": [0, 1]}, "superclass_of must hold"),
        ({"path": "nowhere/atlas.html"}, "'nowhere' is no folder to write 'atlas.html' to; make it first"),
    ],
)
def test_what_does_not_fit(tmp_path, change, message):
    given = {
        "networks": linen(NET, variables()),
        "images": IMAGES,
        "labels": LABELS,
        "path": tmp_path / "a.html",
    }
    given |= change
    path, networks, images, labels = (given.pop(x) for x in ("path", "networks", "images", "labels"))
    with pytest.raises(ValueError, match=re.escape(message)):
        atlas.write(path, networks, images, labels, class_names=NAMES, **({"permutations": 20} | given))
    assert not (tmp_path / "a.html").exists()


def test_measure_knows_the_axis_and_the_order():
    kernel = np.random.default_rng(1).standard_normal((3, 3, 2, 12))
    grid, order = Grid((4, 3)), np.random.default_rng(2).permutation(12)
    expected = topography.neighbour_cosine(
        topography.cosines(kernel[..., order]), grid, key=jax.random.key(3), permutations=30
    )
    found = measure(
        grid, kernel.transpose(3, 2, 0, 1), axis=0, order=order, key=jax.random.key(3), permutations=30
    )
    assert found["weights: neighbour cosine"] == pytest.approx(expected.summary(), abs=1e-5)
    assert not any(name.startswith("responses") for name in found)
    with pytest.raises(ValueError, match="the kernel"):
        measure(grid, kernel, axis=0)


def test_dead_units_have_a_null_of_their_own_in_every_order():
    """They keep their places in relabellings, and these differ between orders."""
    draw = np.random.default_rng(4)
    responses = draw.standard_normal((40, 12)) @ draw.standard_normal((12, 12))
    responses[:, [2, 5, 6]] = 0
    statistics = accumulate(lambda x: {"x": x}, responses, np.arange(40) % 2, classes=2, top=1)["x"]
    grid, order, key = Grid((4, 3)), draw.permutation(12), jax.random.key(1)
    options = dict(axis=-1, superclass_of=(), key=key, permutations=30)
    native, arranged = measure_both(grid, None, statistics, order, **options)
    for found, by in ((native, None), (arranged, order)):
        expected = measure(grid, None, statistics, order=by, kinds=("score",), key=key, permutations=30)
        assert found.keys() == expected.keys()
        name = "responses: neighbour correlation"
        assert found[name] == pytest.approx(expected[name]) and found[name]["left_out"] == 3
    assert measure_both(grid, None, statistics, None, **options)[1] == {}


@pytest.mark.parametrize("units, expected", [(64, 1000), (256, 500), (2048, 100)])
def test_large_layers_have_fewer_relabellings(monkeypatch, units, expected):
    used = []
    metric = topography.METRICS["responses: neighbour correlation"]

    def counted(given, grid, *, key, permutations):
        used.append(permutations)
        return topography.Score(0.0)

    only = {"one": dataclasses.replace(metric, function=counted)}
    monkeypatch.setattr(topography, "METRICS", only)
    responses = np.random.default_rng(0).standard_normal((9, units))
    statistics = accumulate(lambda x: {"x": x}, responses, np.arange(9) % 2, classes=2, top=1)["x"]
    options = dict(axis=-1, superclass_of=(), key=jax.random.key(1), permutations=None)
    measure_both(Grid((units,)), None, statistics, None, **options)
    assert used == [expected]
