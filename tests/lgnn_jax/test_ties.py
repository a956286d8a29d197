import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lgnn_jax import ConvLayout, Grid, Layer, Ties, _tied, reorder, ties
from tests.lgnn_jax.networks import change, check, params, permutations, ranks_as_others_have_them, shape

pytestmark = pytest.mark.usefixtures(ranks_as_others_have_them.__name__)

X = jnp.asarray(np.random.default_rng(1).normal(size=(4, 2, 3)), jnp.float32)
UNITS = 6


def around(operation):
    """``operation`` on the activations (4, 2, units) of a dense layer, read by another."""

    def apply(p, x):
        hidden = operation(x @ p["w"] + p["b"], p)
        return jnp.einsum("...u,uk->...k", hidden, p["v"])

    return apply


def small(**more):
    return params(w=(3, UNITS), b=(UNITS,), v=(UNITS, 5), **more)


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


def repeated(h, p):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1] + p["b"])), (0, h))[1]


def recurrent(h, p):
    def step(state, x):
        state = jnp.tanh(state @ p["r"] + x)
        return state, 2 * state

    last, all_states = lax.scan(step, jnp.zeros((4, UNITS)), h.swapaxes(0, 1))
    return all_states.swapaxes(0, 1) + last[:, None]


FOLLOWED = {
    "gelu": lambda h, p: jax.nn.gelu(h),
    "relu": lambda h, p: jax.nn.relu(h),
    "silu": lambda h, p: jax.nn.silu(h),
    "power": lambda h, p: h**3 + 1 / (2 + h**2),
    "softmax": lambda h, p: jax.nn.softmax(h),
    "layer norm": lambda h, p: (h - h.mean(-1, keepdims=True)) * lax.rsqrt(h.var(-1, keepdims=True) + 1e-3),
    "clip": lambda h, p: jnp.clip(h, -0.5, 0.5),
    "lax.clamp": lambda h, p: lax.clamp(-0.5, h, 0.5),
    "where": lambda h, p: jnp.where(h > 0, h, 0.1 * h),
    "bfloat16 and back": lambda h, p: h.astype(jnp.bfloat16).astype(jnp.float32),
    "custom_vjp": lambda h, p: doubled(h),
    "jit": lambda h, p: jax.jit(jnp.tanh)(h),
    "checkpoint": lambda h, p: jax.checkpoint(lambda h: jnp.tanh(h + p["b"]))(h),
    "cond": lambda h, p: lax.cond(h.sum() > 0, lambda h: h + p["b"], lambda h: jnp.zeros_like(h), h),
    "switch": lambda h, p: lax.switch(1, [jnp.tanh, lambda h: h * p["b"]], h),
    "while": repeated,
    "platform_dependent": lambda h, p: lax.platform_dependent(h, cpu=lambda h: 1 * h, default=lambda h: h),
    "transpose": lambda h, p: h.transpose(2, 0, 1).swapaxes(0, 1).swapaxes(1, 2),
    "expand and squeeze": lambda h, p: lax.squeeze(lax.expand_dims(h, (0, 3)), (0, 3)),
    "reshape of other axes": lambda h, p: h.reshape(8, UNITS)[:, None].reshape(2, 4, UNITS),
    "reduction": lambda h, p: h.max(1) + h.min(1) + h.prod(1),
    "mean over units": lambda h, p: h - h.mean(-1, keepdims=True) + (h > 0).all(-1, keepdims=True),
    "residual sum": lambda h, p: h + jnp.tanh(h),
    "concatenation along another axis": lambda h, p: jnp.concatenate([h, 2 * h, jnp.ones_like(h)], 1),
    "stack": lambda h, p: jnp.stack([h, 2 * h], 1),
    "slices of another axis": lambda h, p: h[:, :1] + h[:, 1:] + lax.dynamic_slice_in_dim(h, 1, 1, 1),
    "a part written": lambda h, p: lax.dynamic_update_slice_in_dim(h, 2 * h[:1], 1, 0),
    "padding of another axis": lambda h, p: jnp.pad(h, ((0, 0), (1, 1), (0, 0))),
    "order of another axis": lambda h, p: jnp.sort(h, 1) + jnp.flip(h, 1) + jnp.cumsum(h, 1),
    "take along another axis": lambda h, p: jnp.take(h, jnp.array([1, 0, 0]), axis=1),
    "a constant along the units": lambda h, p: h * np.arange(2.0, dtype=np.float32)[:, None] + np.ones(UNITS),
    "positions": lambda h, p: h * lax.broadcasted_iota(jnp.float32, h.shape, 1),
    "barrier": lambda h, p: lax.optimization_barrier(lax.stop_gradient(h)),
    "batched product": lambda h, p: jnp.einsum("btu,bsu->bts", h, h) @ h,
    "top_k of another axis": lambda h, p: lax.top_k(h.swapaxes(1, 2), 1)[0].swapaxes(1, 2),
    "split of another axis": lambda h, p: sum(jnp.split(h, 2, 1)),
    "window along another axis": lambda h, p: lax.reduce_window(h, -np.inf, lax.max, (1, 2, 1), (1, 1, 1), "VALID"),
    "largest of another axis": lambda h, p: h[:, :1] * jnp.argmax(h, 1, keepdims=True),
    "vmap": lambda h, p: jax.vmap(lambda row: jnp.tanh(row + p["b"]))(h),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_an_operation_ties_the_layers_around_it(name):
    tolerance = 3e-2 if "16" in name else 2e-6
    found = check(around(FOLLOWED[name]), small(), X, groups=1, tolerance=tolerance)
    assert shape(found) == [{("b", 0, 1, 1), ("v", 0, 1, 1), ("w", 1, 1, 1)}]
    assert [m.path for m in found.groups[0].members if m.produces] == ["w"]


def test_a_recurrent_kernel_is_tied_along_both_axes():
    found = check(around(recurrent), small(r=(UNITS, UNITS)), X, groups=1)
    assert {("r", 0, 1, 1), ("r", 1, 1, 1)} < shape(found)[0]


LOOPS = {
    "while": lambda step, h: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, step(c[1])), (0, h))[
        1
    ],
    "fori": lambda step, h: lax.fori_loop(0, 3, lambda _, h: step(h), h),
    "scan": lambda step, h: lax.scan(lambda h, _: (step(h), None), h, length=3)[0],
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_a_loop_gives_back_is_tied_to_what_it_takes(name):
    def apply(p, x):
        return LOOPS[name](lambda h: jnp.tanh(h @ p["r"]), x @ p["w"]) @ p["v"]

    found = check(apply, params(w=(3, UNITS), r=(UNITS, UNITS), v=(UNITS, 2)), X, groups=1)
    assert shape(found) == [{("w", 1, 1, 1), ("r", 0, 1, 1), ("r", 1, 1, 1), ("v", 0, 1, 1)}]


