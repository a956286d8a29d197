"""Every block of docs/recipes.md runs, and does what the dense float64 reference does."""

import contextlib
import functools
import io
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lgnn_jax import ConvLayout, lgnn
from tests.lgnn_jax.reference import apply, dense

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "recipes.md"
RATE = 0.1  # The learning rate of every recipe.
OPTIONAL = ("flax", "equinox", "haiku", "keras", "orbax", "safetensors")


def _blocks(language):
    """``{(heading, number under it): (line, text)}`` of the page's blocks."""
    text, found, counts = PAGE.read_text(), {}, {}
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        heading = re.findall(r"^## (.*)$", text[: match.start()], re.MULTILINE)[-1]
        counts[heading] = counts.get(heading, -1) + 1
        found[heading, counts[heading]] = text[: match.start()].count("\n") + 1, match[1]
    return found


BLOCKS = _blocks("python")


@pytest.fixture(autouse=True)
def promotion_as_users_have_it():
    with jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def _run(heading, number):
    line, code = BLOCKS[heading, number]
    namespace, printed = {"__name__": f"recipe_{line}"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * line + code, str(PAGE), "exec"), namespace)
    return namespace, printed.getvalue()


def recipe(heading, number=0):
    """What a block defines, as a namespace, and what it prints; each block runs once."""
    for name in OPTIONAL:
        if re.search(rf"^(import|from)\b.*\b{name}\b", BLOCKS[heading, number][1], re.MULTILINE):
            pytest.importorskip(name, reason=f"{name} is not installed")
    return _run(heading, number)


