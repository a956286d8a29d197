"""Methods that act on gradients, against their formulas in NumPy's float64; a short run of each."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from experiments import config as configs
from experiments.config import configure, foresee
from experiments.run import results, running, summary
from experiments.run.alone import Alone
from experiments.run.checkpoint import Saved
from experiments.run.make import run as make
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer, order
from experiments.run.together import family
from experiments.run.weights import convolutions
from lgnn_jax import Grid, neighbours
from tests.experiments.conftest import few_digits
from tests.experiments.test_methods import Silent
from tests.lgnn_jax.reference import apply, dense, heat, operator

STEPS = 10  # Of an epoch.
GRIDS = {"conv_0": (4, 4), "conv_1": (4, 2)}


def tree(seed):
    """Two kernels, 16 filters and 8, and what lies on no grid."""
    draw = np.random.default_rng(seed).standard_normal
    leaves = {
        "conv_0": {"kernel": draw((3, 3, 3, 16))},
        "conv_1": {"kernel": draw((3, 3, 16, 8))},
        "dense": {"bias": draw(10), "kernel": draw((8, 10))},
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), leaves)


def settings(variant, **options):
    return foresee("digits", variant=variant, **options)[0]


def changed(run, updates, at=0, params=None):
    """Gradients after the method's part of the chain, and that part's state, at its step ``at``."""
    params = tree(9) if params is None else params
    tx = run.method.chain(run, STEPS)
    state = tx.init(params)
    for _ in range(at):
        _, state = jax.jit(tx.update)(updates, state, params)
    return jax.jit(tx.update)(updates, state, params)[0]


def check(found, expected, given, atol=1e-6):
    """Compares kernels with float64 ones; other leaves are as they were given."""
    for name, kernel in expected.items():
        np.testing.assert_allclose(found[name]["kernel"], kernel, atol=atol, err_msg=name)
    for name in ("bias", "kernel"):
        np.testing.assert_array_equal(found["dense"][name], given["dense"][name])


def kernels(updates):
    return {name: np.asarray(updates[name]["kernel"], np.float64) for name in GRIDS}


def refused(variant, message, **options):
    with pytest.raises(ValueError, match=message):
        settings(variant, **options)


@functools.cache
def digits():
    data = few_digits(200)
    return data, PlacedData(data, jax.local_devices()[:1])


def trainer(variant, **options):
    data, placed = digits()
    short = {"width": 1 / 16, "epochs": 2, "batch": 64, "lr": 0.1}
    return Trainer(configure(data, variant=variant, **short | options)[0], placed)


def stepped(made, seed=0):
    """The parameters before and after an epoch of a trainer."""
    state, drawn = made.start(seed)
    before = jax.device_get(state.params)
    for examples in order(seed, 0, made.placed.train_examples, 64):
        state = made.step(state, drawn, examples)
    return before, jax.device_get(state.params)


@functools.cache
def plain_steps():
    return stepped(trainer("baseline"))


# Those that are more than a transformation of gradients, and one of these.
TRAINED = [("random_grid", {}), ("smooth_init", {}), ("pull", {"pull_strength": 0.5}), ("lsgd", {})]
OTHERS = [
    ("matched_step", {}),
    ("narrowing", {"sigma": 2.0, "sigma_end": 0.3}),
    ("competition", {}),
    ("by_depth", {}),
]


@pytest.mark.parametrize(
    "variant, options",
    [*TRAINED, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)],
    ids=[name for name, _ in TRAINED + OTHERS],
)
def test_it_trains_from_the_start_of_all_others_to_another_end(variant, options, single):
    ours, plain = stepped(trainer(variant, **options)), plain_steps()
    if variant != "smooth_init":
        jax.tree.map(np.testing.assert_array_equal, ours[0], plain[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ours[1]))
    kernel, without = (params["conv_0"]["kernel"] for _, params in (ours, plain))
    assert np.abs(kernel - without).max() > 1e-5


# The random grid.


def test_a_random_grid_is_smoothing_between_a_permutation_and_its_inverse():
    run, given = settings("random_grid", sigma=0.6), tree(0)
    orders = run.method.orders(run, given)
    assert set(orders) == {"conv_0/kernel", "conv_1/kernel"}
    expected = {}
    for name, kernel in kernels(given).items():
        units = kernel.shape[-1]
        permutation = np.eye(units)[orders[f"{name}/kernel"]]
        assert not np.array_equal(permutation, np.eye(units))
        operator = permutation.T @ dense(GRIDS[name], 0.6) @ permutation
        np.testing.assert_allclose(
            np.linalg.eigvalsh(operator), np.linalg.eigvalsh(dense(GRIDS[name], 0.6)), atol=1e-12
        )
        expected[name] = apply(operator, kernel, 3)
    check(changed(run, given), expected, given)


def test_the_order_of_a_random_grid_is_its_own_seeds():
    run = settings("random_grid")
    first, same, other = (
        each.method.orders(each, tree(0))["conv_0/kernel"]
        for each in (run, run.having(seed=3), run.having(grid_seed=1))
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other) and sorted(other) == list(range(16))
    assert "grid_seed" not in settings("constant").flat()
    refused("random_grid", "grid_seed must be at least 0, got -1", grid_seed=-1)
    with pytest.raises(ValueError, match="'random_grid' cannot be made together"):
        family(run)


def test_a_summary_has_the_metrics_in_the_random_order_too(shallow, monkeypatch):
    """Of kernels that are smooth in that order alone."""
    made = trainer("random_grid", width=1)
    config, (state, _) = made.config, made.start(0)
    variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    orders = config.method.orders(config, variables["params"])
    for path, (grid, kernel) in convolutions(config, variables["params"]).items():
        inverse = np.argsort(orders[path])
        variables["params"][path.split("/")[0]]["kernel"] = apply(dense(grid.shape, 0.8), kernel, 3)[
            ..., inverse
        ].astype(np.float32)
    monkeypatch.setattr(summary, "arranged", lambda *_: {})
    monkeypatch.setattr(summary, "responses", lambda *_: {})
    line = dict.fromkeys(("test_accuracy", "test_loss", "train_loss", "images_per_second"), 0.0)
    found = summary.summarise(config, variables, made.placed, np.ones(1, bool), line, 0.0)
    layers = convolutions(config, variables["params"])
    permuted = found["permuted"]["metrics"]["weights: neighbour cosine"]["value"]
    assert found["permuted"]["layers"] == list(layers)
    for cosine, (path, (grid, kernel)) in zip(permuted, layers.items(), strict=True):
        rows = kernel.reshape(-1, grid.units).astype(np.float64)[:, orders[path]]
        rows /= np.linalg.norm(rows, axis=0)
        assert cosine == pytest.approx(
            np.mean([rows[:, a] @ rows[:, b] for a, b in neighbours(grid)]), abs=1e-3
        )
        assert cosine > 0.5 and abs(found["neighbour_cosine"][path]["value"]) < 0.2
    plain = config.having(variant="constant")
    assert "permuted" not in summary.summarise(plain, variables, made.placed, np.ones(1, bool), line, 0.0)


@pytest.mark.slow
def test_a_random_grid_looks_like_lgnn_in_its_own_order(shallow, tmp_path):
    """A layer's neighbour cosine: smoothing's in the order of the grid, chance in the network's own."""
    found = {}
    for variant in ("constant", "random_grid"):
        options = {"width": 1 / 2, "epochs": 4, "batch": 32, "weight_decay": 0.05, "sigma": 0.8}
        made = trainer(variant, **options)
        with Reporter(1, 1, Console(quiet=True)) as progress:
            found[variant] = results.read(make(made, 0, tmp_path, progress))
    permuted = found["random_grid"]["permuted"]["metrics"]["weights: neighbour cosine"]
    native, ordered = (
        list(found[each]["neighbour_cosine"].values()) for each in ("random_grid", "constant")
    )
    for index, (without, guided) in enumerate(zip(native, ordered, strict=True)):
        # Filters are alike at any distance, so that chance is above 0.
        assert without["null_low"] < without["value"] < without["null_high"]
        assert permuted["value"][index] > permuted["null_high"][index] + 0.1
        assert abs(permuted["value"][index] - guided["value"]) < 0.15


