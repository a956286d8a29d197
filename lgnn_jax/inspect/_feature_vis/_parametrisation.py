"""Images as spectra with decorrelated colours."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

_STD = 0.01  # Of the starting spectrum.
_FAINTEST = 0.01  # Black of a given image; of true black the sigmoid's inverse is infinite.
# Colours of photographs are correlated. The columns, from the covariance of ImageNet's colours, are brightness,
# red against blue, and green against magenta, each as long as colours vary along it, the longest 1 (Lucid).
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOURS /= np.linalg.norm(_COLOURS, axis=0).max()


def frequencies(height: int, width: int) -> np.ndarray:
    """Absolute frequencies of a real spectrum, in 1 / pixel; an odd width has one column more (Lucid)."""
    columns = np.fft.fftfreq(width)[: width // 2 + 1 + width % 2]
    return np.hypot(np.fft.fftfreq(height)[:, None], columns[None])


def starting_spectra(key: jax.Array, units: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Spectra ``(batch, 2, channels, height, columns)``, real and imaginary part."""
    size = (2, shape[2], *frequencies(*shape[:2]).shape)

    def flat(unit: jax.Array) -> jax.Array:  # Compiling it in several dimensions takes seconds on a CPU.
        return jax.random.normal(jax.random.fold_in(key, unit), (math.prod(size),), jnp.float32)

    return _STD * jax.vmap(flat)(units).reshape(-1, *size)


def spectra_of(images: np.ndarray, decorrelate: bool) -> np.ndarray:
    """The spectra of images in [0, 1], float32; :func:`to_images` gives these back, if not black or white."""
    pixels = np.clip(np.asarray(images, np.float64), _FAINTEST, 1 - _FAINTEST)
    pixels = np.moveaxis(np.log(pixels / (1 - pixels)), -1, 1)
    height, width = pixels.shape[2:]
    if decorrelate and pixels.shape[1] == 3:
        pixels = np.einsum("ck,bkhw->bchw", np.linalg.inv(_COLOURS), pixels)
    even = np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, width % 2)), mode="edge")
    spectra = np.fft.rfft2(4 * even) / _scale(height, width)
    return np.stack([spectra.real, spectra.imag], 1).astype(np.float32)


def to_images(spectra: jax.Array, shape: tuple[int, int, int], decorrelate: bool) -> jax.Array:
    """Images ``(batch, height, width, channels)`` in [0, 1]."""
    height, width, channels = shape
    scaled = spectra * np.asarray(_scale(height, width), np.float32)[None, None, None]
    size = (height, width + width % 2)  # irfft2 makes even widths; the column too many is cut off.
    images = jnp.fft.irfft2(jax.lax.complex(scaled[:, 0], scaled[:, 1]), s=size)[..., :width] / 4
    if decorrelate and channels == 3:
        # The spectrum's channels are independent, its images' colours the columns' mixture of them.
        colours = np.asarray(_COLOURS, np.float32)
        images = jnp.einsum("kc,bchw->bkhw", colours, images, precision="highest")
    return jax.nn.sigmoid(jnp.moveaxis(images, 1, -1))  # No clipping: gradients reach every pixel.


def _scale(height: int, width: int) -> np.ndarray:
    """What a coefficient of a spectrum counts, by frequency."""
    # The transform back divides by height * width; with the square root it keeps lengths. In photographs
    # amplitudes fall with the frequency f, so a coefficient counts 1 / f: a step of Adam, which is as large for
    # all of them, then draws coarse forms before fine ones. The mean (f = 0) counts as one wave over the
    # longer side.
    return math.sqrt(width * height) / np.maximum(frequencies(height, width), 1 / max(width, height))
