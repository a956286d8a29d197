"""The layers' responses of Flax networks: functions for :func:`lgnn_jax.inspect.accumulate`."""

from __future__ import annotations

import contextvars
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax._tree import named_leaves
from lgnn_jax.inspect._checks import filled, positive


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
        the submodules that own a weight of four dimensions.
      normalised: Whether a convolution's response is the output of the normalisation that reads the
        convolution directly, where there is one, before any ReLU (the paper's); False for its own.
      **call_kwargs: For ``module.apply``, such as ``train=False`` or ``rngs``.

    Returns:
      A function that maps images ``(batch, height, width, channels)`` to arrays ``(batch, ..., units)``
      by the names asked for.

    Raises:
      ValueError: If a layer is not known (the message lists them) or, when the function is called, if it
        is not run exactly once.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from lgnn_jax.inspect import linen_responses
      >>> net = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, nn.Conv(4, (3, 3))])
      >>> images = jnp.ones((2, 5, 5, 3))
      >>> responses = linen_responses(net, net.init(jax.random.key(0), images))
      >>> jax.tree.map(jnp.shape, responses(images))
      {'layers_0': (2, 5, 5, 8), 'layers_2': (2, 5, 5, 4)}
    """
    import flax.linen as nn

    if "params" not in variables:
        raise ValueError(
            f"variables must hold the collection 'params', as module.init gives; got {', '.join(variables)}."
        )
    known, convolutions = _modules(variables["params"])
    chosen = _chosen(layers, known, convolutions)

    @jax.jit
    def run(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        readers = _Readers(convolutions)

        def watch(call, args, kwargs, context):
            output = call(*args, **kwargs)
            if context.method_name == "__call__":
                readers.saw(
                    "/".join(context.module.path), context.module, (*args, *kwargs.values()), output
                )
            return output

        with nn.intercept_methods(watch):
            _, state = module.apply(
                variables, images, capture_intermediates=True, mutable=["intermediates"], **call_kwargs
            )

        def outputs(path):
            node = state["intermediates"]
            for part in path.split("/") if path else ():
                node = node.get(part, {})
            return node.get("__call__", ())

        return _select(chosen, readers if normalised else None, outputs)

    return lambda images: _in_order(chosen, run(variables, images))


def nnx_responses(
    model: Any, layers: Iterable[str] | None = None, *, normalised: bool = True
) -> Callable[[Any], dict[str, jax.Array]]:
    """A compiled function from images to the responses of a Flax NNX network's layers.

    It works on a copy of the network as it is now, in evaluation mode (``model.eval()``).

    Args:
      model: The network, called as ``model(images)``.
      layers: Paths of submodules such as ``layers/0``, as in :func:`linen_responses`.
      normalised: As in :func:`linen_responses`.

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
    """
    from flax import nnx

    known, convolutions = _modules(nnx.state(model, nnx.Param))
    chosen = _chosen(layers, known, convolutions)
    graph, state = nnx.split(model)

    @jax.jit
    def run(state: Any, images: jax.Array) -> dict[str, jax.Array]:
        copy = nnx.merge(graph, state)
        copy.eval()
        readers, paths = _Readers(convolutions), dict[int, str]()
        found: dict[str, list[Any]] = {}
        for path, node in list(nnx.iter_graph(copy)):
            if isinstance(node, nnx.Module) and callable(node):
                paths[id(node)] = "/".join(map(str, path))
                object.__setattr__(node, "__class__", _watched(type(node)))

        def watch(node, inputs, output):
            readers.saw(paths[id(node)], node, inputs, output)
            found.setdefault(paths[id(node)], []).append(output)

        token = _WATCH.set(watch)
        try:
            copy(images)
        finally:
            _WATCH.reset(token)
        return _select(chosen, readers if normalised else None, lambda path: found.get(path, ()))

    return lambda images: _in_order(chosen, run(state, images))


def linen_ablated(
    module: Any, variables: Any, layer: str, images: Any, *, batch: int = 256, **call_kwargs: Any
) -> Callable[[Any], np.ndarray]:
    """A function from a mask of a layer's units to the classes that a Flax linen network then predicts.

    The mask multiplies the output of the layer and, of a convolution, that of the normalisation that
    reads it directly, so that whatever comes after sees zeros. It is compiled once.

    Args:
      module: The network; its output is logits ``(batch, classes)``.
      variables: Its variables.
      layer: Path of a submodule, as in :func:`linen_responses`.
      images: ``(images, ...)``, sliced as ``images[start:stop]``.
      batch: Images at a time, positive.
      **call_kwargs: For ``module.apply``, such as ``train=False``.

    Returns:
      ``predict(mask)`` from floats ``(units,)``, 0 for units to ablate and 1 for others, to integers
      ``(images,)``. It raises ``ValueError`` if the mask does not fit the layer or logits are NaN.

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
    import flax.linen as nn

    known, convolutions = _modules(variables["params"])
    path = _chosen([layer], known, convolutions)[layer]
    count = len(images)
    batch = min(positive("batch", batch), count)

    @jax.jit
    def run(variables: Any, images: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        readers, calls = _Readers(convolutions & {path}), []

        def ablate(call, args, kwargs, context):
            output = call(*args, **kwargs)
            if context.method_name != "__call__":
                return output
            name, inputs = "/".join(context.module.path), (*args, *kwargs.values())
            reads = readers.reads(context.module, inputs)
            if name == path or reads:
                if output.shape[-1:] != mask.shape:
                    raise ValueError(
                        f"{layer!r} gives {output.shape}, to which a mask {mask.shape} does not fit."
                    )
                output = output * mask.astype(output.dtype).reshape((1,) * (output.ndim - 1) + mask.shape)
                calls.append(name)
            readers.saw(name, context.module, inputs, output)
            return output

        with nn.intercept_methods(ablate):
            logits = module.apply(variables, images, **call_kwargs)
        if path not in calls:
            raise ValueError(f"The network did not run {layer!r}, so there is nothing to ablate.")
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


class _Readers:
    """Which normalisation reads which convolution's output as it is, noticed while a network runs."""

    def __init__(self, convolutions: Iterable[str]):
        self.of: dict[str, str] = {}
        self._convolutions = frozenset(convolutions)
        self._made: dict[int, tuple[str, Any]] = {}  # With the output, so that its id stays its own.

    def reads(self, module: Any, inputs: tuple[Any, ...]) -> str | None:
        """The convolution whose output is an input of ``module``, if that is a normalisation."""
        if "Norm" not in type(module).__name__ or not inputs:
            return None
        return self._made.get(id(inputs[0]), (None, None))[0]

    def saw(self, path: str, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Takes note of one call of a submodule."""
        convolution = self.reads(module, inputs)
        if convolution is not None:
            self.of.setdefault(convolution, path)
        if path in self._convolutions:
            self._made[id(output)] = path, output


_WATCH: contextvars.ContextVar[Callable[..., None] | None] = contextvars.ContextVar("watch", default=None)


@functools.cache
def _watched(kind: type) -> type:
    """A subclass of an NNX module's class that tells the watch of its calls."""

    def call(self, *args, **kwargs):
        output = kind.__call__(self, *args, **kwargs)
        watch = _WATCH.get()
        if watch is not None:
            watch(self, (*args, *kwargs.values()), output)
        return output

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def _modules(params: Any) -> tuple[list[str], frozenset[str]]:
    """Paths of all submodules with parameters, in natural order, and those of convolutions."""
    known, convolutions = set[str](), set[str]()
    for name, leaf in named_leaves(params):
        parts = name.split("/")[:-1]
        known.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        if not parts:
            known.add("")
        if np.ndim(leaf) == 4:
            convolutions.add("/".join(parts))

    def natural(name):  # conv_10 follows conv_9; text and numbers alternate.
        return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]

    return sorted(known, key=natural), frozenset(convolutions)


def _chosen(layers: Iterable[str] | None, known: list[str], convolutions: frozenset[str]) -> dict[str, str]:
    """Paths by the names asked for."""
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names, got the text {layers!r}.")
    names = [name for name in known if name in convolutions] if layers is None else list(layers)
    chosen = {name: name.removesuffix("/kernel") for name in names}
    for name, path in chosen.items():
        if path not in known:
            raise ValueError(f"Unknown layer {name!r}. Known: {', '.join(known)}.")
    if not chosen:
        raise ValueError(f"No layer to look at: no convolution among {', '.join(known)}.")
    return chosen


def _select(
    chosen: dict[str, str], readers: _Readers | None, outputs: Callable[[str], Any]
) -> dict[str, jax.Array]:
    """The output of each layer asked for, or that of the normalisation that reads it."""
    found = {}
    for name, path in chosen.items():
        path = path if readers is None else readers.of.get(path, path)
        arrays = outputs(path)
        if len(arrays) != 1 or not hasattr(arrays[0], "shape"):
            raise ValueError(
                f"{name!r} must be run once and give one array, but it was run {len(arrays)} times"
                + (f" and gave {type(arrays[0]).__name__}." if len(arrays) == 1 else ".")
            )
        found[name] = arrays[0]
    return found


def _in_order(chosen: dict[str, str], found: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Compiled functions return dicts sorted by key."""
    return {name: found[name] for name in chosen}
