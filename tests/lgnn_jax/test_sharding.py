"""One device's result on any number of devices, and what the compiled programs send between them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lgnn_jax import ConvLayout, Grid, HeatKernel, LGNNState, Window, decreasing_sigma, lgnn
from tests.lgnn_jax.reference import apply, operator

COLLECTIVES = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast)"
REPLICATED = PartitionSpec()
FAN_IN = PartitionSpec(None, None, "devices", None)
GRID = PartitionSpec(None, None, None, "devices")
FORMS = [(Window(), False), (Window(5), True), (HeatKernel(), False)]  # And whether on a torus.
SOME = [pytest.param(*FORMS[0], marks=pytest.mark.slow), *FORMS[1:]]


def gradient(seed=0):
    return np.random.default_rng(seed).standard_normal((3, 3, 16, 64)).astype(np.float32)


def update(window=Window(), wrap=False):
    tx = lgnn(0.5, layout=ConvLayout(wrap=wrap), window=window)
    return lambda g: tx.update(g, LGNNState(jnp.int32(0)))[0]


def mesh():
    return Mesh(np.array(jax.devices()), ("devices",))


def sent(compiled):
    """The kinds of communication in a compiled program."""
    return set(re.findall(COLLECTIVES + r"(?:-start)?\(", compiled.as_text()))


@pytest.mark.parametrize("window, wrap", FORMS)
@pytest.mark.parametrize("spec", [REPLICATED, FAN_IN, GRID])
def test_a_mesh_gives_what_one_device_gives(spec, window, wrap):
    g = gradient()
    placed = jax.device_put(g, NamedSharding(mesh(), spec))
    assert len(placed.addressable_shards) == 8
    got = jax.jit(update(window, wrap))(placed)
    np.testing.assert_allclose(got, apply(operator(Grid((8, 8), wrap), 0.5, window), g, 3), atol=1e-6)


@pytest.mark.parametrize("window, wrap", FORMS)
@pytest.mark.parametrize("spec", [REPLICATED, FAN_IN])
def test_shards_of_another_axis_need_no_communication(spec, window, wrap):
    sharding = NamedSharding(mesh(), spec)
    compiled = jax.jit(update(window, wrap)).lower(jax.device_put(gradient(), sharding)).compile()
    assert sent(compiled) == set()
    assert compiled.output_shardings.is_equivalent_to(sharding, 4)


def test_shards_of_the_grid_send_their_borders_and_no_more():
    """A row of the grid goes to each neighbouring shard; nothing is gathered."""
    placed = jax.device_put(gradient(), NamedSharding(mesh(), GRID))
    assert sent(jax.jit(update()).lower(placed).compile()) == {"collective-permute"}


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="this jax has no jax.set_mesh")
@pytest.mark.parametrize("window, wrap", FORMS)
@pytest.mark.parametrize("spec", [REPLICATED, FAN_IN, GRID])
def test_explicit_sharding_is_kept(spec, window, wrap):
    g = gradient()
    explicit = jax.make_mesh((8,), ("devices",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(explicit):
        placed = jax.device_put(g, NamedSharding(explicit, spec))
        got = jax.jit(update(window, wrap))(placed)
        assert got.sharding.is_equivalent_to(placed.sharding, 4)
    np.testing.assert_allclose(got, update(window, wrap)(jnp.asarray(g)), atol=1e-6)


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="this jax has no jax.set_mesh")
@pytest.mark.parametrize("window, wrap", SOME)
@pytest.mark.parametrize("spec", [REPLICATED, FAN_IN, GRID])
def test_explicit_sharding_over_a_single_device(spec, window, wrap, form):
    """The same script must run on one device, where an array would otherwise be read as one line."""
    g = gradient()
    explicit = jax.make_mesh((1,), ("devices",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:1])
    with jax.set_mesh(explicit):
        placed = jax.device_put(g, NamedSharding(explicit, spec))
        got = jax.jit(update(window, wrap))(placed)
        assert got.sharding.is_equivalent_to(placed.sharding, 4)
        np.testing.assert_allclose(got, apply(operator(Grid((8, 8), wrap), 0.5, window), g, 3), atol=1e-6)


@pytest.mark.parametrize("axis", [0, 2])
def test_shard_map_and_pmap_over_the_fan_in(axis):
    g = gradient() if axis == 2 else np.moveaxis(gradient(), 2, 0)
    spec = [None] * 4
    spec[axis] = "devices"
    spec = PartitionSpec(*spec)
    whole = update()(jnp.asarray(g))
    mapped = jax.jit(jax.shard_map(update(), mesh=mesh(), in_specs=spec, out_specs=spec))
    np.testing.assert_allclose(mapped(g), whole, atol=1e-6)
    assert sent(mapped.lower(g).compile()) == set()
    shards = np.stack(np.split(g, 8, axis))
    np.testing.assert_allclose(np.concatenate(jax.pmap(update())(shards), axis), whole, atol=1e-6)


def test_averaged_gradients_under_shard_map_are_the_whole_batchs():
    """``lgnn`` after ``pmean``, and before it: smoothing is linear, so both are right."""
    examples = jnp.asarray(np.random.default_rng(1).standard_normal((8, 3, 3, 16, 64)), jnp.float32)
    whole = update()(examples.mean(0))
    for after in (True, False):

        def replica(shard, after=after):
            if after:
                return update()(jax.lax.pmean(shard[0], "devices"))
            return jax.lax.pmean(update()(shard[0]), "devices")

        mapped = jax.shard_map(
            replica, mesh=mesh(), in_specs=PartitionSpec("devices"), out_specs=REPLICATED
        )
        np.testing.assert_allclose(jax.jit(mapped)(examples), whole, atol=1e-6)


def test_seeds_under_vmap_and_steps_under_scan_are_the_loops():
    tx = optax.chain(lgnn(decreasing_sigma(0.5, 3, 2)), optax.sgd(0.1, momentum=0.9))
    start = jnp.asarray(np.random.default_rng(2).standard_normal((3, 5, 16)), jnp.float32)[:, None, None]

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(2 * params, state, params)
        return (optax.apply_updates(params, updates), state), None

    def train(params):
        (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), length=6)
        return params, state

    together, states = jax.jit(jax.vmap(train))(start)
    for seed in range(3):
        carry = (start[seed], tx.init(start[seed]))
        for _ in range(6):
            carry, _ = step(carry, None)
        np.testing.assert_allclose(together[seed], carry[0], atol=1e-6)
        assert int(states[0].count[seed]) == 6


def test_gradients_flow_through_the_update():
    """Meta-learning: the slope of the loss after a step with respect to sigma, against a difference."""
    params = jnp.asarray(np.random.default_rng(3).standard_normal((1, 1, 4, 16)), jnp.float32)
    target = jnp.asarray(np.random.default_rng(4).standard_normal((1, 1, 4, 16)), jnp.float32)

    def after(sigma):
        tx = optax.chain(lgnn(sigma), optax.sgd(0.1))
        updates, _ = tx.update(params - target, tx.init(params), params)
        return ((optax.apply_updates(params, updates) - target) ** 2).sum()

    slope = jax.jit(jax.grad(after))(jnp.float32(0.5))
    difference = (after(jnp.float32(0.51)) - after(jnp.float32(0.49))) / 0.02
    assert float(slope) == pytest.approx(float(difference), rel=2e-2) and abs(float(slope)) > 1e-3
