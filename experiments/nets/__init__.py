"""The paper's networks as Flax linen modules. A network is one file here, and a line of ``NETS``."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from experiments.errors import check_known
from experiments.nets import vgg, wrn
from experiments.nets.architecture import MAIN, SHORTCUT, STEM, Architecture, kernel_path, layer_name

__all__ = ["MAIN", "NETS", "SCOPES", "SHORTCUT", "STEM", "build", "kernel_path", "layer_name"]

NETS: dict[str, Architecture] = {**vgg.NETS, **wrn.NETS}
# The names of all scopes, those of the net that has most of them first.
SCOPES = tuple(
    dict.fromkeys(
        scope for net in sorted(NETS.values(), key=lambda net: -len(net.scopes)) for scope in net.scopes
    )
)


def build(
    name: str,
    classes: int = 100,
    width: float = 1.0,
    *,
    bn_axis: str | None = None,
    dtype: Any = jnp.float32,
) -> nn.Module:
    """One of the paper's networks for 32x32 images, called as ``module(x, train=...)``.

    Args:
      name: One of ``NETS``: ``vgg11``, ``vgg19``, ``wrn16-8`` or ``wrn28-10``.
      classes: Number of classes, at least 2.
      width: Factor on the number of filters of every layer, positive.
      bn_axis: Mapped axis over which batch statistics are shared; None for each replica's own.
      dtype: What layers compute in. Parameters, statistics and logits are float32.

    Raises:
      ValueError: If the name is unknown or a number is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from experiments.nets import build
      >>> net = build("vgg11", classes=100)
      >>> shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 3)))
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
      9274532
    """
    check_known("net", name, NETS)
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}.")
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}.")
    return NETS[name].module(classes, width, bn_axis, dtype)