def test_a_scan_ties_the_layers_that_it_stacks_alike():
    def apply(p, x):
        def step(h, layer):
            return h + jnp.tanh(h @ layer["in"]) @ layer["out"], None

        return lax.scan(step, x @ p["w"] + p["b"], {"in": p["in"], "out": p["out"]})[0] @ p["v"]

    found = check(apply, small(**{"in": (3, UNITS, 8), "out": (3, 8, UNITS)}), X, groups=2)
    assert {("in", 2, 1, 1), ("out", 1, 1, 1)} in shape(found)
    assert reasons(found)["in", 0] == "a scan runs along it"


def test_what_a_loop_makes_vary_is_followed():
    def apply(p, x):
        """Starts from zeros, the same along every axis, which they are not after a step."""
        grown = lax.fori_loop(0, 2, lambda _, h: h + jnp.cumsum(p["b"]), jnp.zeros(UNITS))
        return (x @ p["w"] + grown) @ p["v"]

    check(apply, small(), X, groups=0)


def test_layers_are_groups_of_their_own():
    def apply(p, x):
        return jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["c"]

    found = check(apply, params(a=(3, 7), b=(7, 4), c=(4, 2)), X, groups=2)
    assert shape(found) == [{("a", 1, 1, 1), ("b", 0, 1, 1)}, {("b", 1, 1, 1), ("c", 0, 1, 1)}]
    assert reasons(found) == {("a", 0): "reaches input 0", ("c", 1): "reaches the results"}


