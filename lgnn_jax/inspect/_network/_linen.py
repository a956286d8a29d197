"""Flax linen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lgnn_jax.inspect._marks import Marks, Seen
from lgnn_jax.inspect._modules import Calls, Modules, calls_of, norms_of, nothing
from lgnn_jax.inspect._network._network import Grids, Network, Prepare, logits_by

# A collection of ours, so that nn.jit takes no trace from its cache that was made without marks.
_MUTABLE = ("intermediates", "lgnn_jax")


def linen(
    module: Any,
    variables: Any,
    *,
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
    """A Flax linen network to look at.

    Args:
      module: The network.
      variables: Its variables, with the collection ``params``.
      layers: Paths of submodules such as ``conv_3``, as :func:`lgnn_jax.inspect.linen_responses` takes them.
        None for all convolutions.
      grids: Where units lie, by layer a :class:`lgnn_jax.Grid` or its shape; others get the most square one.
      preprocess: From images as they are shown, floats in [0, 1] ``(batch, height, width, channels)``, to what
        the network takes; bytes are divided by 255 before. None for a network that takes them as they are.
      call: ``call(apply, images)`` runs a network that needs more than images, such as
        ``lambda apply, images: apply(images, jnp.zeros(len(images)))``; ``apply`` has the variables and the
        ``options``. None for ``apply(images)``.
      output: From what the network returns to logits ``(batch, classes)``, such as ``lambda x: x["logits"]``.
        None where it returns logits, or has none.
      normalised: Whether a convolution's activation is that of the normalisation that reads it directly.
      channels_first: Whether the network takes ``(batch, channels, height, width)`` and its layers give such.
      title: Its name on a page; None for the name of its class.
      **options: For ``module.apply``, such as ``train=False`` or ``rngs``.

    Returns:
      A :class:`Network`.

    Raises:
      ValueError: If a layer is not known (the message lists them), a grid is of none, or there are no ``params``.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from lgnn_jax import inspect
      >>> module = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(3)])
      >>> images = jnp.ones((2, 5, 5, 3))
      >>> network = inspect.linen(module, module.init(jax.random.key(0), images), title="mine")
      >>> [(layer.path, layer.grid.shape, layer.axis) for layer in network.layers(images)]
      [('layers_0', (4, 2), -1)]
      >>> jax.tree.map(jnp.shape, network.activations()(images))
      {'layers_0': (2, 5, 5, 8)}
    """
    found = source(module, variables, options, call, logits_by(output))
    return Network(
        found, title or type(module).__name__, layers, grids, preprocess, normalised, channels_first
    )


def source(
    module: Any,
    variables: Any,
    options: Mapping[str, Any],
    call: Callable[[Callable[..., Any], Any], Any] | None = None,
    output: Callable[[Any], Any] = nothing,
) -> Modules:
    """The network's modules."""
    import flax.linen as nn

    if "params" not in variables:
        raise ValueError(
            f"variables must hold the collection 'params', as module.init gives; got {', '.join(variables)}."
        )

    def see(modules: Modules, variables: Any, images: Any) -> Calls:
        seen, network = Seen(modules.convolutions), marked(module, Marks(modules.normalises), options, call)
        return calls_of(seen, seen.run(lambda *given: output(network(*given)), variables, images))

    return Modules(variables["params"], variables, variables, see, norms_of(nn))


def marked(
    module: Any,
    marks: Marks,
    options: Mapping[str, Any],
    call: Callable[[Callable[..., Any], Any], Any] | None = None,
) -> Callable[[Any, Any], Any]:
    """A function from variables and images to the network's output, which marks its calls."""
    import flax.linen as nn

    def watch(method, args, kwargs, context):
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        return marks.call("/".join(context.module.path), context.module, method, args, kwargs)

    def network(variables: Any, images: Any) -> Any:
        def apply(*args: Any, **kwargs: Any) -> Any:
            given = {"mutable": _MUTABLE, **options, **kwargs}
            found = module.apply(variables, *args, **given)
            return found if given["mutable"] is False else found[0]

        with nn.intercept_methods(watch):
            return apply(images) if call is None else call(apply, images)

    return network
