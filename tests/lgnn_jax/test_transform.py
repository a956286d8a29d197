import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lgnn_jax import ConvLayout, LGNNState, Window, decreasing_sigma, lgnn
from tests.lgnn_jax.reference import apply, dense


def params(seed=0):
    draw = np.random.default_rng(seed).standard_normal
    tree = {
        "conv": {"kernel": draw((3, 3, 3, 16)), "bias": draw(16)},
        "deep": {"kernel": draw((3, 3, 16, 14))},
        "norm": {"scale": draw(14)},
        "dense": {"kernel": draw((14, 10))},
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def test_kernels_are_smoothed_and_other_leaves_untouched():
    updates, tx = params(), lgnn(0.5)
    smoothed, state = tx.update(updates, tx.init(updates))
    for name, shape in (("conv", (4, 4)), ("deep", (7, 2))):
        expected = apply(dense(shape, 0.5), updates[name]["kernel"], 3)
        np.testing.assert_allclose(smoothed[name]["kernel"], expected, atol=1e-6)
    assert smoothed["conv"]["bias"] is updates["conv"]["bias"]
    assert smoothed["norm"]["scale"] is updates["norm"]["scale"]
    assert smoothed["dense"]["kernel"] is updates["dense"]["kernel"]
    assert isinstance(state, LGNNState) and state.count == 1 and state.count.dtype == jnp.int32


@pytest.mark.parametrize("kind", ["constant", "decreasing"])
def test_a_trajectory_of_the_whole_chain_is_numpys(kind):
    """chain(lgnn, add_decayed_weights, sgd) for 20 steps on a quadratic, written out in float64."""
    decay, momentum, rate, per_epoch = 5e-2, 0.9, 0.1, 5
    start, target = params(), params(1)
    sigma = decreasing_sigma(0.5, 4, per_epoch) if kind == "decreasing" else 0.5
    schedule = optax.piecewise_constant_schedule(rate, {10: 0.2})
    tx = optax.chain(lgnn(sigma), optax.add_decayed_weights(decay), optax.sgd(schedule, momentum=momentum))

    @jax.jit
    def step(theta, state):
        grads = jax.tree.map(lambda a, b: a - b, theta, target)
        updates, state = tx.update(grads, state, theta)
        return optax.apply_updates(theta, updates), state

    theta, state = start, tx.init(start)
    for _ in range(20):
        theta, state = step(theta, state)

    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start)
    velocity = jax.tree.map(np.zeros_like, weights)
    for count in range(20):
        width = 0.5 * (1 - (count // per_epoch) / 4) if kind == "decreasing" else 0.5
        grads = jax.tree.map(lambda a, b: a - np.asarray(b, np.float64), weights, target)
        for name, shape in (("conv", (4, 4)), ("deep", (7, 2))):
            grads[name]["kernel"] = apply(dense(shape, width), grads[name]["kernel"], 3)
        velocity = jax.tree.map(lambda v, g, w: momentum * v + g + decay * w, velocity, grads, weights)
        lr = rate * (0.2 if count >= 10 else 1)
        weights = jax.tree.map(lambda w, v, lr=lr: w - lr * v, weights, velocity)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=2e-5), theta, weights)


@pytest.mark.parametrize("epoch", range(11))
def test_sigma_decreases_epoch_by_epoch(epoch):
    schedule = decreasing_sigma(0.5, epochs=10, steps_per_epoch=3)
    for step in range(3):
        assert float(schedule(jnp.int32(3 * epoch + step))) == pytest.approx(
            0.5 * (1 - epoch / 10), abs=1e-7
        )
    assert float(schedule(1000)) == 0 and float(schedule(-1)) == 0.5


def test_a_schedule_is_read_before_the_count_is_incremented():
    seen = []
    tx = lgnn(lambda count: seen.append(int(count)) or 0.5)
    updates = params()
    state = tx.init(updates)
    for _ in range(3):
        _, state = tx.update(updates, state)
    assert seen == [0, 1, 2] and int(state.count) == 3


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(sigma=-1.0), "at least 0"),
        (dict(sigma=0.9), "largest|at most 0.8493"),
        (dict(sigma="x"), "number"),
    ]
    + [
        (dict(sigma=1.3, window=Window(5)), r"at most .*1\.2011 with 5"),
        (dict(window=5), r"such as Window\(5\)"),
    ]
    + [(dict(sigma=lambda count: 0.5, window="wrap"), "window must be")],
)
def test_the_factory_refuses_a_wrong_sigma(arguments, words):
    with pytest.raises(ValueError, match=words):
        lgnn(**arguments)


