"""Feature visualisation: for every channel of a layer a picture that excites it, many channels at once.

A picture is the sigmoid of a spectrum with decorrelated colours; Adam raises a channel's response to random
crops, scales and rotations of it. This is Lucid's default method (:data:`LUCID`); :data:`SMALL` is the same
with transforms made for small pictures. The random transforms of a step are one resampling into a canvas of
fixed size, so that everything is compiled once. It differs from Lucid's in that

- it interpolates once, bilinearly (along the rows, then along the columns), where Lucid interpolates to
  scale and takes the nearest pixel to rotate;
- the corners that a rotation leaves are grey, as the padding is, and not black;
- where a step's picture is smaller than the canvas the rest is grey, which convolutions see in place of their
  own padding, and the objective is over those places of the map whose middle is on the picture;
- Adam's epsilon is far smaller, so that channels with tiny weights are raised as others are.

Source:
  Olah, Mordvintsev, Schubert, Feature Visualization, Distill 2017; https://github.com/tensorflow/lucid
  (``optvis``).
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lgnn_jax.inspect._accumulate import Responses
from lgnn_jax.inspect._checks import filled, positive

_DEVIATION = 0.01  # Of the starting spectrum.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOURS /= np.linalg.norm(_COLOURS, axis=0).max()
_EPSILON = 1e-16  # Of Adam; Lucid's 1e-8 is above the gradients of channels with tiny weights.
_GREY = 0.5
_STEEPEST = 45.0  # Degrees; steeper rotations cannot be resampled along rows and then columns.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)  # Relative; a channel raised by less is not raised.
_TICK = 8  # Steps between reports.


def _pixels(name: str, value: Any) -> int:
    try:
        pixels = operator.index(value)
    except TypeError:
        pixels = -1
    if pixels < 0 or isinstance(value, bool):
        raise ValueError(f"{name} must be a number of pixels, an integer from 0, got {value!r}.")
    return pixels


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite numbers, at least one, got {values!r}.")
    return numbers


@dataclasses.dataclass(frozen=True)
class Setting:
    """How pictures are made; the defaults are Lucid's, for pictures of 128 pixels and more.

    Every step draws one of each transform, applied in this order: pad with grey, crop by ``jitter``, scale,
    rotate about the middle, crop by ``jitter_after``.

    Args:
      steps: Steps of Adam, positive.
      learning_rate: Adam's, positive.
      decorrelate: Whether the spectrum is of decorrelated colours, which needs three channels; pictures of
        one channel are made without.
      pad: Pixels of grey on every side, at least 0.
      jitter: Pixels to crop in each dimension, at a random place, at least 0.
      scales: Factors on the size, positive, each as likely.
      angles: Degrees of rotation, counterclockwise, from -45 to 45, each as likely.
      jitter_after: Pixels to crop at last, as ``jitter``.

    Raises:
      ValueError: If a value is out of range.

    Example:
      >>> import dataclasses
      >>> from lgnn_jax.inspect import SMALL
      >>> thorough = dataclasses.replace(SMALL, steps=1024)
    """

    steps: int = 512
    learning_rate: float = 0.05
    decorrelate: bool = True
    pad: int = 12
    jitter: int = 8
    scales: tuple[float, ...] = tuple(1 + (i - 5) / 50 for i in range(11))
    angles: tuple[float, ...] = (*range(-10, 11), *5 * (0,))
    jitter_after: int = 4

    def __post_init__(self) -> None:
        """Checks the values and makes tuples of floats."""
        object.__setattr__(self, "steps", positive("steps", self.steps))
        for name in ("pad", "jitter", "jitter_after"):
            object.__setattr__(self, name, _pixels(name, getattr(self, name)))
        if not isinstance(self.decorrelate, bool):
            raise ValueError(f"decorrelate must be True or False, got {self.decorrelate!r}.")
        rate = _numbers("learning_rate", (self.learning_rate,))[0]
        if rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {rate:g}.")
        for name in ("scales", "angles"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if min(self.scales) <= 0:
            raise ValueError(f"scales must be positive, got {min(self.scales):g}.")
        if max(map(abs, self.angles)) > _STEEPEST:
            raise ValueError(
                f"angles must be from -{_STEEPEST:g} to {_STEEPEST:g} degrees, got {max(self.angles, key=abs):g}."
            )


LUCID = Setting()
# For pictures of about 32 pixels: a crop that keeps the size, and a quarter of the steps at twice the rate.
SMALL = Setting(
    steps=128,
    learning_rate=0.1,
    pad=2,
    jitter=4,
    scales=(0.95, 0.975, 1.0, 1.025, 1.05),
    angles=(-5, -4, -3, -2, -1, 0, 0, 0, 1, 2, 3, 4, 5),
    jitter_after=0,
)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureVisualisation:
    """Pictures that excite a layer's channels; made by :func:`visualise`.

    Args:
      layer: The layer's name.
      units: The channels, integers ``(count,)``.
      pictures: In [0, 1], float32 ``(count, height, width, channels)``; plain grey where ``dead``.
      values: The objective of each picture as it is, without transforms, ``(count,)``.
      start: Likewise of the picture that the channel's optimisation started from.
      dead: Channels that no picture was found for, booleans ``(count,)``: the steps led to none that excites
        the channel more than the starting one, to float32's precision. So it is where no gradient reaches
        the picture.
    """

    layer: str
    units: np.ndarray
    pictures: np.ndarray
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
    """A picture for every channel of a layer that excites it as much as possible.

    A channel's picture depends on ``key`` and on its index; to rounding, which the steps amplify, it does
    not depend on the other channels, on the batch or on its place there. Everything is compiled once a call.

    Args:
      responses: ``responses(images)`` gives by layer an array ``(batch, ..., units)``, the dots being
        space, as :func:`lgnn_jax.inspect.linen_responses` does; JAX must be able to differentiate
        it. Images are floats in [0, 1] ``(batch, height, width, channels)``: subtracting the data set's
        mean and dividing by its deviation is up to ``responses``. It is called with canvases whose size
        depends on the setting, and an image's responses must not depend on the others of its batch.
      layer: A name that ``responses`` returns.
      units: Channels, integers ``(count,)``; one may come twice. None for all.
      key: A key, of either kind.
      setting: Steps and transforms: :data:`SMALL`, :data:`LUCID`, or others.
      shape: Height, width and channels of the pictures.
      objective: ``channel``, the mean over space of the channel's map, or ``neuron``, the value in the
        middle of it (at half of its size, rounded down).
      batch: Pictures at a time, positive.
      progress: Called as ``progress(done, total)`` with numbers of steps, those of all batches together.

    Returns:
      The pictures with their values; see :class:`FeatureVisualisation`.

    Raises:
      ValueError: If an argument is out of range, nothing is left of a picture by the setting's transforms,
        the network does not take their canvas, or an objective is NaN or infinite.

    Example:
      >>> import dataclasses, jax, jax.numpy as jnp
      >>> from lgnn_jax.inspect import SMALL, visualise
      >>> def responses(images):  # How red a picture is, and how dark.
      ...     return {"colour": jnp.stack([images[..., 0], -images.mean(-1)], -1)}
      >>> setting = dataclasses.replace(SMALL, steps=20)
      >>> found = visualise(responses, "colour", key=jax.random.key(0), setting=setting, shape=(8, 8, 3))
      >>> found.pictures.shape, found.dead.tolist(), (found.values > found.start).tolist()
      ((2, 8, 8, 3), [False, False], [True, True])

    Source:
      Lucid's ``render_vis`` with ``param.image(fft=True, decorrelate=True)``.
    """
    height, width, channels = _check_shape(shape, setting)
    if objective not in ("channel", "neuron"):
        raise ValueError(f"objective must be 'channel' or 'neuron', got {objective!r}.")
    batch = positive("batch", batch)
    network = _Network(responses, layer, (height, width, channels), setting)
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
    pictures, values, start, dead = (
        np.concatenate(field)[: len(chosen)] for field in zip(*parts, strict=True)
    )
    return FeatureVisualisation(layer, chosen, pictures, values, start, dead)


def excitation(responses: Responses, layer: str, images: Any, *, batch: int = 256) -> np.ndarray:
    """How much every image excites every channel: the means over space of a layer's maps.

    The last batch is filled up with the first image, so that ``responses`` sees one shape.

    Args:
      responses: As for :func:`visualise`; it need not be differentiable.
      layer: A name that ``responses`` returns.
      images: In [0, 1], floats ``(images, height, width, channels)``, or uint8, which is divided by 255.
      batch: Images at a time, positive.

    Returns:
      float32 ``(images, units)``.

    Raises:
      ValueError: If an image is not in [0, 1], there is none, or a response is NaN or infinite.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect import excitation
      >>> images = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2, 1, 1)
      >>> excitation(lambda x: {"input": 3 * x}, "input", images).tolist()
      [[0.5], [2.5]]
    """
    count = len(images)
    if not count:
        raise ValueError("images must hold at least one image, got none.")
    batch = min(positive("batch", batch), count)
    found = []
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        maps = _layer_of(responses(_unit_range(filled(images, start, stop, batch))), layer)
        means = np.asarray(maps, np.float32).reshape(batch, -1, maps.shape[-1]).mean(1)[: stop - start]
        if not np.isfinite(means).all():
            image, unit = np.argwhere(~np.isfinite(means))[0]
            raise ValueError(
                f"Responses of {layer!r} are NaN or infinite, first unit {unit} to image {start + image}."
            )
        found.append(means)
    return np.concatenate(found)


class Beyond(NamedTuple):
    """How channels' pictures stand among a data set's; made by :func:`share_beyond`."""

    units: np.ndarray  # The channels, integers (count,).
    percentile: (
        np.ndarray
    )  # Images in % that excite the channel less than its picture; NaN if dead, (count,).
    beyond: (
        np.ndarray
    )  # Whether the picture excites its channel beyond the quantile; False if dead, (count,).
    share: float  # Of channels that are not dead, those beyond, in [0, 1]; NaN if all are dead.


def share_beyond(
    visualisation: FeatureVisualisation,
    responses: Responses,
    images: Any,
    quantile: float = 0.99,
    *,
    batch: int = 256,
) -> Beyond:
    """Which channels' pictures excite them more than nearly all images of a data set do.

    Excitation is the mean over space, of pictures without transforms.

    Args:
      visualisation: A layer's.
      responses: As :func:`visualise` had it.
      images: As for :func:`excitation`; test images.
      quantile: Of the images' excitations, in [0, 1].
      batch: Images at a time, positive.

    Returns:
      See :class:`Beyond`.

    Raises:
      ValueError: If the quantile is out of range, or as :func:`excitation`.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect import FeatureVisualisation, share_beyond
      >>> pictures, one = np.full((1, 2, 2, 1), 0.8, np.float32), np.ones(1)
      >>> made = FeatureVisualisation("input", np.array([0]), pictures, one, one, one < 0)
      >>> images = np.linspace(0, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1) * np.ones((1, 2, 2, 1), np.float32)
      >>> share_beyond(made, lambda x: {"input": x}, images, quantile=0.5).percentile.tolist()
      [75.0]
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be from 0 to 1, got {quantile!r}.")
    layer, units, dead = visualisation.layer, visualisation.units, visualisation.dead
    seen = excitation(responses, layer, images, batch=batch)
    made = excitation(responses, layer, visualisation.pictures, batch=batch)
    if units.max() >= seen.shape[1]:
        raise ValueError(
            f"The visualisation is of unit {units.max()}, but {layer!r} has {seen.shape[1]} units. Give the "
            "responses that it was made with."
        )
    seen, made = seen[:, units], made[np.arange(len(units)), units]
    beyond = (made > np.quantile(seen, quantile, axis=0)) & ~dead
    percentile = np.where(dead, np.nan, 100 * (seen < made[None]).mean(0))
    share = float(beyond.sum() / (~dead).sum()) if not dead.all() else math.nan
    return Beyond(units, percentile, beyond, share)