def reasons(found):
    return {(row.path, row.axis): row.reason for row in found.kept}


VARYING = np.arange(UNITS, dtype=np.float32)
KEPT = {
    "cumsum": (lambda h, p: jnp.cumsum(h, -1), "'cumsum' runs along it"),
    "rev": (lambda h, p: jnp.flip(h, -1), "'rev' turns it round"),
    "sort": (lambda h, p: jnp.sort(h, -1), "'sort' sorts it"),
    "top_k": (lambda h, p: lax.top_k(h, UNITS)[0], "'top_k' sorts it"),
    "concatenate": (lambda h, p: jnp.concatenate([h, h], -1)[..., ::2], "arrays are concatenated along it"),
    "slice": (lambda h, p: h + h[..., :1], "a part of it is cut out"),
    "dynamic slice": (lambda h, p: h + lax.dynamic_slice_in_dim(h, 1, 1, 2), "a part of it is cut out"),
    "split": (lambda h, p: h + sum(jnp.split(h, UNITS, -1)), "a part of it is cut out"),
    "written": (lambda h, p: h.at[..., 1].set(0), "'scatter', which is not followed|a part of it is written"),
    "pad": (lambda h, p: jnp.pad(h, ((0, 0), (0, 0), (1, 0)))[..., 1:], "it is padded"),
    "take": (lambda h, p: jnp.take(h, jnp.arange(UNITS), axis=-1), "it is looked up along it"),
    "argmax": (lambda h, p: h * jnp.argmax(h, -1, keepdims=True), "'argmax' gives positions along it"),
    "constant": (lambda h, p: h * VARYING, "a constant of the network varies along it"),
    "constant within": (lambda h, p: jax.jit(lambda h: h + VARYING)(h), "a constant of the network varies"),
    "positions": (lambda h, p: h * lax.broadcasted_iota(jnp.float32, h.shape, 2), "it is counted along"),
    "window": (
        lambda h, p: lax.reduce_window(h, 0.0, lax.add, (1, 1, 3), (1, 1, 1), "SAME"),
        "a window slides along it",
    ),
    "unknown": (lambda h, p: jnp.abs(jnp.fft.fft(h)), "'fft', which is not followed"),
    "group norm": (
        lambda h, p: (h.reshape(4, 2, 3, 2) / h.reshape(4, 2, 3, 2).std(-1, keepdims=True)).reshape(h.shape),
        "a reshape splits it into 3 x 2",
    ),
    "reshape across": (lambda h, p: jnp.tanh(h.reshape(4, 3, 4)).reshape(h.shape), "cuts across it"),
    "random": (lambda h, p: h * jax.random.normal(jax.random.key(0), h.shape), "comes from"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_followed_keeps_its_order_and_says_why(name):
    operation, reason = KEPT[name]
    found = check(around(operation), small(), X, groups=0)
    assert re.search(reason, reasons(found)["w", 1]), reasons(found)


@pytest.mark.parametrize("seed", range(3, 9))
def test_operations_one_after_another(seed):
    """Whatever ties a chain of operations has, permuting along them changes nothing."""
    generator = np.random.default_rng(seed)
    known = {**FOLLOWED, **{name: operation for name, (operation, _) in KEPT.items()}}
    known = [known[name] for name in sorted(known) if "16" not in name]

    def apply(p, x):
        for layer in range(3):
            x = x @ p[f"w{layer}"] + p[f"b{layer}"]
            for at in chosen[layer]:
                new = known[at](x, {"b": p[f"b{layer}"]})
                x = new if new.shape == x.shape else x
        return x

    chosen = generator.integers(len(known), size=(3, 2))
    widths = (3, UNITS, UNITS, UNITS)
    tree = params(
        seed,
        **{f"w{layer}": (widths[layer], widths[layer + 1]) for layer in range(3)},
        **{f"b{layer}": (UNITS,) for layer in range(3)},
    )
    found = ties(apply, tree, X)
    new = reorder(tree, found, permutations(found, seed), check=False)
    assert change(apply, tree, new, X) < 2e-5


def test_units_that_are_results_or_not_read_keep_their_order():
    found = check(
        lambda p, x: (x @ p["w"], (x @ p["u"]).sum(-1)), params(w=(3, 4), u=(3, 2), no=(5,)), X, groups=1
    )
    assert reasons(found) == {
        ("no", 0): "the network does not read it",
        ("u", 0): "reaches input 0",
        ("w", 0): "reaches input 0",
        ("w", 1): "reaches the results",
    }


IMAGES = jnp.asarray(np.random.default_rng(2).normal(size=(2, 6, 6, 3)), jnp.float32)


def conv(x, kernel, **options):
    options = {
        "window_strides": (1, 1),
        "padding": "SAME",
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    } | options
    return lax.conv_general_dilated(x, kernel, **options)


def test_convolutions_pooling_and_flattening():
    def apply(p, x):
        x = jax.nn.relu(conv(x, p["a"], window_strides=(2, 2)) + p["bias"])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
        x = conv(x, p["b"], rhs_dilation=(2, 2)) + conv(x, p["shortcut"])
        x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")
        return x.reshape(len(x), -1) @ p["dense"]

    shapes = {
        "a": (3, 3, 3, 8),
        "bias": (8,),
        "b": (3, 3, 8, 4),
        "shortcut": (1, 1, 8, 4),
        "dense": (16, 5),
    }
    found = check(apply, params(**shapes), IMAGES, groups=2)
    assert shape(found) == [
        {("a", 3, 1, 1), ("bias", 0, 1, 1), ("b", 2, 1, 1), ("shortcut", 2, 1, 1)},
        {("b", 3, 1, 1), ("shortcut", 3, 1, 1), ("dense", 0, 4, 1)},
    ]
    assert {m.path for m in found.groups[1].members if m.produces} == {"b", "shortcut"}
    assert reasons(found)["a", 0] == "along a convolution's window"


def test_channels_before_the_map_are_flattened_before_it():
    def apply(p, x):
        x = conv(x.transpose(0, 3, 1, 2), p["a"], dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return x.reshape(len(x), -1) @ p["dense"]

    found = check(apply, params(a=(8, 3, 3, 3), dense=(8 * 36, 5)), IMAGES, groups=1)
    assert shape(found) == [{("a", 0, 1, 1), ("dense", 0, 1, 36)}]


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolutions_pass_units_on(multiplier):
    def apply(p, x):
        x = conv(conv(x, p["a"]), p["depthwise"], feature_group_count=8)
        return conv(x, p["b"]).mean((1, 2))

    shapes = {"a": (1, 1, 3, 8), "depthwise": (3, 3, 1, 8 * multiplier), "b": (1, 1, 8 * multiplier, 4)}
    found = check(apply, params(**shapes), IMAGES, groups=1)
    assert shape(found) == [{("a", 3, 1, 1), ("depthwise", 3, 1, multiplier), ("b", 2, 1, multiplier)}]


def test_groups_of_a_convolution_keep_their_order():
    def apply(p, x):
        x = conv(conv(x, p["a"]), p["grouped"], feature_group_count=2)
        return conv(x, p["b"]).mean((1, 2))

    found = check(apply, params(a=(1, 1, 3, 8), grouped=(3, 3, 4, 8), b=(1, 1, 8, 4)), IMAGES, groups=0)
    assert "a convolution of 2 groups" in reasons(found)["a", 3]
    assert "a convolution of 2 groups" in reasons(found)["b", 2]


@pytest.mark.parametrize("ndim", [1, 3])
def test_convolutions_of_other_dimensions_and_transposed_ones(ndim):
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, *(4,) * ndim, 3)), jnp.float32)

    def apply(p, x):
        x = lax.conv_transpose(x, p["a"], (2,) * ndim, "SAME", dimension_numbers=_numbers(ndim))
        x = lax.conv_general_dilated(x, p["b"], (1,) * ndim, "VALID", dimension_numbers=_numbers(ndim))
        return x.sum(range(1, ndim + 1)) @ p["c"]

    sides = (3,) * ndim
    check(apply, params(a=(*sides, 3, 8), b=(*sides, 8, 4), c=(4, 2)), x, groups=2)


