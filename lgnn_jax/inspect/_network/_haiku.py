"""Haiku."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from lgnn_jax.inspect._marks import Marks, Seen
from lgnn_jax.inspect._modules import Calls, Modules, calls_of, norms_of, nothing
from lgnn_jax.inspect._network._network import Grids, Network, Prepare, logits_by


def haiku(
    transformed: Any,
    params: Any,
    state: Any = None,
    *,
    rng: jax.Array | None = None,
    layers: Iterable[str] | None = None,
    grids: Grids | None = None,
    preprocess: Prepare | None = None,
    call: Callable[[Callable[..., Any], Any], Any] | None = None,
    output: Callable[[Any], Any] | None = None,
    normalised: bool = True,
    channels_first: bool = False,
    title: str | None = None,
    **options: Any,
) -> Network:
    """A Haiku network to look at.

    Args:
      transformed: What ``hk.transform`` or ``hk.transform_with_state`` gives.
      params: Its parameters.
      state: Its state, of ``hk.transform_with_state`` alone.
      rng: A key for a network that draws numbers.
      layers: Names of modules such as ``res_net/~/initial_conv``; None for all convolutions.
      grids: As of :func:`lgnn_jax.inspect.linen`.
      preprocess: As of :func:`lgnn_jax.inspect.linen`.
      call: ``call(apply, images)`` runs a network that needs more than images; ``apply`` has parameters, state,
        key and ``options``. None for ``apply(images)``.
      output: As of :func:`lgnn_jax.inspect.linen`, from the output without the state.
      normalised: As of :func:`lgnn_jax.inspect.linen`.
      channels_first: As of :func:`lgnn_jax.inspect.linen`: for ``data_format="NCHW"``.
      title: Its name on a page.
      **options: For ``transformed.apply``, such as ``is_training=False``.

    Returns:
      A :class:`Network`.

    Raises:
      ValueError: If a layer is not known (the message lists them), a grid is of none, or state is lacking.

    Example:
      >>> import haiku as hk, jax, jax.numpy as jnp
      >>> from lgnn_jax import inspect
      >>> transformed = hk.transform(lambda x: hk.Conv2D(8, 3)(x))
      >>> images = jnp.ones((2, 5, 5, 3))
      >>> network = inspect.haiku(transformed, transformed.init(jax.random.key(0), images))
      >>> [(layer.path, layer.grid.shape) for layer in network.layers(images)]
      [('conv2_d', (4, 2))]
    """
    found = source(transformed, params, state, rng, options, call, logits_by(output))
    return Network(found, title or "network", layers, grids, preprocess, normalised, channels_first)


def source(
    transformed: Any,
    params: Any,
    state: Any,
    rng: Any,
    options: Mapping[str, Any],
    call: Callable[[Callable[..., Any], Any], Any] | None = None,
    output: Callable[[Any], Any] = nothing,
) -> Modules:
    """The network's modules."""
    import haiku as hk

    stateful = isinstance(transformed, hk.TransformedWithState)
    if stateful and state is None:
        raise ValueError(
            "A network of hk.transform_with_state needs its state: haiku(transformed, params, state)."
        )
    variables = {"params": params, "state": state if stateful else {}}
    keyed = "rng" in inspect.signature(transformed.apply).parameters

    def see(modules: Modules, variables: Any, images: Any) -> Calls:
        marks, seen = Marks(modules.normalises), Seen(modules.convolutions)

        def watch(method, args, kwargs, context):
            if context.method_name != "__call__":
                return method(*args, **kwargs)
            return marks.call(context.module.module_name, context.module, method, args, kwargs)

        def network(variables: Any, images: Any) -> Any:
            given = (
                variables["params"],
                *([variables["state"]] if stateful else []),
                *([rng] if keyed else []),
            )

            def apply(*args: Any, **kwargs: Any) -> Any:
                found = transformed.apply(*given, *args, **{**options, **kwargs})
                return found[0] if stateful else found

            # Modules that a transformed function makes run within it.
            with hk.intercept_methods(watch):
                return output(apply(images) if call is None else call(apply, images))

        return calls_of(seen, seen.run(network, variables, images))

    return Modules(params, variables, variables, see, norms_of(hk))
