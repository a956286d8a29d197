import dataclasses

import jax
import numpy as np
import pytest

from experiments import config as configs
from experiments.config import configure, foresee
from experiments.data import Dataset
from experiments.run.summary import summarise
from lgnn_jax import Grid, topography


def images(name="set", train=64, test=10, classes=100):
    labels = np.arange(train, dtype=np.int32) % classes
    shape = (32, 32, 3)
    return Dataset(
        name,
        np.zeros((train, *shape), np.uint8),
        labels,
        np.zeros((test, *shape), np.uint8),
        np.zeros(test, np.int32),
        tuple(map(str, range(classes))),
    )


def made(**overrides):
    return configure(images(), batch=overrides.pop("batch", 32), **overrides)[0]


@pytest.mark.parametrize(
    "net, epochs, milestones",
    [("vgg11", 100, (40, 70, 90)), ("vgg19", 200, (60, 120, 160))]
    + [("wrn16-8", 200, (60, 120, 160)), ("wrn28-10", 200, (60, 120, 160))],
)
def test_the_papers_recipes(net, epochs, milestones):
    config = configure(images(train=128), net=net)[0]
    assert (config.epochs, config.milestones, config.batch) == (epochs, milestones, 128)
    assert (config.lr, config.weight_decay, config.momentum, config.sigma) == (0.1, 5e-4, 0.9, 0.5)
    rate = config.learning_rate(7)
    for epoch in range(0, epochs, 5):
        expected = 0.1 * 0.2 ** sum(epoch >= milestone for milestone in milestones)
        for step in (7 * epoch, 7 * epoch + 6):
            assert float(rate(step)) == pytest.approx(expected)


def test_a_shortened_run_keeps_its_milestones_places_and_its_decay_budget():
    config, notes = configure(images(), batch=32, epochs=10)
    assert config.milestones == (4, 7, 9) and config.weight_decay == pytest.approx(5e-3)
    assert "weight decay 0.005 instead of 0.0005" in notes[0]
    config, notes = configure(images(), batch=32, epochs=2)
    assert config.weight_decay == 0.01 and "(40% of the decay" in notes[0]
    config, notes = configure(images(), net="vgg19", batch=32, epochs=10)
    assert config.weight_decay == 0.0025 and "(25% of the decay" in notes[0]
    config, notes = configure(images("digits"), batch=32, epochs=1)
    assert config.weight_decay == 0.02 and not notes
    config, notes = configure(images(), batch=32, epochs=10, weight_decay=1e-3)
    assert config.weight_decay == 1e-3 and not notes


def test_cosine_ends_at_zero():
    rate = made(schedule="cosine", epochs=4).learning_rate(10)
    assert float(rate(0)) == pytest.approx(0.1) and float(rate(20)) == pytest.approx(0.05)
    assert float(rate(40)) == pytest.approx(0)


def test_sigma_by_variant():
    assert made(variant="baseline").sigma_schedule(5) == 0
    assert made(variant="constant", sigma=0.3).sigma_schedule(5) == 0.3
    schedule = made(variant="decreasing", epochs=10).sigma_schedule(5)
    assert [float(schedule(5 * epoch)) for epoch in (0, 5, 9)] == pytest.approx([0.5, 0.25, 0.05])


def test_names_carry_a_hash_of_what_decides_the_result():
    first = made()
    assert first.name == made().name and first.name.startswith("set-vgg11-constant-s0-")
    for change in (
        dict(seed=1),
        dict(lr=0.2),
        dict(sigma=0.4),
        dict(window=5),
        dict(grids=((64, (16, 4)),)),
    ):
        assert dataclasses.replace(first, **change).name != first.name
    other = dataclasses.replace(images(), test_labels=np.ones(10, np.int32))
    assert configure(other, batch=32)[0].name != first.name


def test_a_baseline_does_not_depend_on_the_neighbourhood():
    assert made(variant="baseline", sigma=0.3).name == made(variant="baseline", window=5).name


@pytest.mark.parametrize(
    "overrides, words",
    [
        (dict(net="vgg12"), "Unknown net 'vgg12'. Known: vgg11"),
        (dict(variant="both"), "Known: baseline, constant"),
    ]
    + [(dict(sigma=-1.0), "at least 0"), (dict(sigma=1.0), "indefinite"), (dict(window=4), "3, 5 or 7")]
    + [(dict(sigma=1.0, variant="decreasing"), "indefinite"), (dict(boundary="reflect"), "edge")]
    + [(dict(epochs=0), "epochs"), (dict(lr=0.0), "lr must be positive"), (dict(width=-1.0), "width")]
    + [(dict(width=0.01), "layers of 1 filter")]
    + [(dict(lr=float("nan")), "lr"), (dict(weight_decay=-1.0), "weight_decay"), (dict(seed=-1), "seed")]
    + [(dict(scope="main"), "wide residual"), (dict(scope="some"), "Known: main, resblocks, all")]
    + [(dict(batch=72), "fewer than a batch"), (dict(batch=20), "does not divide over 8 devices")]
    + [(dict(grids=((64, (8, 4)),)), "64 units out as 8x4, which holds 32")]
    + [(dict(grids=((100, (10, 10)),)), "lays out 100 filters.*has layers of 64, 128, 256, 512")],
)
def test_wrong_values_are_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        made(**overrides)


def test_a_wider_window_takes_a_wider_sigma():
    assert made(sigma=1.0, window=5).sigma == 1.0


def test_the_embedded_digits_have_their_own_recipe():
    config, notes = configure(images("digits", classes=10), batch=None)
    assert dataclasses.asdict(configs.DIGITS).items() <= dataclasses.asdict(config).items()
    assert not config.flip and not notes


def test_a_run_on_a_torus_is_measured_on_it():
    """It was measured on an open plane, whose borders do not touch."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 16)).astype(np.float32)
    cosines, key = topography.cosines(kernel), jax.random.key(0)
    line = {"test_accuracy": 0.5, "test_loss": 1.0, "train_loss": 1.0, "images_per_second": None}
    names = {}
    for boundary in ("edge", "wrap"):
        for variant in ("constant", "baseline"):
            config, _ = foresee("digits", variant=variant, boundary=boundary)
            summary = summarise(config, {"conv_0": {"kernel": kernel}}, np.ones(3, bool), line, 1.0)
            wanted = topography.neighbour_cosine(cosines, Grid((4, 4), wrap=boundary == "wrap"), key=key)
            assert summary["neighbour_cosine"]["conv_0/kernel"] == pytest.approx(wanted.summary())
            names[boundary, variant] = config.name
    assert len(set(names.values())) == 4  # A baseline's numbers are of its torus, and so is its name.
