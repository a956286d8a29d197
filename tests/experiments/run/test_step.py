import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import nets
from experiments.config import configure
from experiments.data import Dataset
from experiments.run.step import (
    AXIS,
    Images,
    PlacedData,
    Totals,
    Trainer,
    TrainState,
    initial_variables,
    keys,
    make_step,
    order,
)
from lgnn_jax import lgnn


@functools.cache
def pictures(train=64, test=21, classes=4):
    draw = np.random.default_rng(0)
    return Dataset(
        "set",
        draw.integers(0, 256, (train, 32, 32, 3)).astype(np.uint8),
        draw.integers(0, classes, train).astype(np.int32),
        draw.integers(0, 256, (test, 32, 32, 3)).astype(np.uint8),
        draw.integers(0, classes, test).astype(np.int32),
        tuple(map(str, range(classes))),
    )


def test_an_epoch_sees_every_example_at_most_once_and_drops_another_remainder_each_time():
    epochs = [order(3, epoch, 70, 16) for epoch in range(3)]
    for examples in epochs:
        assert examples.shape == (4, 16) and len(set(examples.ravel())) == 64
    dropped = [frozenset(range(70)) - set(examples.ravel()) for examples in epochs]
    assert len(set(dropped)) == 3
    np.testing.assert_array_equal(epochs[1], order(3, 1, 70, 16))
    assert (epochs[1] != order(4, 1, 70, 16)).any()


def trained(net, width, steps, devices, batch=16, sync_bn=True):
    """The state after some steps, on the first ``devices`` devices."""
    data = pictures()
    module = nets.build(net, data.classes, width, bn_axis=AXIS if sync_bn else None)
    plain = nets.build(net, data.classes, width)
    tx = optax.chain(lgnn(0.5), optax.add_decayed_weights(1e-3), optax.sgd(0.05))
    step = make_step(module, tx, padding="reflect", flip=True)
    chosen = jax.local_devices()[:devices]
    run = jax.pmap(step, AXIS, in_axes=(None, None, None, 0), out_axes=None, devices=chosen)
    drawn = keys(0)
    variables = initial_variables(plain, drawn.init)
    params = variables["params"]
    state = TrainState(jnp.int32(0), params, variables["batch_stats"], tx.init(params), Totals.zero())
    statistics = (jnp.full(3, 0.5), jnp.full(3, 0.3))
    placed = Images(
        jnp.asarray(data.train_images.reshape(64, -1)), jnp.asarray(data.train_labels), *statistics
    )
    everywhere = NamedSharding(Mesh(np.array(chosen), (AXIS,)), PartitionSpec())
    state, placed, drawn = jax.device_put((state, placed, drawn), everywhere)
    for examples in order(0, 0, 64, batch)[:steps]:
        state = run(state, placed, drawn, examples.reshape(devices, -1))
    return jax.device_get(state)


@pytest.mark.parametrize(
    "net, width", [("vgg11", 0.0625), pytest.param("wrn16-8", 0.03125, marks=pytest.mark.slow)]
)
def test_eight_devices_with_shared_statistics_train_as_one(net, width, depth):
    """Dropout, crops and flips included; plain SGD, which a factor in the gradient would not escape."""
    one, eight = (trained(net, width, 2, devices) for devices in (1, 8))
    atol = {"shallow": 1e-6, "whole": 2e-4}[depth]  # Rounding grows from layer to layer.
    flat = jax.tree_util.tree_leaves_with_path((one.params, one.batch_stats))
    for (path, a), b in zip(flat, jax.tree.leaves((eight.params, eight.batch_stats)), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, err_msg=jax.tree_util.keystr(path))
    assert one.totals.examples == eight.totals.examples == 32
    assert one.totals.loss == pytest.approx(float(eight.totals.loss), rel=1e-4)
    assert int(one.step) == int(eight.step) == 2


def test_statistics_of_each_replica_differ_from_shared_ones(single):
    own, shared = (trained("vgg11", 0.0625, 1, 8, sync_bn=sync).params for sync in (False, True))
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), own, shared)
    assert max(jax.tree.leaves(differences)) > 1e-4


@functools.cache
def trainer(variant="constant", **overrides):
    data = pictures()
    config, _ = configure(data, variant=variant, width=0.0625, batch=16, epochs=2, **overrides)
    return Trainer(config, PlacedData(data))


def test_data_and_state_stay_on_the_devices(shallow):
    made = trainer()
    state, drawn = made.start(0)
    batches = order(0, 0, 64, 16)
    state = made.step(state, drawn, batches[0])
    shares = [made.placed.split(examples) for examples in batches[1:]]
    with jax.transfer_guard("disallow"):
        for share in shares:
            state = made._step(state, made.placed.train, drawn, share)
    assert int(state.step) == 4


def test_every_test_picture_is_counted_once(shallow):
    made = trainer()
    state, _ = made.start(1)
    data = pictures()
    x = (data.test_images / 255 - np.asarray(made.placed.test.mean)) / np.asarray(
        made.placed.test.deviation
    )
    variables = {"params": jax.device_get(state.params), "batch_stats": jax.device_get(state.batch_stats)}
    apply = jax.jit(functools.partial(made._module.apply, train=False))
    scores = apply(variables, jnp.asarray(x, jnp.float32))
    expected = np.asarray(scores).argmax(-1) == data.test_labels
    for batch in (500, 16):  # 21 pictures over 8 devices: one batch of 24, then two of 16.
        correct, loss = made.evaluate(state, batch)
        np.testing.assert_array_equal(correct, expected)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.asarray(data.test_labels))
        assert loss == pytest.approx(float(losses.mean()), rel=1e-4)


def test_the_start_is_the_same_for_every_variant_and_another_for_every_seed(shallow):
    first, second = trainer("baseline"), trainer("constant")
    a, b, c = first.start(0)[0].params, second.start(0)[0].params, first.start(1)[0].params
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert (np.asarray(a["conv_0"]["kernel"]) != np.asarray(c["conv_0"]["kernel"])).all()


def test_decay_and_momentum_come_after_smoothing(shallow):
    """A step of the trainer's optimizer against its parts, with a gradient of zero: only decay is left."""
    made = trainer("constant")
    state, _ = made.start(0)
    grads = jax.tree.map(jnp.zeros_like, state.params)
    updates, _ = made.tx.update(grads, made.tx.init(state.params), state.params)
    rate = made.config.recipe.lr * made.config.recipe.weight_decay
    jax.tree.map(
        lambda update, param: np.testing.assert_allclose(update, -rate * param, rtol=1e-5, atol=1e-9),
        updates,
        state.params,
    )
