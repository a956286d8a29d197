"""A layer's responses, and the objective on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax._dtypes import at_least_float32
from lgnn_jax.inspect._accumulate import Responses
from lgnn_jax.inspect._checks import layer_of
from lgnn_jax.inspect._feature_vis._setting import Setting
from lgnn_jax.inspect._feature_vis._transforms import Sizes, sizes_of


def objective_of(maps: jax.Array, units: jax.Array, counts: jax.Array, kind: str) -> jax.Array:
    """Each image's objective ``(batch,)``: that of its unit on the first ``counts`` places of its map."""
    return jnp.take_along_axis(objectives_of(maps, counts, kind), units[:, None], 1)[:, 0]


def objectives_of(maps: jax.Array, counts: jax.Array, kind: str) -> jax.Array:
    """Every unit's objective on the first ``counts`` places of each image's map, ``(batch, units)``."""
    # One dimension of space after another, always the first that is left.
    maps = at_least_float32(maps)
    for dimension in range(maps.ndim - 2):
        count = counts[dimension]
        places = jnp.arange(maps.shape[1], dtype=count.dtype)
        seen = places < count if kind == "channel" else places == count // 2
        weights = seen.astype(maps.dtype)
        maps = jnp.tensordot(weights / weights.sum(), maps, (0, 1), precision="highest")
    return maps


def counts_of(sizes: Sizes, places: tuple[int, ...]) -> np.ndarray:
    """By scale how many places of a layer's map, in each dimension, have their middle on the image.

    int32 ``(scales, dimensions)``; all of them where the map has not two dimensions.
    """
    if len(places) != 2:
        return np.tile(np.asarray(places, np.int32), (len(sizes.final), 1))
    # Place k of n has its middle at (k + 1/2) / n of the canvas.
    exact = sizes.final * np.asarray(places) / np.asarray(sizes.canvas)
    return np.clip(np.ceil(exact - 0.5), 1, places).astype(np.int32)


class Network:
    """A layer's responses as a function of the network's arrays and of images, with the sizes of its maps."""

    def __init__(self, responses: Responses, layer: str, shape: tuple[int, int, int], setting: Setting):
        self.shape, sizes = shape, sizes_of(setting, shape[:2])
        self._maps = lambda images: layer_of(responses(images), layer)
        self.layer = layer
        plain = self._shape(shape[:2])
        try:
            on_canvas = self._shape(sizes.canvas)
        except Exception as error:
            raise ValueError(
                f"The network takes images of {_by(shape[:2])} but not the canvas of {_by(sizes.canvas)} that "
                "the setting's transforms need. Use a setting that keeps the size, with 2 * pad = jitter + "
                "jitter_after and a single scale: dataclasses.replace(SMALL, scales=(1.0,))."
            ) from error
        self.units = plain[-1]
        self.plain = np.asarray(plain[1:-1], np.int32)
        self.counts = counts_of(sizes, on_canvas[1:-1])

    def _shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of the layer's output for one image."""
        images = jax.ShapeDtypeStruct((1, *size, self.shape[2]), jnp.float32)
        maps = jax.eval_shape(self._maps, images)
        if maps.ndim < 2 or maps.shape[0] != 1:
            raise ValueError(
                f"responses must give arrays (1, ..., units) for 1 image; {self.layer!r} has {maps.shape}."
            )
        return maps.shape

    def hoisted(
        self, size: tuple[int, int], batch: int
    ) -> tuple[Callable[[Any, jax.Array], jax.Array], Any]:
        """``(apply, arrays)`` with ``apply(arrays, images)`` the maps: arrays are no constants of a program."""
        images = jax.ShapeDtypeStruct((batch, *size, self.shape[2]), jnp.float32)
        # What responses closes over, the weights, are constants of its trace; as arguments of the step they are
        # neither copied into the program nor folded by the compiler.
        closed = jax.make_jaxpr(self._maps)(images)

        def apply(arrays: Any, images: jax.Array) -> jax.Array:
            return jax.core.eval_jaxpr(closed.jaxpr, arrays, images)[0]

        return apply, jax.device_put(closed.consts)


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
