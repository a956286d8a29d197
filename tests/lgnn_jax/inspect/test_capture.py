"""Whose activations they are, and networks that run their layers in unusual places."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lgnn_jax.inspect import linen_ablated, linen_responses, nnx_responses

IMAGES = np.random.default_rng(0).standard_normal((2, 5, 5, 3)).astype(np.float32)
FIRST = nn.Conv(8, (3, 3))


def drawn(net):
    """Variables as no initialisation gives them."""
    variables = net.init(jax.random.key(0), IMAGES)
    draw = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: x + 0.3 * draw.standard_normal(x.shape).astype(np.float32) ** 2, variables
    )


def below(variables, *path):
    """The variables of a submodule."""
    found = {}
    for collection, tree in variables.items():
        for part in path:
            tree = tree.get(part, {})
        found[collection] = tree
    return found


# Linen: what follows a convolution, and whether it is a normalisation.


class ConvNormAct(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.LayerNorm()(nn.Conv(8, (3, 3))(x)))


class NormAct(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.LayerNorm(name="inner")(x))


class Wrapped(nn.Module):
    wrap: type

    @nn.compact
    def __call__(self, x):
        inside = self.wrap(nn.Conv(8, (3, 3)))
        return inside(x, update_stats=False) if self.wrap is nn.SpectralNorm else inside(x)


class WrappedDense(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.WeightNorm(nn.Dense(8))(x)


class PReLUPerUnitNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.where(x >= 0, x, x * self.param("scale", nn.initializers.ones, (8,))[None, None, None])


class Affine(nn.Module):
    """A normalisation of one's own, with a name that says nothing."""

    @nn.compact
    def __call__(self, x):
        scale, mean = (
            self.param("scale", nn.initializers.ones, (8,)),
            self.variable("s", "mean", jnp.ones, (8,)),
        )
        return (x - mean.value[None, None, None]) * scale[None, None, None]


class IdentityNorm(nn.Module):
    def __call__(self, x):
        return x + 0


def bare():
    return nn.BatchNorm(use_running_average=True, use_scale=False, use_bias=False)


FOLLOWING = {
    "a block called norm": (ConvNormAct, None),
    "spectral norm around the next convolution": (lambda: Wrapped(nn.SpectralNorm), None),
    "weight norm around the next convolution": (lambda: Wrapped(nn.WeightNorm), None),
    "weight norm around a dense layer": (WrappedDense, None),
    "an activation with a weight a unit": (PReLUPerUnitNorm, None),
    "what passes on": (IdentityNorm, None),
    "dropout": (lambda: nn.Dropout(0.5, deterministic=True), None),
    "activation": (nn.PReLU, None),
    "a block that begins with a normalisation": (NormAct, ("inner",)),
    "one's own": (Affine, ()),
    "Flax's without variables": (lambda: nn.LayerNorm(use_scale=False, use_bias=False), ()),
    "Flax's with statistics": (bare, ()),
    "Flax's group norm": (lambda: nn.GroupNorm(4), ()),
}


@pytest.mark.parametrize("case", FOLLOWING)
def test_an_activation_is_the_convolutions_own_or_of_the_normalisation_that_reads_it(case):
    make, inner = FOLLOWING[case]
    net = nn.Sequential([FIRST, make(), nn.Conv(8, (3, 3))])
    variables = drawn(net)
    own = FIRST.apply(below(variables, "layers_0"), IMAGES)
    expected = own
    if inner is not None:
        norm = nn.LayerNorm() if inner else make()
        expected = norm.apply(below(variables, "layers_1", *inner), own)
    found = linen_responses(net, variables)(IMAGES)["layers_0"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert inner is None or np.abs(found - own).max() > 1e-3


@pytest.mark.parametrize("make", [ConvNormAct, lambda: Wrapped(nn.WeightNorm)])
def test_ablation_spares_what_is_no_normalisation(make):
    """A mask on the next block's output too would hide what its bias does."""
    net = nn.Sequential([FIRST, make(), lambda x: x.mean((1, 2)) * jnp.arange(1, 9)[None]])
    variables = drawn(net)
    params = {
        **variables["params"],
        "layers_0": jax.tree.map(jnp.zeros_like, variables["params"]["layers_0"]),
    }
    expected = net.apply({**variables, "params": params}, IMAGES).argmax(-1)
    assert expected.any()
    np.testing.assert_array_equal(linen_ablated(net, variables, "layers_0", IMAGES)(np.zeros(8)), expected)


class WithStatistics(nn.Module):
    """A normalisation that gives its statistics beside its output."""

    @nn.compact
    def __call__(self, x):
        scale, bias = (self.param(name, nn.initializers.ones, (8,))[None, None, None] for name in "ab")
        return (x - x.mean()) * scale + bias, x.mean()


class Statistics(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = WithStatistics(name="norm")(nn.Conv(8, (3, 3), name="conv")(x))
        return nn.relu(x).mean((1, 2))


def test_a_normalisation_may_give_its_statistics_beside_its_output():
    net = Statistics()
    variables = drawn(net)
    conv = FIRST.apply(below(variables, "conv"), IMAGES)
    expected = WithStatistics().apply(below(variables, "norm"), conv)[0]
    np.testing.assert_allclose(linen_responses(net, variables)(IMAGES)["conv"], expected, atol=1e-5)
    predict, plain = linen_ablated(net, variables, "conv", IMAGES), net.apply(variables, IMAGES)
    mask = np.ones(8)
    mask[plain[0].argmax()] = 0  # Its bias, behind the convolution, must go as well.
    assert (plain[0] > 0).sum() > 1
    np.testing.assert_array_equal(predict(mask), (plain * mask[None]).argmax(-1))
    np.testing.assert_array_equal(predict(np.zeros(8)), [0, 0])


class Heads(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), name="conv")(x).mean((1, 2))
        return {"features": x, "logits": nn.Dense(3, name="dense")(x)}, x


def test_ablation_of_a_network_with_several_outputs():
    net = Heads()
    variables = drawn(net)
    bias = variables["params"]["dense"]["bias"]
    predict = linen_ablated(net, variables, "conv", IMAGES, output=lambda x: x[0]["logits"])
    np.testing.assert_array_equal(predict(np.ones(8)), net.apply(variables, IMAGES)[0]["logits"].argmax(-1))
    np.testing.assert_array_equal(predict(np.zeros(8)), [bias.argmax()] * 2)
    with pytest.raises(ValueError, match=r"must be logits \(batch, classes\), got tuple. Say by output="):
        linen_ablated(net, variables, "conv", IMAGES)(np.ones(8))


class Embedded(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), name="conv")(x)
        return nn.LayerNorm()(nn.relu(x + self.param("embedding", nn.initializers.ones, (1, 5, 5, 8))))