def named(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def assert_changes(changes, gradients, operators, axis=-1):
    """Each change is that of SGD with the gradient, smoothed for the leaves that have an operator."""
    changes, gradients = named(changes), named(gradients)
    assert changes.keys() == gradients.keys() and operators.keys() <= changes.keys()
    for name, gradient in gradients.items():
        expected = gradient
        if name in operators:
            expected = apply(operators[name], gradient, axis % gradient.ndim)
            assert abs(expected - gradient).max() > 0.05 * abs(gradient).max()  # Else nothing is tested.
        np.testing.assert_allclose(changes[name], -RATE * expected, rtol=0, atol=1e-6, err_msg=name)
        assert abs(changes[name]).max() > 1e-4, name


def noise(tree):
    """A gradient of random numbers, which no smoothing leaves as it is."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    return structure.unflatten(
        [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    )


def difference(after, before):
    return jax.tree.map(lambda a, b: a - b, after, before)


@pytest.mark.parametrize("heading, number", BLOCKS, ids=lambda value: str(value).replace(" ", "_"))
def test_the_block_runs(heading, number):
    recipe(heading, number)


def test_every_heading_has_a_block_and_every_link_a_heading():
    text = PAGE.read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert {heading for heading, _ in BLOCKS} == set(headings) and text.count("```python") == len(BLOCKS)
    links = re.findall(r"\]\(#(.*?)\)", text)
    assert sorted(links) == sorted(
        re.sub("[^a-z0-9_ -]", "", h.lower()).replace(" ", "-") for h in headings
    )


def test_what_the_page_says_is_printed_is_printed():
    told = _blocks("text")
    assert len(told) == 4
    for (heading, number), (_, text) in told.items():
        assert recipe(heading, number)[1] == text


@pytest.mark.parametrize(
    "heading, kernel",
    [
        ("Flax linen", "layers_0/kernel"),
        ("Haiku", "conv2_d/w"),
        ("Keras 3", "net/conv/kernel"),
        ("Plain dicts", "conv/kernel"),
    ],
)
def test_one_step_on_a_tree_of_hwio_kernels(heading, kernel):
    made, _ = recipe(heading)
    before, data = made["params"], (made["images"], made["labels"])
    gradients = jax.jit(jax.grad(made["loss"]))(before, *data)
    after, _ = made["step"](before, made["tx"].init(before), *data)
    assert named(before)[kernel].shape == (3, 3, 3, 32)
    assert_changes(difference(after, before), gradients, {kernel: dense((8, 4), 0.5)})


def test_one_step_of_equinox():
    made, _ = recipe("Equinox")
    eqx = made["eqx"]
    before, data = made["net"], (made["images"], made["labels"])
    gradients = eqx.filter_jit(eqx.filter_grad(made["loss"]))(before, *data)
    arrays = eqx.filter(before, eqx.is_inexact_array)
    assert None in jax.tree.leaves(arrays, is_leaf=lambda leaf: leaf is None)
    after, _ = made["step"](before, made["tx"].init(arrays), *data)
    changes = difference(eqx.filter(after, eqx.is_inexact_array), arrays)
    kernel = "layers/0/weight"
    assert named(arrays)[kernel].shape == (32, 3, 3, 3)
    assert_changes(changes, gradients, {kernel: dense((8, 4), 0.5)}, axis=0)


@pytest.mark.parametrize("number", [0, 1])
def test_one_step_of_nnx(number):
    made, _ = recipe("Flax NNX", number)
    nnx, net, data = made["nnx"], made["net"], (made["images"], made["labels"])

    def params(tree):
        return jax.tree.map(jnp.array, nnx.to_pure_dict(tree))

    before = params(nnx.state(net, nnx.Param))
    gradients = params(nnx.jit(nnx.grad(made["loss"]))(net, *data))
    made["step"](net, made["optimizer" if number == 0 else "opt_state"], *data)
    changes = difference(params(nnx.state(net, nnx.Param)), before)
    assert named(before)["layers/0/kernel"].shape == (3, 3, 3, 32)
    assert_changes(changes, gradients, {"layers/0/kernel": dense((8, 4), 0.5)})


@pytest.mark.parametrize("optimizer", [True, False])
def test_paths_of_nnx_are_the_same_at_init_and_update(optimizer):
    made, _ = recipe("Flax NNX", 0)
    nnx, net = made["nnx"], made["nnx"].clone(made["net"])
    seen, kernel = [], "layers/0/kernel"
    layout = ConvLayout(paths={kernel: (4, 8)}, where=lambda path, leaf: seen.append(path) or True)
    tx = optax.chain(lgnn(0.5, layout=layout), optax.sgd(RATE))
    params = nnx.state(net, nnx.Param)
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(params))
    gradients = nnx.jit(nnx.grad(made["loss"]))(net, made["images"], made["labels"])
    if optimizer:
        state = nnx.Optimizer(net, tx, wrt=nnx.Param)
        at_init, seen[:] = list(seen), []
        state.update(net, gradients)
    else:
        state = tx.init(params)
        at_init, seen[:] = list(seen), []
        updates, _ = tx.update(gradients, state, params)
        nnx.update(net, optax.apply_updates(params, updates))
    assert set(at_init) == set(seen) == {kernel}
    changes = difference(nnx.to_pure_dict(nnx.state(net, nnx.Param)), before)
    assert_changes(changes, nnx.to_pure_dict(gradients), {kernel: dense((4, 8), 0.5)})


def updates_of(made):
    """A gradient of noise, and the updates that the recipe's transformation makes of it at first."""
    gradients = noise(made["params"])
    updates, state = made["tx"].update(gradients, made["tx"].init(made["params"]), made["params"])
    return gradients, updates, state


@pytest.mark.parametrize(
    "heading, operators",
    [
        (
            "A sigma per group of layers",
            {"early/kernel": dense((8, 4), 0.8), "late/kernel": dense((8, 8), 0.4)},
        ),
        (
            "Shape and sigma of every layer",
            {
                "conv_0/kernel": dense((16, 1), 0.8),
                "conv_1/kernel": dense((16, 4), 0.4),
                "conv_2/kernel": dense((64,), 0.4),
            },
        ),
        (
            "Dense kernels and depthwise convolutions",
            {"dense/kernel": dense((4, 3), 0.5), "depthwise/kernel": dense((8, 4), 0.5)},
        ),
        (
            "Grids of one, two and three dimensions",
            {"line": dense((64,), 0.5), "plane": dense((8, 8), 0.5), "box": dense((4, 4, 4), 0.5)},
        ),
        ("A torus", {"kernel": dense((8, 8), 1.0, size=5, wrap=True)}),
    ],
)
def test_the_first_update(heading, operators):
    gradients, updates, _ = updates_of(recipe(heading)[0])
    assert_changes(updates, gradients, operators)


def test_a_layer_of_ones_own_is_smoothed_along_its_axis():
    gradients, updates, _ = updates_of(recipe("A layer whose axis nothing tells")[0])
    for name, axis in (("conv", 3), ("ConvTranspose_0", 2)):
        expected = -RATE * apply(dense((8, 4), 0.5), gradients[name]["kernel"], axis)
        np.testing.assert_allclose(updates[name]["kernel"], expected, atol=1e-6)


def test_a_live_sigma_counts_from_the_next_step_without_a_new_compilation():
    made, printed = recipe("Sigma as a live hyperparameter")
    assert printed == "0.4\n" and made["update"]._cache_size() == 1
    gradients, updates, state = updates_of(made)
    assert_changes(updates, gradients, {"kernel": dense((8, 4), 0.5)})
    state = optax.tree.set(state, sigma=jnp.float32(0.4))
    updates, _ = made["update"](gradients, state, made["params"])
    assert_changes(updates, gradients, {"kernel": dense((8, 4), 0.4)})
    assert made["update"]._cache_size() == 1
    optax.inject_hyperparams(lgnn)(sigma=5.0).init(made["params"])  # As the page says, it is not checked.


def test_a_table_by_path_in_a_partition_names_leaves_of_its_own_group():
    made, _ = recipe("A sigma per group of layers")
    own, other = (ConvLayout(paths={f"{name}/kernel": (4, 8)}) for name in ("early", "late"))
    narrow = lgnn(0.4)
    tx = optax.partition({"wide": lgnn(0.8, layout=own), "narrow": narrow}, made["groups"])
    assert_changes(
        jax.tree.map(lambda u: -RATE * u, tx.update(noise(made["params"]), tx.init(made["params"]))[0]),
        noise(made["params"]),
        {"early/kernel": dense((4, 8), 0.8), "late/kernel": dense((8, 8), 0.4)},
    )
    with pytest.raises(ValueError, match="name 'late/kernel', which the tree does not have"):
        optax.partition({"wide": lgnn(0.8, layout=other), "narrow": narrow}, made["groups"]).init(
            made["params"]
        )


def test_the_heat_kernel_narrows_with_the_count():
    made, _ = recipe("Wide to narrow, like a self-organising map")
    gradients, updates, state = updates_of(made)
    path = np.diag([1.0, *[2.0] * 6, 1.0]) - np.eye(8, k=1) - np.eye(8, k=-1)
    for count, sigma in [(0, 4.0), (500, 4.0 * 0.1**0.5), (1000, 0.4), (5000, 0.3)]:
        state = optax.tree.set(state, count=jnp.int32(count))
        updates, _ = made["tx"].update(gradients, state, made["params"])
        one = scipy.linalg.expm(-(sigma**2) / 2 * path)
        assert_changes(updates, gradients, {"kernel": np.kron(one, one)})


def test_zero_nans_loses_the_entry_alone():
    made, _ = recipe("Gradients that are not finite", 0)
    assert np.isnan(made["grads"]["kernel"]).any() and np.isfinite(made["updates"]["kernel"]).all()
    gradients = noise(made["params"])
    spoilt = jax.tree.map(lambda g: g.at[0, 0, 0, 5].set(jnp.nan).at[2, 1, 0, 31].set(jnp.nan), gradients)
    zeroed = jax.tree.map(lambda g: jnp.where(jnp.isnan(g), 0, g), spoilt)
    updates, _ = made["tx"].update(spoilt, made["opt_state"], made["params"])
    assert_changes(updates, zeroed, {"kernel": dense((8, 4), 0.5)})
    infinite = jax.tree.map(lambda g: g.at[0, 0, 0, 5].set(jnp.inf), gradients)
    assert not np.isfinite(
        made["tx"].update(infinite, made["opt_state"], made["params"])[0]["kernel"]
    ).all()


def test_apply_if_finite_leaves_the_step_out():
    made, _ = recipe("Gradients that are not finite", 1)
    assert not np.isfinite(made["grads"]["kernel"]).all()
    tx, params, state, gradients = made["tx"], made["params"], made["opt_state"], noise(made["params"])
    assert not made["updates"]["kernel"].any() and int(optax.tree.get(state, "inner_state")[0].count) == 0
    updates, state = tx.update(gradients, state, params)
    assert_changes(updates, gradients, {"kernel": dense((8, 4), 0.5)})
    assert int(state.inner_state[0].count) == 1
    update = jax.jit(tx.update)
    for _ in range(10):
        updates, state = update(made["grads"], state, params)
        assert not updates["kernel"].any()
    assert not np.isfinite(update(made["grads"], state, params)[0]["kernel"]).all()


def test_orbax_brings_the_state_back():
    made, printed = recipe("Orbax")
    assert printed == "LGNNState(count=Array(1, dtype=int32))\n"
    assert jax.tree.structure(made["restored"]) == jax.tree.structure(made["state"])
    jax.tree.map(np.testing.assert_array_equal, made["restored"], made["state"])


def test_a_network_is_put_in_order_and_trained_on():
    made, _ = recipe("Fine-tuning a reordered network")
    order, kernel = made["orders"]["layers/0/kernel"], made["conv"].kernel[...]
    assert sorted(order) == list(range(32)) and list(order) != sorted(order)
    ordered = made["nnx"].state(made["ordered"], made["nnx"].Param)["layers"][0]["kernel"][...]
    step = np.asarray(ordered - kernel[..., order])  # Adam's first: nearly its rate at every weight.
    assert 0 < abs(step).max() < 2e-4
    grid = made["layers"][0].grid
    before, after = (
        made["topography"].neighbour_cosine(made["topography"].cosines(each), grid).value
        for each in (kernel, ordered)
    )
    assert after > before + 0.1


@pytest.mark.parametrize("heading", ["pmap", "shard_map", "jit with shardings"])
def test_eight_devices_take_the_step_of_one(heading):
    made, _ = recipe(heading)
    spread = made["images"].sharding
    assert len(spread.device_set) == (8 if heading == "jit with shardings" else 1)
    assert heading != "jit with shardings" or not spread.is_fully_replicated
    before = jax.device_get(made["params"])
    images = jnp.asarray(jax.device_get(made["images"])).reshape(-1, 8, 8, 3)
    gradients = jax.jit(jax.grad(made["loss"]))(before, images)
    after, _ = made["step"](made["params"], made["tx"].init(made["params"]), made["images"])
    assert after["kernel"].is_fully_replicated and len(after["kernel"].sharding.device_set) == 8
    assert_changes(difference(jax.device_get(after), before), gradients, {"kernel": dense((8, 4), 0.5)})


def test_by_default_shard_map_and_a_pmean_give_the_sum():
    """The page's warning: without it ``check_vma=False`` would be for nothing."""
    made, _ = recipe("shard_map")
    mesh, loss, params = Mesh(np.array(jax.devices()), ("batch",)), made["loss"], made["params"]

    def gradients(params, images):
        return jax.lax.pmean(jax.grad(loss)(params, images), "batch")

    expected = jax.jit(jax.grad(loss))(params, made["images"])
    for check, factor in [(True, 8), (False, 1)]:
        mapped = jax.shard_map(
            gradients, mesh=mesh, in_specs=(P(), P("batch")), out_specs=P(), check_vma=check
        )
        found = jax.jit(mapped)(params, made["images"])
        np.testing.assert_allclose(found["kernel"], factor * expected["kernel"], rtol=1e-4, atol=1e-6)


def test_the_activations_of_a_layer():
    namespace, printed = recipe("The activations of a layer")
    net, images = namespace["net"], namespace["images"]
    net.eval()
    expected = np.asarray(net.norm(net.conv(images)), np.float64).mean((1, 2))
    np.testing.assert_allclose(namespace["statistics"].mean, expected.mean(0), atol=1e-5)
    assert printed == "(10, 8) (8, 8, 8, 3)\n" and not namespace["found"].dead.any()


@pytest.mark.slow
def test_the_page_runs_as_a_script_on_one_device():
    """Where no test's settings help; on one device smoothing takes another form."""
    names = [
        name
        for name in OPTIONAL
        if subprocess.run([sys.executable, "-c", f"import {name}"]).returncode == 0
    ]
    missing = tuple(set(OPTIONAL) - set(names))
    code = f"""
import re
for block in {[code for _, code in BLOCKS.values()]!r}:
    if not any(re.search(rf"^(import|from) {{name}}\\b", block, re.MULTILINE) for name in {missing!r}):
        exec(block, {{"__name__": "recipe"}})
import jax
print(jax.device_count())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=PAGE.parent.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n1\n"), done.stdout