def _numbers(ndim):
    space = "DHW"[-ndim:]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def test_a_decoder_unflattens_units():
    def apply(p, x):
        x = jnp.tanh(x[:, 0] @ p["dense"] + p["bias"]).reshape(-1, 2, 2, 8)
        return conv(x, p["a"]).mean((1, 2))

    found = check(apply, params(dense=(3, 32), bias=(32,), a=(3, 3, 8, 4)), X, groups=1)
    assert shape(found) == [{("dense", 1, 4, 1), ("bias", 0, 4, 1), ("a", 2, 1, 1)}]


def test_embeddings_are_looked_up_in_their_order():
    def apply(p, tokens):
        return jnp.tanh(p["table"][tokens]).mean(1) @ p["dense"]

    found = check(apply, params(table=(11, 8), dense=(8, 2)), jnp.arange(6).reshape(2, 3), groups=1)
    assert shape(found) == [{("table", 1, 1, 1), ("dense", 0, 1, 1)}]
    assert reasons(found)["table", 0] == "it is looked up along it"


def test_a_kernel_that_is_computed_gives_units_too():
    def apply(p, x):
        kernel = p["gain"] * p["v"] / jnp.sqrt((p["v"] ** 2).sum(0))
        return jnp.tanh(x @ kernel) @ p["w"]

    found = check(apply, params(gain=(6,), v=(3, 6), w=(6, 2)), X, groups=1)
    assert [m.path for m in found.groups[0].members if m.produces] == ["v"]