# The matched step.


def test_a_matched_step_has_the_direction_of_the_gradient_and_the_norm_of_the_smoothed_one():
    run, given = settings("matched_step", sigma=0.7), tree(0)
    given["conv_1"]["kernel"] = given["conv_1"]["kernel"].at[..., 0].add(3.0)
    expected, ratios = {}, []
    for name, kernel in kernels(given).items():
        smoothed = apply(dense(GRIDS[name], 0.7), kernel, 3)
        ratios.append(np.linalg.norm(smoothed) / np.linalg.norm(kernel))
        expected[name] = kernel * ratios[-1]
    check(changed(run, given), expected, given)
    assert max(ratios) < 0.9 and abs(ratios[0] - ratios[1]) > 0.02
    nothing = jax.tree.map(jnp.zeros_like, given)
    check(changed(run, nothing), kernels(nothing), nothing)


# The smooth start.


@pytest.mark.parametrize("options", [{"sigma": 0.8}, {"sigma": 2.0, "neighbourhood": "heat"}])
def test_filters_start_smooth_with_the_norms_that_they_were_drawn_with(options):
    run, drawn = settings("smooth_init", **options), tree(0)
    expected = {}
    for name, kernel in kernels(drawn).items():
        kind = run.method.neighbourhood
        smoothed = apply(operator(Grid(GRIDS[name]), options["sigma"], kind), kernel, 3)
        norms = [np.linalg.norm(rows.reshape(-1, rows.shape[-1]), axis=0) for rows in (kernel, smoothed)]
        expected[name] = smoothed * norms[0] / norms[1]
    check(run.method.start(run, drawn), expected, drawn)
    check(changed(run, drawn), kernels(drawn), drawn)  # And gradients stay.