def test_what_holds_layers_beside_a_weight_of_four_dimensions_is_no_convolution():
    net = nn.Sequential([Embedded(), nn.LayerNorm()])
    variables = drawn(net)
    responses = linen_responses(net, variables)
    with pytest.warns(UserWarning, match=r"Layers left out.*: 'layers_0' \(it holds other layers\)"):
        found = responses(IMAGES)
    assert list(found) == ["layers_0/conv"] and found["layers_0/conv"].min() < 0
    body = linen_responses(net, variables, ["layers_0"])(IMAGES)["layers_0"]
    np.testing.assert_allclose(body, Embedded().apply(below(variables, "layers_0"), IMAGES), atol=1e-5)


# Linen: transforms.


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.BatchNorm(True, name="norm")(nn.Conv(8, (3, 3), name="conv")(x)))


class Turn(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return Block(name="block")(x), None


def scanned():
    axes = dict(variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True})
    return nn.scan(Turn, **axes, length=2)(name="b")


def vmapped():
    return nn.vmap(
        Block, variable_axes={"params": None, "batch_stats": None}, split_rngs={"params": False}
    )(name="b")


class Network(nn.Module):
    how: str

    @nn.compact
    def __call__(self, x):
        x = Block(name="a")(x)
        if self.how == "scan":
            return scanned()(x, None)[0].mean((1, 2))
        block = {
            "remat": lambda: nn.remat(Block)(name="b"),
            "jit": lambda: nn.jit(Block)(name="b"),
            "vmap": vmapped,
            "twice": lambda: (lambda block: lambda x: block(block(x)))(Block(name="b")),
            "checkpoint": lambda: jax.checkpoint(Block(name="b")),
        }[self.how]
        return block()(x).mean((1, 2))


@pytest.mark.parametrize("how", ["remat", "jit"])
def test_linen_transforms_of_a_block_do_not_hide_its_layers(how):
    net = Network(how)
    variables = drawn(net)
    jax.jit(net.apply)(variables, IMAGES)  # A trace in the cache, which knows of no watch.
    found = linen_responses(net, variables)(IMAGES)
    assert list(found) == ["a/conv", "b/conv"]
    x = Block().apply(below(variables, "a"), IMAGES)
    np.testing.assert_allclose(
        nn.relu(found["b/conv"]), Block().apply(below(variables, "b"), x), rtol=1e-4, atol=1e-4
    )
    plain = net.apply(variables, IMAGES)
    predict = linen_ablated(net, variables, "b/conv", IMAGES)
    np.testing.assert_array_equal(predict(np.ones(8)), plain.argmax(-1))
    mask = np.ones(8)
    mask[plain[0].argmax()] = 0
    np.testing.assert_array_equal(predict(mask), (plain * mask[None]).argmax(-1))


@pytest.mark.parametrize(
    "how, layer, reason",
    [
        ("scan", "b/block/conv", "it runs within scan"),
        ("vmap", "b/conv", "it runs within vmap"),
        ("twice", "b/conv", "it was run 2 times"),
    ],
)
def test_linen_layers_without_an_array_of_their_own_are_left_out_by_name(how, layer, reason):
    net = Network(how)
    variables = drawn(net)
    responses = linen_responses(net, variables)
    with pytest.warns(UserWarning, match=rf"Layers left out.*: '{layer}' \({reason}\)\. Name the") as told:
        found = responses(IMAGES)
    assert list(found) == ["a/conv"] and len(told) == 1 and told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        responses(IMAGES)  # Told once.
    with pytest.raises(ValueError, match=f"'{layer}' must be run once and give one array, but {reason}"):
        linen_responses(net, variables, ["a/conv", layer])(IMAGES)


