"""The layers' responses of Flax networks: functions for :func:`lgnn_jax.inspect.accumulate`."""

from __future__ import annotations

import contextvars
import functools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax._tree import named_leaves
from lgnn_jax.inspect._checks import filled, positive
from lgnn_jax.inspect._marks import Marks, Seen


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
    import flax.linen as nn

    if "params" not in variables:
        raise ValueError(
            f"variables must hold the collection 'params', as module.init gives; got {', '.join(variables)}."
        )
    tree = _Tree(variables["params"], variables)
    chosen = tree.chosen(layers)

    def see(variables: Any, images: jax.Array) -> Seen:
        marks, seen = Marks(tree.normalises(_norms(nn))), Seen(tree.convolutions)
        seen.run(_marked_linen(module, marks, call_kwargs, lambda output: None), variables, images)
        return seen

    return _responses(tree, chosen, layers is None, normalised, see, variables)


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
    from flax import nnx

    graph, state = nnx.split(model)
    tree = _Tree(nnx.state(model, nnx.Param), state)
    chosen = tree.chosen(layers)

    def see(state: Any, images: jax.Array) -> Seen:
        marks, seen = Marks(tree.normalises(_norms(nnx))), Seen(tree.convolutions)

        def network(state: Any, images: jax.Array) -> None:
            copy = nnx.merge(graph, state)
            copy.eval()
            for path, node in list(nnx.iter_graph(copy)):
                if isinstance(node, nnx.Module) and callable(node):
                    object.__setattr__(node, "__class__", _watched(type(node), "/".join(map(str, path))))
            token = _MARKS.set(marks)
            try:
                copy(images) if call is None else call(copy, images)
            finally:
                _MARKS.reset(token)

        seen.run(network, state, images)
        return seen

    return _responses(tree, chosen, layers is None, normalised, see, state)


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
    import flax.linen as nn

    tree = _Tree(variables["params"], variables)
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

        marks, seen = Marks(tree.normalises(_norms(nn))), Seen(tree.convolutions & {path}, ablate)
        logits = seen.run(_marked_linen(module, marks, call_kwargs, logits_of), variables, images)
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


# A collection of ours, so that nn.jit takes no trace from its cache that was made without marks.
_MUTABLE = ("intermediates", "lgnn_jax")


def _marked_linen(
    module: Any, marks: Marks, options: dict[str, Any], output: Callable[[Any], Any]
) -> Callable[[Any, Any], Any]:
    """A function from variables and images to ``output`` of the network's, which marks its calls."""
    import flax.linen as nn

    options = {"mutable": _MUTABLE} | options

    def watch(call, args, kwargs, context):
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        return marks.call("/".join(context.module.path), context.module, call, args, kwargs)

    def network(variables: Any, images: Any) -> Any:
        with nn.intercept_methods(watch):
            found = module.apply(variables, images, **options)
        return output(found[0] if options["mutable"] is not False else found)

    return network


_MARKS: contextvars.ContextVar[Marks | None] = contextvars.ContextVar("marks", default=None)


@functools.cache
def _watched(kind: type, path: str) -> type:
    """A subclass of an NNX module's class whose calls are marked by its path.

    NNX's transforms make modules anew and keep the class, so the path is within it.
    """

    def call(self, *args, **kwargs):
        marks, plain = _MARKS.get(), functools.partial(kind.__call__, self)
        return plain(*args, **kwargs) if marks is None else marks.call(path, self, plain, args, kwargs)

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def _norms(flax: Any) -> tuple[type, ...]:
    """The normalisations of linen or NNX, which own nothing where they have neither scale nor bias."""
    names = ("BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm")
    return tuple(getattr(flax, name) for name in names if hasattr(flax, name))


