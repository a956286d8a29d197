import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from lgnn_jax import ConvLayout, Ties, lgnn, reorder, ties
from tests.lgnn_jax.networks import change, params

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
ORDER = np.array([2, 0, 4, 1, 3])
ORDERS = {"params/a/kernel": ORDER, "params/b/kernel": np.array([1, 2, 3, 0])}


def apply(variables, x):
    p, norm = variables["params"], variables["batch_stats"]["norm"]
    x = (x @ p["a"]["kernel"] + p["a"]["bias"][None] - norm["mean"][None]) * p["norm"]["scale"][None]
    return jnp.tanh(jnp.tanh(x) @ p["b"]["kernel"]) @ p["c"]["kernel"]


def network(seed=0):
    values = params(seed, a=(3, 5), bias=(5,), mean=(5,), scale=(5,), b=(5, 4), c=(4, 2))
    layers = {name: {"kernel": values[name]} for name in "abc"}
    layers["a"]["bias"] = values["bias"]
    return {
        "params": {**layers, "norm": {"scale": values["scale"]}},
        "batch_stats": {"norm": {"mean": values["mean"]}},
    }


TIES = ties(apply, network(), X)


def by_hand(layers):
    """The parameters, or what is shaped like them, permuted line by line."""
    second = ORDERS["params/b/kernel"]
    return {
        "a": {"kernel": layers["a"]["kernel"][:, ORDER], "bias": layers["a"]["bias"][ORDER]},
        "b": {"kernel": layers["b"]["kernel"][ORDER][:, second]},
        "c": {"kernel": layers["c"]["kernel"][second]},
        "norm": {"scale": layers["norm"]["scale"][ORDER]},
    }


def equal(a, b, tolerance=0.0):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def test_units_are_permuted_together():
    old = network()
    new = reorder(old, TIES, ORDERS)
    equal(new["params"], by_hand(old["params"]))
    equal(new["batch_stats"], {"norm": {"mean": old["batch_stats"]["norm"]["mean"][ORDER]}})
    assert change(apply, old, new, X) < 1e-6


def test_the_unit_at_a_position_is_the_one_that_the_order_names():
    new = reorder(network(), TIES, {"a/kernel": ORDER})
    for at, unit in enumerate(ORDER):
        assert (new["params"]["a"]["kernel"][:, at] == network()["params"]["a"]["kernel"][:, unit]).all()


@pytest.mark.parametrize(
    "name",
    ["a/kernel", "a/bias", "norm/scale", "norm/mean", "params/a/kernel", ("b/kernel", 0), ("c/kernel", 0)],
)
def test_any_leaf_names_its_group(name):
    order, wanted = (ORDERS["params/b/kernel"], "b") if name[0] == "c/kernel" else (ORDER, "a")
    equal(reorder(network(), TIES, {name: order}), reorder(network(), TIES, {f"{wanted}/kernel": order}))


