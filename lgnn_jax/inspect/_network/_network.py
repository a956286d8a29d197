"""A network to look at, whatever framework it is of."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lgnn_jax._layout as layout
from lgnn_jax._grid import Grid, check_grid, grid_shape
from lgnn_jax._tree import unboxed
from lgnn_jax.inspect._modules import Source, picked, told

Grids = Mapping[str, Grid | Sequence[int]]
Prepare = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Layer(layout.Layer):
    """A layer of a network that is looked at.

    Args:
      path: Its name, a module's path such as ``block_0/conv_1``.
      grid: Where its units lie.
      axis: The axis of ``kernel`` that counts them.
      kernel: Its weights; None where there are none to compare.
    """

    kernel: Any = None


class Network:
    """A network to look at; made by an adapter such as :func:`lgnn_jax.inspect.linen`.

    Images are given as they are shown: bytes or floats in [0, 1], ``(images, height, width, channels)``. What
    the network wants of them, it makes itself.

    Args:
      source: What an adapter gives.
      title: Its name on a page.
      layers: The names asked for, None for those that the adapter chooses.
      grids: Where units lie, by layer.
      preprocess: From floats in [0, 1] to what the network takes.
      normalised: Whether a convolution's activation is that of the normalisation that reads it.
      channels_first: Whether the network has channels before height and width.
    """

    def __init__(
        self,
        source: Source,
        title: str,
        layers: Iterable[str] | None,
        grids: Grids | None,
        preprocess: Prepare | None,
        normalised: bool,
        channels_first: bool,
    ):
        self.title = str(title)
        self._source, self._prepare, self._first = source, preprocess, channels_first
        self._normalised, self._grids = normalised, dict(grids or {})
        self._asked = layers if layers is None or isinstance(layers, str) else tuple(layers)
        self._programs: dict[tuple[str, ...] | None, _Program] = {}
        self._shapes: dict[Any, Any] = {}
        self._warned = False
        source.chosen(self._asked)  # Raises for layers that are not known.

    def __repr__(self) -> str:
        return f"Network({self.title!r})"

    def layers(self, images: Any) -> tuple[Layer, ...]:
        """The layers that are looked at, in order.

        Args:
          images: Some images, of which the shape alone matters.

        Raises:
          ValueError: If no layer can be captured, or a grid does not hold its units or names no layer.
        """
        found = []
        shapes, _ = self._traced(images)
        unknown = [name for name in self._grids if name not in shapes]
        if unknown:
            raise ValueError(f"grids name {unknown[0]!r}, which is no layer. Layers: {', '.join(shapes)}.")
        for name, shape in shapes.items():
            units = shape[-1]
            given = self._grids.get(name)
            grid = given if isinstance(given, Grid) else Grid(tuple(given or grid_shape(units)))
            check_grid(grid, units, f"layer {name!r}")
            kernel, axis = self._source.kernel((self._source.chosen([name]) or {})[name], units) or (
                None,
                -1,
            )
            found.append(Layer(name, grid, axis, None if kernel is None else np.asarray(unboxed(kernel))))
        return tuple(found)

    def left_out(self, images: Any) -> dict[str, str]:
        """By name the layers that cannot be captured, with the reason; likewise."""
        return dict(self._traced(images)[1])

    def activations(self, layers: Iterable[str] | None = None) -> Callable[[Any], dict[str, jax.Array]]:
        """A compiled function from images to activations ``(batch, ..., units)`` by layer.

        It serves :func:`lgnn_jax.inspect.accumulate` and :func:`lgnn_jax.inspect.visualise`.

        Args:
          layers: Names, of which each must be captured; None for those of :meth:`layers`.

        Raises:
          ValueError: If a layer is not known; when it is called, if a layer asked for cannot be captured.
        """
        program = self._program(self._asked if layers is None else layers)

        def activations(images: Any) -> dict[str, jax.Array]:
            found, _ = program.run(self._source.state, images)
            self.warn(program.left_out, 3)
            return {name: found[name] for name in program.names}

        return activations

    def reader(self, images: Any) -> Reader:
        """Activations of all layers by the indices of images."""
        program = self._program(self._asked)

        def read(indices: np.ndarray) -> tuple[dict[str, Any], Any]:
            found, logits = program.run(self._source.state, as_shown(images[indices]))
            return {name: found[name] for name in program.names}, logits

        return Reader(read)

    def warn(self, left_out: Mapping[str, str], stacklevel: int = 2) -> None:
        """Tells once what is left out."""
        if left_out and not self._warned:
            self._warned = True
            warnings.warn(told(left_out), stacklevel=stacklevel)

    def _program(self, layers: Iterable[str] | None) -> _Program:
        names = layers if layers is None or isinstance(layers, str) else tuple(layers)
        if names not in self._programs:
            self._programs[names] = _Program(self, names)  # type: ignore[index]
        return self._programs[names]  # type: ignore[index]

    def _traced(self, images: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """The shapes of activations by layer, and what is left out; nothing is computed."""
        one = jnp.asarray(as_shown(images[:1]))  # Of JAX's precision, so that it warns of nothing.
        key = one.shape[1:], one.dtype
        if key not in self._shapes:
            program = self._program(self._asked)
            batch = jax.ShapeDtypeStruct((2, *one.shape[1:]), one.dtype)
            found, _ = jax.eval_shape(program.run, self._source.state, batch)
            self._shapes[key] = {x: found[x].shape for x in program.names}, dict(program.left_out)
        return self._shapes[key]

    def prepared(self, images: jax.Array) -> jax.Array:
        """Images as the network takes them."""
        scaled = jnp.asarray(images)
        scaled = scaled.astype(jnp.float32) / (255 if scaled.dtype == jnp.uint8 else 1)
        ready = scaled if self._prepare is None else self._prepare(scaled)
        return jnp.moveaxis(ready, -1, 1) if self._first else ready

    def maps(self, found: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Activations with their units last; those without two dimensions of space have them there already."""
        return {
            name: jnp.moveaxis(x, 1, -1) if self._first and x.ndim > 3 else x for name, x in found.items()
        }