class _Tree:
    """What a network's variables tell of its modules.

    Args:
      params: The parameters, whose modules are layers that may be asked for.
      every: All variables; of linen by collection.
    """

    def __init__(self, params: Any, every: Any):
        known, convolutions, stacked = set[str](), set[str](), set[str]()
        named = named_leaves(params)
        for name, leaf in named:
            parts = name.split("/")[:-1]
            known.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
            if not parts:
                known.add("")
            if np.ndim(leaf) >= 4:
                (convolutions if np.ndim(leaf) == 4 else stacked).add("/".join(parts))

        def natural(name):  # conv_10 follows conv_9; text and numbers alternate.
            return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]

        self.known = sorted(known, key=natural)
        # What holds layers, and a kernel or an embedding beside them, gives more than a convolution's output.
        own = {name for name, _ in named}
        self.blocks = convolutions & {
            "/".join(parts[:end])
            for parts in (name.split("/") for name, _ in named)
            for end in range(len(parts) - 1)
            if "/".join(parts[: end + 1]) not in own
        }
        self.convolutions, self.stacked = frozenset(convolutions - self.blocks), frozenset(stacked)
        trees = every.values() if isinstance(every, Mapping) and "params" in every else [every]
        self._shapes: dict[str, list[tuple[int, ...]]] = {}  # By path, those of all below it too.
        for name, leaf in (named for tree in trees for named in named_leaves(tree)):
            parts = name.split("/")[:-1]
            for end in range(len(parts) + 1):
                self._shapes.setdefault("/".join(parts[:end]), []).append(np.shape(leaf))

    def chosen(self, layers: Iterable[str] | None) -> dict[str, str]:
        """Paths by the names asked for."""
        if isinstance(layers, str):
            raise ValueError(f"layers must be a list of names, got the text {layers!r}.")
        names = [x for x in self.known if x in self.convolutions] if layers is None else list(layers)
        chosen = {name: name.removesuffix("/kernel") for name in names}
        for name, path in chosen.items():
            if path not in self.known:
                raise ValueError(f"Unknown layer {name!r}. Known: {', '.join(self.known)}.")
        if not chosen:
            raise ValueError(f"No layer to look at: no convolution among {', '.join(self.known)}.")
        return chosen

    def normalises(self, norms: tuple[type, ...]) -> Callable[[str, Any, int], bool]:
        """Whether a module is of ``norms``, or one of another library that holds numbers a unit alone."""

        def decide(path: str, module: Any, units: int) -> bool:
            shapes = set(self._shapes.get(path, ()))
            return isinstance(module, norms) or (units,) in shapes and shapes <= {(units,), ()}

        return decide


def _responses(
    tree: _Tree,
    chosen: dict[str, str],
    default: bool,
    normalised: bool,
    see: Callable[[Any, Any], Seen],
    state: Any,
) -> Callable[[Any], dict[str, jax.Array]]:
    """The compiled function; with ``default`` what cannot be had is left out with a warning."""
    left_out, warned = dict[str, str](), list[bool]()

    @jax.jit
    def run(state: Any, images: jax.Array) -> dict[str, jax.Array]:
        seen, found = see(state, images), {}
        for name, path in chosen.items():
            calls = seen.calls.get(path, [])
            if len(calls) == 1 and not isinstance(calls[0], str):
                found[name] = seen.readers.get(path, (path, calls[0]))[1] if normalised else calls[0]
                continue
            reasons = [call for call in calls if isinstance(call, str)]
            reason = reasons[0] if reasons else f"it was run {len(calls)} times"
            if not default:
                raise ValueError(f"{name!r} must be run once and give one array, but {reason}.")
            left_out[name] = reason
        if default:  # Layers of a stack that a loop runs through have a dimension more.
            left_out.update((path, "it holds other layers") for path in sorted(tree.blocks))
            for path in sorted(tree.stacked & seen.calls.keys()):
                left_out.update((path, call) for call in seen.calls[path] if isinstance(call, str))
        if not found:
            reasons = [
                f"{name!r} must be run once and give one array, but {left_out[name]}" for name in chosen
            ]
            raise ValueError(f"No layer to look at: {'; '.join(reasons)}.")
        return found

    def responses(images: Any) -> dict[str, jax.Array]:
        found = run(state, images)
        if left_out and not warned:
            warned.append(True)
            reasons = ", ".join(f"{name!r} ({reason})" for name, reason in left_out.items())
            warnings.warn(
                f"Layers left out, because a layer must be run once and give one array of its own: {reasons}. Name "
                "the layers to look at by layers=.",
                stacklevel=2,
            )
        # Compiled functions return dicts sorted by key.
        return {name: found[name] for name in chosen if name in found}

    return responses
