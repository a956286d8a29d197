"""Small networks in the style of public ones, each as its library writes them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

CLASSES = 3


def drawn(tree, seed=0):
    """Numbers as training leaves them, in place of all floating ones; those of variances are positive."""
    draw = np.random.default_rng(seed)

    def leaf(x):
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        values = 0.4 * draw.standard_normal(x.shape)
        return jnp.asarray(np.abs(values) + 0.5 if x.ndim == 1 else values, x.dtype)

    return jax.tree.map(leaf, tree)


class LinenMNIST(nn.Module):
    """Flax's MNIST example."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(features=8, kernel_size=(3, 3))(x)
        x = nn.relu(x)
        x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nn.Conv(features=8, kernel_size=(3, 3))(x)
        x = nn.relu(x)
        x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = x.reshape((x.shape[0], -1))
        x = nn.Dense(features=16)(x)
        return nn.Dense(features=CLASSES)(nn.relu(x))


class NNXMNIST(nnx.Module):
    """Flax's MNIST example of today, whose dropout takes its keys when it is called."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 8, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm1 = nnx.BatchNorm(8, rngs=rngs)
        self.dropout1 = nnx.Dropout(rate=0.025)
        self.conv2 = nnx.Conv(8, 8, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm2 = nnx.BatchNorm(8, rngs=rngs)
        self.linear1 = nnx.Linear(8 * 2 * 2, 16, rngs=rngs)
        self.dropout2 = nnx.Dropout(rate=0.025)
        self.linear2 = nnx.Linear(16, CLASSES, rngs=rngs)

    def __call__(self, x, rngs):
        x = nnx.relu(self.batch_norm1(self.dropout1(self.conv1(x), rngs=rngs)))
        x = nnx.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nnx.relu(self.batch_norm2(self.conv2(x)))
        x = nnx.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nnx.relu(self.dropout2(self.linear1(x.reshape(x.shape[0], -1)), rngs=rngs))
        return self.linear2(x)


class Block(nn.Module):
    """A block of Flax's ResNet example."""

    filters: int
    conv: type = nn.Conv
    norm: type = nn.BatchNorm
    strides: tuple = (1, 1)

    @nn.compact
    def __call__(self, x, train):
        residual = x
        y = self.conv(self.filters, (3, 3), self.strides, use_bias=False)(x)
        y = nn.relu(self.norm(use_running_average=not train)(y))
        y = self.conv(self.filters, (3, 3), use_bias=False)(y)
        y = self.norm(use_running_average=not train, scale_init=nn.initializers.zeros_init())(y)
        if residual.shape != y.shape:
            residual = self.conv(self.filters, (1, 1), self.strides, use_bias=False, name="conv_proj")(
                residual
            )
            residual = self.norm(use_running_average=not train, name="norm_proj")(residual)
        return nn.relu(residual + y)


class ResNet(nn.Module):
    """Flax's ResNet example; it returns a dict."""

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Conv(8, (3, 3), use_bias=False, name="conv_init")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="bn_init")(x))
        for strides in ((1, 1), (2, 2)):
            x = Block(8, strides=strides)(x, train)
        features = x.mean((1, 2))
        return {"features": features, "logits": nn.Dense(CLASSES)(features)}


class UNet(nnx.Module):
    """A denoising U-Net: an image, a time and a condition go in, an image comes out."""

    def __init__(self, rngs):
        def conv(inputs, outputs):
            return nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)

        self.time = nnx.Linear(1, 8, rngs=rngs)
        self.enter, self.down, self.middle = conv(3, 8), conv(8, 8), conv(8, 8)
        self.norm = nnx.GroupNorm(8, 4, rngs=rngs)
        self.up = nnx.ConvTranspose(8, 8, (2, 2), strides=(2, 2), rngs=rngs)
        self.leave = conv(16, 8)
        self.last = nnx.Conv(8, 3, (1, 1), rngs=rngs)

    def __call__(self, x, t, condition):
        embedding = nnx.silu(self.time(t[:, None]))[:, None, None]
        a = nnx.silu(self.enter(x) + embedding * condition)
        b = nnx.silu(self.norm(self.down(nnx.max_pool(a, (2, 2), (2, 2)))))
        b = nnx.silu(self.middle(b) + b)
        c = jnp.concatenate([a, self.up(b)], -1)
        return self.last(nnx.silu(self.leave(c)))