class _Program:
    """The compiled function that gives some layers.

    ``names``, in the order in which layers are asked for or else are run, and ``left_out`` are known once it was
    traced: a compiled function gives dicts sorted by key.
    """

    def __init__(self, network: Network, names: tuple[str, ...] | str | None):
        source, chosen = network._source, network._source.chosen(names)
        self.names, self.left_out = list[str](), dict[str, str]()

        @jax.jit
        def run(state: Any, images: Any) -> tuple[dict[str, jax.Array], Any]:
            calls = source.see(state, network.prepared(images))
            found, left_out = picked(source, calls, chosen, names is None, network._normalised)
            self.left_out.update(left_out)
            ran = list(calls.own)
            self.names[:] = (
                sorted(found, key=lambda name: ran.index(chosen[name] if chosen else name))
                if names is None
                else list(found)
            )
            return network.maps(found), calls.output

        self.run = run


class Reader:
    """Activations by indices of images, for :func:`lgnn_jax.inspect.accumulate`; it keeps what was predicted."""

    def __init__(self, read: Callable[[np.ndarray], tuple[dict[str, Any], Any]]):
        self._read, self._predicted, self.outputs = read, list[np.ndarray](), 0

    def __call__(self, indices: np.ndarray) -> dict[str, Any]:
        """The activations of some images."""
        found, logits = self._read(indices)
        if logits is not None:
            logits = np.asarray(logits)
            if not np.isfinite(logits).all():
                raise ValueError("Logits are NaN or infinite. Check the network's weights and preprocess=.")
            self.outputs = logits.shape[-1]
            self._predicted.append(logits.argmax(-1))
        return found

    def predicted(self, count: int) -> np.ndarray | None:
        """The classes of the first so many images, or None for a network without logits."""
        return np.concatenate(self._predicted)[:count] if self._predicted else None


def as_shown(images: Any) -> Any:
    """Images tested to be bytes or in [0, 1], ``(images, height, width, channels)``."""
    if isinstance(images, jax.core.Tracer):
        return images
    given = np.asarray(images)
    if given.ndim != 4:
        advice = " Grey ones are images[..., None]." if given.ndim == 3 else ""
        raise ValueError(
            f"images must be (images, height, width, channels), got shape {given.shape[1:]} of an image.{advice}"
        )
    if given.dtype == np.uint8:
        return given
    if not np.issubdtype(given.dtype, np.floating) or not (given.min() >= 0 and given.max() <= 1):
        got = f"values from {given.min():g} to {given.max():g}" if given.size else "none"
        raise ValueError(
            f"images must be bytes or floats in [0, 1], as they are shown, got {given.dtype} with {got}. Say by "
            "preprocess= of the network what it wants of them."
        )
    return given


def logits_by(output: Callable[[Any], Any] | None, each: bool = False) -> Callable[[Any], jax.Array | None]:
    """From what a network returns, for a batch or with ``each`` for one image, to its logits, or None."""
    ndim = 1 if each else 2

    def logits(found: Any) -> jax.Array | None:
        x = found if output is None else output(found)
        if isinstance(x, jax.Array) and x.ndim == ndim:
            return x
        if output is None:
            return None
        shape = "(classes,)" if each else "(batch, classes)"
        got = f"an array of shape {x.shape}" if isinstance(x, jax.Array) else type(x).__name__
        raise ValueError(f"output must give logits {shape}, got {got}.")

    return logits
