"""Images with their classes, from a folder or a file of NumPy's."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

_KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class Labelled(NamedTuple):
    """Images as bytes ``(images, height, width, 1 or 3)``, their classes, and the names of these."""

    images: np.ndarray
    labels: np.ndarray
    class_names: list[str]


def read(
    where: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    most: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Labelled:
    """Images of ``folder:PATH``, a folder of one folder a class, or of ``npz:FILE``.

    Args:
      where: ``folder:PATH``; or ``npz:FILE`` with ``images`` and ``labels`` and, maybe, ``class_names``.
      channels: 3 for colours or 1 for grey, of a folder's images; a file's stay as they are.
      size: Height and width to bring images to: scaled until they cover it, and cut in the middle.
      most: Images of a class at most, the first by name; None for all.
      progress: Called as ``progress(done, total)`` with numbers of files.

    Raises:
      ValueError: If there is no such folder or file, no image, a file is none, or sizes differ and none is said.
    """
    kind, _, name = where.partition(":")
    path = pathlib.Path(name).expanduser()
    if kind not in ("folder", "npz") or not name:
        raise ValueError(f"Images are given as folder:PATH or npz:FILE, got {where!r}.")
    found = _folder(path, size, channels, most, progress) if kind == "folder" else _npz(path, size, most)
    few = np.flatnonzero(np.bincount(found.labels, minlength=len(found.class_names)) < 2)
    if len(few):
        raise ValueError(
            f"Class {found.class_names[few[0]]!r} of {where} has fewer than two images; add some."
        )
    return found


def _folder(
    path: pathlib.Path,
    size: tuple[int, int] | None,
    channels: int,
    most: int | None,
    progress: Callable[[int, int], object] | None,
) -> Labelled:
    if not path.is_dir():
        raise ValueError(f"There is no folder {str(path)!r}.")
    classes = {
        folder.name: sorted(x for x in folder.iterdir() if x.suffix.lower() in _KINDS and x.name[0] != ".")[
            :most
        ]
        for folder in sorted(path.iterdir())
        if folder.is_dir() and folder.name[0] not in "._"
    }
    files = [(file, label) for label, found in enumerate(classes.values()) for file in found]
    if not files:
        raise ValueError(f"{str(path)!r} holds no images. Wanted: a folder a class, with its images in it.")
    images = []
    for done, (file, _) in enumerate(files, 1):
        images.append(_read(file, size, channels))
        if images[-1].shape != images[0].shape:
            (first, height), (second, width) = (x.shape[:2] for x in (images[0], images[-1]))
            raise ValueError(
                f"{str(files[0][0])!r} is {first}x{height} and {str(file)!r} {second}x{width}. Say by --size, such "
                "as 224, what to bring all images to."
            )
        if progress is not None:
            progress(done, len(files))
    return Labelled(np.stack(images), np.array([label for _, label in files]), list(classes))


def _read(file: pathlib.Path, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """One image as bytes ``(height, width, channels)``."""
    try:
        with Image.open(file) as image:
            found = np.asarray(_sized(image.convert("RGB" if channels == 3 else "L"), size))
            return found.reshape(*found.shape[:2], channels)
    except OSError as error:
        raise ValueError(
            f"{str(file)!r} cannot be read as an image: {error}. Remove it, or mend it."
        ) from None


def _sized(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if size is None or size == (image.height, image.width):
        return image
    height, width = size
    scale = max(height / image.height, width / image.width)
    scaled = image.resize(
        (max(width, round(image.width * scale)), max(height, round(image.height * scale))),
        Image.Resampling.BICUBIC,
    )
    left, upper = (scaled.width - width) // 2, (scaled.height - height) // 2
    return scaled.crop((left, upper, left + width, upper + height))


def _npz(path: pathlib.Path, size: tuple[int, int] | None, most: int | None) -> Labelled:
    try:
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as an npz file: {error}.") from None
    if "images" not in arrays or "labels" not in arrays:
        raise ValueError(
            f"{str(path)!r} must hold images and labels, got {', '.join(arrays) or 'nothing'}."
        )
    images, labels = arrays["images"], arrays["labels"]
    images = images[..., None] if images.ndim == 3 else images
    if np.issubdtype(images.dtype, np.floating) and images.size and images.min() >= 0 and images.max() <= 1:
        images = np.rint(images * 255).astype(np.uint8)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f"images of {str(path)!r} must be bytes or floats in [0, 1], (images, height, width, 1 or 3), got "
            f"{images.dtype} of shape {images.shape}."
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(
            f"labels of {str(path)!r} must be an integer from 0 for each of {len(images)} images, got "
            f"{labels.dtype} of shape {labels.shape}."
        )
    names = [str(x) for x in arrays.get("class_names", np.arange(labels.max() + 1))]
    if len(names) <= labels.max():
        raise ValueError(f"{str(path)!r} names {len(names)} classes, and labels go to {labels.max()}.")
    if most is not None:
        keep = np.sort(np.concatenate([np.flatnonzero(labels == k)[:most] for k in range(len(names))]))
        images, labels = images[keep], labels[keep]
    if size is not None and size != images.shape[1:3]:
        grey = images.shape[-1] == 1
        pillow = [Image.fromarray(x[..., 0] if grey else x) for x in images]
        images = np.stack([np.asarray(_sized(x, size)).reshape(*size, -1) for x in pillow])
    return Labelled(images, labels, names)
