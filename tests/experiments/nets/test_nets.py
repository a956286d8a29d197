import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments import nets
from experiments.config import foresee
from experiments.inspect.look import _layer
from experiments.nets import fast_cpu, layers, wrn
from experiments.nets.fast_cpu import patches, products, winograd
from experiments.run.weights import convolutions
from lgnn_jax import ConvLayout


@functools.cache
def shapes(net, classes=100, width=1.0):
    module = nets.build(net, classes, width)
    return jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 3))
    )


def smoothed(net, scope):
    """Paths of the convolutions that a scope smooths."""
    params = shapes(net)["params"]
    return {layer.path for layer in ConvLayout(where=wrn.SCOPES[scope]).layers(params)}


@pytest.mark.parametrize(
    "net, parameters, filtered",
    [("vgg11", 9_274_532, 9_217_728), ("vgg19", 20_081_188, 20_018_880)]
    + [("wrn16-8", 11_007_540, 10_949_040), ("wrn28-10", 36_536_884, 36_454_832)],
)
def test_parameter_counts_are_the_papers(net, parameters, filtered):
    params = shapes(net)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    assert sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 4) == filtered


@pytest.mark.parametrize(
    "net, blocks, counts",
    [("wrn16-8", 2, {"main": 12, "resblocks": 15, "all": 16})]
    + [("wrn28-10", 4, {"main": 24, "resblocks": 27, "all": 28})],
)
def test_scopes_touch_the_papers_convolutions(net, blocks, counts):
    main = {
        f"group_{group}_block_{block}/conv_{conv}/kernel"
        for group in range(3)
        for block in range(blocks)
        for conv in range(2)
    }
    shortcuts = {f"group_{group}_block_0/shortcut/kernel" for group in range(3)}
    assert smoothed(net, "main") == main
    assert smoothed(net, "resblocks") == main | shortcuts
    assert smoothed(net, "all") == main | shortcuts | {"stem/kernel"}
    assert {scope: len(smoothed(net, scope)) for scope in counts} == counts


@pytest.mark.parametrize("net", nets.NETS)
def test_every_convolution_has_a_role_and_nothing_else_has_one(net):
    params, role = shapes(net)["params"], nets.NETS[net].role
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    for path, leaf in leaves.items():
        kind = None
        if leaf.ndim == 4:  # Told by the shapes: what reads images, and what is 1x1.
            kind = (
                nets.STEM
                if leaf.shape[2] == 3
                else nets.SHORTCUT
                if leaf.shape[:2] == (1, 1)
                else nets.MAIN
            )
        assert role(path) == kind, path
    assert role("other/conv_0/kernel") is None


@pytest.mark.parametrize(
    "net, first, last",
    [("vgg19", "conv_0", "conv_15"), ("wrn16-8", "stem", "group_2_block_1/conv_1")],
)
def test_layers_are_shown_from_the_stem_to_the_last_of_the_main_path(net, first, last):
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes(net, width=1 / 8)["params"])
    config, _ = foresee("set", net=net, width=1 / 8)
    found = convolutions(config, params)
    names = list(map(nets.layer_name, found))
    assert (names[0], names[-1]) == (first, last) and len(set(names)) == len(names)
    # As if a shortcut came last.
    layers = {name: 0 for name in found if "shortcut" not in name}
    layers |= {name: 0 for name in found if "shortcut" in name}
    shown = _layer(None, {"run": types.SimpleNamespace(config=config, layers=layers)})
    assert nets.layer_name(shown) == last


def test_what_nets_declare_of_their_training():
    declared = {name: (net.padding, tuple(net.scopes)) for name, net in nets.NETS.items()}
    wide = ("reflect", ("main", "resblocks", "all"))
    assert declared == {
        "vgg11": ("constant", ("all",)),
        "vgg19": ("constant", ("all",)),
        "wrn16-8": wide,
        "wrn28-10": wide,
    }
    assert nets.SCOPES == ("main", "resblocks", "all")
    assert all(net.scopes["all"] is None for net in nets.NETS.values())


def test_layers_are_called_as_their_kernels():
    assert nets.layer_name("conv_3/kernel") == nets.layer_name("conv_3") == "conv_3"
    assert nets.kernel_path("conv_3") == nets.kernel_path("conv_3/kernel") == "conv_3/kernel"


@pytest.mark.parametrize("net", ["vgg11", "wrn16-8"])
def test_the_first_forward_pass_gives_scores_and_statistics(net, shallow):
    check_forward_pass(net)


@pytest.mark.slow
@pytest.mark.parametrize("net", nets.NETS)
def test_so_does_that_of_the_whole_nets(net):
    check_forward_pass(net)


