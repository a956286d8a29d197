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
from lgnn_jax.inspect._checks import filled, positive, unit_range
from lgnn_jax.inspect._feature_vis._network import Network, objective_of, objectives_of
from lgnn_jax.inspect._feature_vis._parametrisation import spectra_of, starting_spectra, to_images
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
_EXCITING = 2000  # Given images among which one is looked for that activates a channel.


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureVisualisation:
    """Images that activate a layer's channels; made by :func:`visualise`.

    Args:
      layer: The layer's name.
      units: The channels, integers ``(count,)``.
      images: In [0, 1], float32 ``(count, height, width, channels)``; plain grey where ``dead``.
      values: The objective of each image as it is, without transforms, ``(count,)``.
      start: Likewise of the image that the channel's optimisation started from: noise, or one of those given.
      dead: Channels that no image was found for, booleans ``(count,)``: the steps led to none that activates
        the channel more than noise does, to float32's precision, and none of the images given does. Without
        images that may be for want of a gradient, as behind a ReLU that noise leaves shut.
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
    images: Any = None,
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
      images: Images of a data set, as for :func:`mean_activations` and of ``shape``. Where steps from noise
        lead nowhere, as behind a ReLU that noise leaves shut, they begin again at the one of these that
        activates the channel most, which is the channel's image if they do not raise it. Of more than 2,000, so
        many are looked at, spread over all, as they may be sorted by class. None for noise alone.
      progress: Called as ``progress(done, total)`` with numbers of steps, those of all batches together; the
        total grows when steps begin again at images.

    Returns:
      The images with their values; see :class:`FeatureVisualisation`.

    Raises:
      ValueError: If an argument is out of range, nothing is left of an image by the setting's transforms,
        the network does not take their canvas, images are not of ``shape``, or an objective is NaN or infinite.

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
    given = (height, width, channels) if images is None else np.shape(images[:1])[1:]
    if given != (height, width, channels):
        raise ValueError(f"images must be of shape {(height, width, channels)}, got {given}.")
    network = Network(responses, layer, (height, width, channels), setting)
    chosen = _check_units(units, network.units, layer)
    batch = min(batch, len(chosen))
    program = _Program(network, setting, objective, batch)
    start_key, step_key = jax.random.split(key)
    total = 0

    def raised(units: np.ndarray, begin: Callable[[slice, np.ndarray], Any]) -> list[np.ndarray]:
        """Images, values and starting values of units, from the spectra that ``begin`` gives for a batch."""
        nonlocal total
        parts, done = [], total
        total += setting.steps * -(-len(units) // batch)
        for first in range(0, len(units), batch):
            of = slice(first, min(first + batch, len(units)))
            part = filled(units, of.start, of.stop, batch)

            def tick(steps: int, done: int = done) -> None:
                if progress is not None:
                    progress(done + steps, total)

            parts.append(program.run(part, begin(of, part), step_key, tick))
            done += setting.steps
        return [np.concatenate(field)[: len(units)] for field in zip(*parts, strict=True)]

    shown, values, start = raised(chosen, lambda of, part: program.noise(start_key, part))
    dead = ~_above(values, start)
    lost = np.flatnonzero(dead)
    if images is not None and len(lost):
        images = images[np.linspace(0, len(images) - 1, min(len(images), _EXCITING)).astype(int)]
        best, most = program.best(images, chosen[lost])
        excited = _above(most, start[lost])
        again, most = lost[excited], most[excited]
        if len(again):
            exciting = np.asarray(unit_range(np.concatenate([images[k : k + 1] for k in best[excited]])))

            def begin(of: slice, part: np.ndarray) -> np.ndarray:
                return spectra_of(filled(exciting, of.start, of.stop, len(part)), setting.decorrelate)

            found, found_values, start[again] = raised(chosen[again], begin)
            shown[again] = np.where((found_values >= most)[:, None, None, None], found, exciting)
            dead[again] = False
    shown[dead] = GREY
    if len(lost):
        values = program.values(shown, chosen)
    return FeatureVisualisation(layer, chosen, shown, values, start, dead)


def _adam(setting: Setting) -> optax.GradientTransformation:
    rate: Any = setting.learning_rate
    if setting.hold < 1:
        held = round(setting.hold * setting.steps)
        rate = optax.linear_schedule(
            setting.learning_rate, 0.0, setting.steps - held, transition_begin=held
        )
    return optax.adam(rate, setting.b1, setting.b2, eps=_EPSILON)


def _above(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Which values are above others by more than float32's rounding."""
    return values - start > _ROUNDING * np.maximum(np.abs(values), np.abs(start))


