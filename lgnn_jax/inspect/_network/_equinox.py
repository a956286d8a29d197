"""Equinox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

from lgnn_jax.inspect._marks import Marks, Seen
from lgnn_jax.inspect._modules import Calls, Modules, calls_of, norms_of, nothing
from lgnn_jax.inspect._network._network import Grids, Network, Prepare, logits_by
from lgnn_jax.inspect._network._watch import marking, watched

_BATCH = "batch"  # The name of the axis, as examples of Equinox have it.


def equinox(
    model: Any,
    state: Any = None,
    *,
    layers: Iterable[str] | None = None,
    grids: Grids | None = None,
    preprocess: Prepare | None = None,
    call: Callable[[Any, Any], Any] | None = None,
    output: Callable[[Any], Any] | None = None,
    normalised: bool = True,
    channels_first: bool = True,
    title: str | None = None,
) -> Network:
    """An Equinox network to look at, in inference mode; it takes one image at a time, mapped over a batch here.

    Args:
      model: The network.
      state: Its state, of ``eqx.nn.make_with_state``; the network then is called as ``model(image, state)``.
      layers: Paths such as ``layers/0`` or ``stem/conv``; None for all convolutions.
      grids: As of :func:`lgnn_jax.inspect.linen`.
      preprocess: As of :func:`lgnn_jax.inspect.linen`, whatever the order of channels that the network wants.
      call: ``call(model, image)`` runs a network that needs more than one image ``(channels, height, width)``,
        such as ``lambda model, image: model(image, key=jax.random.key(0))``. None for ``model(image)``.
      output: As of :func:`lgnn_jax.inspect.linen`, from the output for one image, without the state.
      normalised: As of :func:`lgnn_jax.inspect.linen`.
      channels_first: Whether the network takes ``(channels, height, width)``, as Equinox's convolutions do.
      title: Its name on a page; None for the name of its class.

    Returns:
      A :class:`Network`.

    Raises:
      ValueError: If a layer is not known (the message lists them), or a grid is of none.

    Example:
      >>> import equinox as eqx, jax, jax.numpy as jnp
      >>> from lgnn_jax import inspect
      >>> model = eqx.nn.Sequential([eqx.nn.Conv2d(3, 8, 3, key=jax.random.key(0)), eqx.nn.Lambda(jax.nn.relu)])
      >>> network, images = inspect.equinox(model), jnp.ones((2, 5, 5, 3))
      >>> [(layer.path, layer.grid.shape, layer.axis) for layer in network.layers(images)]
      [('layers/0', (4, 2), 0)]
      >>> jax.tree.map(jnp.shape, network.activations()(images))
      {'layers/0': (2, 3, 3, 8)}
    """
    found = source(model, state, channels_first, call, logits_by(output, each=True))
    return Network(
        found, title or type(model).__name__, layers, grids, preprocess, normalised, channels_first
    )


def source(
    model: Any,
    state: Any,
    channels_first: bool,
    call: Callable[[Any, Any], Any] | None = None,
    output: Callable[[Any], Any] = nothing,
) -> Modules:
    """The network's modules."""
    import equinox as eqx

    arrays, rest = eqx.partition((eqx.nn.inference_mode(model), state), eqx.is_array)

    def see(modules: Modules, arrays: Any, images: Any) -> Calls:
        told, paths = dict[str, str](), list[str]()

        def one(image: Any) -> Any:
            seen = Seen(modules.convolutions)

            def network(arrays: Any, image: Any) -> Any:
                copy, state = eqx.combine(arrays, rest)
                for path, node in list(_nodes(copy, eqx.Module)):
                    object.__setattr__(node, "__class__", watched(type(node), path))  # type: ignore[arg-type]
                with marking(Marks(modules.normalises, 0 if channels_first else -1)):
                    if call is not None:
                        return output(call(copy, image))
                    return output(copy(image) if state is None else copy(image, state)[0])

            calls = calls_of(seen, seen.run(network, arrays, image))
            told.update(calls.reasons)
            paths[:] = calls.own
            return list(calls.own.values()), calls.normalised, calls.output

        own, normalised, found = jax.vmap(one, axis_name=_BATCH)(images)
        return Calls(dict(zip(paths, own, strict=True)), normalised, told, found)

    params = eqx.filter(model, eqx.is_inexact_array)
    return Modules(params, params, arrays, see, norms_of(eqx.nn), axis=0)


def _nodes(root: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """The modules of a network that can be called, with their paths; the network itself first."""
    todo = [("", root)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, kind) and callable(node):
            yield path, node
        for keys, child in jax.tree_util.tree_leaves_with_path(
            node, is_leaf=lambda x, node=node: x is not node and isinstance(x, kind)
        ):
            if child is not node and isinstance(child, kind):
                name = jax.tree_util.keystr(keys, simple=True, separator="/")
                todo.append((f"{path}/{name}" if path else name, child))
