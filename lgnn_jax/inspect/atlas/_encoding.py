"""Arrays and images as the page reads them: packed, quantised, on sheets."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

_SIDE = 48  # Pixels of an image on the page; larger ones are averaged down.
_SMALL = 16  # Images below it are kept without loss; WebP would blur one into the next.
_SMALLER = 32  # Where there are more than _MANY of them.
_MANY = 1500
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PAIRS = 512  # Units of which the likeness of all pairs is kept,
_KEPT = 48  # and how many others of each of more units.
_WEBP = 16383  # Largest side of a WebP, pixels.


def as_bytes(images: Any) -> np.ndarray:
    """Images as bytes in three channels."""
    given = np.asarray(images)
    if given.ndim != 4 or given.shape[-1] not in (1, 3) or 0 in given.shape:
        raise ValueError(f"images must be (images, height, width, 1 or 3), got shape {given.shape}.")
    if np.issubdtype(given.dtype, np.floating):
        if not (given.min() >= 0 and given.max() <= 1):
            raise ValueError(
                f"images of floats must be in [0, 1], got {given.min():g} to {given.max():g}; undo their "
                "normalisation, or give bytes."
            )
        given = np.rint(given * 255).astype(np.uint8)
    if given.dtype != np.uint8:
        raise ValueError(f"images must be uint8 or floats in [0, 1], got {given.dtype}.")
    return np.repeat(given, 3, -1) if given.shape[-1] == 1 else given


def packed(values: np.ndarray, **about: Any) -> dict[str, Any]:
    """An array as the page reads it."""
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"type": values.dtype.name, "shape": list(values.shape), **about, "data": data}


def counted(values: np.ndarray) -> dict[str, Any]:
    """Whole numbers in as few bytes as hold them."""
    small = -(2**15) < values.min(initial=0) and values.max(initial=0) < 2**15
    return packed(values.astype("<i2" if small else "<i4"))


def runs(regions: list[np.ndarray], units: int) -> dict[str, Any]:
    """Regions' members one after the other, the last of each as -1 less its number."""
    ends = [np.append(members[:-1], -1 - members[-1]) for members in regions]
    kind = "<i2" if units < 2**15 else "<i4"
    return packed(np.concatenate(ends).astype(kind) if ends else np.zeros(0, kind))


def likeness(matrix: np.ndarray) -> dict[str, Any]:
    """A symmetric matrix in [-1, 1]: all of it, or of many units the most alike of each."""
    return triangle(matrix) if len(matrix) <= _PAIRS else nearest(matrix, _KEPT)


def triangle(matrix: np.ndarray) -> dict[str, Any]:
    """A symmetric matrix in [-1, 1]: its lower triangle with the diagonal, row by row, in 127ths."""
    return _in_127ths(matrix[np.tril_indices(len(matrix))])


def nearest(matrix: np.ndarray, kept: int) -> dict[str, Any]:
    """Of each row of a matrix in [-1, 1] where the largest values are, best first, and these in 127ths."""
    known = np.where(np.isnan(matrix), -np.inf, matrix)
    chosen = np.argsort(-known, axis=1, kind="stable")[:, :kept]
    return {"nearest": counted(chosen), "values": _in_127ths(np.take_along_axis(matrix, chosen, 1))}


def _in_127ths(values: np.ndarray) -> dict[str, Any]:
    code = np.where(np.isnan(values), -128, np.rint(np.nan_to_num(values) * 127)).astype(np.int8)
    return packed(code, scale=1 / 127, offset=0.0)


def by_column(values: np.ndarray) -> dict[str, Any]:
    """Finite floats ``(rows, columns)`` in 63 steps from the smallest to the largest of their column.

    A code is one character of base64, a quarter less than a byte takes.
    """
    low, high = values.min(0), values.max(0)
    scale, offset = ((high - low) / 63).astype("<f4"), low.astype("<f4")
    code = np.rint((values - offset) / np.where(scale > 0, scale, 1))
    characters = np.frombuffer(_BASE64, np.uint8)[np.clip(code, 0, 63).astype(np.int64)]
    return {
        "type": "base64",
        "shape": list(values.shape),
        "scale": packed(scale),
        "offset": packed(offset),
        "data": characters.tobytes().decode(),
    }


def quantised(values: np.ndarray) -> dict[str, Any]:
    """Floats in 65,535 steps from the smallest to the largest; infinities become these two."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    offset = (low + high) / 2
    scale = max((high - low) / 65534, 1e-30)
    steps = np.rint((np.clip(np.nan_to_num(values, nan=offset), low, high) - offset) / scale)
    code = np.where(np.isnan(values), -32768, np.clip(steps, -32767, 32767)).astype("<i2")
    return packed(code, scale=scale, offset=offset)


def kept_as(count: int, height: int, width: int) -> tuple[int, int, int]:
    """Height, width and quality that so many images of a size have on a sheet."""
    side, quality = (_SIDE, 80) if count <= _MANY else (_SMALLER, 70)
    if max(height, width) > side:
        shrink = side / max(height, width)
        height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
    return height, width, quality


def sheet(images: np.ndarray) -> dict[str, Any]:
    """Images ``(count, height, width, 3)`` of bytes in rows on one WebP."""
    count, *given, _ = images.shape
    height, width, quality = kept_as(count, *given)
    if [height, width] != given:
        size, box = (width, height), Image.Resampling.BOX
        images = np.stack([np.asarray(Image.fromarray(x).resize(size, box)) for x in images])
    columns = math.ceil(math.sqrt(count * height / width))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    canvas = np.full((rows * columns, height, width, 3), 255, np.uint8)
    canvas[:count] = images
    canvas = canvas.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    canvas = canvas.reshape(rows * height, columns * width, 3)
    if max(canvas.shape) > _WEBP:
        raise ValueError(f"{count} images of {height}x{width} do not fit one sheet of the page.")
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "WEBP", lossless=max(height, width) < _SMALL, quality=quality)
    data = base64.b64encode(file.getvalue()).decode()
    return {"count": count, "columns": columns, "height": height, "width": width, "data": data}
