"""The words of errors of the page, of feature visualisation, of responses and of regions."""

import functools
import types

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, inspect
from lgnn_jax.inspect import ablate, accumulate, atlas, class_maps, per_class_accuracy, regions
from tests.golden import Golden, message

pytest.importorskip("PIL")

IMAGES = np.random.default_rng(0).random((6, 2, 2, 3)).astype(np.float32)
LABELS = np.array([0, 0, 0, 1, 1, 1])
KEY = jax.random.key(0)

# Calls into the library.


def colours(images):
    """Three channels as units, and one that is always 1."""
    return {"in": jax.numpy.concatenate([images, 0 * images[..., :1] + 1], -1)}


def summed(responses=colours, images=IMAGES, labels=LABELS, classes=2, **options):
    return accumulate(responses, images, labels, classes=classes, **{"top": 2} | options)


@functools.cache
def statistics():
    return summed()["in"]


def layer(kernel=None, shape=(2, 2), found=None, **options):
    return atlas.layer("in", kernel, Grid(shape), found or statistics(), **options)


def net(title="one", layers=None, **options):
    return atlas.Shown(title, [layer()] if layers is None else layers, **options)


def write(*networks, path="page.html", images=IMAGES, class_names=("a", "b"), **options):
    atlas.write_page(path, networks or [net()], images=images, class_names=class_names, **options)


def visualise(responses=colours, layer="in", units=None, *, shape=(8, 8, 3), setting=None, **options):
    setting = inspect.SMALL if setting is None else inspect.Setting(**{"pad": 0} | setting)
    inspect.visualise(responses, layer, units, key=KEY, shape=shape, setting=setting, **options)


def beyond(units=(0,), **options):
    units = np.asarray(units)
    made = inspect.FeatureVisualisation("in", units, IMAGES[:1], units, units, units < 0)
    inspect.share_beyond(made, colours, IMAGES, **options)


def effect(members=(0,), **options):
    options = {"units": 4, "classes": 2, "repetitions": 2} | options
    ablate(lambda mask: LABELS, LABELS, members, key=KEY, **options)


def pictures_of(count=4, shape=(2, 2, 3), value=0.5, units=None):
    units = np.arange(count) if units is None else units
    return types.SimpleNamespace(
        units=units, images=np.full((count, *shape), value), dead=np.zeros(count, bool)
    )


def spoilt(array, value=np.nan):
    array = array.copy()
    array[2] = value
    return array


