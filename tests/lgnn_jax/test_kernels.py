"""What is a convolution's kernel, and where its filters lie, on trees that the frameworks really make."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from lgnn_jax import ConvLayout, Grid, Layer, lgnn

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")


def axes(tree, **options):
    """Axis and number of units by path."""
    return {layer.path: (layer.axis, layer.grid.units) for layer in ConvLayout(**options).layers(tree)}


def of_linen(module, shape=(1, 8, 8, 5)):
    """The shapes of a module's parameters."""
    return jax.eval_shape(module.init, jax.random.key(0), jnp.ones(shape))["params"]


def silent(tree, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return axes(tree, **options)


@pytest.mark.parametrize("transpose_kernel, axis", [(False, -1), (True, -2)])
def test_a_transposed_convolution_of_flax_is_told_by_its_bias(transpose_kernel, axis):
    made = linen.ConvTranspose(7, (3, 3), transpose_kernel=transpose_kernel)
    assert silent({"up": of_linen(made)}) == {"up/kernel": (axis, 7)}
    made = nnx.ConvTranspose(5, 7, (3, 3), transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0))
    assert silent(nnx.state({"up": made}, nnx.Param)) == {"up/kernel": (axis, 7)}


@pytest.mark.parametrize("outputs, bias", [(7, True), (7, False), (5, False)])
def test_a_transposed_convolution_of_haiku_is_told_by_its_name(outputs, bias):
    hk = pytest.importorskip("haiku")
    net = hk.transform(lambda x: hk.Conv2DTranspose(outputs, 3, with_bias=bias)(x))
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.ones((1, 8, 8, 5)))
    assert params["conv2_d_transpose"]["w"].shape == (3, 3, outputs, 5)
    assert silent(params) == {"conv2_d_transpose/w": (-2, outputs)}


def test_a_transposed_convolution_of_equinox_counts_its_filters_on_the_first_axis():
    eqx = pytest.importorskip("equinox")
    up = eqx.nn.ConvTranspose2d(5, 7, 3, key=jax.random.key(0))
    assert silent({"up": eqx.filter(up, eqx.is_array)}, axis=0) == {"up/weight": (0, 7)}
    stored_in_out = {"up": {"weight": jnp.ones((5, 7, 3, 3)), "bias": jnp.ones(7)}}  # As PyTorch does.
    assert silent(stored_in_out, axis=0) == {"up/weight": (1, 7)}


def test_a_transposed_convolution_that_nothing_tells_draws_a_warning():
    square = {"ConvTranspose_0": of_linen(linen.ConvTranspose(5, (3, 3)))}
    with pytest.warns(
        UserWarning, match=r"'ConvTranspose_0/kernel'.*filters on axis -2.*the tuple of Layers"
    ):
        assert axes(square) == {"ConvTranspose_0/kernel": (-1, 5)}
    assert silent(square, where=lambda path, leaf: False) == {}
    layers = (Layer("ConvTranspose_0/kernel", Grid((5, 1)), axis=-2),)  # What the warning says to do.
    lgnn(layout=layers).init(square)


@pytest.mark.parametrize(
    "name, shape",
    [("pos_embed", (1, 7, 7, 6)), ("embedding", (2, 7, 7, 6)), ("start", (1, 4, 4, 8))]
    + [("rel_pos_bias", (7, 7, 7, 8)), ("Position", (2, 7, 7, 6))],
)
def test_embeddings_and_constants_are_no_kernels(name, shape):
    tree = {"conv": of_linen(linen.Conv(6, (3, 3))), name: jnp.ones(shape)}
    assert silent(tree) == {"conv/kernel": (-1, 6)}
    assert "an embedding or a constant" in ConvLayout().describe(tree)
    assert silent(tree, paths={name: (2, shape[-1] // 2)})[name] == (-1, shape[-1])


def test_a_kernel_of_an_embedding_is_a_kernel():
    assert silent({"patch_embed_kernel": jnp.ones((16, 16, 3, 768))}) == {"patch_embed_kernel": (-1, 768)}
    assert silent({"patch_embed": of_linen(linen.Conv(6, (4, 4)))}) == {"patch_embed/kernel": (-1, 6)}


def test_describe_says_what_is_in_doubt():
    text = ConvLayout().describe({"ConvTranspose_0": of_linen(linen.ConvTranspose(5, (3, 3)))})
    assert "5x1 on axis -1\nIn doubt: 'ConvTranspose_0/kernel' of shape (3, 3, 5, 5) is laid out" in text


def test_a_leading_axis_of_one_of_an_unequal_plane_draws_a_warning():
    with pytest.warns(UserWarning, match="'filters' of shape .* may be an embedding"):
        assert axes({"filters": jnp.ones((1, 7, 5, 6))}) == {}


def test_a_bias_tells_kernels_of_unusual_sizes():
    wide = {"conv": of_linen(linen.Conv(6, (1, 127)), (1, 8, 200, 5))}
    assert silent(wide) == {"conv/kernel": (-1, 6)}
    with pytest.warns(UserWarning, match="a kernel of 1x127 would be a large one"):
        axes({"conv": {"kernel": jnp.ones((1, 127, 5, 6))}})


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (1, 1)])
def test_kernels_of_one_row_are_kernels(size):
    tree = {"conv": of_linen(linen.Conv(6, size, use_bias=False))}
    assert silent(tree) == {"conv/kernel": (-1, 6)}
    assert silent({"w": jnp.ones((1, 1, 5, 6))}) == {"w": (-1, 6)}


class Block(linen.Module):
    layer: object

    @linen.compact
    def __call__(self, x, _):
        return self.layer(x), None


def scanned(layer, shape):
    stack = linen.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=4)
    return jax.eval_shape(lambda x: stack(layer).init(jax.random.key(0), x, None), jnp.ones(shape))[
        "params"
    ]