OPTIMIZERS = {
    "adamw": optax.adamw(0.1),
    "momentum": optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "partition": optax.partition(
        {"kernels": optax.adam(0.1), "rest": optax.sgd(0.1, momentum=0.9)},
        lambda tree: jax.tree_util.tree_map_with_path(lambda p, _: ["rest", "kernels"]["kernel" in str(p)], tree),
    ),
    "schedule": optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0.2, 5)),
    "accumulation": optax.MultiSteps(optax.lion(0.1), 2).gradient_transformation(),
    "unfactored adafactor": optax.adafactor(0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_from_a_reordered_state_as_it_would_have(name):
    """Steps after a reordering give what the reordering gives after the steps."""
    optimizer = OPTIMIZERS[name]

    def loss(parameters, stats):
        return (apply({"params": parameters, "batch_stats": stats}, X) ** 2).sum()

    @jax.jit
    def step(state):
        gradients = jax.grad(loss)(state["params"], state["batch_stats"])
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        fresh = optax.apply_updates(state["params"], updates)
        average = optax.incremental_update(fresh, state["average"], 0.1)
        return {**state, "params": fresh, "opt_state": opt_state, "average": average}

    start = jax.tree.map(jnp.asarray, network())
    state = {**start, "opt_state": optimizer.init(start["params"]), "average": start["params"]}
    state = step(state)
    move = functools.partial(reorder, ties=TIES, orders=ORDERS, check=False)
    equal(step(step(move(state))), move(step(step(state))), 2e-6)
    moved = move(state)
    equal(moved["average"], by_hand(state["average"]))


def test_a_chain_with_lgnn():
    old = network()
    optimizer = optax.chain(
        lgnn(0.5, layout=ConvLayout(paths={"a/kernel": (5,)})), optax.sgd(0.1, momentum=0.9)
    )
    _, state = optimizer.update(old["params"], optimizer.init(old["params"]), old["params"])
    new = reorder({"opt_state": state}, TIES, ORDERS)
    assert float(jnp.abs(state[1][0].trace["a"]["kernel"]).max()) > 0
    equal(new["opt_state"][1][0].trace, by_hand(state[1][0].trace))
    equal(new["opt_state"][0], state[0])


class State(NamedTuple):
    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any


class WithStats(TrainState):
    batch_stats: Any


def test_states_of_other_kinds_keep_their_kind():
    old = network()
    optimizer = optax.sgd(0.1, momentum=0.9)
    opt_state = jax.tree.map(lambda _, p: p, optimizer.init(old["params"]), optimizer.init(old["params"]))
    named = State(jnp.zeros((), int), old["params"], old["batch_stats"], opt_state)
    new = reorder(named, TIES, ORDERS)
    assert isinstance(new, State)
    equal(new.params, by_hand(old["params"]))
    flax = WithStats.create(
        apply_fn=apply, params=old["params"], tx=optimizer, batch_stats=old["batch_stats"]
    )
    flax = flax.replace(opt_state=(optax.TraceState(trace=old["params"]), *flax.opt_state[1:]))
    new = reorder(flax, TIES, ORDERS)
    assert isinstance(new, WithStats)
    equal(new.params, by_hand(old["params"]))
    equal(new.opt_state[0].trace, by_hand(old["params"]))


def test_boxes_stay():
    boxed = network()
    boxed["params"]["a"]["kernel"] = nn.Partitioned(boxed["params"]["a"]["kernel"], names=("in", "out"))
    new = reorder(boxed, TIES, ORDERS)["params"]["a"]["kernel"]
    assert isinstance(new, nn.Partitioned) and new.names == ("in", "out")
    equal(new.value, boxed["params"]["a"]["kernel"].value[:, ORDER])


def test_a_network_of_nnx_and_its_optimizer():
    class Net(nnx.Module):
        def __init__(self):
            self.a, self.b = nnx.Linear(3, 5, rngs=nnx.Rngs(0)), nnx.Linear(5, 2, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.b(nnx.relu(self.a(x)))

    graph, state = nnx.split(Net())
    found = ties(lambda state, x: nnx.merge(graph, state)(x), state, X)
    optimizer = nnx.Optimizer(Net(), optax.adam(0.1), wrt=nnx.Param)
    both = {"model": state, "optimizer": nnx.state(optimizer)}
    both["optimizer"]["opt_state"] = jax.tree.map(lambda x: x + 1.0, both["optimizer"]["opt_state"])
    mu = jax.tree.map(lambda x: jnp.asarray(np.arange(x.size).reshape(x.shape), x.dtype), both)
    new = reorder(mu, found, {"a/kernel": ORDER}, check=False)
    before, after = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value"): leaf
            for path, leaf in rows
        }
        for rows in map(jax.tree_util.tree_leaves_with_path, (mu, new))
    )
    moved = {path for path in before if (before[path] != after[path]).any()}
    assert {path for path in moved if path.startswith("model")} == {
        "model/a/bias",
        "model/a/kernel",
        "model/b/kernel",
    }
    assert sum(path.startswith("optimizer") for path in moved) == 6
    assert jax.tree.structure(mu) == jax.tree.structure(new)
    assert isinstance(new["model"]["a"]["kernel"], nnx.Param)


