import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import config as configs
from experiments import fields, methods, recipes
from experiments.config import Run, configure, foresee
from experiments.data import Dataset
from experiments.run import results
from experiments.run.measured import measure
from experiments.run.weights import convolutions
from lgnn_jax import Grid, topography
from lgnn_jax.inspect import accumulate


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
    recipe = config.recipe
    assert (recipe.epochs, recipe.milestones, recipe.batch) == (epochs, milestones, 128)
    assert (recipe.lr, recipe.weight_decay, recipe.momentum, config.method.sigma) == (0.1, 5e-4, 0.9, 0.5)
    rate = recipe.learning_rate(7)
    for epoch in range(0, epochs, 5):
        expected = 0.1 * 0.2 ** sum(epoch >= milestone for milestone in milestones)
        for step in (7 * epoch, 7 * epoch + 6):
            assert float(rate(step)) == pytest.approx(expected)


def test_a_shortened_run_keeps_its_milestones_places_and_its_decay_budget():
    config, notes = configure(images(), batch=32, epochs=10)
    assert config.recipe.milestones == (4, 7, 9) and config.recipe.weight_decay == pytest.approx(5e-3)
    assert "weight decay 0.005 instead of 0.0005" in notes[0]
    config, notes = configure(images(), batch=32, epochs=2)
    assert config.recipe.weight_decay == 0.01 and "(40% of the decay" in notes[0]
    config, notes = configure(images(), net="vgg19", batch=32, epochs=10)
    assert config.recipe.weight_decay == 0.0025 and "(25% of the decay" in notes[0]
    config, notes = configure(images("digits"), batch=32, epochs=1)
    assert config.recipe.weight_decay == 0.02 and not notes
    config, notes = configure(images(), batch=32, epochs=10, weight_decay=1e-3)
    assert config.recipe.weight_decay == 1e-3 and not notes


def test_cosine_ends_at_zero():
    rate = made(schedule="cosine", epochs=4).recipe.learning_rate(10)
    assert float(rate(0)) == pytest.approx(0.1) and float(rate(20)) == pytest.approx(0.05)
    assert float(rate(40)) == pytest.approx(0)


def test_sigma_by_variant():
    def logged(epoch, **options):
        run = made(epochs=10, **options)
        return run.method.logged(run, 5 * epoch, 5)

    assert logged(3, variant="baseline") == {"sigma": 0}
    assert logged(3, variant="constant", sigma=0.3) == {"sigma": 0.3}
    sigmas = [logged(epoch, variant="decreasing")["sigma"] for epoch in (0, 5, 9)]
    assert sigmas == pytest.approx([0.5, 0.25, 0.05])


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
        assert first.having(**change).name != first.name
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
    assert made(sigma=1.0, window=5).method.sigma == 1.0


def test_the_embedded_digits_have_their_own_recipe():
    config, notes = configure(images("digits", classes=10), batch=None)
    assert config.recipe == recipes.DIGITS and config.net.width == 0.25
    assert not config.recipe.flip and not notes


def test_a_run_on_a_torus_is_measured_on_it():
    """It was measured on an open plane, whose borders do not touch."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 16)).astype(np.float32)
    cosines, key = topography.cosines(kernel), jax.random.key(0)
    images = np.random.default_rng(1).standard_normal((6, 1, 1, 16)).astype(np.float32)
    seen = accumulate(lambda x: {"conv_0/kernel": x}, images, [0, 0, 0, 1, 1, 1], classes=2, top=1)
    names = {}
    for boundary in ("edge", "wrap"):
        for variant in ("constant", "baseline"):
            config, _ = foresee("digits", variant=variant, boundary=boundary)
            layers = convolutions(config, {"conv_0": {"kernel": kernel}})
            (found,) = measure(layers, seen, ()).values()
            wanted = topography.neighbour_cosine(cosines, Grid((4, 4), wrap=boundary == "wrap"), key=key)
            assert found["metrics"]["weights: neighbour cosine"] == pytest.approx(wanted.summary())
            names[boundary, variant] = config.name
    assert len(set(names.values())) == 4  # A baseline's numbers are of its torus, and so is its name.


PUBLISHED = sorted(results.PUBLISHED.glob("*/summary.json"))


def published():
    """The published configurations by their folders' names."""
    return {path.parent.name: json.loads(path.read_text())["config"] for path in PUBLISHED}


def test_settings_that_came_after_the_published_runs_say_so():
    """Else they rename all runs."""
    variants = ("baseline", "constant", "decreasing")
    known = set.intersection(*(set(run) for run in published().values() if run["variant"] in variants))
    for variant in variants:
        run = made(variant=variant)
        parts = (run.net, run.data, run.method, run.recipe)
        later = {key for part in parts for key in fields.by_key(part)} - known
        assert later == {key for part in parts for key in fields.added(part)}


@dataclasses.dataclass(frozen=True)
class LaterRecipe(recipes.Recipe):
    warm_up: int = fields.setting("Epochs of a growing rate.", 0, added=True)


@dataclasses.dataclass(frozen=True)
class LaterConstant(methods.Constant):
    strength: float = fields.setting("How much is smoothed.", 1.0, added=True)


def test_a_new_setting_renames_no_run_unless_it_changes_it(monkeypatch, tmp_path):
    before = {name: Run.of(settings) for name, settings in published().items()}
    monkeypatch.setattr(configs, "Recipe", LaterRecipe)
    monkeypatch.setitem(methods.METHODS, "constant", LaterConstant)
    assert len(before) >= 42
    for name, settings in published().items():
        run = Run.of(settings)
        assert run.recipe.warm_up == 0 and run.name == before[name].name == name
        assert json.loads(json.dumps(run.flat())) == settings and not run.differences(settings)
        longer = run.having(warm_up=3)
        assert longer.recipe.warm_up == 3 and longer.name != name
        assert longer.flat() == run.flat() | {"warm_up": 3} and Run.of(longer.flat()) == longer
        # A folder that was renamed is found out in either direction.
        assert longer.differences(run.flat()) == ["warm_up is 0 there and 3 here"]
        assert run.differences(longer.flat()) == ["warm_up is 3 there and 0 here"]
    constant = next(run for run in map(Run.of, published().values()) if run.method.name == "constant")
    weaker = constant.having(strength=0.5)
    assert constant.method.strength == 1.0 and weaker.name != constant.name
    assert weaker.differences(constant.flat()) == ["strength is 1.0 there and 0.5 here"]


def test_a_setting_that_nobody_knows_is_refused():
    settings = made().flat()
    with pytest.raises(ValueError, match="Unknown setting 'momenta'. Known: arrange_by, .*, width"):
        Run.of(settings | {"momenta": 1})
    with pytest.raises(ValueError, match="Unknown split 'half'"):
        Run.of(settings | {"split": "half"})
    (difference,) = made().differences(settings | {"momenta": 1})
    assert difference == "momenta is 1 there and unknown here"
