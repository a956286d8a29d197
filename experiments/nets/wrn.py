"""Wide residual networks for 32x32 images: WRN-depth-widening, pre-activated blocks, dropout inside."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.nets.activations import show
from experiments.nets.architecture import MAIN, SHORTCUT, STEM, Architecture, role
from experiments.nets.layers import Conv, Dropout, batch_norm, scaled

# Blocks in each of the three groups, and the widening factor.
SIZES: dict[str, tuple[int, int]] = {"wrn16-8": (2, 8), "wrn28-10": (4, 10)}


class Block(nn.Module):
    """BN-ReLU-conv(stride)-BN-ReLU-dropout-conv, plus the input or, where shapes change, its projection.

    The 1x1 projection reads the activated input, the identity the raw one. ``inputs`` are the paths of the
    convolutions whose sum it reads.
    """

    filters: int
    stride: int
    dropout: float
    bn_axis: str | None
    dtype: Any = jnp.float32
    inputs: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, examples: jax.Array) -> jax.Array:
        """Maps ``(batch, height, width, in)`` to ``(batch, height / stride, width / stride, filters)``."""
        norm = functools.partial(batch_norm, train, self.bn_axis, self.dtype)
        active = nn.relu(norm("bn_0")(x))
        show(self, active, *self.inputs)
        y = Conv(self.filters, stride=self.stride, name="conv_0")(active)
        y = nn.relu(norm("bn_1")(y))
        show(self, y, f"{self.name}/conv_0")
        y = Dropout(self.dropout)(y, train=train, examples=examples)
        y = Conv(self.filters, name="conv_1")(y)
        if self.stride != 1 or x.shape[-1] != self.filters:
            x = Conv(self.filters, size=1, stride=self.stride, name="shortcut")(active)
        return x + y


class WideResNet(nn.Module):
    """A wide residual network with three groups of ``blocks`` blocks, ``16 * widening`` filters in the first.

    Convolutions are named ``stem`` and ``group_0/block_0/conv_0``, ``.../conv_1``, ``.../shortcut``. ``dtype`` is
    what it computes in, up to the mean over the map and the dense layer, which are float32 like all that it
    keeps.
    """

    blocks: int
    widening: int
    classes: int = 100
    width: float = 1.0
    dropout: float = 0.3
    bn_axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, examples: jax.Array | None = None) -> jax.Array:
        """Class scores ``(batch, classes)`` of images ``(batch, height, width, 3)``.

        ``examples``, integers ``(batch,)``, are what the dropout masks depend on beside the ``dropout``
        key; by default the position in the batch.
        """
        examples = jnp.arange(len(x)) if examples is None else examples
        x = Conv(scaled(16, self.width), name="stem")(x.astype(self.dtype))
        inputs: tuple[str, ...] = ("stem",)
        for group in range(3):
            filters = scaled(16 * self.widening * 2**group, self.width)
            for block in range(self.blocks):
                stride = 2 if group > 0 and block == 0 else 1
                name, channels = f"group_{group}_block_{block}", x.shape[-1]
                x = Block(filters, stride, self.dropout, self.bn_axis, self.dtype, inputs, name=name)(
                    x, train=train, examples=examples
                )
                projected = stride != 1 or channels != filters
                inputs = (f"{name}/conv_1", *((f"{name}/shortcut",) if projected else ()))
        x = nn.relu(batch_norm(train, self.bn_axis, self.dtype, "bn")(x))
        show(self, x, *inputs)
        x = x.mean(axis=(1, 2), dtype=jnp.float32)
        bound = x.shape[-1] ** -0.5

        def uniform(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        return nn.Dense(self.classes, kernel_init=uniform, name="dense")(x)


_BLOCK = r"group_\d+_block_\d+"
_ROLES = {"stem": STEM, rf"{_BLOCK}/conv_\d+": MAIN, rf"{_BLOCK}/shortcut": SHORTCUT}


def in_main_branch(path: str, leaf: object) -> bool:
    """Whether a parameter is a 3x3 convolution of a block."""
    del leaf
    return role(_ROLES, path) == MAIN


def in_residual_block(path: str, leaf: object) -> bool:
    """Whether a parameter is any convolution of a block, its shortcut included."""
    del leaf
    return role(_ROLES, path) in (MAIN, SHORTCUT)


# Which convolutions the paper smooths.
SCOPES = {"main": in_main_branch, "resblocks": in_residual_block, "all": None}


def _module(name: str, classes: int, width: float, bn_axis: str | None, dtype: Any) -> WideResNet:
    blocks, widening = SIZES[name]
    return WideResNet(blocks, widening, classes, width, bn_axis=bn_axis, dtype=dtype)


NETS = {
    name: Architecture(functools.partial(_module, name), layers=_ROLES, padding="reflect", scopes=SCOPES)
    for name in SIZES
}