def test_scanned_convolutions_are_laid_out_and_scanned_attention_is_not():
    convs = scanned(lambda x: linen.relu(linen.Conv(5, (3, 3), name="conv")(x)), (1, 8, 8, 5))
    assert {leaf.shape for leaf in jax.tree.leaves(convs)} == {(4, 3, 3, 5, 5), (4, 5)}
    assert set(silent(convs).values()) == {(-1, 5)}
    for bias in (True, False):
        attend = scanned(
            lambda x, bias=bias: linen.MultiHeadDotProductAttention(3, use_bias=bias, name="attention")(
                x, x
            ),
            (1, 5, 6),
        )
        assert {leaf.ndim for leaf in jax.tree.leaves(attend)} == ({2, 3, 4} if bias else {4})
        assert silent(attend) == {}


def test_a_stack_without_biases_is_told_by_the_norms_beside():
    tree = {"conv": {"kernel": jnp.ones((4, 3, 3, 5, 5))}, "norm": {"scale": jnp.ones((4, 5))}}
    assert silent(tree) == {"conv/kernel": (-1, 5)}
    assert silent(
        {"conv": {"weight": jnp.ones((4, 6, 5, 3, 3)), "bias": jnp.ones((4, 6, 1, 1))}}, axis=0
    ) == {"conv/weight": (1, 6)}
    assert silent({"dense": {"kernel": jnp.ones((4, 2, 5, 5))}, "norm": {"scale": jnp.ones((4, 5))}}) == {}


def test_three_dimensional_convolutions_have_no_grid_and_without_a_bias_draw_a_warning():
    assert silent({"conv": of_linen(linen.Conv(6, (3, 3, 3)), (1, 8, 8, 8, 5))}) == {}
    with pytest.warns(UserWarning, match="may be a 3-D convolution or a stack of 2-D ones"):
        assert axes({"conv": of_linen(linen.Conv(6, (3, 3, 3), use_bias=False), (1, 8, 8, 8, 5))}) == {}


@pytest.mark.parametrize("shape, axis, module", [((7, 7, 3, 3), -1, "kernel"), ((3, 3, 7, 7), 0, "weight")])
def test_a_small_head_is_no_kernel_of_the_other_layout(shape, axis, module):
    assert silent({"head": {module: jnp.ones(shape)}}, axis=axis) == {f"head/{module}": (axis, 3)}
    filters = jnp.ones((3,) if axis == -1 else (3, 1, 1))
    assert silent({"head": {"any": jnp.ones(shape), "bias": filters}}, axis=axis) == {"head/any": (axis, 3)}


def test_a_bias_that_fits_no_axis_draws_a_warning():
    with pytest.warns(UserWarning, match="has a bias of 9, which is not the length of axis -1"):
        axes({"conv": {"kernel": jnp.ones((3, 3, 4, 6)), "bias": jnp.ones(9)}})


def test_depthwise_and_grouped_kernels_are_laid_out_by_their_filters():
    assert silent({"conv": of_linen(linen.Conv(10, (3, 3), feature_group_count=5))}) == {
        "conv/kernel": (-1, 10)
    }
    tree = {"conv": {"weight": jnp.ones((12, 1, 3, 3)), "bias": jnp.ones((12, 1, 1))}}
    assert silent(tree, axis=0) == {"conv/weight": (0, 12)}


@pytest.mark.parametrize(
    "tree, warns",
    [
        ({"dense": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}}, True),
        ({"conv": {"kernel": jnp.ones((3, 4, 8))}}, True),
        ({"scale": jnp.ones(4)}, False),
        ({"ids": jnp.ones((2, 2), jnp.int32)}, False),
        ({}, False),
        ({"a": None}, False),
    ],
)
def test_a_tree_of_which_nothing_is_laid_out_draws_one_warning(tree, warns):
    for layout, expected in ((ConvLayout(), warns), (ConvLayout(where=lambda path, leaf: False), False)):
        tx = lgnn(layout=layout)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tx.update(tree, tx.init(tree), tree)
        nothing = [str(each.message) for each in caught]
        # Of three dimensions or two where cannot leave anything out, so that it left nothing.
        assert len(nothing) == (1 if warns and (expected or layout.where) else 0)
        assert all("Nothing is laid out" in text and "path" in text for text in nothing)