def attention(p, x):
    q, k, v = (jnp.einsum("btd,dhe->bthe", x @ p["w"], p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k))
    return jnp.einsum("bthe,hed->btd", jnp.einsum("bhts,bshe->bthe", weights, v), p["o"]) @ p["u"]


def test_attention_has_groups_of_heads_and_of_features():
    heads = {"q": (6, 2, 4), "k": (6, 2, 4), "v": (6, 2, 4), "o": (2, 4, 6)}
    found = check(attention, params(w=(3, 6), u=(6, 2), **heads), X, groups=5)
    assert {("q", 1, 1, 1), ("k", 1, 1, 1), ("v", 1, 1, 1), ("o", 0, 1, 1)} in shape(found)
    assert {("q", 2, 1, 1), ("k", 2, 1, 1)} in shape(found)
    assert {("v", 2, 1, 1), ("o", 1, 1, 1)} in shape(found)
    with pytest.raises(
        ValueError, match=r"'q' holds units of several groups, along its axes 1, 2.*\('q', 1\)"
    ):
        found.group_of("q")
    assert found.group_of("q", -1) == found.group_of("k", 2) != found.group_of("q", 1)


def test_heads_that_a_reshape_makes_keep_their_order():
    def apply(p, x):
        q, k = ((x @ p[name]).reshape(4, 2, 3, 2) for name in "qk")
        return jnp.einsum("bthe,bshe->bts", q, k)

    found = check(apply, params(q=(3, 6), k=(3, 6)), X, groups=0)
    assert "a reshape splits it into 3 x 2" in reasons(found)["q", 1]


def test_shapes_are_all_that_is_needed():
    tree = small()
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    apply = around(FOLLOWED["relu"])
    assert ties(apply, abstract, jax.ShapeDtypeStruct(X.shape, X.dtype)) == ties(apply, tree, X)


def test_describe_is_a_table():
    text = ties(around(FOLLOWED["relu"]), small(), X).describe()
    assert text.splitlines() == [
        "6 units",
        "  w axis 1",
        "  b axis 0",
        "  v axis 0",
        "in their order",
        "  v axis 1: reaches the results",
        "  w axis 0: reaches input 0",
    ]


def test_leaves_of_one_name_are_an_error():
    class Pair:
        pass

    jax.tree_util.register_pytree_with_keys(
        Pair,
        lambda pair: (
            [(jax.tree_util.DictKey("a"), pair.one), (jax.tree_util.DictKey("a"), pair.two)],
            None,
        ),
        lambda _, leaves: leaves,
    )
    pair = Pair()
    pair.one, pair.two = jnp.ones(3), jnp.ones(3)
    with pytest.raises(ValueError, match="Several leaves are called 'a'"):
        ties(lambda p, x: x, pair, X)


