"""Encoded pictures of any kind to 32x32 RGB arrays."""

from __future__ import annotations

import collections
import io
from typing import TYPE_CHECKING

import numpy as np

from experiments.data.dataset import SIZE

if TYPE_CHECKING:
    from PIL import Image

_GREY = ("1", "L")
_WITH_ALPHA = (
    *_GREY,
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
)  # An own channel, or a colour or index that is transparent.


class Decoder:
    """Decodes pictures to ``(32, 32, 3)`` uint8 and keeps count of what had to be changed.

    Grey pictures become three equal channels. Other sizes are resampled as a whole: averaged over areas
    when they shrink, interpolated linearly when they grow. An alpha channel that is opaque everywhere is dropped.
    Pictures with another one, in CMYK or another colour space, and unreadable ones are a ``ValueError`` that names
    them.
    """

    def __init__(self):
        self._changes: collections.Counter[str] = collections.Counter()

    def __call__(self, encoded: bytes, name: str) -> np.ndarray:
        """The picture in ``encoded``, called ``name`` in errors."""
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            image = Image.open(io.BytesIO(encoded))
            image.load()
            if image.getexif():
                image = ImageOps.exif_transpose(image)
        except UnidentifiedImageError:
            raise ValueError(f"{name} is not a readable image: its format is unknown") from None
        except Exception as error:  # PIL raises a dozen kinds, from OSError to struct.error.
            raise ValueError(f"{name} is not a readable image: {error}") from None
        return self.convert(image, name)

    def convert(self, image: Image.Image, name: str) -> np.ndarray:
        """The same for a picture that is already open."""
        from PIL import Image

        if image.has_transparency_data and image.mode in _WITH_ALPHA:
            opened = image.convert("RGBA")
            if opened.getchannel("A").getextrema() != (255, 255):
                raise ValueError(
                    f"{name} has an alpha channel (mode {image.mode}); flatten it onto a background first."
                )
            self._changes["opaque alpha channels dropped"] += 1
            image = opened.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        if image.mode in _GREY:
            self._changes["grey pictures given three channels"] += 1
        elif image.mode not in ("RGB", "P"):
            raise ValueError(f"{name} is in mode {image.mode}; convert it to RGB or 8-bit grey first.")
        image = image if image.mode == "RGB" else image.convert("RGB")
        if image.size != (SIZE, SIZE):
            width, height = image.size
            self._changes[f"pictures resampled to {SIZE}x{SIZE}"] += 1
            if min(width, height) >= SIZE:
                image = image.resize((SIZE, SIZE), Image.Resampling.BOX)
            else:
                image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return np.asarray(image)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed, a sentence each."""
        return tuple(f"{count} {what}" for what, count in sorted(self._changes.items()))
