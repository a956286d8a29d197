"""VGG for 32x32 images: 3x3 convolutions with batch normalisation, five poolings, one dense layer."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.nets.activations import show
from experiments.nets.architecture import MAIN, STEM, Architecture
from experiments.nets.fast_cpu import max_pool
from experiments.nets.layers import Conv, batch_norm, normal, scaled

LAYERS: dict[str, tuple[int | str, ...]] = {
    "vgg11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "vgg19": (64, 64, "M", 128, 128, "M", *(256,) * 4, "M", *(512,) * 4, "M", *(512,) * 4, "M"),
}


class VGG(nn.Module):
    """VGG with ``layers`` of convolution widths and ``"M"`` for 2x2 max pooling.

    Convolutions are named ``conv_0``, ``conv_1``, ... and start as N(0, sqrt(2 / (9 c_out))). ``dtype`` is what
    it computes in, up to the dense layer, which is float32 like all that it keeps.
    """

    layers: tuple[int | str, ...]
    classes: int = 100
    width: float = 1.0
    bn_axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, examples: jax.Array | None = None) -> jax.Array:
        """Class scores ``(batch, classes)`` of images ``(batch, height, width, 3)``."""
        del examples  # No dropout.
        x, index = x.astype(self.dtype), 0
        for layer in self.layers:
            if isinstance(layer, str):
                x = max_pool(x)
                continue
            filters = scaled(layer, self.width)
            deviation = (2 / (9 * filters)) ** 0.5
            x = Conv(filters, deviation=deviation, name=f"conv_{index}")(x)
            x = nn.relu(batch_norm(train, self.bn_axis, self.dtype, f"bn_{index}")(x))
            show(self, x, f"conv_{index}")
            index += 1
        x = x.reshape(len(x), -1).astype(jnp.float32)
        return nn.Dense(self.classes, kernel_init=normal(0.01), name="dense")(x)


def _module(name: str, classes: int, width: float, bn_axis: str | None, dtype: Any) -> VGG:
    return VGG(LAYERS[name], classes, width, bn_axis, dtype)


NETS = {
    name: Architecture(
        functools.partial(_module, name), layers={r"conv_0": STEM, r"conv_\d+": MAIN}, padding="constant"
    )
    for name in LAYERS
}
