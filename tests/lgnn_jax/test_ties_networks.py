"""The ties of whole networks, of every framework and of every kind; two of them are third-party code."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.nets import vgg, wrn
from tests.lgnn_jax.networks import check, random_like, ranks_as_others_have_them

pytestmark = pytest.mark.usefixtures(ranks_as_others_have_them.__name__)
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


def linen(module, x, **options):
    """What ``check`` takes of a linen network, with random variables."""
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, **options))
    return lambda variables, x: module.apply(variables, x, **options), random_like(variables), x


def widths(found):
    return sorted(group.units for group in found.groups)


def producers(found):
    """The layers of every group, without ``params/`` and ``/kernel``."""
    return [
        {m.path.removeprefix("params/").removesuffix("/kernel") for m in group.members if m.produces}
        for group in found.groups
    ]


def test_vgg():
    found = check(*linen(vgg.VGG((4, "M", 6, 8), classes=5), IMAGES, train=False), groups=3)
    assert producers(found) == [{"conv_0"}, {"conv_1"}, {"conv_2"}]
    (dense,) = [m for m in found.groups[2].members if m.path == "params/dense/kernel"]
    assert (dense.axis, dense.before, dense.after) == (0, 16, 1)


def test_wide_resnet():
    found = check(*linen(wrn.WideResNet(1, 2, classes=5, width=1 / 4), IMAGES, train=False), groups=7)
    blocks = [f"group_{group}_block_0" for group in range(3)]
    inside = [{f"{block}/conv_0"} for block in blocks]
    around = [{f"{block}/conv_1", f"{block}/shortcut"} for block in blocks]
    assert sorted(map(sorted, producers(found))) == sorted(map(sorted, [{"stem"}, *inside, *around]))
    assert {m.path for m in found.groups[0].members} >= {"batch_stats/bn/mean", "params/dense/kernel"}


def test_what_bfloat16_computes():
    net = vgg.VGG((4, "M", 6), classes=5, dtype=jnp.bfloat16)
    check(*linen(net, IMAGES, train=False), groups=2, tolerance=5e-2)


class ConvNeXt(nn.Module):
    """Two blocks: depthwise 7x7, layer norm, a wide layer, GELU, a narrow one, scaled, and the identity."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Conv(6, (4, 4), strides=(4, 4))(x))
        for _ in range(2):
            y = nn.LayerNorm()(nn.Conv(6, (7, 7), feature_group_count=6)(x))
            y = nn.Dense(6)(nn.gelu(nn.Dense(12)(y)))
            x = x + y * self.param(f"scale_{_}", nn.initializers.ones, (6,))
        return nn.Dense(5)(nn.LayerNorm()(x.mean((1, 2))))


def test_convnext():
    found = check(*linen(ConvNeXt(), IMAGES), groups=3)
    assert widths(found) == [6, 12, 12]
    (stream,) = [group for group in found.groups if group.units == 6]
    assert {"params/scale_0", "params/Conv_1/kernel", "params/LayerNorm_3/scale"} < {
        m.path for m in stream.members
    }