def check_forward_pass(net):
    module = nets.build(net, 7, width=0.0625)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 32, 32, 3)), jnp.float32)

    @jax.jit
    def both(x):
        quiet, variables = module.init_with_output(jax.random.key(0), x, train=False)
        rngs = {"dropout": jax.random.key(1)}
        scores, changed = module.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)
        return quiet, scores, variables["batch_stats"], changed

    quiet, loud, before, after = both(x)
    assert quiet.shape == loud.shape == (4, 7)
    assert np.isfinite(quiet).all() and np.isfinite(loud).all()
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a != b).any()), before, after["batch_stats"]))


def initialised(net):
    draw = jax.jit(functools.partial(net.init, train=False))
    return draw(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


def test_initialisations_have_the_recipes_deviations(shallow):
    vgg = initialised(nets.build("vgg11", width=2))
    assert np.std(vgg["conv_1"]["kernel"]) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)
    assert np.std(vgg["conv_0"]["kernel"]) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.05)
    assert np.abs(vgg["conv_1"]["kernel"]).max() > 4 * (2 / (9 * 128)) ** 0.5  # Not truncated.
    assert np.std(vgg["dense"]["kernel"]) == pytest.approx(0.01, rel=0.02)
    net = nets.build("wrn16-8", width=0.25)
    wide = initialised(net)
    assert np.std(wide["group_2_block_0"]["conv_0"]["kernel"]) == pytest.approx(
        (2 / (9 * 64)) ** 0.5, rel=0.02
    )
    assert np.abs(wide["dense"]["kernel"]).max() == pytest.approx(128**-0.5, rel=0.01)
    assert not wide["dense"]["bias"].any()


def test_a_blocks_shortcut_reads_the_activated_input():
    block = wrn.Block(8, 2, 0.0, None)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 4)), jnp.float32)
    call = {"train": False, "examples": jnp.arange(2)}
    variables = jax.jit(lambda: block.init(jax.random.key(0), x, **call))()
    params = jax.tree.map(lambda leaf: leaf, variables["params"])
    params["conv_1"]["kernel"] = jnp.zeros_like(params["conv_1"]["kernel"])
    variables = {"params": params, "batch_stats": variables["batch_stats"]}
    out = jax.jit(lambda variables: block.apply(variables, x, **call))(variables)
    active = nn.relu(x / np.sqrt(1 + 1e-5))
    expected = active[:, ::2, ::2] @ params["shortcut"]["kernel"][0, 0]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_block_that_keeps_its_shape_adds_the_raw_input():
    block = wrn.Block(4, 1, 0.0, None)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 4)), jnp.float32)
    call = {"train": False, "examples": jnp.arange(2)}
    variables = jax.jit(lambda: block.init(jax.random.key(0), x, **call))()
    params = jax.tree.map(lambda leaf: leaf, variables["params"])
    params["conv_1"]["kernel"] = jnp.zeros_like(params["conv_1"]["kernel"])
    variables = {"params": params, "batch_stats": variables["batch_stats"]}
    out = jax.jit(lambda variables: block.apply(variables, x, **call))(variables)
    np.testing.assert_array_equal(out, x)


# Channels, side, size and stride: every kernel on a map of odd sides, both forms where there is a choice, and maps
# that are smaller than the kernel.
KERNELS = [(3, 1), (3, 2), (1, 1), (1, 2), (5, 1), (5, 3)]
QUICK = {(6, 5, *kernel) for kernel in KERNELS} | {(6, 8, 3, 1), (3, 8, 3, 1), (6, 2, 3, 1)}
QUICK |= {(6, 1, 3, 1), (6, 1, 5, 3), (6, 2, 3, 2), (6, 2, 1, 2), (3, 2, 5, 1)}


@pytest.mark.parametrize(
    "channels, side, size, stride",
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK))
        for case in ((c, side, *kernel) for c in (3, 6) for side in (1, 2, 5, 8) for kernel in KERNELS)
    ],
)
def test_the_cpu_form_of_a_convolution_has_the_same_numbers(channels, side, size, stride):
    draw = np.random.default_rng(side).standard_normal
    x = jnp.asarray(draw((2, side, side, channels)), jnp.float32)
    kernel = jnp.asarray(draw((size, size, channels, 5)), jnp.float32)

    def value_and_gradients(convolution):
        def loss(x, kernel):
            out = convolution(x, kernel, stride=stride)
            return (out * jnp.cos(jnp.arange(out.size).reshape(out.shape))).sum(), out

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, kernel)

    ours = value_and_gradients(fast_cpu._by_matrix_products)
    stock = value_and_gradients(fast_cpu._by_convolution)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-4), ours, stock)