class _State(NamedTuple):
    """What a step changes."""

    step: jax.Array  # int32.
    spectra: jax.Array
    adam: Any
    finite: jax.Array  # Whether every objective was finite, booleans (batch,).


class _Program:
    """The compiled functions for batches of images."""

    def __init__(self, network: Network, setting: Setting, objective: str, batch: int):
        self._network, self._setting, self._batch = network, setting, batch
        shape, adam = network.shape, _adam(setting)
        counts, plain = jnp.asarray(network.counts), jnp.asarray(network.plain)
        # The steps see canvases; what is reported is of the images as they are.
        on_canvas, self._arrays = network.hoisted(sizes_of(setting, shape[:2]).canvas, batch)
        on_image, self._plain_arrays = network.hoisted(shape[:2], batch)

        def image(spectra):
            return to_images(spectra, shape, setting.decorrelate)

        def noise(key, units):
            return starting_spectra(key, units, shape)

        def start(spectra):
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

        def every(arrays, images):
            return objectives_of(on_image(arrays, images), plain, objective)

        self._image, self._noise, self._start = jax.jit(image), jax.jit(noise), jax.jit(start)
        self._value, self._every = jax.jit(value), jax.jit(every)
        self._step = jax.jit(step, donate_argnums=1)

    def run(
        self, units: np.ndarray, spectra: Any, step_key: jax.Array, tick: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images, values and starting values, of a batch of units and their starting spectra."""
        state, steps = self._start(spectra), self._setting.steps
        start = self._values(self._image(state.spectra), units, "its starting image")
        for done in range(1, steps + 1):
            state = self._step(self._arrays, state, step_key, units)
            # Reading a value waits for the device, which else runs ahead; so it is done now and then.
            if done % _TICK == 0 or done == steps:
                self._check(state.finite, units, f"the first {done} steps")
                tick(done)
        images = self._image(state.spectra)
        return np.asarray(images), self._values(images, units, "its finished image"), start

    def noise(self, key: jax.Array, units: np.ndarray) -> jax.Array:
        """The spectra to start from, of a batch of units."""
        return self._noise(key, units)

    def values(self, images: np.ndarray, units: np.ndarray) -> np.ndarray:
        """The objective of any number of images and their units."""
        found = []
        for first in range(0, len(units), self._batch):
            of = first, min(first + self._batch, len(units)), self._batch
            found.append(self._values(filled(images, *of), filled(units, *of), "its finished image"))
        return np.concatenate(found)[: len(units)]

    def best(self, images: Any, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For every unit the given image that activates it most, and the objective there."""
        best, most = np.zeros(len(units), np.int64), np.full(len(units), -np.inf)
        for first in range(0, len(images), self._batch):
            stop = min(first + self._batch, len(images))
            given = unit_range(filled(images, first, stop, self._batch))
            values = np.asarray(self._every(self._plain_arrays, given))[: stop - first, units]
            self._check(np.isfinite(values).all(0), units, f"one of images {first} to {stop - 1}")
            at, value = values.argmax(0), values.max(0)
            best, most = np.where(value > most, first + at, best), np.maximum(value, most)
        return best, most

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
