"""The layers' activations for whoever asks for them; for nobody else is anything kept."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax


def show(module: nn.Module, x: jax.Array, *layers: str) -> None:
    """Shows ``x`` as the activations of convolutions, to an ``apply`` with ``mutable`` ``intermediates`` alone.

    Args:
      module: The module that is running.
      x: What is read of the convolutions, after normalisation and ReLU.
      *layers: Their whole paths in the network, without ``/kernel``.
    """
    for layer in layers:
        module.sow(
            "intermediates", f"{layer}/kernel", x, init_fn=lambda: None, reduce_fn=lambda _, new: new
        )


def shown(intermediates: Any) -> dict[str, jax.Array]:
    """All that was shown, by the paths of the convolutions' kernels.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from experiments.nets import activations, build
      >>> net, images = build("vgg11", width=1 / 16), jnp.zeros((2, 32, 32, 3))
      >>> def run(key):
      ...     variables = net.init(key, images, train=False)
      ...     _, seen = net.apply(variables, images, train=False, mutable=["intermediates"])
      ...     return activations.shown(seen["intermediates"])
      >>> shapes = jax.eval_shape(run, jax.random.key(0))
      >>> shapes["conv_0/kernel"].shape, shapes["conv_7/kernel"].shape
      ((2, 32, 32, 4), (2, 2, 2, 32))
    """
    leaves = jax.tree_util.tree_leaves_with_path(intermediates)
    return {path[-1].key: leaf for path, leaf in leaves}