def test_what_the_factory_cannot_or_may_not_test_passes():
    lgnn(1.0, window=Window(allow_indefinite=True))
    lgnn(1.0, window=Window(5))
    lgnn(jnp.float32(2.0))
    for schedule in (lambda count: 2.0, lambda count: jnp.float32(2.0)):
        lgnn(schedule).update(params(), LGNNState(jnp.int32(0)))
    jax.jit(lambda sigma: lgnn(sigma).update(params(), LGNNState(jnp.int32(0)))[0])(2.0)


@pytest.mark.parametrize(
    "arguments", [(-0.5, 10, 10), (0.9, 10, 10), (0.5, 0, 10), (0.5, 10, 0), (0.5, 2.5, 1), (0.5, 2**31, 1)]
)
def test_decreasing_sigma_refuses_wrong_arguments(arguments):
    with pytest.raises(ValueError):
        decreasing_sigma(*arguments)


def test_decreasing_sigma_checks_its_start_against_its_window():
    decreasing_sigma(1.0, 10, 10, window=Window(5))
    with pytest.raises(ValueError, match="indefinite"):
        decreasing_sigma(1.0, 10, 10)


def test_init_and_update_name_the_leaf_that_does_not_fit():
    tx = lgnn(layout=ConvLayout(shapes={16: (4, 4)}, paths={"deep/kernel": (3, 5)}))
    with pytest.raises(ValueError, match=r"'deep/kernel' of shape \(3, 3, 16, 14\).*3x5"):
        tx.init(params())
    with pytest.raises(ValueError, match="'deep/kernel'"):
        tx.update(params(), LGNNState(jnp.int32(0)))


def test_update_refuses_leaves_that_do_not_have_the_shape_of_their_parameters():
    """Per-example gradients had no grid, or one of their own, and passed in silence."""
    theta, tx = params(), lgnn(0.5)
    state = tx.init(theta)
    examples = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), theta)
    words = r"'conv/bias' has shape \(4, 16\), but the parameter has \(16,\).*the mean over examples"
    for update in (tx.update, jax.jit(tx.update)):
        with pytest.raises(ValueError, match=words):
            update(examples, state, theta)
    line = {
        "conv": jnp.ones((3, 5, 8))
    }  # Of one dimension: with an axis of examples it looks like a kernel.
    with pytest.raises(ValueError, match=r"'conv' has shape \(4, 3, 5, 8\)"):
        tx.update({"conv": jnp.ones((4, 3, 5, 8))}, state, line)
    tx.update(theta, state, theta)
    tx.update(theta, state, {"another": jnp.ones(3)})  # Nothing to compare with.


def test_a_shard_does_not_tell_its_grid():
    mesh = Mesh(np.array(jax.devices()), ("filters",))
    whole = {"conv": jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 8, 64)), jnp.float32)}

    def under(spec, layout):
        tx = lgnn(0.5, layout=layout)

        def update(theta):
            return tx.update(theta, LGNNState(jnp.int32(0)), theta)[0]

        return jax.jit(jax.shard_map(update, mesh=mesh, in_specs=spec, out_specs=spec))(whole)

    filters, inputs = P(None, None, None, "filters"), P(None, None, "filters", None)
    with pytest.raises(
        ValueError, match=r"'conv' of shape \(3, 3, 8, 8\) varies over the mesh axes filters"
    ):
        under(filters, ConvLayout())
    layers = ConvLayout().layers(whole)  # As the message says.
    with pytest.raises(ValueError, match=r"'conv' of shape \(3, 3, 8, 8\) has 8 units.*8x8 holds 64"):
        under(filters, layers)
    expected = apply(dense((8, 8), 0.5), whole["conv"], 3)
    for chosen in (layers, list(layers)):
        np.testing.assert_allclose(under(inputs, chosen)["conv"], expected, atol=1e-6)
    np.testing.assert_allclose(under(P(), ConvLayout())["conv"], expected, atol=1e-6)


def test_eight_devices_give_exactly_what_one_gives():
    updates, tx = params(), lgnn(0.5)
    alone, _ = jax.jit(tx.update)(updates, tx.init(updates))
    counts = jnp.zeros(8, jnp.int32)
    mapped = jax.pmap(lambda g, n: tx.update(g, LGNNState(n))[0], in_axes=(None, 0))(updates, counts)
    assert jax.device_count() == 8
    for device in range(8):
        jax.tree.map(lambda a, b, d=device: np.testing.assert_array_equal(a, b[d]), alone, mapped)