def test_what_is_no_array_is_an_error():
    with pytest.raises(ValueError, match="ties follows arrays, got <.*eqx.partition"):
        ties(lambda p, x: x, {"activation": jnp.tanh}, X)


# By hand.


def by_hand():
    return {
        "conv": {"kernel": jnp.zeros((3, 3, 1, 8)), "bias": jnp.zeros(8)},
        "dense": {"kernel": jnp.zeros((32, 5))},
    }


def test_ties_by_hand_are_those_that_are_traced():
    def apply(p, x):
        x = conv(x, p["conv"]["kernel"], window_strides=(3, 3)) + p["conv"]["bias"]
        return x.reshape(len(x), -1) @ p["dense"]["kernel"]

    traced = ties(apply, by_hand(), IMAGES[..., :1])
    hand = Ties.of(by_hand(), [[("conv/kernel", -1), ("conv/bias", 0), ("dense/kernel", 0, 4)]])
    assert shape(traced) == shape(hand) and hand.groups[0].units == 8
    assert hand.group_of("conv/kernel") == hand.group_of("bias") == 0


@pytest.mark.parametrize(
    "group, words",
    [
        ([("conv/kernels", -1)], "'conv/kernels' is no leaf of the tree. Near it: 'conv/kernel'"),
        ([("conv/kernel", 4)], r"'conv/kernel' of shape \(3, 3, 1, 8\) has no axis 4"),
        (
            [("conv/kernel", 3), ("dense/kernel", 0)],
            "32 positions, which do not hold 8 units with 1 before",
        ),
        ([("conv/kernel", 3), ("dense/kernel", 0, 3)], "with 3 before"),
        ([("conv/kernel", 3), ("conv/kernel", -1)], "named twice"),
        ([], "one member or more"),
    ],
)
def test_errors_of_ties_by_hand(group, words):
    with pytest.raises(ValueError, match=words):
        Ties.of(by_hand(), [group])


# Orders.


def two_layers():
    def apply(p, x):
        return (
            jax.nn.relu(jax.nn.relu(x @ p["params"]["a"]["kernel"]) @ p["params"]["b"]["kernel"])
            @ p["params"]["c"]
        )

    tree = {
        "params": {
            "a": {"kernel": jnp.ones((3, 4))},
            "b": {"kernel": jnp.ones((4, 4))},
            "c": jnp.ones((4, 2)),
        }
    }
    return ties(apply, tree, X)


def alike(order):
    """A similarity that falls with the distance along ``order``."""
    at = np.argsort(order)
    return np.exp(-np.abs(at[:, None] - at[None]).astype(np.float32))


def is_line(order, wanted):
    return list(order) in (list(wanted), list(wanted)[::-1])


def test_orders_put_similar_units_near_each_other():
    layers = (Layer("a/kernel", Grid((4,)), -1), Layer("b/kernel", Grid((4,)), 1))
    wanted = {"a/kernel": [2, 0, 3, 1], "b/kernel": [0, 3, 1, 2]}
    found = two_layers().orders({path: alike(order) for path, order in wanted.items()}, layers)
    assert list(found) == ["a/kernel", "b/kernel"]
    assert all(is_line(found[path], order) for path, order in wanted.items())


def residual():
    def apply(p, x):
        h = x @ p["a"]
        return (h + jax.nn.relu(h) @ p["b"]) @ p["c"]

    return ties(apply, params(a=(3, 4), b=(4, 4), c=(4, 2)), X)


