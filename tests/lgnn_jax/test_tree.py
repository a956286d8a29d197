"""Names of leaves, and the boxes that Flax puts arrays into."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lgnn_jax import ConvLayout, Grid, Layer, lgnn, smooth, topography
from lgnn_jax._tree import named_leaves
from tests.lgnn_jax.reference import apply, dense

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

KERNEL = np.random.default_rng(0).standard_normal((3, 3, 5, 16)).astype(np.float32)
BOXES = {
    "nnx.Param": nnx.Param,
    "nn.Partitioned": lambda x: linen.Partitioned(x, (None, None, None, "model")),
    "nn.LogicallyPartitioned": lambda x: linen.LogicallyPartitioned(x, (None, None, None, "model")),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_boxes_are_opened_by_every_function_alike(box):
    boxed, plain = {"conv": {"kernel": box(jnp.asarray(KERNEL))}}, {"conv": {"kernel": KERNEL}}
    assert (
        ConvLayout().layers(boxed)
        == ConvLayout().layers(plain)
        == (Layer("conv/kernel", Grid((4, 4)), -1),)
    )
    assert ConvLayout().describe(boxed) == ConvLayout().describe(plain)
    expected = apply(dense((4, 4), 0.5), KERNEL, 3)
    np.testing.assert_allclose(smooth(boxed["conv"]["kernel"], Grid((4, 4)), 0.5), expected, atol=1e-6)
    tx = optax.chain(lgnn(0.5, layout=ConvLayout(paths={"conv/kernel": (4, 4)})), optax.sgd(1.0))
    updates, _ = jax.jit(tx.update)(boxed, tx.init(boxed), boxed)
    assert jax.tree.structure(updates) == jax.tree.structure(boxed)
    np.testing.assert_allclose(-jax.tree.leaves(updates)[0], expected, atol=1e-6)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_boxes_are_opened_where_weights_are_looked_at(box):
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    from lgnn_jax import inspect

    first = KERNEL[:, :, :3]
    boxed, grid = box(jnp.asarray(first)), Grid((4, 4))
    for call in (
        topography.cosines,
        topography.filters,
        topography.dead_share,
        inspect.magnitudes,
        lambda kernel: inspect.tiles(kernel, grid),
        lambda kernel: inspect.gram_maps(kernel, grid, [3]),
        lambda kernel: inspect.plots.first_layer({"a": kernel}, grid)[1]["a"],
    ):
        np.testing.assert_array_equal(call(boxed), call(first))


def test_boxed_variables_of_linen_give_responses():
    from lgnn_jax import inspect

    init = linen.with_partitioning(linen.initializers.lecun_normal(), (None, None, None, "model"))
    net = linen.Sequential([linen.Conv(4, (3, 3), kernel_init=init), linen.relu])
    images = jnp.ones((2, 5, 5, 3))
    variables = net.init(jax.random.key(0), images)
    responses = inspect.linen_responses(net, variables)(images)
    assert list(responses) == ["layers_0"] and responses["layers_0"].shape == (2, 5, 5, 4)
    predict = inspect.linen_ablated(net, variables, "layers_0", images, output=lambda x: x.mean((1, 2)) + 1)
    assert predict(jnp.array([0, 0, 0, 0])).tolist() == [0, 0]


def test_a_field_called_value_keeps_its_name():
    """Flax's boxes have one too, which is no part of a path; a module's own is."""
    eqx = pytest.importorskip("equinox")

    class Attention(eqx.Module):
        key: jax.Array
        value: jax.Array

    kernel = jnp.ones((6, 5, 3, 3))
    tree = {"a": Attention(kernel, kernel)}
    assert [name for name, _ in named_leaves(tree)] == ["a/key", "a/value"]
    assert [layer.path for layer in ConvLayout(axis=0).layers(tree)] == ["a/key", "a/value"]
    assert [name for name, _ in named_leaves({"a": nnx.Param(kernel)})] == ["a"]
    assert [name for name, _ in named_leaves(nnx.Param(kernel))] == [""]
    assert [name for name, _ in named_leaves(nnx.Param({"value": kernel}))] == ["value"]