def in_float64(x, kernel, cotangent, stride=1):
    """A convolution and its gradients as sums over taps, in double precision."""
    x, kernel, cotangent = (np.asarray(value, np.float64) for value in (x, kernel, cotangent))
    (height, width), (rows, columns) = x.shape[1:3], kernel.shape[:2]
    padded = np.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    out, of_padded, of_kernel = 0.0, np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(rows):
        for j in range(columns):
            seen = np.s_[:, i : i + height : stride, j : j + width : stride]
            out = out + padded[seen] @ kernel[i, j]
            of_kernel[i, j] = np.tensordot(padded[seen], cotangent, ((0, 1, 2), (0, 1, 2)))
            of_padded[seen] += cotangent @ kernel[i, j].T
    of_x = of_padded[:, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width]
    return out, of_x, of_kernel


@pytest.mark.parametrize(
    "batch, height, width, channels, filters",
    [(2, 16, 16, 64, 128), (2, 2, 2, 512, 512), (1, 2, 6, 4, 1), (2, 10, 4, 5, 7)]
    + [
        pytest.param(*large, marks=pytest.mark.slow)
        for large in ((3, 32, 32, 16, 16), (4, 8, 8, 256, 256), (8, 4, 4, 512, 512))
    ],
)
def test_winograds_form_is_exact_and_repeats_itself(batch, height, width, channels, filters):
    draw = np.random.default_rng(0).standard_normal
    x = jnp.asarray(draw((batch, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(draw((3, 3, channels, filters)), jnp.float32)
    cotangent = jnp.asarray(draw((batch, height, width, filters)), jnp.float32)

    @jax.jit
    def all_three(x, kernel, cotangent):
        out, pull = jax.vjp(winograd.convolve, x, kernel)
        return out, *pull(cotangent)

    found = all_three(x, kernel, cotangent)
    for value, expected in zip(found, in_float64(x, kernel, cotangent), strict=True):
        np.testing.assert_allclose(value, expected, atol=3e-6 * np.abs(expected).max())
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, all_three(x, kernel, cotangent), found)


@pytest.mark.parametrize(
    "form, shape, kernel_shape, stride, errors",
    [
        ("patches", (4, 8, 8, 6), (3, 3, 6, 5), 2, (2**-8, 2**-8, 1e-6)),
        ("patches", (4, 5, 8, 6), (3, 5, 6, 7), 2, (2**-8, 2**-8, 1e-6)),
        ("patches", (4, 7, 6, 3), (3, 3, 3, 8), 1, (2**-8, 2**-8, 1e-6)),
        # The factors of its products are rounded once more.
        ("winograd", (4, 8, 6, 16), (3, 3, 16, 8), 1, (2**-6, 2**-6, 2**-7)),
    ],
)
def test_in_bfloat16_factors_and_results_alone_are_rounded(form, shape, kernel_shape, stride, errors):
    draw = np.random.default_rng(0).standard_normal
    x, kernel = jnp.asarray(draw(shape), jnp.bfloat16), jnp.asarray(draw(kernel_shape), jnp.bfloat16)
    patches_with_stride = functools.partial(patches.convolve, stride=stride)

    @jax.jit
    def all_three(x, kernel, cotangent):
        convolve = winograd.convolve if form == "winograd" else patches_with_stride
        out, pull = jax.vjp(convolve, x, kernel.astype(jnp.float32))
        return out, *pull(cotangent.astype(out.dtype))

    sizes = [-(-side // stride) for side in shape[1:3]]
    cotangent = jnp.asarray(draw((shape[0], *sizes, kernel_shape[-1])), jnp.bfloat16)
    found = all_three(x, kernel, cotangent)
    assert [value.dtype for value in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for value, expected, error in zip(found, in_float64(x, kernel, cotangent, stride), errors, strict=True):
        np.testing.assert_allclose(np.float64(value), expected, atol=error * np.abs(expected).max())


def test_the_cpu_form_is_for_cpus_alone():
    def operations(platform):
        x, kernel = jnp.zeros((2, 4, 4, 6), jnp.bfloat16), jnp.zeros((3, 3, 6, 5))
        loss = jax.value_and_grad(lambda x, k: fast_cpu.max_pool(fast_cpu.conv(x, k)).sum(), (0, 1))
        return jax.jit(loss).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()

    assert "stablehlo.convolution" not in operations("cpu") and "LayoutConstraint" in operations("cpu")
    for platform in ("cuda", "tpu"):
        text = operations(platform)
        assert "stablehlo.convolution" in text and "stablehlo.reduce_window" in text
        assert "LayoutConstraint" not in text


def test_max_pooling_is_flaxs_with_its_gradient():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 7, 6, 3)), jnp.float32)
    stock = lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))  # noqa: E731
    np.testing.assert_array_equal(fast_cpu.max_pool(x), stock(x))
    weigh = jnp.arange(54.0).reshape(2, 3, 3, 3)
    ours, theirs = (jax.grad(lambda x, f=f: (f(x) * weigh).sum())(x) for f in (fast_cpu.max_pool, stock))
    np.testing.assert_array_equal(ours, theirs)


