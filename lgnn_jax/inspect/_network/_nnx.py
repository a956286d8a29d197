"""Flax NNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lgnn_jax.inspect._marks import Marks, Seen
from lgnn_jax.inspect._modules import Calls, Modules, calls_of, norms_of, nothing
from lgnn_jax.inspect._network._network import Grids, Network, Prepare, logits_by
from lgnn_jax.inspect._network._watch import marking, watched


def nnx(
    model: Any,
    *,
    layers: Iterable[str] | None = None,
    grids: Grids | None = None,
    preprocess: Prepare | None = None,
    call: Callable[[Any, Any], Any] | None = None,
    output: Callable[[Any], Any] | None = None,
    normalised: bool = True,
    channels_first: bool = False,
    title: str | None = None,
) -> Network:
    """A Flax NNX network to look at; a copy of it as it is now, in evaluation mode.

    Args:
      model: The network.
      layers: Paths of submodules such as ``layers/0``; None for all convolutions.
      grids: As of :func:`lgnn_jax.inspect.linen`.
      preprocess: As of :func:`lgnn_jax.inspect.linen`.
      call: ``call(model, images)`` runs a network that needs more than images: ``rngs``, a time, a mask. None
        for ``model(images)``.
      output: As of :func:`lgnn_jax.inspect.linen`.
      normalised: As of :func:`lgnn_jax.inspect.linen`.
      channels_first: As of :func:`lgnn_jax.inspect.linen`.
      title: Its name on a page; None for the name of its class.

    Returns:
      A :class:`Network`.

    Raises:
      ValueError: If a layer is not known (the message lists them), or a grid is of none.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from lgnn_jax import inspect
      >>> model = nnx.Sequential(nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0)), nnx.relu)
      >>> network = inspect.nnx(model, grids={"layers/0": (8, 1)}, title="mine")
      >>> [(layer.path, layer.grid.shape) for layer in network.layers(jnp.ones((2, 5, 5, 3)))]
      [('layers/0', (8, 1))]
    """
    found = source(model, call, logits_by(output))
    return Network(
        found, title or type(model).__name__, layers, grids, preprocess, normalised, channels_first
    )


def source(
    model: Any,
    call: Callable[[Any, Any], Any] | None = None,
    output: Callable[[Any], Any] = nothing,
) -> Modules:
    """The network's modules."""
    from flax import nnx

    graph, state = nnx.split(model)

    def see(modules: Modules, state: Any, images: Any) -> Calls:
        seen = Seen(modules.convolutions)

        def network(state: Any, images: Any) -> Any:
            copy = nnx.merge(graph, state)
            copy.eval()
            for path, node in list(nnx.iter_graph(copy)):
                if isinstance(node, nnx.Module) and callable(node):
                    object.__setattr__(node, "__class__", watched(type(node), "/".join(map(str, path))))
            with marking(Marks(modules.normalises)):
                return output(copy(images) if call is None else call(copy, images))

        return calls_of(seen, seen.run(network, state, images))

    return Modules(nnx.state(model, nnx.Param), state, state, see, norms_of(nnx))