def equinox_mobilenet(key):
    """Depthwise convolutions, batch normalisation with a state, a residual sum; and the state."""
    import equinox as eqx

    class Inverted(eqx.Module):
        expand: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm
        depthwise: eqx.nn.Conv2d
        project: eqx.nn.Conv2d

        def __init__(self, key):
            a, b, c = jax.random.split(key, 3)
            self.expand = eqx.nn.Conv2d(8, 16, 1, key=a)
            self.norm = eqx.nn.BatchNorm(16, "batch", mode="batch")
            self.depthwise = eqx.nn.Conv2d(16, 16, 3, padding=1, groups=16, key=b)
            self.project = eqx.nn.Conv2d(16, 8, 1, key=c)

        def __call__(self, x, state):
            y, state = self.norm(self.expand(x), state)
            y = jax.nn.relu6(self.depthwise(jax.nn.relu6(y)))
            return x + self.project(y), state

    class MobileNet(eqx.Module):
        stem: eqx.nn.Conv2d
        blocks: list
        dropout: eqx.nn.Dropout
        head: eqx.nn.Linear

        def __init__(self, key):
            a, b, c, d = jax.random.split(key, 4)
            self.stem = eqx.nn.Conv2d(3, 8, 3, stride=2, padding=1, key=a)
            self.blocks = [Inverted(b), Inverted(c)]
            self.dropout = eqx.nn.Dropout(0.2)
            self.head = eqx.nn.Linear(8, CLASSES, key=d)

        def __call__(self, x, state):
            x = jax.nn.relu6(self.stem(x))
            for block in self.blocks:
                x, state = block(x, state)
            return self.head(self.dropout(x.mean((1, 2)))), state

    return eqx.nn.make_with_state(MobileNet)(key)


def equinox_convnext(key):
    """Layer normalisation over channels, mapped over places, and one that is called twice."""
    import equinox as eqx

    class ConvNeXt(eqx.Module):
        stem: eqx.nn.Conv2d
        depthwise: eqx.nn.Conv2d
        norm: eqx.nn.LayerNorm
        wide: eqx.nn.Linear
        narrow: eqx.nn.Linear
        shared: eqx.nn.Conv2d
        groups: eqx.nn.GroupNorm
        head: eqx.nn.Linear

        def __init__(self, key):
            a, b, c, d, e, f = jax.random.split(key, 6)
            self.stem = eqx.nn.Conv2d(3, 8, 2, stride=2, key=a)
            self.depthwise = eqx.nn.Conv2d(8, 8, 3, padding=1, groups=8, key=b)
            self.norm = eqx.nn.LayerNorm(8)
            self.wide, self.narrow = eqx.nn.Linear(8, 16, key=c), eqx.nn.Linear(16, 8, key=d)
            self.shared = eqx.nn.Conv2d(8, 8, 1, key=e)
            self.groups = eqx.nn.GroupNorm(2, 8)
            self.head = eqx.nn.Linear(8, CLASSES, key=f)

        def __call__(self, x, *, key):
            x = self.groups(self.stem(x))
            places = self.depthwise(x).transpose(1, 2, 0)
            mix = jax.vmap(jax.vmap(lambda place: self.narrow(jax.nn.gelu(self.wide(self.norm(place))))))
            x = x + mix(places).transpose(2, 0, 1)
            x = self.shared(self.shared(x))
            return self.head(x.mean((1, 2)) + 0 * jax.random.normal(key, (8,)))

    return ConvNeXt(key)


def haiku_resnet():
    """A small one of Haiku's own ResNets, transformed."""
    import haiku as hk

    def forward(images, is_training):
        net = hk.nets.ResNet(
            blocks_per_group=(1, 1, 1, 1),
            num_classes=CLASSES,
            bottleneck=False,
            channels_per_group=(8, 8, 8, 8),
            use_projection=(False, True, True, True),
            strides=(1, 2, 1, 1),
            initial_conv_config={"output_channels": 8, "kernel_shape": 3, "stride": 1},
        )
        return net(images, is_training=is_training)

    return hk.transform_with_state(forward)
