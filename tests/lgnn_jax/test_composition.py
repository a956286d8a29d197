"""With what Optax wraps around it, each against a value from a second implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lgnn_jax import ConvLayout, Grid, Layer, LGNNState, Window, decreasing_sigma, lgnn
from tests.lgnn_jax.reference import apply, dense
from tests.lgnn_jax.test_transform import params

SHAPES = {"conv": (4, 4), "deep": (7, 2)}


def smoothed(tree, sigma, **window):
    """What ``lgnn(sigma)`` makes of a tree such as ``params()``, in float64."""
    tree = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
    return {
        name: layer | {"kernel": apply(dense(SHAPES[name], sigma, **window), layer["kernel"], 3)}
        if name in SHAPES
        else layer
        for name, layer in tree.items()
    }


def scaled(factor, tree):
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def check(got, want, atol=2e-6):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), got, want)


def test_masked_leaves_pass_and_the_others_are_smoothed():
    updates = params()
    mask = {"conv": True, "deep": False, "norm": True, "dense": False}
    tx = optax.masked(lgnn(0.5), mask)
    got, state = jax.jit(tx.update)(updates, tx.init(updates))
    check(got, smoothed(updates, 0.5) | {"deep": updates["deep"]})
    assert state.inner_state == LGNNState(1)


def test_partition_gives_groups_of_layers_their_own_sigma():
    labels = {"conv": "narrow", "deep": "wide", "norm": "wide", "dense": "still"}
    transforms = {
        "narrow": lgnn(0.2),
        "wide": lgnn(decreasing_sigma(0.8, 2, 1)),
        "still": optax.set_to_zero(),
    }
    tx = optax.partition(transforms, labels)
    updates = params()
    state = tx.init(updates)
    for wide in (0.8, 0.4, 0.0):
        got, state = tx.update(updates, state)
        want = smoothed(updates, wide)
        want |= {"conv": smoothed(updates, 0.2)["conv"], "dense": scaled(0, want["dense"])}
        check(got, want)


def test_multi_steps_smooths_the_mean_once_per_step():
    """A schedule counts the steps, not the batches accumulated for them."""
    tx = optax.MultiSteps(
        optax.chain(lgnn(decreasing_sigma(0.6, 2, 1)), optax.sgd(0.5)), every_k_schedule=3
    )
    batches = [params(seed) for seed in range(6)]
    state, update = tx.init(batches[0]), jax.jit(tx.update)
    for index, batch in enumerate(batches):
        got, state = update(batch, state, batch)
        if index % 3 < 2:
            check(got, scaled(0, batch), atol=0)
            continue
        mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *batches[index - 2 : index + 1])
        check(got, scaled(-0.5, smoothed(mean, 0.6 if index == 2 else 0.3)))
    assert int(state.inner_opt_state[0].count) == 2


def test_inject_hyperparams_takes_sigma_and_leaves_layout_and_window_alone():
    make = optax.inject_hyperparams(lgnn)
    tx = make(sigma=0.5, layout=ConvLayout(shapes={16: (8, 2)}), window=Window(5))
    updates, update = params(), jax.jit(tx.update)
    got, state = update(updates, tx.init(updates))
    expected = apply(dense((8, 2), 0.5, 5), updates["conv"]["kernel"], 3)
    np.testing.assert_allclose(got["conv"]["kernel"], expected, atol=2e-6)
    check({"deep": got["deep"]}, {"deep": smoothed(updates, 0.5, size=5)["deep"]})
    state.hyperparams["sigma"] = jnp.float32(0.3)
    got, state = update(updates, state)
    check({"deep": got["deep"]}, {"deep": smoothed(updates, 0.3, size=5)["deep"]})
    state.hyperparams["sigma"] = jnp.float32(0)
    untouched, _ = update(updates, state)
    check(untouched, updates, atol=0)
    assert update._cache_size() == 1


def test_inject_hyperparams_shows_a_scheduled_sigma():
    tx = optax.inject_hyperparams(lgnn)(decreasing_sigma(0.8, 4, 1))
    updates = params()
    state = tx.init(updates)
    for count in range(3):
        got, state = tx.update(updates, state)
        sigma = 0.8 * (1 - count / 4)
        assert float(state.hyperparams["sigma"]) == pytest.approx(sigma)
        check(got, smoothed(updates, sigma))


def test_apply_if_finite_skips_the_step_and_the_count():
    tx = optax.apply_if_finite(
        optax.chain(lgnn(decreasing_sigma(0.6, 2, 1)), optax.sgd(0.5)), max_consecutive_errors=5
    )
    updates = params()
    broken = updates | {
        "conv": updates["conv"] | {"kernel": updates["conv"]["kernel"].at[0, 0, 0, 0].set(jnp.inf)}
    }
    state, update = tx.init(updates), jax.jit(tx.update)
    for batch, sigma in ((updates, 0.6), (broken, None), (broken, None), (updates, 0.3)):
        got, state = update(batch, state)
        check(got, scaled(0, updates) if sigma is None else scaled(-0.5, smoothed(updates, sigma)))
    assert int(state.inner_state[0].count) == 2 and int(state.total_notfinite) == 2


@pytest.mark.parametrize("before", [True, False])
def test_zero_nans_before_it_keeps_a_nan_from_spreading(before):
    updates = params()
    kernel = updates["conv"]["kernel"]
    broken = updates | {"conv": updates["conv"] | {"kernel": kernel.at[1, 1, 1, 5].set(jnp.nan)}}
    tx = optax.chain(optax.zero_nans(), lgnn(0.5)) if before else optax.chain(lgnn(0.5), optax.zero_nans())
    got, _ = jax.jit(tx.update)(broken, tx.init(updates))
    zeroed = updates | {"conv": updates["conv"] | {"kernel": kernel.at[1, 1, 1, 5].set(0.0)}}
    if before:
        check(got, smoothed(zeroed, 0.5))
    else:  # The nine filters around filter 5 of the 4x4 grid have lost theirs by then.
        lost = got["conv"]["kernel"][1, 1, 1].reshape(4, 4) == 0
        np.testing.assert_array_equal(lost, np.pad(np.ones((3, 3), bool), ((0, 1), (0, 1))))


def test_named_chain_names_its_state():
    tx = optax.named_chain(("smoothing", lgnn(0.5)), ("descent", optax.sgd(0.5, momentum=0.9)))
    updates = params()
    state = tx.init(updates)
    got, state = tx.update(updates, state)
    check(got, scaled(-0.5, smoothed(updates, 0.5)))
    assert list(state) == ["smoothing", "descent"] and state["smoothing"] == LGNNState(1)


def test_inside_flatten_there_are_no_kernels():
    updates = params()
    inside = optax.flatten(optax.chain(lgnn(0.5), optax.sgd(0.5)))
    got, _ = inside.update(updates, inside.init(updates))
    check(got, scaled(-0.5, updates), atol=0)
    before = optax.chain(lgnn(0.5), optax.flatten(optax.sgd(0.5)))
    got, _ = before.update(updates, before.init(updates))
    check(got, scaled(-0.5, smoothed(updates, 0.5)))
    with pytest.raises(ValueError, match="'conv/kernel', which the tree does not have"):
        optax.flatten(lgnn(0.5, layout=ConvLayout(paths={"conv/kernel": (8, 2)}))).init(updates)


def test_extra_arguments_pass_to_those_who_want_them():
    """Polyak's step needs the loss, and the smoothed gradient's norm."""
    updates = params()
    got, _ = lgnn(0.5).update(updates, LGNNState(jnp.int32(0)), updates, value=2.0, another=None)
    check(got, smoothed(updates, 0.5))
    tx = optax.chain(lgnn(0.5), optax.polyak_sgd(max_learning_rate=1.0, eps=0.0))
    got, _ = jax.jit(tx.update)(updates, tx.init(updates), updates, value=jnp.float32(30))
    want = smoothed(updates, 0.5)
    check(got, scaled(-30 / sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(want)), want))


@pytest.mark.parametrize("ready", [False, True])
def test_nodes_without_leaves_stay_where_they_are(ready):
    """With a layout that looks at leaves, and with ready layers."""
    kernel = params()["conv"]["kernel"]
    empty = {
        "none": None,
        "masked": optax.MaskedNode(),
        "dict": {},
        "list": [],
        "tuple": (),
        "state": optax.EmptyState(),
    }
    updates = {"layer": {"kernel": kernel, "bias": None}, "more": (kernel[0], [None, kernel]), **empty}
    four = Grid((4, 4))
    layout = Layer("layer/kernel", four, -1), Layer("more/1/1", four, -1)
    tx = optax.chain(lgnn(0.5, layout=layout if ready else ConvLayout()), optax.scale(0.5))
    got, state = jax.jit(tx.update)(updates, tx.init(updates))
    want = 0.5 * apply(dense((4, 4), 0.5), kernel, 3)
    check(got, {"layer": {"kernel": want, "bias": None}, "more": (0.5 * kernel[0], [None, want]), **empty})
    assert state[0] == LGNNState(1)


@pytest.mark.parametrize("empty", [{}, (), None, {"a": None}, optax.MaskedNode()])
def test_trees_without_leaves_pass(empty):
    tx = lgnn()
    updates, state = tx.update(empty, tx.init(empty))
    assert updates == empty and state == LGNNState(1)


def test_map_params_finds_nothing_of_the_parameters_in_the_state():
    tx = optax.chain(lgnn(0.5), optax.sgd(0.5, momentum=0.9))
    updates = params()
    _, state = tx.update(updates, tx.init(updates))
    mapped = optax.tree.map_params(
        tx, lambda leaf: 2 * leaf, state, transform_non_params=lambda leaf: leaf + 10
    )
    assert mapped[0] == LGNNState(11)
    got, _ = tx.update(updates, mapped)
    check(got, scaled(-0.5 * (1 + 0.9 * 2), smoothed(updates, 0.5)), atol=5e-6)


def test_init_needs_shapes_only():
    shapes, tx = jax.eval_shape(params), optax.chain(lgnn(0.5), optax.sgd(0.5, momentum=0.9))
    state = tx.init(shapes)
    check(state, tx.init(params()), atol=0)
    got, _ = tx.update(params(), state)
    check(got, scaled(-0.5, smoothed(params(), 0.5)))
    with pytest.raises(ValueError, match=r"'conv/kernel' of shape \(3, 3, 3, 16\)"):
        lgnn(layout=ConvLayout(paths={"conv/kernel": (3, 5)})).init(shapes)


@pytest.mark.parametrize("sigma", [0.5, decreasing_sigma(0.5, 3, 2)], ids=["constant", "scheduled"])
def test_one_compilation_serves_every_step(sigma):
    traces = []

    @jax.jit
    def update(updates, state):
        traces.append(None)
        return tx.update(updates, state)

    tx = optax.chain(lgnn(sigma), optax.sgd(0.5))
    updates = params()
    state = tx.init(updates)
    for count in range(6):
        got, state = update(updates, state)
        check(got, scaled(-0.5, smoothed(updates, sigma(count) if callable(sigma) else sigma)))
    assert len(traces) == 1 and update._cache_size() == 1


def test_a_checkpoint_of_either_kind_of_sigma_continues_as_the_other():
    constant, scheduled = (
        optax.chain(lgnn(sigma), optax.sgd(0.5)) for sigma in (0.5, decreasing_sigma(0.8, 4, 1))
    )
    updates = params()
    state = constant.init(updates)
    for _ in range(3):
        _, state = constant.update(updates, state)
    fresh = scheduled.init(updates)
    assert jax.tree.structure(fresh) == jax.tree.structure(state)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, state)
    kinds = [[(leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(each)] for each in (fresh, state)]
    assert kinds == [[(jnp.int32, False)]] * 2
    saved = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    got, after = scheduled.update(updates, jax.tree.unflatten(jax.tree.structure(fresh), saved))
    check(got, scaled(-0.5, smoothed(updates, 0.2)))
    got, _ = constant.update(updates, after)
    check(got, scaled(-0.5, smoothed(updates, 0.5)))
