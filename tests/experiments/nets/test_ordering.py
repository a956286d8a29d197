"""Which order of a network's units is found, and that the network takes it on with its function kept."""

import functools

import jax
import numpy as np
import pytest

from experiments import data as datasets
from experiments import nets
from experiments.config import foresee
from experiments.nets import activations, ordering
from experiments.run.step import PlacedData
from lgnn_jax import arrange, distances, reorder, topography


@functools.cache
def made(net, seed=0):
    width = {"vgg11": 1 / 16, "wrn16-8": 1 / 8}[net]
    run, _ = foresee("digits", net=net, width=width)
    module = nets.build(net, 10, width)
    variables = module.init(jax.random.key(seed), np.zeros((1, 32, 32, 3), np.float32), train=False)
    # Statistics that differ, so that an order of the wrong leaf is seen.
    draw = np.random.default_rng(1)
    return run.net, jax.tree.map(lambda leaf: leaf + 0.1 * draw.random(leaf.shape, np.float32), variables)


@pytest.fixture(scope="module")
def placed():
    return PlacedData(datasets.load("digits"), jax.devices()[:1])


def objective(similarity, grid):
    return (np.asarray(similarity) * np.exp(-(distances(grid) ** 2) / 2)).sum()


@pytest.mark.parametrize("net", ["vgg11", pytest.param("wrn16-8", marks=pytest.mark.slow)])
def test_units_that_are_tied_get_one_order_and_the_function_stays(shallow, placed, net):
    own, variables = made(net)
    found = ordering.orders(own, variables, placed.train, ordering.BOTH, images=100)
    layers = own.layout.layers(variables["params"])
    assert set(found) == {layer.path for layer in layers}
    tied = ordering.tied(own, variables)
    assert tied is ordering.tied(own, jax.tree.map(np.array, variables))  # Traced once.
    if net == "wrn16-8":
        for group in range(3):
            paths = [path for path in found if path.startswith(f"group_{group}_") and "conv_0" not in path]
            assert len(paths) == 2  # The last convolution and the shortcut, which are added.
            np.testing.assert_array_equal(found[paths[0]], found[paths[1]])
    moved = reorder(variables, tied, found)  # Checked by running it.
    alike = ordering.similarities(own, variables, placed.train, ordering.BOTH, images=100)
    after = ordering.similarities(own, moved, placed.train, ordering.BOTH, images=100)
    for layer in layers:
        order = found[layer.path]
        np.testing.assert_allclose(after[layer.path], alike[layer.path][order][:, order], atol=1e-4)
    large = max(layers, key=lambda layer: layer.grid.units)
    assert objective(after[large.path], large.grid) >= objective(alike[large.path], large.grid)


def test_an_order_is_that_of_arrange_and_goes_on_from_another(shallow, placed):
    own, variables = made("vgg11")
    layers = own.layout.layers(variables["params"])
    alike = ordering.similarities(own, variables, placed.train, ordering.WEIGHTS)
    found = ordering.orders(own, variables, placed.train, ordering.WEIGHTS)
    start = {layer.path: np.arange(layer.grid.units) for layer in layers}
    warm = ordering.orders(own, variables, placed.train, ordering.WEIGHTS, start=start)
    for layer in layers:
        np.testing.assert_array_equal(found[layer.path], arrange(alike[layer.path], layer.grid))
        wanted = arrange(alike[layer.path], layer.grid, start=start[layer.path])
        np.testing.assert_array_equal(warm[layer.path], wanted)


def test_similarities_are_cosines_correlations_or_their_mean(shallow, placed):
    own, variables = made("vgg11")
    path = "conv_1/kernel"
    weights, seen, both = (
        ordering.similarities(own, variables, placed.train, by, images=700)[path] for by in ordering.BY
    )
    kernel = variables["params"]["conv_1"]["kernel"]
    np.testing.assert_allclose(weights, topography.cosines(kernel), atol=1e-6)
    chosen = np.random.default_rng(0).permutation(placed.train_examples)[:700]
    images = placed.train.normalised(chosen)
    module = nets.build("vgg11", 10, 1 / 16)
    _, kept = module.apply(variables, images, train=False, mutable=["intermediates"])
    maps = np.asarray(activations.shown(kept["intermediates"])[path], np.float64)
    wanted = np.nan_to_num(np.corrcoef(maps.mean((1, 2)).T))
    np.testing.assert_allclose(seen, wanted, atol=1e-4)
    alive = np.diagonal(seen) > 0
    expected = np.where(alive[:, None] & alive, (weights + seen) / 2, 0)
    np.testing.assert_allclose(both, expected, atol=1e-6)


def test_units_that_are_dead_in_one_way_are_dead_in_the_mean(shallow, placed):
    own, variables = made("vgg11")
    variables = jax.tree.map(np.array, variables)
    variables["params"]["bn_1"]["bias"][:] = 1.0
    variables["params"]["bn_1"]["scale"][2] = variables["params"]["bn_1"]["bias"][2] = 0
    both = ordering.similarities(own, variables, placed.train, ordering.BOTH, images=60)["conv_1/kernel"]
    assert not both[2].any() and not both[:, 2].any() and both[1, 1] == pytest.approx(1, abs=1e-5)
    order = ordering.orders(own, variables, placed.train, ordering.BOTH, images=60)["conv_1/kernel"]
    assert order[-1] == 2