class Transformer(nn.Module):
    """Embedded tokens, an attention of two heads and an MLP."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 6)(tokens) + self.param("positions", nn.initializers.ones, (1, 4, 6))
        x = x + nn.MultiHeadDotProductAttention(2, qkv_features=8)(nn.LayerNorm()(x))
        x = x + nn.Dense(6)(nn.gelu(nn.Dense(10)(nn.LayerNorm()(x))))
        return nn.Dense(5)(nn.LayerNorm()(x))


def test_transformer():
    found = check(*linen(Transformer(), jnp.arange(8).reshape(2, 4)), groups=5)
    # The stream, the MLP, the heads, and of each head what queries and keys and what values and outputs share.
    assert widths(found) == [2, 4, 4, 6, 10]
    assert ("params/positions", 1) in {(row.path, row.axis) for row in found.kept}


class Grouped(nn.Module):
    """Group normalisation between two convolutions, and a concatenation after them."""

    @nn.compact
    def __call__(self, x):
        x = nn.GroupNorm(2)(nn.Conv(6, (3, 3))(x))
        y = nn.Conv(4, (3, 3), name="free")(x)
        y = nn.Conv(4, (3, 3), name="joined")(nn.relu(y))
        return nn.Dense(5)(jnp.concatenate([x, y], -1).mean((1, 2)))


def test_group_normalisation_and_concatenation_keep_the_order():
    found = check(*linen(Grouped(), IMAGES), groups=1)
    assert producers(found) == [{"free"}]
    kept = {(row.path, row.axis): row.reason for row in found.kept}
    assert "concatenated" in kept["params/joined/kernel", 3]
    assert "concatenated" in kept["params/Conv_0/kernel", 3] or "splits" in kept["params/Conv_0/kernel", 3]


def test_lstm():
    net = nn.RNN(nn.LSTMCell(5))
    found = check(*linen(nn.Sequential([net, nn.Dense(3)]), IMAGES[:, :, 0]), groups=1)
    assert found.groups[0].units == 5


def test_layers_that_a_scan_stacks():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.Dense(4)(nn.relu(nn.Dense(8)(x))), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return nn.Dense(5)(layers()(nn.Dense(4)(x), None)[0])

    assert widths(check(*linen(Stack(), IMAGES[:, 0, 0]), groups=2)) == [4, 8]


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(6 * 16, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = self.drop(nnx.max_pool(x, (2, 2), strides=(2, 2)))
        return self.dense(x.reshape(len(x), -1))


def test_nnx():
    model = NNX(nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)
    found = check(lambda state, x: nnx.merge(graph, state)(x), random_like(state), IMAGES, groups=1)
    assert {m.path for m in found.groups[0].members} == {
        *("conv/kernel", "conv/bias", "dense/kernel"),
        *("norm/scale", "norm/bias", "norm/mean", "norm/var"),
    }


def test_equinox():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 6, 3, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.MLP(6 * 9, 5, 8, 2, key=keys[1]),
        ]
    )
    arrays, rest = eqx.partition(net, eqx.is_array)

    def apply(arrays, x):
        return jax.vmap(eqx.combine(arrays, rest))(x.transpose(0, 3, 1, 2))

    found = check(apply, random_like(arrays), IMAGES, groups=3)
    assert widths(found) == [6, 8, 8]
    assert {("layers/0/weight", 0, 1, 1), ("layers/4/layers/0/weight", 1, 1, 9)} <= {
        m[:4] for m in found.groups[0].members
    }


@pytest.mark.parametrize("kind, expected", [("resnet", 9), ("bottleneck", 13), ("mobilenet", 3)])
def test_haikus_own_networks(kind, expected):
    hk = pytest.importorskip("haiku")

    def build(x, is_training):
        if kind == "mobilenet":
            return hk.nets.MobileNetV1((1, 2), (4, 6), num_classes=5)(x, is_training)
        shape = {"channels_per_group": (8, 8, 16, 16), "strides": (1, 2, 1, 2)}
        return hk.nets.ResNet((1,) * 4, 5, bottleneck=kind == "bottleneck", **shape)(x, is_training)

    net = hk.without_apply_rng(hk.transform_with_state(build))
    params, state = map(random_like, jax.eval_shape(lambda: net.init(jax.random.key(0), IMAGES, True)))
    tree = {"params": params, "state": jax.tree.map(np.abs, state)}
    found = check(
        lambda t, x: net.apply(t["params"], t["state"], x, False)[0], tree, IMAGES, groups=expected
    )
    # What only training reads goes along: of every average the sum that it is made of.
    members = {m.path for group in found.groups for m in group.members}
    averages = {path.rpartition("/")[0] for path in members if path.endswith("/average")}
    assert averages and all(f"{path}/hidden" in members for path in averages)
