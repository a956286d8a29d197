"""A step's random transforms, as one resampling into a canvas of fixed size."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax.inspect._checks import positive
from lgnn_jax.inspect._feature_vis._setting import Setting

GREY = 0.5  # Of the padding.


class Draw(NamedTuple):
    """The transforms of one step; offsets are of rows and columns."""

    jitter: jax.Array  # int32 (2,).
    scale: jax.Array  # Index into the setting's, int32.
    angle: jax.Array  # Degrees, float32.
    jitter_after: jax.Array  # int32 (2,).


def draw_transforms(key: jax.Array, setting: Setting) -> Draw:
    """One of each transform."""
    before, scale, angle, after = jax.random.split(key, 4)
    integers = functools.partial(jax.random.randint, dtype=jnp.int32)
    which = integers(angle, (), 0, len(setting.angles))
    return Draw(
        integers(before, (2,), 0, setting.jitter + 1),
        integers(scale, (), 0, len(setting.scales)),
        jnp.asarray(setting.angles, jnp.float32)[which],
        integers(after, (2,), 0, setting.jitter_after + 1),
    )


class Sizes(NamedTuple):
    """Heights and widths in the course of the transforms, by scale where they depend on it."""

    padded: np.ndarray  # Less jitter, (2,).
    scaled: np.ndarray  # (scales, 2).
    final: np.ndarray  # (scales, 2).
    canvas: tuple[int, int]  # The largest of the final ones, and at least the image's.


def sizes_of(setting: Setting, size: tuple[int, int]) -> Sizes:
    """The sizes of images ``size``, a height and a width, in the course of a setting's transforms."""
    padded = np.asarray(size) + 2 * setting.pad - setting.jitter
    scaled = np.floor(np.outer(setting.scales, padded) + 1e-6).astype(np.int64)
    final = scaled - setting.jitter_after
    height, width = np.maximum(final.max(0), size).tolist()
    return Sizes(padded, scaled, final, (height, width))


def check_shape(shape: Any, setting: Setting) -> tuple[int, int, int]:
    """Height, width and channels of images of which the transforms leave something."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"shape must be (height, width, channels), got {shape!r}.")
    height, width, channels = (positive("every size of shape", size) for size in shape)
    if setting.decorrelate and channels not in (1, 3):
        raise ValueError(
            f"Colours of {channels} channels cannot be decorrelated; give a setting with decorrelate=False."
        )
    lost = setting.jitter - setting.pad + setting.jitter_after / min(setting.scales)
    if lost >= min(height, width) or min(map(min, sizes_of(setting, (height, width)).final.tolist())) < 1:
        raise ValueError(
            f"The setting's transforms can leave nothing of an image of {height}x{width}: jitter less pad, plus "
            f"jitter_after over the smallest scale, is {lost:g} pixels. Use less jitter or more pad."
        )
    return height, width, channels


def transform(images: jax.Array, draw: Draw, setting: Setting) -> jax.Array:
    """Images ``(batch, height, width, channels)`` on their canvases ``(batch, *canvas, channels)``.

    Canvas pixel ``p`` shows the image at ``A p + b``. Resampling along one dimension is a product of
    matrices, which accelerators are made for. So there are two passes: a row ``r`` of the image is first
    resampled at the columns at which the canvas's columns cross it, then those columns are resampled.
    """
    size = images.shape[1], images.shape[2]
    sizes = sizes_of(setting, size)
    scaled = jnp.asarray(sizes.scaled, jnp.float32)[draw.scale]
    final = jnp.asarray(sizes.final, jnp.float32)[draw.scale]
    ratio = np.asarray(sizes.padded, np.float32) / scaled
    # Backwards from the canvas: undo the last crop, turn about the middle by R, undo the scaling (ratio, with
    # pixel 0 on pixel 0), undo the first crop and the padding. So A = ratio R, and b is where pixel (0, 0) lies.
    angle = jnp.deg2rad(draw.angle)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a = jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])]) * ratio[:, None]
    middle = (scaled - 1) / 2
    before, after = draw.jitter.astype(jnp.float32), draw.jitter_after.astype(jnp.float32)
    b = (a * (after - middle)[None]).sum(1) + ratio * middle + before - setting.pad

    i, j = (jnp.arange(length, dtype=jnp.float32) for length in sizes.canvas)
    on_rows, on_columns = (i < final[0]).astype(jnp.float32), (j < final[1]).astype(jnp.float32)
    r, c = (jnp.arange(length, dtype=jnp.float32) for length in size)
    # Row r = A00 i + A01 j + b0 of the image, solved for the canvas row i in which column j crosses it; A00 is
    # at least cos 45 degrees times the ratio, so the division is safe.
    crossing = (r[:, None] - b[0] - a[0, 1] * j[None]) / a[0, 0]  # Canvas rows (height, canvas width).
    across = _tent(a[1, 0] * crossing + a[1, 1] * j[None] + b[1], c) * on_columns[None, :, None]
    down = _tent(a[0, 0] * i[None] + a[0, 1] * j[:, None] + b[0], r) * on_rows[None, :, None]

    # Less grey, so that what lies outside the image or the scaled size, where weights are 0, is grey.
    rows = jnp.moveaxis(images - GREY, 0, 2).reshape(*size, -1)  # (height, width, batch * channels).
    passed = jnp.einsum("rjc,rcn->jrn", across, rows, precision="highest")
    canvas = jnp.einsum("jir,jrn->ijn", down, passed, precision="highest")
    canvas = canvas.reshape(*sizes.canvas, len(images), -1)
    return jnp.moveaxis(canvas, 2, 0) + GREY


def _tent(at: jax.Array, places: jax.Array) -> jax.Array:
    """Weights ``(*at.shape, places)`` of linear interpolation; they add up to less than 1 outside."""
    return jnp.maximum(0, 1 - jnp.abs(at[..., None] - places[None, None]))