def test_arrays_stay_what_and_where_they_are():
    new = reorder(network(), TIES, ORDERS)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(new))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    tree = jax.tree.map(jnp.asarray, network())
    tree["params"]["c"]["kernel"] = jax.device_put(tree["params"]["c"]["kernel"], spread)
    new = reorder(tree, TIES, ORDERS, check=False)
    assert new["params"]["c"]["kernel"].sharding == spread
    equal(new["params"], by_hand(network()["params"]))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(new))


def test_within_jit():
    tree = jax.tree.map(jnp.asarray, network())
    fixed = jax.jit(lambda tree: reorder(tree, TIES, ORDERS))(tree)
    traced = jax.jit(lambda tree, orders: reorder(tree, TIES, orders))(tree, ORDERS)
    equal(fixed, reorder(network(), TIES, ORDERS))
    equal(traced, fixed)


def test_a_flattened_map_is_permuted_within():
    tree = {"conv": {"kernel": np.zeros((1, 1, 1, 3))}, "dense": {"kernel": np.arange(24).reshape(12, 2)}}
    hand = Ties.of(tree, [[("conv/kernel", -1), ("dense/kernel", 0, 2)]])  # (2, 3 units, 2)
    new = reorder(tree, hand, {"conv/kernel": [1, 2, 0]})["dense"]["kernel"]
    equal(new.reshape(2, 3, 2, 2), tree["dense"]["kernel"].reshape(2, 3, 2, 2)[:, [1, 2, 0]])


# What cannot be done is refused, and nothing is done then.


@pytest.mark.parametrize(
    "orders, words",
    [
        ({"a/kernel": [0, 1, 2]}, r"order of 'a/kernel' must have one integer for each of 5 units, got \(3,\)"),
        ({"a/kernel": [0, 1, 2, 3, 3]}, "order of 'a/kernel' is no permutation of 0 to 4: it lacks 4"),
        ({"a/kernel": [0.0, 1, 2, 3, 4]}, "must be of integers, got float64"),
        ({"a/kernel": ORDER, "norm/scale": np.arange(5)}, "'norm/scale' are tied together and have different"),
        ({"c/kernel": [1, 0]}, r"'params/c/kernel' keeps its order \(axis 1: reaches the results\)"),
        ({("a/kernel", 0): [0, 1, 2]}, r"'params/a/kernel' keeps its order \(axis 0: reaches input 0\)"),
        ({("a/kernel", 2): [0, 1, 2]}, "'params/a/kernel' has 2 axes and so no axis 2"),
        ({"a/kernels": ORDER}, "'a/kernels' is no leaf of the network. Near it: .*'params/a/kernel'"),
        ({"kernel": ORDER}, "'kernel' may be any of 'params/a/kernel', 'params/b/kernel', 'params/c/kernel'"),
        ({3: ORDER}, r"named by a path or by \(path, axis\), got 3"),
        ([ORDER], "orders must be a dict of orders by path, got list"),
    ],
)  # fmt: skip
def test_orders_that_are_refused(orders, words):
    with pytest.raises(ValueError, match=words):
        reorder(network(), TIES, orders)


def test_orders_that_agree_are_one():
    equal(
        reorder(network(), TIES, {"a/kernel": ORDER, "a/bias": list(ORDER)}),
        reorder(network(), TIES, {"a/bias": ORDER}),
    )


