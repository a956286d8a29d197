"""The layers' responses of Flax networks: functions for :func:`lgnn_jax.inspect.accumulate`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax.inspect._checks import filled, positive
from lgnn_jax.inspect._marks import Marks, Seen
from lgnn_jax.inspect._modules import Source, picked, told
from lgnn_jax.inspect._network import _linen as linen
from lgnn_jax.inspect._network import _nnx as nnx


def linen_responses(
    module: Any,
    variables: Any,
    layers: Iterable[str] | None = None,
    *,
    normalised: bool = True,
    **call_kwargs: Any,
) -> Callable[[Any], dict[str, jax.Array]]:
    """A compiled function from images to the responses of a Flax linen network's layers.

    Args:
      module: The network.
      variables: Its variables, with the collection ``params``.
      layers: Paths of submodules such as ``conv_3`` or ``group_0_block_1/bn_0``; a trailing ``/kernel``
        may stay, so the names of a layout's kernels do as well. None for all convolutions, which are
        the submodules that own a weight of four dimensions and hold no others.
      normalised: Whether a convolution's response is the output of the normalisation that reads the
        convolution directly, where there is one, before any ReLU (the paper's); False for its own.
        A normalisation is one of Flax's, or a module whose variables are all ``(units,)`` or scalars. Its
        first input is the convolution's output as it is, and it applies no activation and no layer to it.
      **call_kwargs: For ``module.apply``, such as ``train=False`` or ``rngs``.

    Returns:
      A function that maps images ``(batch, height, width, channels)`` to arrays ``(batch, ..., units)``
      by the names asked for. A layer must be run once, outside ``vmap``, loops and branches, and give one
      array. With ``layers=None`` others are left out, which a warning of the first call tells by name.

    Raises:
      ValueError: If a layer is not known (the message lists them) or, when the function is called, if one
        that was asked for by name, or every one, would be left out.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from lgnn_jax.inspect import linen_responses
      >>> net = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, nn.Conv(4, (3, 3))])
      >>> images = jnp.ones((2, 5, 5, 3))
      >>> responses = linen_responses(net, net.init(jax.random.key(0), images))
      >>> jax.tree.map(jnp.shape, responses(images))
      {'layers_0': (2, 5, 5, 8), 'layers_2': (2, 5, 5, 4)}
    """
    return _responses(linen.source(module, variables, call_kwargs), layers, normalised)


def nnx_responses(
    model: Any,
    layers: Iterable[str] | None = None,
    *,
    normalised: bool = True,
    call: Callable[[Any, Any], Any] | None = None,
) -> Callable[[Any], dict[str, jax.Array]]:
    """A compiled function from images to the responses of a Flax NNX network's layers.

    It works on a copy of the network as it is now, in evaluation mode (``model.eval()``).

    Args:
      model: The network.
      layers: Paths of submodules such as ``layers/0``, as in :func:`linen_responses`.
      normalised: As in :func:`linen_responses`.
      call: ``call(model, images)`` runs the network, for one that needs more than images: ``rngs``, a time,
        a mask. None for ``model(images)``.

    Returns:
      A function as that of :func:`linen_responses`.

    Raises:
      ValueError: As :func:`linen_responses`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> from lgnn_jax.inspect import nnx_responses
      >>> conv, norm = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0)), nnx.BatchNorm(8, rngs=nnx.Rngs(0))
      >>> responses = nnx_responses(nnx.Sequential(conv, norm, nnx.relu))
      >>> jax.tree.map(jnp.shape, responses(jnp.ones((2, 5, 5, 3))))
      {'layers/0': (2, 5, 5, 8)}
      >>> class Noisy(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.conv, self.dropout = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Dropout(0.5)
      ...     def __call__(self, x, rngs):
      ...         return self.dropout(self.conv(x), rngs=rngs)
      >>> noisy = Noisy(nnx.Rngs(0))
      >>> responses = nnx_responses(noisy, call=lambda model, images: model(images, rngs=nnx.Rngs(1)))
      >>> jax.tree.map(jnp.shape, responses(jnp.ones((2, 5, 5, 3))))
      {'conv': (2, 5, 5, 8)}
    """
    return _responses(nnx.source(model, call), layers, normalised)


def linen_ablated(
    module: Any,
    variables: Any,
    layer: str,
    images: Any,
    *,
    batch: int = 256,
    output: Callable[[Any], Any] | None = None,
    **call_kwargs: Any,
) -> Callable[[Any], np.ndarray]:
    """A function from a mask of a layer's units to the classes that a Flax linen network then predicts.

    The mask multiplies the output of the layer and, of a convolution, that of the normalisation that
    reads it directly, so that whatever comes after sees zeros. It is compiled once.

    Args:
      module: The network.
      variables: Its variables.
      layer: Path of a submodule, as in :func:`linen_responses`.
      images: ``(images, ...)``, sliced as ``images[start:stop]``.
      batch: Images at a time, positive.
      output: From the network's output to logits ``(batch, classes)``, such as ``lambda x: x["logits"]``
        for a network that gives a dict. None where the output is logits.
      **call_kwargs: For ``module.apply``, such as ``train=False``.

    Returns:
      ``predict(mask)`` from floats ``(units,)``, 0 for units to ablate and 1 for others, to integers
      ``(images,)``. It raises ``ValueError`` if the mask does not fit the layer, the layer runs within
      ``vmap``, a loop or a branch, logits are NaN or there is no array of logits.

    Raises:
      ValueError: If the layer is not known (the message lists them).

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from lgnn_jax.inspect import linen_ablated
      >>> net = nn.Sequential([nn.Conv(4, (1, 1)), lambda x: x.mean((1, 2)), nn.Dense(3)])
      >>> images = jax.random.normal(jax.random.key(0), (5, 4, 4, 3))
      >>> predict = linen_ablated(net, net.init(jax.random.key(1), images), "layers_0", images)
      >>> predict(jnp.zeros(4)).tolist()  # Without its features it says the same to every image.
      [0, 0, 0, 0, 0]
    """
    tree = linen.source(module, variables, call_kwargs)
    path = tree.chosen([layer])[layer]
    count = len(images)
    batch = min(positive("batch", batch), count)

    def logits_of(found: Any) -> jax.Array:
        logits = found if output is None else output(found)
        if not isinstance(logits, jax.Array):
            raise ValueError(
                f"The network's output must be logits (batch, classes), got {type(logits).__name__}. Say by "
                'output= where they are, such as output=lambda x: x["logits"].'
            )
        return logits

    @jax.jit
    def run(variables: Any, images: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        def ablate(name: str, array: jax.Array) -> jax.Array:
            if name != path and seen.reads(name) is None:
                return array
            if array.shape[-1:] != mask.shape:
                raise ValueError(
                    f"{layer!r} gives {array.shape}, to which a mask {mask.shape} does not fit."
                )
            return array * mask.astype(array.dtype).reshape((1,) * (array.ndim - 1) + mask.shape)

        seen = Seen(tree.convolutions & {path}, ablate)
        network = linen.marked(module, Marks(tree.normalises), call_kwargs)
        logits = seen.run(
            lambda variables, images: logits_of(network(variables, images)), variables, images
        )
        calls = seen.calls.get(path, [])
        if not calls:
            raise ValueError(f"The network did not run {layer!r}, so there is nothing to ablate.")
        for reason in calls:
            if isinstance(reason, str):
                raise ValueError(f"{layer!r} cannot be ablated: {reason}.")
        return logits.argmax(-1), jnp.isfinite(logits).all()

    def predict(mask: Any) -> np.ndarray:
        mask = jnp.asarray(mask, jnp.float32)
        predicted = []
        for start in range(0, count, batch):
            stop = min(start + batch, count)
            classes, finite = run(variables, filled(images, start, stop, batch), mask)
            if not finite:
                raise ValueError(f"Logits of images {start} to {stop - 1} are NaN or infinite.")
            predicted.append(np.asarray(classes)[: stop - start])
        return np.concatenate(predicted)

    return predict


def _responses(
    source: Source, layers: Iterable[str] | None, normalised: bool
) -> Callable[[Any], dict[str, jax.Array]]:
    """The compiled function; without ``layers`` what cannot be had is left out with a warning."""
    chosen = source.chosen(layers)
    left_out, warned = dict[str, str](), list[bool]()

    @jax.jit
    def run(state: Any, images: jax.Array) -> dict[str, jax.Array]:
        found, lacking = picked(source, source.see(state, images), chosen, layers is None, normalised)
        left_out.update(lacking)
        return found

    def responses(images: Any) -> dict[str, jax.Array]:
        found = run(source.state, images)
        if left_out and not warned:
            warned.append(True)
            warnings.warn(told(left_out), stacklevel=2)
        # Compiled functions return dicts sorted by key.
        return {name: found[name] for name in chosen or found if name in found}

    return responses
