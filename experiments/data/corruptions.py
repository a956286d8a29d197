"""Images made worse, one severity each: what a network meets beside clean ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

_NOISE = 0.1  # Std, of 1.
_BLUR = 1.0  # Std, in pixels.
_CONTRAST = 0.4  # Factor on the distance from an image's mean.
_BRIGHTNESS = 0.3  # Added, of 1.
_JPEG = 15  # Quality.
_OCCLUDED = 12  # Side of a grey square at a random place, in pixels.

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _noise(images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return _bytes(images + 255 * _NOISE * draw.standard_normal(images.shape, np.float32))


def _blur(images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return _bytes(gaussian_filter(images.astype(np.float32), (0, _BLUR, _BLUR, 0)))


def _contrast(images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    mean = images.mean((1, 2, 3), keepdims=True)
    return _bytes(mean + _CONTRAST * (images - mean))


def _brightness(images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return _bytes(images + np.float32(255 * _BRIGHTNESS))


def _jpeg(images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    def through(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=_JPEG)
        return np.asarray(Image.open(file))

    return np.stack([through(image) for image in images])


def _occlusion(images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    places = draw.integers(0, images.shape[1] - _OCCLUDED + 1, (len(images), 2))
    worse = images.copy()
    for image, (top, left) in zip(worse, places, strict=True):
        image[top : top + _OCCLUDED, left : left + _OCCLUDED] = 127
    return worse


# By name with its severity: from images uint8 (images, 32, 32, 3) to the same of them made worse.
CORRUPTIONS: Mapping[str, Corruption] = {
    f"noise (std {_NOISE:g})": _noise,
    f"blur (std {_BLUR:g} pixel)": _blur,
    f"contrast (x {_CONTRAST:g})": _contrast,
    f"brightness (+ {_BRIGHTNESS:g})": _brightness,
    f"JPEG (quality {_JPEG})": _jpeg,
    f"occlusion ({_OCCLUDED}x{_OCCLUDED})": _occlusion,
}
