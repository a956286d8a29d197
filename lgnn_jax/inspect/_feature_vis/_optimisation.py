"""Images that activate channels, by Adam, batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lgnn_jax.inspect._accumulate import Responses
from lgnn_jax.inspect._checks import filled, positive
from lgnn_jax.inspect._feature_vis._network import Network, objective_of
from lgnn_jax.inspect._feature_vis._parametrisation import starting_spectra, to_images
from lgnn_jax.inspect._feature_vis._setting import SMALL, Setting
from lgnn_jax.inspect._feature_vis._transforms import (
    GREY,
    check_shape,
    draw_transforms,
    sizes_of,
    transform,
)

_EPSILON = 1e-16  # Of Adam; Lucid's 1e-8 is above the gradients of channels with tiny weights.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)  # Relative; a channel raised by less is not raised.
_TICK = 8  # Steps between reports.


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureVisualisation:
    """Images that activate a layer's channels; made by :func:`visualise`.

    Args:
      layer: The layer's name.
      units: The channels, integers ``(count,)``.
      images: In [0, 1], float32 ``(count, height, width, channels)``; plain grey where ``dead``.
      values: The objective of each image as it is, without transforms, ``(count,)``.
      start: Likewise of the image that the channel's optimisation started from.
      dead: Channels that no image was found for, booleans ``(count,)``: the steps led to none that activates
        the channel more than the starting one, to float32's precision. So it is where no gradient reaches
        the image.
    """

    layer: str
    units: np.ndarray
    images: np.ndarray
    values: np.ndarray
    start: np.ndarray
    dead: np.ndarray


def visualise(
    responses: Responses,
    layer: str,
    units: Any = None,
    *,
    key: jax.Array,
    setting: Setting = SMALL,
    shape: tuple[int, int, int] = (32, 32, 3),
    objective: str = "channel",
    batch: int = 64,
    progress: Callable[[int, int], object] | None = None,
) -> FeatureVisualisation:
    """An image for every channel of a layer that activates it as much as possible.

    A channel's image depends on ``key`` and on its index; to rounding, which the steps amplify, it does
    not depend on the other channels, on the batch or on its place there. Everything is compiled once a call.

    Args:
      responses: ``responses(images)`` gives by layer an array ``(batch, ..., units)``, the dots being
        space, as :func:`lgnn_jax.inspect.linen_responses` does; JAX must be able to differentiate
        it. Images are floats in [0, 1] ``(batch, height, width, channels)``: subtracting the data set's
        mean and dividing by its std is up to ``responses``. It is called with canvases whose size
        depends on the setting, and an image's responses must not depend on the others of its batch.
      layer: A name that ``responses`` returns.
      units: Channels, integers ``(count,)``; one may come twice. None for all.
      key: A key, of either kind.
      setting: Steps and transforms: :data:`SMALL`, :data:`LUCID`, or others.
      shape: Height, width and channels of the images.
      objective: ``channel``, the mean over space of the channel's map, or ``neuron``, the value in the
        middle of it (at half of its size, rounded down).
      batch: Images at a time, positive.
      progress: Called as ``progress(done, total)`` with numbers of steps, those of all batches together.

    Returns:
      The images with their values; see :class:`FeatureVisualisation`.

    Raises:
      ValueError: If an argument is out of range, nothing is left of an image by the setting's transforms,
        the network does not take their canvas, or an objective is NaN or infinite.

    Example:
      >>> import dataclasses, jax, jax.numpy as jnp
      >>> from lgnn_jax.inspect import SMALL, visualise
      >>> def responses(images):  # How red an image is, and how dark.
      ...     return {"colour": jnp.stack([images[..., 0], -images.mean(-1)], -1)}
      >>> setting = dataclasses.replace(SMALL, steps=20)
      >>> found = visualise(responses, "colour", key=jax.random.key(0), setting=setting, shape=(8, 8, 3))
      >>> found.images.shape, found.dead.tolist(), (found.values > found.start).tolist()
      ((2, 8, 8, 3), [False, False], [True, True])

    Source:
      Lucid's ``render_vis`` with ``param.image(fft=True, decorrelate=True)``.
    """
    height, width, channels = check_shape(shape, setting)
    if objective not in ("channel", "neuron"):
        raise ValueError(f"objective must be 'channel' or 'neuron', got {objective!r}.")
    batch = positive("batch", batch)
    network = Network(responses, layer, (height, width, channels), setting)
    chosen = _check_units(units, network.units, layer)
    batch = min(batch, len(chosen))
    program = _Program(network, setting, objective, batch)
    start_key, step_key = jax.random.split(key)
    parts: list[tuple[np.ndarray, ...]] = []
    total = setting.steps * -(-len(chosen) // batch)
    for first in range(0, len(chosen), batch):
        part = filled(chosen, first, min(first + batch, len(chosen)), batch)
        done = len(parts) * setting.steps

        def tick(steps: int, done: int = done) -> None:
            if progress is not None:
                progress(done + steps, total)

        parts.append(program.run(part, start_key, step_key, tick))
    images, values, start, dead = (
        np.concatenate(field)[: len(chosen)] for field in zip(*parts, strict=True)
    )
    return FeatureVisualisation(layer, chosen, images, values, start, dead)


class _State(NamedTuple):
    """What a step changes."""

    step: jax.Array  # int32.
    spectra: jax.Array
    adam: Any
    finite: jax.Array  # Whether every objective was finite, booleans (batch,).


class _Program:
    """The compiled functions for batches of images."""

    def __init__(self, network: Network, setting: Setting, objective: str, batch: int):
        self._network, self._setting = network, setting
        shape, adam = network.shape, optax.adam(setting.learning_rate, eps=_EPSILON)
        counts, plain = jnp.asarray(network.counts), jnp.asarray(network.plain)
        # The steps see canvases; what is reported is of the images as they are.
        on_canvas, self._arrays = network.hoisted(sizes_of(setting, shape[:2]).canvas, batch)
        on_image, self._plain_arrays = network.hoisted(shape[:2], batch)

        def image(spectra):
            return to_images(spectra, shape, setting.decorrelate)

        def start(key, units):
            spectra = starting_spectra(key, units, shape)
            return _State(jnp.int32(0), spectra, adam.init(spectra), jnp.ones(batch, bool))

        def step(arrays, state, key, units):
            draw = draw_transforms(jax.random.fold_in(key, state.step), setting)

            # An image's objective depends on its own spectrum alone, so the gradient of the sum is that of each,
            # and Adam, which works entry by entry, makes every image as if it were alone.
            def loss(spectra):
                maps = on_canvas(arrays, transform(image(spectra), draw, setting))
                values = objective_of(maps, units, counts[draw.scale], objective)
                return -values.sum(), values

            gradient, values = jax.grad(loss, has_aux=True)(state.spectra)
            with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to the power of an integer.
                updates, moments = adam.update(gradient, state.adam)
            finite = state.finite & jnp.isfinite(values)
            spectra = optax.apply_updates(state.spectra, updates)
            return _State(state.step + 1, spectra, moments, finite)

        def value(arrays, images, units):
            return objective_of(on_image(arrays, images), units, plain, objective)

        self._image, self._start, self._value = jax.jit(image), jax.jit(start), jax.jit(value)
        self._step = jax.jit(step, donate_argnums=1)

    def run(
        self, units: np.ndarray, start_key: jax.Array, step_key: jax.Array, tick: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Images, values, starting values and which are dead, of a batch of units."""
        state, steps = self._start(start_key, units), self._setting.steps
        start = self._values(self._image(state.spectra), units, "its starting image")
        for done in range(1, steps + 1):
            state = self._step(self._arrays, state, step_key, units)
            # Reading a value waits for the device, which else runs ahead; so it is done now and then.
            if done % _TICK == 0 or done == steps:
                self._check(state.finite, units, f"the first {done} steps")
                tick(done)
        images = self._image(state.spectra)
        values = self._values(images, units, "its finished image")
        # No better than the start up to float32's rounding: no gradient has reached the image.
        dead = values - start <= _ROUNDING * np.maximum(np.abs(values), np.abs(start))
        images = np.where(dead[:, None, None, None], np.float32(GREY), np.asarray(images))
        if dead.any():
            values = self._values(images, units, "plain grey")
        return images, values, start, dead

    def _values(self, images: Any, units: np.ndarray, name: str) -> np.ndarray:
        values = np.asarray(self._value(self._plain_arrays, images, units))
        self._check(np.isfinite(values), units, name)
        return values

    def _check(self, finite: Any, units: np.ndarray, name: str) -> None:
        bad = np.flatnonzero(~np.asarray(finite))
        if len(bad):
            raise ValueError(
                f"The objective of unit {units[bad[0]]} of {self._network.layer!r} is NaN or infinite for {name}. "
                "Check the network's weights and the normalisation inside responses."
            )


def _check_units(units: Any, count: int, layer: str) -> np.ndarray:
    """Channels as int64 ``(count,)``."""
    if units is None:
        return np.arange(count)
    given = np.asarray(units)
    if given.ndim != 1 or not len(given) or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"units must be integers (count,), at least one, got shape {given.shape} of {given.dtype}."
        )
    if given.min() < 0 or given.max() >= count:
        raise ValueError(
            f"{layer!r} has units 0 to {count - 1}, got units from {given.min()} to {given.max()}."
        )
    return given.astype(np.int64)