def test_a_run_starts_with_what_its_method_makes_of_what_is_drawn(shallow):
    made, plain = trainer("smooth_init", sigma=0.8), trainer("baseline")
    for seed in (0, 1):
        (state, _), (drawn, _) = made.start(seed), plain.start(seed)
        ours, theirs = jax.device_get((state.params, drawn.params))
        expected = made.config.method.start(made.config, theirs)
        jax.tree.map(np.testing.assert_array_equal, ours, jax.device_get(expected))
        assert np.abs(ours["conv_1"]["kernel"] - theirs["conv_1"]["kernel"]).max() > 0.01
        np.testing.assert_array_equal(ours["dense"]["kernel"], theirs["dense"]["kernel"])
    everywhere = Trainer(made.config, PlacedData(digits()[0])).start(1)[0].params["conv_1"]["kernel"]
    assert len(everywhere.devices()) == 8
    np.testing.assert_array_equal(everywhere, ours["conv_1"]["kernel"])


def test_a_run_that_goes_on_does_not_start_smooth_once_more(shallow):
    """Its parameters are those of the checkpoint, to the bit."""
    made = trainer("smooth_init", sigma=0.8)
    saved = jax.device_get(made.start(3)[0])
    saved = saved._replace(step=np.int32(1))
    silent = Silent(Saved(saved, 0.0))
    going = running.Running(Alone(made, made.config), [silent], silent, silent)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(going.states.params), saved.params)


# The pull.


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_a_pull_is_decoupled_from_momentum_and_decay(schedule):
    """Ten steps of the whole chain against SGD with momentum and the pull written out."""
    options = {"pull_strength": 0.8, "pull_schedule": schedule, "neighbourhood": "heat", "sigma": 1.5}
    run, target = settings("pull", epochs=1, **options), tree(1)
    tx, params = run.optimizer(STEPS), tree(0)
    state, weights = tx.init(params), jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    velocity, update = jax.tree.map(np.zeros_like, weights), jax.jit(tx.update)
    for count in range(STEPS):
        updates, state = update(jax.tree.map(jnp.subtract, params, target), state, params)
        params = optax.apply_updates(params, updates)
        rate = 0.1 * (1 + np.cos(np.pi * count / STEPS)) / 2
        strength = 0.8 * (1 if schedule == "constant" else 1 - count / STEPS)
        velocity = jax.tree.map(
            lambda v, w, goal: 0.9 * v + w - np.asarray(goal, np.float64) + 0.02 * w,
            velocity,
            weights,
            target,
        )
        pulled = {
            name: strength * rate * (apply(heat(GRIDS[name], 1.5), kernel, 3) - kernel)
            for name, kernel in kernels(weights).items()
        }
        weights = jax.tree.map(lambda w, v, rate=rate: w - rate * v, weights, velocity)
        for name, by in pulled.items():
            weights[name]["kernel"] += by
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-5), params, weights)


def test_what_a_pull_is_told_is_checked_and_said_in_the_log():
    run = settings("pull", epochs=4, pull_strength=0.2, pull_schedule="linear")
    strengths = [run.method.logged(run, STEPS * epoch, STEPS)["pull_strength"] for epoch in range(4)]
    np.testing.assert_allclose(strengths, [0.2, 0.15, 0.1, 0.05], rtol=1e-6)
    refused("pull", "pull_strength 20 at lr 0.1 would move filters 2 of the way", pull_strength=20.0)
    refused("pull", "give one between 0 and 10", pull_strength=-1.0)
    refused("pull", "Unknown pull_schedule 'steps'. Known: constant, linear", pull_schedule="steps")
    assert len(settings("constant").optimizer(STEPS).init(tree(0))) == 3  # As in earlier checkpoints.


