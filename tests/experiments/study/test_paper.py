import dataclasses

import numpy as np
import pytest

from experiments import nets, sweep
from experiments.config import configure
from experiments.data import Dataset
from experiments.recipes import PAPER
from experiments.study.paper import FIGURES, TABLES, Table, comparable

# The paper's Tables I to III.
ACCURACIES = {
    ("vgg11", "baseline"): 69.96,
    ("vgg11", "constant"): 70.16,
    ("vgg11", "decreasing"): 70.17,
    ("vgg19", "baseline"): 72.01,
    ("vgg19", "constant"): 72.39,
    ("vgg19", "decreasing"): 72.46,
    ("wrn16-8", "baseline"): 78.87,
    ("wrn16-8", "main", "constant"): 78.90,
    ("wrn16-8", "main", "decreasing"): 78.94,
    ("wrn16-8", "resblocks", "constant"): 79.08,
    ("wrn16-8", "resblocks", "decreasing"): 79.10,
    ("wrn16-8", "all", "constant"): 79.07,
    ("wrn16-8", "all", "decreasing"): 79.12,
    ("wrn28-10", "baseline"): 80.62,
    ("wrn28-10", "resblocks", "constant"): 80.88,
    ("wrn28-10", "resblocks", "decreasing"): 81.08,
    ("wrn28-10", "all", "constant"): 80.99,
    ("wrn28-10", "all", "decreasing"): 80.81,
}


def test_rows_and_accuracies_are_the_papers():
    rows = TABLES["table1"].rows + TABLES["table2"].rows
    found = {(row.net, *filter(None, [row.scope]), row.variant): row.accuracy for row in rows}
    assert found == ACCURACIES and list(found) == list(ACCURACIES) and len(rows) == len(found)
    assert all(row.label == ", ".join(filter(None, [row.scope, row.variant])) for row in rows)
    assert {(row.sigma, row.window) for row in rows} == {(None, None)}


def test_the_ablation_is_of_four_neighbourhoods():
    baseline, *rows = TABLES["ablation"].rows
    assert (baseline.net, baseline.variant, baseline.label) == ("vgg11", "baseline", "baseline")
    found = {(row.window or 3, row.sigma or 0.5): row.label for row in rows}
    assert set(found) == {(3, 0.5), (5, 0.5), (5, 1.0), (3, 0.84)}
    assert {(row.net, row.variant) for row in rows} == {("vgg11", "constant")}
    for (window, sigma), label in found.items():
        assert label == f"{window}x{window}, sigma {sigma:g}"


def test_figures_and_magnitudes_are_of_the_papers_nets():
    assert {name: figure.rows[0].net for name, figure in FIGURES.items()} == {
        "fig1": "vgg19",
        "fig2": "vgg11",
        "fig3": "vgg11",
    }
    assert {row.variant: row.magnitudes for row in TABLES["table3"].rows} == {
        "baseline": (2.1775e-06, 2.2977, 3.6854),
        "constant": (0.0111, 1.6394, 1.0199),
        "decreasing": (0.0007, 1.9456, 2.0902),
    }


def cifar100(**changes):
    train, test = np.zeros((50_000, 32, 32, 3), np.uint8), np.zeros((10_000, 32, 32, 3), np.uint8)
    names = tuple(map(str, range(100)))
    data = Dataset("cifar100", train, np.zeros(50_000, np.int32), test, np.zeros(10_000, np.int32), names)
    return dataclasses.replace(data, **changes)


@pytest.fixture(scope="module")
def whole():
    """A configuration of the paper, and a set of the right name and size."""
    data = cifar100()
    return configure(data, net="wrn16-8", variant="constant", scope="main")[0], data


def test_the_papers_numbers_stand_beside_its_own_setting_alone(whole):
    config, data = whole
    assert all(comparable(configure(data, net=net)[0], data) for net in PAPER)
    others = (dict(width=0.5), dict(epochs=100), dict(lr=0.2), dict(weight_decay=1e-3), dict(batch=64))
    others += (dict(boundary="wrap"), dict(grids=((512, (512, 1)),)), dict(milestones=(60, 120)))
    for change in others:
        assert not comparable(config.having(**change), data), change
    assert not comparable(config, dataclasses.replace(data, name="tinyimagenet100"))
    shorter = dataclasses.replace(data, test_images=data.test_images[1:], test_labels=data.test_labels[1:])
    assert not comparable(config, shorter)


@pytest.mark.parametrize(
    "net, expected", [("vgg11", 457e6), ("vgg19", 1.19e9), ("wrn16-8", 4.64e9), ("wrn28-10", 15.7e9)]
)
def test_multiply_adds_are_the_known_ones(net, expected):
    assert sweep.multiply_adds(net) == pytest.approx(expected, rel=0.005)


def test_multiply_adds_by_hand_at_another_width_and_of_a_whole_run(whole):
    sizes = [
        (32, 3, 4),
        (16, 4, 8),
        (8, 8, 16),
        (8, 16, 16),
        (4, 16, 32),
        (4, 32, 32),
        (2, 32, 32),
        (2, 32, 32),
    ]
    layers = [side**2 * 9 * inputs * outputs for side, inputs, outputs in sizes]
    forward = sum(layers) + 32 * 10
    assert sweep.multiply_adds("vgg11", 10, 1 / 16) == 3 * forward - layers[0]
    assert set(PAPER) <= set(nets.NETS)

    class Placed:
        classes, train_examples, test_examples = 10, 100, 7

    config = whole[0].having(net="vgg11", scope="all", width=1 / 16, epochs=3, batch=32)
    assert sweep.run_multiply_adds(config, Placed) == 3 * (96 * (3 * forward - layers[0]) + 7 * forward)


def test_a_table_of_some_nets_keeps_their_rows():
    some = TABLES["table1"].of(("vgg19",))
    assert isinstance(some, Table) and {row.net for row in some.rows} == {"vgg19"} and len(some.rows) == 3