@pytest.mark.parametrize(
    "state, name",
    [
        (optax.adafactor(0.1, min_dim_size_to_factor=2).init(network()["params"]), "0/v_row/a/kernel"),
        ({"statistics": {"a": {"kernel": {"left": np.zeros((3, 3))}}}}, "statistics/a/kernel/left"),
        ({"memory": {"a": {"kernel": np.zeros((10, 3, 5))}}}, "memory/a/kernel"),
        ({"norms": {"a": {"kernel": np.zeros(5)}}}, "norms/a/kernel"),
    ],
)
def test_states_that_are_not_shaped_like_parameters_are_refused(state, name):
    with pytest.raises(
        ValueError, match=f"{name}' of shape .* belongs to 'params/a/kernel' of shape .*start the optimizer"
    ):
        reorder({**network(), "opt_state": state}, TIES, ORDERS)


def test_a_state_as_one_vector_is_refused():
    optimizer = optax.flatten(optax.sgd(0.1, momentum=0.9))
    with pytest.raises(ValueError, match="as long as all parameters together.*optax.flatten"):
        reorder({"opt_state": optimizer.init(network()["params"])}, TIES, ORDERS)


def test_statistics_that_the_ties_do_not_know_are_refused():
    """At the start they are the same for all units, and then may be constants of a network."""
    stats = {"norm": {"mean": np.zeros(5, np.float32)}}
    found = ties(lambda p, x: apply({"params": p, "batch_stats": stats}, x), network()["params"], X)
    with pytest.raises(
        ValueError, match="'batch_stats/norm/mean' is not among the leaves that were traced.*in 'norm'"
    ):
        reorder(network(), found, {"norm/scale": ORDER})
    equal(reorder(network()["params"], found, ORDERS), by_hand(network()["params"]))


def test_statistics_that_the_network_does_not_read_are_refused():
    def training(variables, x):
        x = x @ variables["params"]["a"]["kernel"]
        norm = variables["params"]["norm"]["scale"][None] * (x - x.mean(0)[None])
        return norm @ variables["params"]["b"]["kernel"]

    found = ties(training, network(), X)
    with pytest.raises(
        ValueError, match="'batch_stats/norm/mean' is not read by the network as it was traced"
    ):
        reorder(network(), found, {"norm/scale": ORDER})


@pytest.mark.parametrize("within", [lambda x: x, lambda x: {"step": 3, "variables": x}])
def test_a_deeper_network_is_refused(within):
    deeper = network()
    deeper["params"]["d"] = {"kernel": np.ones((4, 7), np.float32)}  # Reads b's units, as c does.
    with pytest.raises(ValueError, match="'.*params/d/kernel' was not traced, is beside what was"):
        reorder(within(deeper), TIES, ORDERS)
    deeper["params"]["d"] = {"kernel": np.ones((7, 7), np.float32)}  # Reads none that move.
    assert reorder(within(deeper), TIES, ORDERS) is not None


def test_other_leaves_stay_as_they_are():
    more = {
        "other": {"kernel": np.arange(5)},
        "count": np.zeros(()),
        "scale": {"a": {"kernel": np.ones(())}},
    }
    new = reorder({**network(), **more}, TIES, ORDERS)
    equal({name: new[name] for name in more}, more)


def test_a_leaf_that_may_be_two_is_refused():
    values = params(a=(3, 5), b=(5, 5), c=(5, 2))
    tree = {"params": {"a": values["a"]}, "extra": {"a": values["b"]}, "c": values["c"]}

    def net(p, x):
        return jnp.tanh(jnp.tanh(x @ p["params"]["a"]) @ p["extra"]["a"]) @ p["c"]

    tree["params"]["a"] = params(a=(5, 5))["a"]
    found = ties(net, tree, X @ np.ones((3, 5), np.float32))
    orders = {"params/a": ORDER}
    assert reorder(tree, found, orders)["extra"]["a"].shape == (5, 5)
    with pytest.raises(
        ValueError, match="'trace/a' may be any of 'extra/a', 'params/a', which are not permuted alike"
    ):
        reorder({"trace": {"a": np.ones((5, 5))}}, found, orders)


def wrong():
    """Ties that lack the bias."""
    groups = [
        group._replace(members=tuple(m for m in group.members if m.path != "params/a/bias"))
        for group in TIES.groups
    ]
    return dataclasses.replace(TIES, groups=tuple(groups))