# The narrowing neighbourhood.


@pytest.mark.parametrize("epoch", [0, 1, 3, 5])
def test_narrowing_is_a_heat_kernel_that_shrinks_by_the_same_ratio(epoch):
    run, given = settings("narrowing", sigma=2.0, sigma_end=0.3, epochs=4), tree(0)
    width = 2.0 * (0.3 / 2.0) ** min(epoch / 3, 1)  # After the last epoch it stays.
    expected = {name: apply(heat(GRIDS[name], width), kernel, 3) for name, kernel in kernels(given).items()}
    check(changed(run, given, at=STEPS * epoch + 4), expected, given)
    assert run.method.logged(run, STEPS * epoch, STEPS)["sigma"] == pytest.approx(width)


def test_narrowing_wants_a_narrower_end_and_has_no_window():
    for wrong in ({}, {"sigma_end": 0.5}, {"sigma_end": 0.7}):
        refused("narrowing", "needs a sigma_end between 0 and sigma, such as --sigma 2", **wrong)
    run = settings("narrowing", sigma=2.0, sigma_end=0.3)
    assert run.having(window=7).name == run.name != run.having(sigma_end=0.4).name


# Laplacian smoothing.


@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
def test_lsgd_solves_a_system_on_a_circle_in_the_order_of_pytorch(strength):
    """A dense solution in float64, for every leaf; of those a single number and two have odd circles."""
    run, given = settings("lsgd", lsgd_strength=strength), tree(0)
    given |= {"one": jnp.float32([2.0]), "two": jnp.float32([1.0, -4.0]), "scalar": jnp.float32(3.0)}
    found = changed(run, given, params=given)
    for path, leaf in jax.tree_util.tree_leaves_with_path(given):
        torch = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, tuple(range(leaf.ndim)))
        turned = np.asarray(leaf, np.float64).transpose(torch)
        n = leaf.size
        system = np.eye(n) * (1 + 2 * strength)
        for i in range(n):
            system[i, (i + 1) % n] -= strength
            system[i, (i - 1) % n] -= strength
        solved = np.linalg.solve(system, turned.ravel()).reshape(turned.shape)
        got = functools.reduce(lambda branch, key: branch[key.key], path, found)
        assert got.shape == leaf.shape and got.dtype == leaf.dtype
        np.testing.assert_allclose(got, solved.transpose(np.argsort(torch)), atol=2e-6, err_msg=str(path))


def test_lsgd_has_no_grid_and_refuses_a_strength_below_zero():
    assert not {"sigma", "window"} & set(settings("lsgd").flat())
    for wrong in (-1.0, float("inf"), float("nan")):
        refused("lsgd", "lsgd_strength must be at least 0 and finite", lsgd_strength=wrong)


# The competition.


def handed_out(kernel, grid, sigma, temperature, size=3):
    """Unit by unit, float64: everyone gives its gradient to those whom its neighbourhood reaches."""
    operator_, units = dense(grid.shape, sigma, size, grid.wrap), kernel.shape[-1]
    norms = np.array([np.linalg.norm(kernel[..., i]) for i in range(units)])
    found = np.zeros_like(kernel)
    for j in range(units):
        weights = [operator_[i, j] * math.exp(norms[i] / norms.mean() / temperature) for i in range(units)]
        for i in range(units):
            found[..., i] += weights[i] / sum(weights) * kernel[..., j]
    return found


@pytest.mark.parametrize("boundary, window, sigma", [("edge", 3, 0.6), ("wrap", 5, 1.0)])
@pytest.mark.parametrize("epoch", [0, 2])
def test_units_hand_out_their_gradients_by_a_softmax_of_norms(boundary, window, sigma, epoch):
    options = {"sigma": sigma, "window": window, "soft": 2.0, "hard": 0.125, "epochs": 5}
    run, given = settings("competition", boundary=boundary, **options), tree(0)
    expected, temperature = {}, 2.0 * 0.5**epoch
    for name, kernel in kernels(given).items():
        grid = Grid(GRIDS[name], wrap=boundary == "wrap")
        expected[name] = handed_out(kernel, grid, sigma, temperature, window)
        np.testing.assert_allclose(expected[name].sum(-1), kernel.sum(-1))
    check(changed(run, given, at=STEPS * epoch), expected, given, atol=2e-6)
    assert run.method.logged(run, STEPS * epoch, STEPS) == {"sigma": sigma, "temperature": temperature}


