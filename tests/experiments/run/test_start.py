import json
import shutil

import click
import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import data as datasets
from experiments.config import configure, foresee
from experiments.nets import ordering
from experiments.run import make, start
from experiments.run.alone import Alone
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer
from experiments.run.together import Together
from experiments.run.weights import _restored, load_weights
from tests.experiments.conftest import SMALL, few_digits

# So slow that a step changes nothing but the running statistics.
STILL = {key: value for key, value in SMALL.items() if key != "weight_decay"} | {"lr": 1e-30, "epochs": 1}


def begun(finished, **settings):
    """A run that begins with the finished baseline's weights, the folder of runs, and that baseline's."""
    out, _, folders = finished
    (folder,) = folders["baseline"]
    return configure(datasets.load("digits"), **STILL | {"start": folder.name} | settings)[0], out, folder


@pytest.mark.parametrize("program", ["alone", "together"])
def test_training_begins_with_the_weights_of_the_run(finished, program):
    config, out, folder = begun(finished, variant="constant")
    placed = PlacedData(few_digits(32), jax.devices()[:1])
    made = Alone(Trainer(config, placed), config) if program == "alone" else Together([config], placed)
    (state,) = made.apart(made.start(start.variables(config, out))[0])
    assert int(state.step) == 0
    jax.tree.map(
        np.testing.assert_array_equal,
        {"params": state.params, "batch_stats": state.batch_stats},
        load_weights(folder),
    )


def test_a_method_that_puts_units_in_order_does_so_at_once_and_the_function_stays(finished, monkeypatch):
    """From nothing: the order in which the units lie is no order."""
    config, out, folder = begun(finished, variant="arranged", arrange_every=5)
    orders, starts = ordering.orders, []

    def found(*arguments, start, **options):
        starts.append(start)
        return orders(*arguments, start=start, **options)

    monkeypatch.setattr(ordering, "orders", found)
    program = Alone(Trainer(config, PlacedData(few_digits(32))), config)
    state, drawn = program.start(start.variables(config, out))
    before = program.evaluate(state)[1]
    state = program._between(state, 0)
    np.testing.assert_allclose(program.evaluate(state)[1], before, rtol=1e-4)
    _, after = next(program.epoch(program.start(start.variables(config, out))[0], drawn, 0))
    norms, there = (
        np.square(params["conv_1"]["kernel"]).sum((0, 1, 2))
        for params in (after.params, load_weights(folder)["params"])
    )
    assert not np.allclose(norms, there) and np.allclose(np.sort(norms), np.sort(there))
    assert starts == [None, None]


def test_a_run_from_it_says_so_and_ends_near_it(finished, monkeypatch, tmp_path):
    config, _, folder = begun(finished, variant="baseline")
    out = tmp_path  # Others count the runs that are there.
    shutil.copytree(folder, out / folder.name)
    monkeypatch.setattr(make, "summarise", lambda *about: {})
    with Reporter(1, 1, Console(quiet=True)) as report:
        made = make.run(Trainer(config, PlacedData(few_digits(32))), 0, out, report)
    assert json.loads((made / "config.json").read_text())["start"] == folder.name
    variables, _ = _restored(made / "weights")
    jax.tree.map(np.testing.assert_array_equal, variables["params"], load_weights(folder)["params"])


def test_weight_decay_is_not_scaled_to_the_length():
    short = {"net": "vgg11", "epochs": 3}
    assert foresee("cifar100", **short)[0].recipe.weight_decay > 5e-4
    config, notes = foresee("cifar100", **short, start="a-run")
    assert config.recipe.weight_decay == 5e-4 and not notes
    assert foresee("cifar100", **short, start="a-run", weight_decay=0.01)[0].recipe.weight_decay == 0.01


def test_without_one_nothing_changes(finished):
    out, configs, _ = finished
    (config,) = configs["baseline"]
    assert "start" not in config.flat() and start.variables(config, out) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "digits-vgg11-none"}, "no summary.json of 'digits-vgg11-none'"),
        ({"start": "../elsewhere"}, "must name a finished run"),
        ({"width": 0.125}, "width is 0.0625 there and 0.125 here"),
        ({"net": "wrn16-8", "width": 0.25}, "net is 'vgg11' there and 'wrn16-8' here"),
    ],
)
def test_another_network_or_none_is_refused(finished, settings, message):
    config, out, _ = begun(finished, variant="constant", **settings)
    with pytest.raises(click.UsageError, match=message):
        start.check(config, out)


def test_other_images_are_refused(finished):
    """Of its full set a network has been trained on the images that the development split tests on."""
    config, out, _ = begun(finished, variant="constant")
    with pytest.raises(click.UsageError, match="split is 'full' there and 'development' here"):
        start.check(config.having(split="development"), out)
    start.check(config.having(data="folder:elsewhere", data_digest=""), out)  # Not read yet, nor named.
    with pytest.raises(click.UsageError, match="data is 'digits' there and 'letters' here"):
        start.check(config.having(data="letters"), out)


def test_lost_weights_are_said(finished):
    config, out, folder = begun(finished, variant="constant")
    (folder / "weights").rename(folder / "elsewhere")
    try:
        with pytest.raises(click.UsageError, match="holds no weights, with which training could start"):
            start.variables(config, out)
    finally:
        (folder / "elsewhere").rename(folder / "weights")