def test_strided_convolutions_pad_both_sides_alike():
    x = jnp.ones((1, 4, 4, 1))
    out = fast_cpu.conv(x, jnp.ones((3, 3, 1, 1)), 2)
    padded = lax.pad(x, 0.0, ((0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)))
    expected = [[padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].sum() for j in range(2)] for i in range(2)]
    np.testing.assert_allclose(out[0, ..., 0], np.array(expected))


def test_dropout_masks_belong_to_examples():
    dropout = layers.Dropout(0.3)
    x = jnp.ones((4, 5, 5, 8))

    @jax.jit
    def drawn(x, examples):
        rngs = {"dropout": jax.random.key(0)}
        return dropout.apply({}, x, train=True, examples=examples, rngs=rngs)

    def masks(examples):
        return drawn(x[: len(examples)], jnp.array(examples))

    together = masks([3, 1, 9, 4])
    np.testing.assert_array_equal(together[:2], masks([3, 1]))
    np.testing.assert_array_equal(together[2:], masks([9, 4]))
    assert (together[0] != together[1]).any()
    assert set(np.unique(together).round(4)) == {0.0, np.float32(1 / 0.7).round(4)}
    assert float((together == 0).mean()) == pytest.approx(0.3, abs=0.06)
    np.testing.assert_array_equal(dropout.apply({}, x, train=False, examples=jnp.arange(4)), x)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("vgg12",), "Known: vgg11, vgg19, wrn16-8, wrn28-10"),
        (("vgg11", 1), "at least 2"),
        (("vgg11", 10, 0.0), "positive"),
    ],
)
def test_build_refuses_what_it_does_not_know(arguments, words):
    with pytest.raises(ValueError, match=words):
        nets.build(*arguments)


@pytest.mark.parametrize("height", [7, 8])
def test_dropout_draws_every_value_by_itself_and_by_its_example(height):
    x = jnp.ones((64, height, 8, 16))
    dropout = jax.jit(
        lambda examples: layers.Dropout(0.3).apply(
            {}, x, train=True, examples=examples, rngs={"dropout": jax.random.key(0)}
        )
    )
    out = np.asarray(dropout(jnp.arange(64)))
    np.testing.assert_allclose(np.unique(out), [0, 1 / 0.7], rtol=1e-6)
    assert (out > 0).mean() == pytest.approx(0.7, abs=4 * (0.21 / out.size) ** 0.5)
    np.testing.assert_array_equal(dropout(jnp.arange(64)[::-1]), out[::-1])
    rows = (out > 0).transpose(1, 0, 2, 3).reshape(height, -1)
    assert np.abs(np.corrcoef(rows) - np.eye(height)).max() < 4.5 / rows.shape[1] ** 0.5


def test_sums_over_pixels_are_those_of_the_rounded_values():
    draw = np.random.default_rng(0).standard_normal
    for dtype in (jnp.float32, jnp.bfloat16):
        x, y = (jnp.asarray(draw((3, 5, 4, channels)), dtype) for channels in (6, 7))
        found = jax.jit(products.over_pixels)(x, y)
        expected = np.tensordot(np.float64(x), np.float64(y), ((0, 1, 2), (0, 1, 2)))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("by", [-2, -1, 0, 1, 2])
def test_what_is_shifted_leaves_zeros(by):
    x = jnp.arange(1.0, 25.0).reshape(1, 4, 3, 2)
    expected = np.zeros_like(x)
    for i in range(4):
        if 0 <= i + by < 4:
            expected[:, i + by] = x[:, i]
    np.testing.assert_array_equal(products.shifted(x, 1, by), expected)


class Bare(nn.Module):
    """A convolution and a dense layer."""

    @nn.compact
    def __call__(self, x, *, train, examples=None):
        x = layers.Conv(8, stride=2, name="conv_0")(x)
        return nn.Dense(10)(x.mean((1, 2)))


def test_a_network_without_batch_normalisation_is_refused(monkeypatch):
    """It was a KeyError of its first step."""
    bare = nets.architecture.Architecture(
        lambda *_: Bare(), layers={"conv_0": nets.STEM}, padding="constant"
    )
    monkeypatch.setitem(nets.NETS, "bare", bare)
    words = (
        "'bare' has no batch normalisation: wanted .* 'batch_stats', got 'params' alone. Put batch_norm of"
    )
    with pytest.raises(ValueError, match=words):
        foresee("digits", net="bare")
