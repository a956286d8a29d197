"""Optimizers beside SGD, and where gradients are smoothed, against formulas in NumPy's float64."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from experiments import methods, optimizers, recipes
from experiments.run.together import Together
from tests.experiments.test_gradients import (
    GRIDS,
    STEPS,
    digits,
    kernels,
    refused,
    settings,
    stepped,
    trainer,
    tree,
)
from tests.lgnn_jax.reference import apply, dense

NORMALISING = ("adamw", "lion", "muon")


def float64(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def smoothed(updates):
    found = jax.tree.map(lambda leaf: leaf, updates)
    for name, kernel in kernels(updates).items():
        found[name]["kernel"] = apply(dense(GRIDS[name], 0.5), kernel, 3)
    return found


def adam(moments, g, count):
    first, second = moments
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, g)

    def direction(m, v):
        return m / (1 - 0.9**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)

    return (first, second), jax.tree.map(direction, first, second)


def lion(moment, g, count):
    step = jax.tree.map(lambda m, g: np.sign(0.9 * m + 0.1 * g), moment, g)
    return jax.tree.map(lambda m, g: 0.99 * m + 0.01 * g, moment, g), step


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_a_trajectory_with_smoothing_before_or_after_is_numpys(name, place):
    run = settings("constant", optimizer=name, smooth=place, lr=0.01, weight_decay=0.5, epochs=1)
    target, params = tree(1), tree(0)
    weights, goal, tx = float64(params), float64(target), run.optimizer(STEPS)
    state, update = tx.init(params), jax.jit(tx.update)
    zeros = jax.tree.map(np.zeros_like, weights)
    moment, rule = ((zeros, zeros), adam) if name == "adamw" else (zeros, lion)
    for count in range(STEPS):
        updates, state = update(jax.tree.map(jnp.subtract, params, target), state, params)
        params = optax.apply_updates(params, updates)
        rate = 0.01 * (1 + math.cos(math.pi * count / STEPS)) / 2
        grads = jax.tree.map(np.subtract, weights, goal)
        if place == "before":
            grads = smoothed(grads)
        moment, step = rule(moment, grads, count + 1)
        if place == "after":
            step = smoothed(step)
        move = functools.partial(lambda w, s, rate: w - rate * (s + 0.5 * w), rate=rate)
        weights = jax.tree.map(move, weights, step)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=2e-5), params, weights)


def orthogonalised(kernel):
    """Five steps of Newton and Schulz on the kernel as a matrix, and the factor by its shape."""
    x = kernel.reshape(-1, kernel.shape[-1])
    rows, columns = x.shape
    x = x / np.linalg.norm(x)
    for _ in range(5):
        square = x.T @ x
        x = 3.4445 * x + x @ (-4.7750 * square + 2.0315 * square @ square)
    return x.reshape(kernel.shape) * math.sqrt(max(1, columns / rows))


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_first_step_of_muon_is_an_orthogonal_one_of_kernels_and_adams_elsewhere(place):
    """A wide kernel too, 2 weights a filter of 16."""
    run = settings("constant", optimizer="muon", smooth=place, lr=0.02, weight_decay=0.1)
    params, grads = tree(0), tree(1)
    for each, seed in ((params, 2), (grads, 3)):
        drawn = np.random.default_rng(seed).standard_normal((1, 1, 2, 16))
        each["conv_0"] = {"kernel": jnp.asarray(drawn, jnp.float32)}
    tx = run.optimizer(STEPS)
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    for name, kernel in kernels(grads).items():
        operator = dense(GRIDS[name], 0.5)
        if place == "before":
            step = orthogonalised(apply(operator, kernel, 3))
            spectrum = np.linalg.svd(step.reshape(-1, step.shape[-1]), compute_uv=False)
            assert (0.3 < spectrum).all() and spectrum.max() < 1.3 * math.sqrt(8)
        else:
            step = apply(operator, orthogonalised(kernel), 3)
        expected = -0.02 * (step + 0.1 * np.asarray(params[name]["kernel"], np.float64))
        np.testing.assert_allclose(updates[name]["kernel"], expected, atol=2e-6, err_msg=name)
    for name in ("bias", "kernel"):
        signs, before = np.sign(grads["dense"][name]), np.asarray(params["dense"][name], np.float64)
        expected = -0.02 * (signs * 0.001 / 0.02 + 0.1 * before)
        np.testing.assert_allclose(updates["dense"][name], expected, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", NORMALISING)
def test_an_optimizer_has_a_rate_and_a_decay_of_its_own_in_every_recipe(name):
    for data, epochs in (("digits", 8), ("set", 100), ("set", 10)):
        recipe = recipes.recipe("vgg11", data, name)
        shorter, note = recipes.of_length("vgg11", recipe, epochs)
        assert (
            note is None
            and {"lr": shorter.lr, "weight_decay": shorter.weight_decay} == (optimizers.DEFAULTS[name])
        )
    run = settings("constant", optimizer=name)
    assert (run.recipe.lr, run.recipe.weight_decay) == tuple(optimizers.DEFAULTS[name].values())
    assert settings("constant", optimizer=name, lr=0.5).recipe.lr == 0.5
    assert run.flat()["optimizer"] == name and run.name != settings("constant").name
    assert run.having(smooth="after").name != run.name


def test_sgd_is_what_it_was():
    run = settings("constant", optimizer="sgd", smooth="before")
    assert run == settings("constant") and not {"optimizer", "smooth"} & set(run.flat())
    state = run.optimizer(STEPS).init(tree(0))
    assert len(state) == 3 and len(jax.tree.leaves(state)) == 2 + len(jax.tree.leaves(tree(0)))


def test_where_nothing_is_smoothed_the_place_decides_nothing():
    for variant in ("baseline", "pull", "smooth_init"):
        before, after = (settings(variant, optimizer="lion", smooth=each) for each in optimizers.PLACES)
        assert before.name == after.name, variant


def test_what_cannot_be_is_refused(monkeypatch):
    refused("constant", "after gradients are normalised, which sgd does not do.*adamw", smooth="after")
    refused("constant", "Unknown smooth 'between'. Known: before, after", smooth="between")
    refused("constant", "Unknown optimizer 'adam'. Known: sgd, adamw, lion, muon", optimizer="adam")
    with pytest.raises(ValueError, match="sgd normalises nothing"):
        optimizers.normalising("sgd")
    monkeypatch.setattr(contrib, "scale_by_muon", lambda beta: None)
    refused("constant", r"needs an Optax whose optax.contrib.scale_by_muon.*Update Optax", optimizer="muon")
    monkeypatch.delattr(contrib, "scale_by_muon")
    refused("constant", "needs an Optax whose", optimizer="muon")


def test_every_method_has_a_place_in_the_chain():
    assert all(kind.smooth == "before" for kind in methods.METHODS.values())


@pytest.mark.parametrize(
    "name", ["adamw", *(pytest.param(each, marks=pytest.mark.slow) for each in ("lion", "muon"))]
)
def test_it_trains(name, single):
    before, after = stepped(trainer("constant", optimizer=name, smooth="after"))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.isfinite(new).all() and not np.array_equal(old, new)


def test_runs_made_together_have_their_optimizer(shallow):
    made = trainer("constant", optimizer="lion", smooth="after")
    _, placed = digits()
    together, params = Together([made.config], placed), tree(0)
    ours, theirs = together._optimizer(0.5), made.config.optimizer(together.steps)
    found, wanted = (tx.update(tree(1), tx.init(params), params)[0] for tx in (ours, theirs))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.slow
def test_an_order_moves_the_moments_of_an_optimizer(shallow):
    """Muon's and Adam's, each with the kernels and biases that they belong to."""
    made = trainer("arranged", optimizer="muon")
    state, drawn = made.start(0)
    for examples in np.arange(2 * 64).reshape(2, 64):
        state = made.step(state, drawn, examples.astype(np.int32))
    before = jax.device_get(state)
    after = jax.device_get(made.config.method.between(made.config, state, 1, made.placed.train))
    columns = [each.params["conv_1"]["kernel"].reshape(-1, 4) for each in (before, after)]
    order = [int(np.abs(columns[0] - column[:, None]).sum(0).argmin()) for column in columns[1].T]
    assert sorted(order) == [0, 1, 2, 3] != order
    kinds = [each.opt_state[1].inner_states for each in (before, after)]
    moments = [kind["other"].inner_state[0].mu["bn_1"]["scale"] for kind in kinds]
    np.testing.assert_array_equal(moments[1], moments[0][order])
    moments = [kind["kernel"].inner_state[0].mu["conv_1"]["kernel"] for kind in kinds]
    # The layer's inputs are moved too, so that sums over them round otherwise.
    np.testing.assert_allclose(
        np.abs(moments[1]).sum((0, 1, 2)), np.abs(moments[0]).sum((0, 1, 2))[order], rtol=1e-6
    )