# Pictures.


def _frequencies(height: int, width: int) -> np.ndarray:
    """Absolute frequencies of a real spectrum, in 1 / pixel; an odd width has one column more (Lucid)."""
    columns = np.fft.fftfreq(width)[: width // 2 + 1 + width % 2]
    return np.hypot(np.fft.fftfreq(height)[:, None], columns[None])


def _start(key: jax.Array, units: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Spectra ``(batch, 2, channels, height, columns)``, real and imaginary part."""
    size = (2, shape[2], *_frequencies(*shape[:2]).shape)

    def flat(unit: jax.Array) -> jax.Array:  # Compiling it in several dimensions takes seconds on a CPU.
        return jax.random.normal(jax.random.fold_in(key, unit), (math.prod(size),))

    return _DEVIATION * jax.vmap(flat)(units).reshape(-1, *size)


def _pictures(spectra: jax.Array, shape: tuple[int, int, int], decorrelate: bool) -> jax.Array:
    """Pictures ``(batch, height, width, channels)`` in [0, 1]."""
    height, width, channels = shape
    scale = math.sqrt(width * height) / np.maximum(_frequencies(height, width), 1 / max(width, height))
    scaled = spectra * np.asarray(scale, np.float32)[None, None, None]
    size = (height, width + width % 2)
    pictures = jnp.fft.irfft2(jax.lax.complex(scaled[:, 0], scaled[:, 1]), s=size)[..., :width] / 4
    if decorrelate and channels == 3:
        colours = np.asarray(_COLOURS, np.float32)
        pictures = jnp.einsum("kc,bchw->bkhw", colours, pictures, precision="highest")
    return jax.nn.sigmoid(jnp.moveaxis(pictures, 1, -1))


# Transforms.


class _Draw(NamedTuple):
    """The transforms of one step; offsets are of rows and columns."""

    jitter: jax.Array  # int32 (2,).
    scale: jax.Array  # Index into the setting's, int32.
    angle: jax.Array  # Degrees, float32.
    jitter_after: jax.Array  # int32 (2,).


def _draw(key: jax.Array, setting: Setting) -> _Draw:
    """One of each transform."""
    before, scale, angle, after = jax.random.split(key, 4)
    which = jax.random.randint(angle, (), 0, len(setting.angles))
    return _Draw(
        jax.random.randint(before, (2,), 0, setting.jitter + 1),
        jax.random.randint(scale, (), 0, len(setting.scales)),
        jnp.asarray(setting.angles, jnp.float32)[which],
        jax.random.randint(after, (2,), 0, setting.jitter_after + 1),
    )


class _Sizes(NamedTuple):
    """Heights and widths in the course of the transforms, by scale where they depend on it."""

    padded: np.ndarray  # Less jitter, (2,).
    scaled: np.ndarray  # (scales, 2).
    final: np.ndarray  # (scales, 2).
    canvas: tuple[int, int]  # The largest of the final ones, and at least the picture's.


def _sizes(setting: Setting, size: tuple[int, int]) -> _Sizes:
    padded = np.asarray(size) + 2 * setting.pad - setting.jitter
    scaled = np.floor(np.outer(setting.scales, padded) + 1e-6).astype(np.int64)
    final = scaled - setting.jitter_after
    height, width = np.maximum(final.max(0), size).tolist()
    return _Sizes(padded, scaled, final, (height, width))


def _transformed(pictures: jax.Array, draw: _Draw, setting: Setting) -> jax.Array:
    """Pictures ``(batch, height, width, channels)`` on their canvases ``(batch, *canvas, channels)``.

    Canvas pixel ``p`` shows the picture at ``A p + b``. For the two passes, a row ``r`` of the picture is
    first resampled at the columns at which the canvas's columns cross it, then those columns are resampled.
    """
    size = pictures.shape[1], pictures.shape[2]
    sizes = _sizes(setting, size)
    scaled = jnp.asarray(sizes.scaled, jnp.float32)[draw.scale]
    final = jnp.asarray(sizes.final, jnp.float32)[draw.scale]
    ratio = np.asarray(sizes.padded, np.float32) / scaled
    angle = jnp.deg2rad(draw.angle)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a = jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])]) * ratio[:, None]
    middle = (scaled - 1) / 2
    b = (a * (draw.jitter_after - middle)[None]).sum(1) + ratio * middle + draw.jitter - setting.pad

    i, j = (jnp.arange(length, dtype=jnp.float32) for length in sizes.canvas)
    r, c = (jnp.arange(length, dtype=jnp.float32) for length in size)
    crossing = (r[:, None] - b[0] - a[0, 1] * j[None]) / a[0, 0]  # Canvas rows (height, canvas width).
    across = _tent(a[1, 0] * crossing + a[1, 1] * j[None] + b[1], c) * (j < final[1])[None, :, None]
    down = _tent(a[0, 0] * i[None] + a[0, 1] * j[:, None] + b[0], r) * (i < final[0])[None, :, None]

    rows = jnp.moveaxis(pictures - _GREY, 0, 2).reshape(*size, -1)  # (height, width, batch * channels).
    passed = jnp.einsum("rjc,rcn->jrn", across, rows, precision="highest")
    canvas = jnp.einsum("jir,jrn->ijn", down, passed, precision="highest")
    canvas = canvas.reshape(*sizes.canvas, len(pictures), -1)
    return jnp.moveaxis(canvas, 2, 0) + _GREY


def _tent(at: jax.Array, places: jax.Array) -> jax.Array:
    """Weights ``(*at.shape, places)`` of linear interpolation; they add up to less than 1 outside."""
    return jnp.maximum(0, 1 - jnp.abs(at[..., None] - places[None, None]))


# Objective and optimisation.


def _objective(maps: jax.Array, units: jax.Array, counts: jax.Array, kind: str) -> jax.Array:
    """Each picture's objective ``(batch,)``: that of its unit on the first ``counts`` places of its map."""
    maps = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
    for dimension in range(maps.ndim - 2):
        places, count = jnp.arange(maps.shape[1]), counts[dimension]
        weights = (places < count) / count if kind == "channel" else places == count // 2
        maps = jnp.tensordot(weights.astype(maps.dtype), maps, (0, 1), precision="highest")
    return jnp.take_along_axis(maps, units[:, None], 1)[:, 0]


def _counts(sizes: _Sizes, places: tuple[int, ...]) -> np.ndarray:
    """By scale how many places of a layer's map, in each dimension, have their middle on the picture.

    int32 ``(scales, dimensions)``; all of them where the map has not two dimensions.
    """
    if len(places) != 2:
        return np.tile(np.asarray(places, np.int32), (len(sizes.final), 1))
    exact = sizes.final * np.asarray(places) / np.asarray(sizes.canvas)
    return np.clip(np.ceil(exact - 0.5), 1, places).astype(np.int32)


class _Network:
    """A layer's responses as a function of the network's arrays and of images, with the sizes of its maps."""

    def __init__(self, responses: Responses, layer: str, shape: tuple[int, int, int], setting: Setting):
        self.shape, sizes = shape, _sizes(setting, shape[:2])
        self._maps = lambda images: _layer_of(responses(images), layer)
        self.layer = layer
        plain = self._shape(shape[:2])
        try:
            on_canvas = self._shape(sizes.canvas)
        except Exception as error:
            raise ValueError(
                f"The network takes pictures of {_by(shape[:2])} but not the canvas of {_by(sizes.canvas)} that "
                "the setting's transforms need. Use a setting that keeps the size, with 2 * pad = jitter + "
                "jitter_after and a single scale: dataclasses.replace(SMALL, scales=(1.0,))."
            ) from error
        self.units = plain[-1]
        self.plain = np.asarray(plain[1:-1], np.int32)
        self.counts = _counts(sizes, on_canvas[1:-1])

    def _shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of the layer's output for one picture."""
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
        closed = jax.make_jaxpr(self._maps)(images)

        def apply(arrays: Any, images: jax.Array) -> jax.Array:
            return jax.core.eval_jaxpr(closed.jaxpr, arrays, images)[0]

        return apply, jax.device_put(closed.consts)


class _State(NamedTuple):
    """What a step changes."""

    step: jax.Array  # int32.
    spectra: jax.Array
    adam: Any
    finite: jax.Array  # Whether every objective was finite, booleans (batch,).


class _Program:
    """The compiled functions for batches of pictures."""

    def __init__(self, network: _Network, setting: Setting, objective: str, batch: int):
        self._network, self._setting = network, setting
        shape, adam = network.shape, optax.adam(setting.learning_rate, eps=_EPSILON)
        counts, plain = jnp.asarray(network.counts), jnp.asarray(network.plain)
        on_canvas, self._arrays = network.hoisted(_sizes(setting, shape[:2]).canvas, batch)
        on_picture, self._plain_arrays = network.hoisted(shape[:2], batch)

        def picture(spectra):
            return _pictures(spectra, shape, setting.decorrelate)

        def start(key, units):
            spectra = _start(key, units, shape)
            return _State(jnp.int32(0), spectra, adam.init(spectra), jnp.ones(batch, bool))

        def step(arrays, state, key, units):
            draw = _draw(jax.random.fold_in(key, state.step), setting)

            def loss(spectra):
                maps = on_canvas(arrays, _transformed(picture(spectra), draw, setting))
                values = _objective(maps, units, counts[draw.scale], objective)
                return -values.sum(), values

            gradient, values = jax.grad(loss, has_aux=True)(state.spectra)
            updates, moments = adam.update(gradient, state.adam)
            finite = state.finite & jnp.isfinite(values)
            spectra = optax.apply_updates(state.spectra, updates)
            return _State(state.step + 1, spectra, moments, finite)

        def value(arrays, pictures, units):
            return _objective(on_picture(arrays, pictures), units, plain, objective)

        self._picture, self._start, self._value = jax.jit(picture), jax.jit(start), jax.jit(value)
        self._step = jax.jit(step, donate_argnums=1)

    def run(
        self, units: np.ndarray, start_key: jax.Array, step_key: jax.Array, tick: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Pictures, values, starting values and which are dead, of a batch of units."""
        state, steps = self._start(start_key, units), self._setting.steps
        start = self._values(self._picture(state.spectra), units, "its starting picture")
        for done in range(1, steps + 1):
            state = self._step(self._arrays, state, step_key, units)
            if done % _TICK == 0 or done == steps:
                self._check(state.finite, units, f"the first {done} steps")
                tick(done)
        pictures = self._picture(state.spectra)
        values = self._values(pictures, units, "its finished picture")
        dead = values - start <= _ROUNDING * np.maximum(np.abs(values), np.abs(start))
        pictures = np.where(dead[:, None, None, None], np.float32(_GREY), np.asarray(pictures))
        if dead.any():
            values = self._values(pictures, units, "plain grey")
        return pictures, values, start, dead

    def _values(self, pictures: Any, units: np.ndarray, name: str) -> np.ndarray:
        values = np.asarray(self._value(self._plain_arrays, pictures, units))
        self._check(np.isfinite(values), units, name)
        return values

    def _check(self, finite: Any, units: np.ndarray, name: str) -> None:
        bad = np.flatnonzero(~np.asarray(finite))
        if len(bad):
            raise ValueError(
                f"The objective of unit {units[bad[0]]} of {self._network.layer!r} is NaN or infinite for {name}. "
                "Check the network's weights and the normalisation inside responses."
            )


# Checks.


def _layer_of(found: Any, layer: str) -> Any:
    """The array of a layer, at least ``(batch, units)``."""
    if layer not in found:
        raise ValueError(f"Unknown layer {layer!r}. responses returns: {', '.join(map(str, found))}.")
    return found[layer]


def _unit_range(images: Any) -> jax.Array:
    """Images as float32 in [0, 1]."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return jnp.asarray(images.astype(np.float32) / 255)
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be floats in [0, 1] or uint8, got {images.dtype}.")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"images must be in [0, 1], got values from {images.min():g} to {images.max():g}. Normalise them "
            "inside responses."
        )
    return jnp.asarray(images, jnp.float32)


def _check_shape(shape: Any, setting: Setting) -> tuple[int, int, int]:
    """Height, width and channels of pictures of which the transforms leave something."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"shape must be (height, width, channels), got {shape!r}.")
    height, width, channels = (positive("every size of shape", size) for size in shape)
    if setting.decorrelate and channels not in (1, 3):
        raise ValueError(
            f"Colours of {channels} channels cannot be decorrelated; give a setting with decorrelate=False."
        )
    lost = setting.jitter - setting.pad + setting.jitter_after / min(setting.scales)
    if lost >= min(height, width) or min(map(min, _sizes(setting, (height, width)).final.tolist())) < 1:
        raise ValueError(
            f"The setting's transforms can leave nothing of a picture of {height}x{width}: jitter less pad, plus "
            f"jitter_after over the smallest scale, is {lost:g} pixels. Use less jitter or more pad."
        )
    return height, width, channels


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


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