def test_a_network_of_which_nothing_is_left_says_why():
    net = nn.vmap(
        Block, variable_axes={"params": None, "batch_stats": None}, split_rngs={"params": False}
    )()
    with pytest.raises(ValueError, match="No layer to look at: 'conv' must be .* but it runs within vmap"):
        linen_responses(net, drawn(net))(IMAGES)


# NNX.


class Part(nnx.Module):
    def __init__(self, inputs, rngs):
        self.conv, self.norm = nnx.Conv(inputs, 8, (3, 3), rngs=rngs), nnx.BatchNorm(8, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x)))


def run(module, x):
    return module(x)


def loop(module, x):
    step = nnx.scan(
        lambda x, module: (module(x), None), length=2, in_axes=(nnx.Carry, None), out_axes=(nnx.Carry, 0)
    )
    return step(x, module)[0]


HOW = {
    "remat": lambda b, x: nnx.remat(run)(b, x),
    "jit": lambda b, x: nnx.jit(run)(b, x),
    "checkpoint": lambda b, x: jax.checkpoint(lambda x: b(x))(x),
    "jax.jit": lambda b, x: jax.jit(lambda x: b(x))(x),
    "remat of the convolution alone": lambda b, x: nnx.relu(b.norm(nnx.remat(run)(b.conv, x))),
    "jax.vmap": lambda b, x: jax.vmap(lambda x: b(x))(x),
    "nnx.vmap": lambda b, x: nnx.vmap(run, in_axes=(None, 0))(b, x),
    "scan": loop,
    "cond": lambda b, x: jax.lax.cond(x.sum() > 0, lambda x: b(x), lambda x: x, x),
    "twice": lambda b, x: b(b(x)),
    "never": lambda b, x: x,
}
REASONS = {
    "jax.vmap": "it runs within vmap",
    "nnx.vmap": "it runs within vmap",
    "scan": "it runs within scan",
    "cond": "it runs within cond",
    "twice": "it was run 2 times",
    "never": "it was run 0 times",
}


class Parts(nnx.Module):
    def __init__(self, how):
        rngs = nnx.Rngs(0)
        self.a, self.b, self.how = Part(3, rngs), Part(8, rngs), how

    def __call__(self, x):
        return HOW[self.how](self.b, self.a(x))


@pytest.mark.parametrize("how", HOW)
def test_nnx_transforms_within_the_network(how):
    model = Parts(how)
    model.eval()
    model.b.norm.mean = nnx.BatchStat(jnp.arange(8.0) / 8)
    model(IMAGES)  # Traces in the caches, which know of no watch.
    a = model.a.norm(model.a.conv(IMAGES))
    responses = nnx_responses(model)
    if how in REASONS:
        with pytest.warns(UserWarning, match=rf"'b/conv' \({REASONS[how]}\)"):
            found = responses(IMAGES)
        assert list(found) == ["a/conv"]
        with pytest.raises(ValueError, match=f"'b/conv' must be .* but {REASONS[how]}"):
            nnx_responses(model, ["b/conv"])(IMAGES)
    else:
        found = responses(IMAGES)
        b = model.b.norm(model.b.conv(nnx.relu(a)))
        np.testing.assert_allclose(found["b/conv"], b, atol=1e-5)
        own = nnx_responses(model, normalised=False)(IMAGES)["b/conv"]
        np.testing.assert_allclose(own, model.b.conv(nnx.relu(a)), atol=1e-5)
    np.testing.assert_allclose(found["a/conv"], a, atol=1e-5)


class NamedNorm(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(8, 8, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.conv(x))


def test_an_nnx_block_called_norm_is_none():
    first, rngs = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0)), nnx.Rngs(1)
    activation = [nnx.PReLU()] if hasattr(nnx, "PReLU") else []  # Not in Flax 0.11.
    for after in (NamedNorm(rngs), nnx.Dropout(0.5, rngs=rngs), *activation):
        found = nnx_responses(nnx.Sequential(first, after))(IMAGES)["layers/0"]
        np.testing.assert_allclose(found, first(IMAGES), atol=1e-5)
    norm = nnx.LayerNorm(8, use_scale=False, use_bias=False, rngs=rngs)
    found = nnx_responses(nnx.Sequential(first, norm))(IMAGES)["layers/0"]
    np.testing.assert_allclose(found, norm(first(IMAGES)), atol=1e-5)


class Noisy(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x, rngs, *, times):
        return self.dropout(times * self.conv(x), rngs=rngs), {"times": times}


def test_a_network_that_needs_more_than_images_is_called_as_one_says():
    model = Noisy()
    with pytest.raises(TypeError, match="rngs"):
        nnx_responses(model)(IMAGES)
    responses = nnx_responses(model, call=lambda model, images: model(images, nnx.Rngs(0), times=2))
    np.testing.assert_allclose(responses(IMAGES)["conv"], model.conv(IMAGES), atol=1e-5)