def test_one_order_serves_all_layers_of_a_group(monkeypatch):
    calls = []

    def arranged(similarity, grid, *, start, key):
        calls.append((similarity, grid, start, key))
        return np.array([3, 1, 2, 0])

    monkeypatch.setattr(_tied, "arrange", arranged)
    layers = tuple(Layer(path, Grid((2, 2)), -1) for path in "ab")
    one, two = alike([2, 0, 3, 1]), alike([0, 1, 2, 3])
    found = residual().orders(
        {"b": one, "a": two}, layers, start={"a": [0, 1, 3, 2]}, key=jax.random.key(0)
    )
    assert {path: list(order) for path, order in found.items()} == {"a": [3, 1, 2, 0], "b": [3, 1, 2, 0]}
    ((similarity, grid, start, key),) = calls
    assert np.allclose(similarity, (one + two) / 2) and grid == Grid((2, 2)) and list(start) == [0, 1, 3, 2]
    assert key == jax.random.fold_in(jax.random.key(0), 0)
    residual().orders({"b": one}, layers)
    assert (calls[-1][0] == one).all() and calls[-1][2:] == (None, None)


def test_a_unit_that_is_dead_in_one_layer_of_a_group_counts_in_the_others():
    draw = np.random.default_rng(0)
    one, two = (np.corrcoef(draw.standard_normal((4, 9))) for _ in range(2))
    both = (one + two) / 2
    one[1] = one[:, 1] = 0  # Dead in one, and dead in both.
    one[3] = one[:, 3] = two[3] = two[:, 3] = 0
    wanted = both.copy()
    wanted[1], wanted[:, 1] = two[1], two[:, 1]
    wanted[3] = wanted[:, 3] = 0
    np.testing.assert_allclose(_tied._mean([one, two]), wanted)


def test_layers_that_keep_their_order_or_have_no_similarity_are_left_out():
    layers = (
        Layer("a/kernel", Grid((4,)), -1),
        Layer("b/kernel", Grid((6,)), 1),
        Layer("c", Grid((2,)), 1),
    )
    found = two_layers().orders({"params/a/kernel": alike([2, 0, 3, 1]), "c": np.eye(2)}, layers)
    assert list(found) == ["a/kernel"]


@pytest.mark.parametrize(
    "similarities, shapes, words",
    [
        ({"b": np.eye(4)}, ((4,), (2, 2)), "one grid, got 'a' on .*4.*'b' on .*2, 2"),
        ({"b": np.eye(3)}, ((4,), (4,)), r"similarity of 'b' must be \(4, 4\).*got \(3, 3\)"),
        ({"c": np.eye(4)}, ((4,), (4,)), "'c' is none of the layers: 'a', 'b'"),
        ({"d": np.eye(4)}, ((4,), (4,)), "'d' is no leaf of the network"),
    ],
)
def test_errors_of_orders(similarities, shapes, words):
    layers = tuple(Layer(path, Grid(size), -1) for path, size in zip("ab", shapes, strict=True))
    with pytest.raises(ValueError, match=words):
        residual().orders(similarities, layers)


def test_a_layout_of_the_parameters_alone_fits_ties_of_all_variables(monkeypatch):
    def apply(v, x):
        x = conv(x, v["params"]["conv"]["kernel"]) * v["batch_stats"]["conv"]["scale"]
        return x.mean((1, 2)) @ v["params"]["dense"]["kernel"]

    tree = {
        "params": {"conv": {"kernel": jnp.ones((3, 3, 3, 8))}, "dense": {"kernel": jnp.ones((8, 2))}},
        "batch_stats": {"conv": {"scale": jnp.ones(8)}, "dense": {"kernel": jnp.ones(3)}},
    }
    found = ties(apply, tree, IMAGES)
    monkeypatch.setattr(_tied, "arrange", lambda *_, **__: np.arange(8))
    layers = ConvLayout().layers(tree["params"])
    assert list(found.orders({"conv/kernel": np.eye(8)}, layers)) == ["conv/kernel"]
    with pytest.raises(
        ValueError, match="'dense/kernel' may be any of 'batch_stats/dense/kernel', 'params/dense"
    ):
        found.find("dense/kernel")


def test_a_tied_group_is_no_more_than_what_must_be():
    """Permuting one member alone of a group changes what the network computes."""
    apply, tree = around(FOLLOWED["layer norm"]), small()
    found = ties(apply, tree, X)
    for member in found.groups[0].members:
        alone = Ties.of(tree, [[(member.path, member.axis)]])
        new = reorder(tree, alone, permutations(alone))
        assert change(apply, tree, new, X) > 1e-2, member