def test_a_competition_goes_from_smoothing_to_the_winner_who_takes_it_all():
    given = tree(0)
    given["conv_0"]["kernel"] = given["conv_0"]["kernel"].at[..., 5].mul(3.0)
    soft, hard = (settings("competition", soft=t, hard=t) for t in (1e6, 1e-3))
    smoothed = {name: apply(dense(GRIDS[name], 0.5), kernel, 3) for name, kernel in kernels(given).items()}
    check(changed(soft, given), smoothed, given, atol=1e-5)
    kernel, found = kernels(given)["conv_0"], np.asarray(changed(hard, given)["conv_0"]["kernel"])
    around = [row * 4 + column for row in range(3) for column in range(3)]  # Of unit 5, at (1, 1).
    np.testing.assert_allclose(found[..., 5], kernel[..., around].sum(-1), rtol=1e-5, atol=1e-5)
    assert np.abs(found[..., 0]).max() < 1e-6  # All that unit 0 could get goes to unit 5.
    nothing = jax.tree.map(jnp.zeros_like, given)
    check(changed(hard, nothing), kernels(nothing), nothing)


def test_temperatures_that_do_not_fall_are_refused():
    for wrong in ({"soft": 0.05}, {"hard": 0.0}, {"hard": -1.0}, {"soft": float("inf")}):
        refused("competition", "Temperatures fall from soft to hard and stay above 0", **wrong)


# A width of each layer's own.


def deep():
    """Twelve kernels, of which the flattening order puts conv_10 before conv_2."""
    draw = np.random.default_rng(0).standard_normal
    return {f"conv_{i}": {"kernel": jnp.asarray(draw((1, 1, 2, 8)), jnp.float32)} for i in range(12)}


def test_widths_go_evenly_from_the_first_layer_to_the_last():
    run, given = settings("by_depth", sigma=0.2, sigma_last=0.75), deep()
    found = changed(run, given, params=given)
    for place in range(12):
        kernel = given[f"conv_{place}"]["kernel"]
        expected = apply(dense((4, 2), 0.2 + 0.05 * place), kernel, 3)
        np.testing.assert_allclose(
            found[f"conv_{place}"]["kernel"], expected, atol=1e-6, err_msg=str(place)
        )
    one = {"conv_0": given["conv_0"]}
    expected = apply(dense((4, 2), 0.2), one["conv_0"]["kernel"], 3)
    np.testing.assert_allclose(changed(run, one, params=one)["conv_0"]["kernel"], expected, atol=1e-6)


def test_depth_is_counted_among_the_layers_that_are_smoothed(shallow):
    run = settings("by_depth", net="wrn16-8", scope="resblocks", width=1 / 8, sigma=0.1, sigma_last=0.6)
    params = configs._parameter_shapes("wrn16-8", 1 / 8)
    sigmas = run.method.sigmas(run, run.method.layout(run).layers(params))
    paths = list(sigmas)
    assert paths[0] == "group_0_block_0/conv_0/kernel" and "stem/kernel" not in sigmas
    assert sigmas[paths[0]] == 0.1 and sigmas[paths[-1]] == pytest.approx(0.6)
    everything = run.having(scope="all")
    assert (
        next(iter(everything.method.sigmas(everything, everything.net.layout.layers(params))))
        == "stem/kernel"
    )


def test_widths_are_in_proportion_to_the_sides_of_the_grids():
    run, given = settings("by_depth", sigma_by="width", sigma=1.6, neighbourhood="heat"), tree(0)
    expected = {
        name: apply(heat(GRIDS[name], 1.6 * math.sqrt(kernel.shape[-1] / 16)), kernel, 3)
        for name, kernel in kernels(given).items()
    }
    check(changed(run, given), expected, given)


def test_widths_that_are_too_wide_are_refused():
    refused("by_depth", "indefinite", sigma_last=0.9)
    refused("by_depth", "at least 0", sigma_last=-0.1)
    refused("by_depth", "largest layer's. Leave sigma_last out, got 0.5", sigma_by="width", sigma_last=0.5)
    refused("by_depth", "Unknown sigma_by 'height'. Known: depth, width", sigma_by="height")