WEIGHTS = np.random.default_rng(0).standard_normal((1, 1, 3, 4))
ONE_OF_A_CLASS = np.array([0, 0, 0, 0, 0, 1])
NAMED = {"superclass_names": ["x", "y"]}
ERRORS = {
    # Layers of the page.
    "layer: three dimensions": lambda: layer(shape=(2, 2, 1)),
    "layer: other units": lambda: layer(shape=(5, 1)),
    "layer: weights not finite": lambda: layer(WEIGHTS * np.nan),
    "layer: other weights": lambda: layer(WEIGHTS[..., :3]),
    "layer: visualisation of some units": lambda: layer(visualisation=pictures_of(3)),
    "layer: visualisation of units twice": lambda: layer(visualisation=pictures_of(units=[0, 1, 1, 3])),
    "layer: visualisation of other channels": lambda: layer(visualisation=pictures_of(shape=(2, 2, 2))),
    "layer: visualisation out of range": lambda: layer(visualisation=pictures_of(value=2.0)),
    "layer: visualisation and dead": lambda: layer(
        visualisation=types.SimpleNamespace(units=np.arange(4), images=np.zeros((4, 2, 2, 3)), dead=[True])
    ),
    "layer: score without value": lambda: layer(scores={"order": {"z": 3.0}}),
    "layer: a number for a score": lambda: layer(scores={"order": 3.0}),
    "layer: one image of a class": lambda: layer(found=summed(labels=ONE_OF_A_CLASS)["in"]),
    # The page.
    "page: no folder": lambda: write(path="no such folder/page.html"),
    "page: three networks": lambda: write(net("a"), net("b"), net("c")),
    "page: no layers": lambda: write(net(layers=[])),
    "page: other grids": lambda: write(net("a"), net("b", [layer(shape=(4, 1))])),
    "page: more layers": lambda: write(net("a"), net("b", [layer(), layer()])),
    "page: the same title": lambda: write(net("a"), net("a")),
    "page: class names": lambda: write(class_names=["a"]),
    "page: class accuracy": lambda: write(net(class_accuracy=np.array([0.5, 1.5]))),
    "page: class accuracies": lambda: write(net(class_accuracy=np.array([0.5]))),
    "page: superclasses with a gap": lambda: write(**NAMED, superclass_of=[0, 0]),
    "page: superclasses of some": lambda: write(**NAMED, superclass_of=[0]),
    "page: threshold": lambda: write(threshold=float("inf")),
    "page: shape of images": lambda: write(images=IMAGES[..., :2]),
    "page: range of images": lambda: write(images=3 * IMAGES + 1),
    "page: whole numbers": lambda: write(images=IMAGES.astype(int)),
    "page: fewer images": lambda: write(images=IMAGES[:4]),
    # Feature visualisation.
    "setting: steps": lambda: inspect.Setting(steps=0),
    "setting: pad": lambda: inspect.Setting(pad=-1),
    "setting: jitter": lambda: inspect.Setting(jitter=1.5),
    "setting: decorrelate": lambda: inspect.Setting(decorrelate=1),
    "setting: learning rate": lambda: inspect.Setting(learning_rate=-0.1),
    "setting: hold": lambda: inspect.Setting(hold=1.5),
    "setting: b1": lambda: inspect.Setting(b1=-0.1),
    "setting: b2": lambda: inspect.Setting(b2=1),
    "setting: learning rate not finite": lambda: inspect.Setting(learning_rate=float("nan")),
    "setting: no scales": lambda: inspect.Setting(scales=()),
    "setting: scales": lambda: inspect.Setting(scales=(1, 0)),
    "setting: angles": lambda: inspect.Setting(angles=(0, -50)),
    "visualise: shape": lambda: visualise(shape=(8, 8)),
    "visualise: size": lambda: visualise(shape=(8, 0, 3)),
    "visualise: two channels": lambda: visualise(shape=(8, 8, 2)),
    "visualise: nothing left": lambda: visualise(setting={"jitter": 8}),
    "visualise: objective": lambda: visualise(objective="map"),
    "visualise: batch": lambda: visualise(batch=0),
    "visualise: layer": lambda: visualise(layer="out"),
    "visualise: units": lambda: visualise(responses=lambda x: {"in": x}, units=[0.5]),
    "visualise: units out of range": lambda: visualise(responses=lambda x: {"in": x}, units=[0, 3]),
    "visualise: one dimension": lambda: visualise(responses=lambda x: {"in": x.sum((1, 2, 3))}),
    "visualise: fixed size": lambda: visualise(
        responses=lambda x: {"in": x.reshape(len(x), 1024, 3)}, shape=(32, 32, 3)
    ),
    "visualise: not finite": lambda: visualise(responses=lambda x: {"in": x * np.nan}, units=[1]),
    "excitation: no images": lambda: inspect.mean_activations(colours, "in", IMAGES[:0]),
    "excitation: whole numbers": lambda: inspect.mean_activations(colours, "in", IMAGES.astype(int)),
    "excitation: range": lambda: inspect.mean_activations(colours, "in", 2 * IMAGES + 1),
    "excitation: not finite": lambda: inspect.mean_activations(lambda x: {"in": x / 0.0}, "in", IMAGES),
    "share beyond: quantile": lambda: beyond(quantile=1.5),
    "share beyond: units": lambda: beyond([7]),
    # Responses.
    "responses: classes": lambda: summed(classes=0),
    "responses: batch": lambda: summed(batch=2.5),
    "responses: top": lambda: summed(top=7),
    "responses: fewer labels": lambda: summed(labels=LABELS[1:]),
    "responses: labels of floats": lambda: summed(labels=LABELS / 1),
    "responses: labels out of range": lambda: summed(labels=LABELS + 1),
    "responses: a class without images": lambda: summed(classes=3, labels=2 * LABELS),
    "responses: no layers": lambda: summed(lambda x: {}),
    "responses: one dimension": lambda: summed(lambda x: {"in": x[:, 0, 0, 0]}),
    "responses: not finite": lambda: summed(images=spoilt(IMAGES)),
    "responses: other layers": lambda: summed(lambda x: {f"{x[0, 0, 0, 0]:.3f}": x}, batch=3),
    "statistics: constant unit": lambda: statistics().correlation(),
    "statistics: unknown policy": lambda: statistics().correlation(constant="zero"),
    "statistics: nothing varies": lambda: summed(lambda x: {"in": 0 * x})["in"].effective_dimension,
    "statistics: one image of a class": lambda: summed(labels=ONE_OF_A_CLASS)["in"].selectivity(
        constant="nan"
    ),
    "statistics: superclasses": lambda: statistics().grouped_means([0]),
    "statistics: superclasses with a gap": lambda: statistics().grouped_means([0, 2]),
    "class maps: other units": lambda: class_maps(statistics(), Grid((5, 1))),
    # Regions.
    "regions: shape": lambda: regions(np.ones(4), Grid((2, 2)), threshold=1),
    "regions: threshold": lambda: regions(np.ones((2, 4)), Grid((2, 2)), threshold=float("nan")),
    "regions: other units": lambda: regions(np.ones((2, 4)), Grid((3, 2)), threshold=1),
    "regions: partly NaN": lambda: regions(spoilt(np.ones((4, 4))), Grid((2, 2)), threshold=1),
    "accuracy: lengths": lambda: per_class_accuracy(LABELS[1:], LABELS, 2),
    "accuracy: predictions": lambda: per_class_accuracy(LABELS + 1, LABELS, 2),
    "silence: repetitions": lambda: effect(repetitions=1),
    "silence: members": lambda: effect([1, 1]),
    "silence: members out of range": lambda: effect([4]),
}
messages = Golden(__file__, "inspect_errors")


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_errors(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    messages.check(case, message(ERRORS[case]))
    assert not list(tmp_path.iterdir())


def test_no_error_is_pinned_in_vain():
    messages.check_cases(ERRORS)