def test_a_network_that_changes_is_refused():
    with pytest.raises(
        ValueError, match=r"does not compute the same.*change by [0-9.]+e[-+]0\d of the largest"
    ):
        reorder(network(), wrong(), ORDERS)
    new = reorder(network(), wrong(), ORDERS, check=False)
    assert change(apply, network(), new, X) > 1e-2


def test_the_check_runs_on_the_network_within_a_state():
    state = {"opt_state": {"trace": network()["params"]}, "model": network(), "count": 3}
    with pytest.raises(ValueError, match="does not compute the same"):
        reorder(state, wrong(), ORDERS)
    del state["model"]["batch_stats"]
    reorder(state, wrong(), ORDERS)  # The network cannot be run without its statistics.


def test_the_check_of_a_network_in_16_bits():
    def rough(variables, x):
        return apply(
            jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables), x.astype(jnp.bfloat16)
        )

    found = ties(rough, network(), X)
    reorder(network(), found, ORDERS)
    with pytest.raises(ValueError, match="does not compute the same"):
        reorder(network(), dataclasses.replace(found, groups=wrong().groups), ORDERS)


def test_inputs_of_integers_are_used_as_they_are():
    def net(p, tokens, key, scale):
        noise = jax.random.uniform(key, (2, 1)) * jnp.sqrt(tokens - 3.0)[:, None]
        return (jnp.tanh(p["table"][tokens] * scale) + noise) @ p["out"]

    tree, inputs = (
        params(table=(9, 5), out=(5, 2)),
        (jax.random.key(0), jax.ShapeDtypeStruct((), jnp.float32)),
    )
    found = ties(net, tree, jnp.array([3, 7]), *inputs)
    equal(reorder(tree, found, {"table": ORDER})["table"], tree["table"][:, ORDER])
    drawn = ties(net, tree, jax.ShapeDtypeStruct((2,), jnp.int32), *inputs)
    with pytest.raises(ValueError, match="outputs on random inputs are not finite.*check=False"):
        reorder(tree, drawn, {"table": ORDER})


def test_outputs_of_zeros_do_not_hide_what_changes():
    """A head that starts as zeros, as classifiers do, shows nothing; the check looks again with other weights."""

    def apply(p, x):
        return jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"]) @ p["head"]

    tree = params(a=(3, 4), b=(4, 5), head=(5, 2)) | {"head": np.zeros((5, 2), np.float32)}
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    found = ties(apply, tree, x)
    orders = {"a": [1, 2, 3, 0]}
    np.testing.assert_array_equal(reorder(tree, found, orders)["b"], tree["b"][[1, 2, 3, 0]])
    wrong = tuple(
        group._replace(members=tuple(member for member in group.members if member.path != "b"))
        for group in found.groups
    )
    with pytest.raises(ValueError, match="does not compute the same"):
        reorder(tree, dataclasses.replace(found, groups=wrong), orders)


def test_an_order_of_which_the_tree_has_nothing_is_refused():
    found = ties(lambda p, x: x @ p["a"] @ p["b"], params(a=(3, 4), b=(4, 2)), np.zeros((2, 3), np.float32))
    with pytest.raises(
        ValueError, match="none of the leaves of 'a'.*Give the tree that the ties were traced"
    ):
        reorder({"c": np.zeros((3, 4))}, found, {"a": [1, 0, 2, 3]})
    with pytest.raises(ValueError, match="must hold 0 to 3, each once; it has 4. Units count from 0"):
        reorder(params(a=(3, 4), b=(4, 2)), found, {"a": [1, 2, 3, 4]})
    with pytest.raises(TypeError, match=r"Write reorder\(tree, ties, orders\); the ties are dict"):
        reorder(found, params(a=(3, 4), b=(4, 2)), {"a": [1, 0, 2, 3]})
    with pytest.raises(TypeError, match=r"such as ConvLayout\(\).layers\(params\)"):
        found.orders({}, ConvLayout())
