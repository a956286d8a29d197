"""Data sets as NumPy files, for machines without tensorflow-datasets: ``python -m experiments.data.arrays``.

A folder holds ``dataset.json`` (``name`` and ``class_names``; where there are any, ``superclass_names``,
``superclass_of``, ``notes``, ``related`` classes, the ``digest`` to expect, a ``split`` that is not ``full``, and a
``test_split`` that is not ``test``)
and of both parts, ``train`` and ``test``:

- ``train_labels.npy``, integers ``(n,)``;
- ``train_images.npy``, uint8 ``(n, 32, 32, 3)``, or parts of it that are joined in the order of their numbers,
  ``train_images_0.npy``, ``train_images_1.npy`` and so on. ``.npz`` with one array is the same, compressed.
"""

from __future__ import annotations

import json
import logging
import pathlib
import re
import reprlib
import zipfile
import zlib
from typing import Any

import click
import numpy as np

from experiments.data.dataset import FULL, SIZE, SPLITS, Dataset, assembled, parts_of

ABOUT = "dataset.json"
_SUFFIXES = (".npy", ".npz")
_WRITE = "python -m experiments.data.arrays writes such a folder"
# The keys of ABOUT and what they are: one value or a list.
_KEYS: dict[str, Any] = {
    "name": str,
    "class_names": [str],
    "notes": [str],
    "superclass_names": [str],
    "superclass_of": [int],
    "related": [str],
    "digest": str,
    "split": str,
    "test_split": str,
}
_NEEDED = ("name", "class_names")


def read(location: str, *, split: str = FULL, **_: Any) -> Dataset:
    """The set in the folder ``location``, of the name and digest of the one that was written."""
    folder = pathlib.Path(location).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r}; {_WRITE}.")
    about = _about(folder / ABOUT)
    digest, kept = about.pop("digest", None), about.pop("split", FULL)
    if kept not in SPLITS:
        raise ValueError(f"{str(folder / ABOUT)!r}: split is {kept!r}; wanted {' or '.join(SPLITS)}.")
    if kept not in (FULL, split):
        raise ValueError(f"{str(folder)!r} holds the {kept} split alone; read it with --split {kept}.")
    arrays = {}
    for part in parts_of(split) if kept == FULL else parts_of(FULL):
        files = _images(folder, part)
        images = np.concatenate([_array(file, np.uint8, (SIZE, SIZE, 3)) for file in files])
        labels = _array(_labels(folder, part), np.integer, ())
        if len(images) != len(labels):
            raise ValueError(
                f"{str(folder)!r} holds {len(labels)} labels and {len(images)} images of {part!r}, in "
                f"{_listed(files)}; wanted as many of both. Copy the part that is missing, or all of them again."
            )
        arrays |= {f"{part}_images": images, f"{part}_labels": labels.astype(np.int32)}
    if kept != split:  # The digest is of more than this.
        about.pop("test_split", None)
        return assembled(split=split, arrays=arrays, **about)
    data = Dataset(**arrays, **about, split=split)
    if digest not in (None, data.digest):
        raise ValueError(
            f"{str(folder)!r} has digest {data.digest}, and {ABOUT} wants {digest}; copy it again."
        )
    return data


def write_arrays(
    data: Dataset, folder: str | pathlib.Path, *, parts: int = 1, compressed: bool = False
) -> pathlib.Path:
    """Writes a data set as arrays, which ``load("npy:" + folder)`` reads back, with the same name and digest.

    Args:
      data: The set.
      folder: Where to, a new or an empty folder.
      parts: How many files the images of either part come in, 1 to the number of images. Of CIFAR-100 as one
        part they take 154 and 31 MB.
      compressed: Whether the images are ``.npz``. Natural images become a tenth smaller.

    Returns:
      The folder.

    Raises:
      ValueError: If the folder holds anything, or ``parts`` is out of range.

    Example:
      >>> import tempfile
      >>> from experiments import data
      >>> digits = data.load("digits")
      >>> folder = write_arrays(digits, tempfile.mkdtemp(), parts=2)
      >>> sorted(file.name for file in folder.glob("train*"))
      ['train_images_0.npy', 'train_images_1.npy', 'train_labels.npy']
      >>> data.load(f"npy:{folder}").digest == digits.digest
      True
    """
    folder = pathlib.Path(folder).expanduser()
    most = min(len(data.train_labels), len(data.test_labels))
    if not 1 <= parts <= most:
        raise ValueError(
            f"parts must be 1 to {most}, the images of the smaller of train and test, got {parts}."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{str(folder)!r} is not an empty folder; remove it or choose another one.")
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        pieces = np.array_split(getattr(data, f"{part}_images"), parts)
        for name, images in zip(_names(part, parts), pieces, strict=True):
            if compressed:
                np.savez_compressed(folder / f"{name}.npz", images=images)
            else:
                np.save(folder / f"{name}.npy", images)
        np.save(folder / f"{part}_labels.npy", getattr(data, f"{part}_labels"))
    about = {key: getattr(data, key) for key in _KEYS}
    given = {key: value for key, value in about.items() if value and (key, value) != ("split", FULL)}
    (folder / ABOUT).write_text(json.dumps(given, indent=1) + "\n")
    return folder


def _about(file: pathlib.Path) -> dict[str, Any]:
    """What a folder says of its set, as arguments of ``Dataset``, and the digest."""
    try:
        about = json.loads(file.read_text())
    except FileNotFoundError:
        raise ValueError(f"{str(file.parent)!r} has no {ABOUT}; {_WRITE}.") from None
    except ValueError as error:
        raise ValueError(f"{str(file)!r} is no JSON: {error}. Write or copy it again.") from None
    if not isinstance(about, dict):
        raise ValueError(f"{str(file)!r} holds {reprlib.repr(about)}; wanted an object with {_keys()}.")
    unknown, missing = sorted(set(about) - set(_KEYS)), [key for key in _NEEDED if key not in about]
    if unknown or missing:
        what = f"unknown keys {', '.join(unknown)}" if unknown else f"no {' and no '.join(missing)}"
        raise ValueError(f"{str(file)!r} has {what}; wanted {_keys()}.")
    for key, value in about.items():
        kind = _KEYS[key]
        values = value if isinstance(kind, list) else [value]
        one = kind[0] if isinstance(kind, list) else kind
        if not isinstance(values, list) or any(type(item) is not one for item in values):
            wanted = f"a list of {one.__name__}" if isinstance(kind, list) else one.__name__
            raise ValueError(f"{str(file)!r}: {key} is {reprlib.repr(value)}; wanted {wanted}.")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in about.items()}


def _keys() -> str:
    others = ", ".join(key for key in _KEYS if key not in _NEEDED)
    return f"{' and '.join(_NEEDED)}, and where there are any {others}"


def _names(part: str, parts: int) -> list[str]:
    """What the files of a part's images are called, without their suffix."""
    whole = f"{part}_images"
    return [whole] if parts == 1 else [f"{whole}_{number}" for number in range(parts)]


def _images(folder: pathlib.Path, part: str) -> list[pathlib.Path]:
    """The files of a part's images, in order."""
    whole = f"{part}_images"
    found = [
        file
        for file in sorted(folder.glob(f"{whole}*"))
        if file.suffix in _SUFFIXES and re.fullmatch(rf"{whole}(_\d+)?", file.stem)
    ]
    by_name = {file.stem: file for file in found}
    numbered = [f"{whole}_{number}" for number in range(len(found))]
    if not found or sorted(file.stem for file in found) not in ([whole], sorted(numbered)):
        raise ValueError(
            f"{str(folder)!r} holds {_listed(found) or 'no images'} of {part!r}; wanted "
            f"{part}_images.npy, or {part}_images_0.npy, {part}_images_1.npy and so on without a gap. Copy what "
            "is missing."
        )
    return found if whole in by_name else [by_name[name] for name in numbered]


def _labels(folder: pathlib.Path, part: str) -> pathlib.Path:
    """The file of a part's labels."""
    file = folder / f"{part}_labels.npy"
    if not file.exists():
        raise ValueError(f"{str(folder)!r} has no {file.name}; copy it there.")
    return file


def _array(file: pathlib.Path, kind: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """The array in a file, ``(n, *shape)`` of a type."""
    try:
        stored: Any = np.load(file, allow_pickle=False)
        if file.suffix == ".npz":
            with stored:
                array, *others = (stored[name] for name in stored.files)
        else:
            array, others = stored, []
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{str(file)!r} cannot be read: {error}. Copy it again.") from None
    if others:
        raise ValueError(f"{str(file)!r} holds {1 + len(others)} arrays; wanted one. Write it again.")
    if not np.issubdtype(array.dtype, kind) or array.shape[1:] != shape or array.ndim != len(shape) + 1:
        named = "integers" if kind is np.integer else kind.__name__
        wanted = f"({', '.join(['n', *map(str, shape)])}{',' if not shape else ''})"
        raise ValueError(
            f"{str(file)!r} holds {array.dtype} of shape {array.shape}; wanted {named} of shape {wanted}. "
            "Write it again."
        )
    return array


def _listed(files: list[pathlib.Path]) -> str:
    return ", ".join(file.name for file in files)


@click.command()
@click.option("--data", required=True, metavar="NAME", help="The set to write, as for experiments.train.")
@click.option(
    "--data-dir",
    metavar="PATH",
    help="Where tensorflow-datasets keeps its sets.  [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default=FULL,
    show_default=True,
    help="Of which the images are, as for experiments.train. What is written as full can be read as either.",
)
@click.option(
    "--test-split", metavar="NAME", default="", help="Which images to test on, as for experiments.train."
)
@click.option("--download", is_flag=True, help="Download and prepare a set that is not there.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="A new folder, to be read with --data npy:DIR.",
)
@click.option(
    "--parts",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many files the images of either part, train and test, come in.",
)
@click.option("--compressed", is_flag=True, help="Write images as .npz, a tenth smaller.")
def main(
    data: str,
    data_dir: str | None,
    split: str,
    test_split: str,
    download: bool,
    out: pathlib.Path,
    parts: int,
    compressed: bool,
) -> None:
    """Writes a data set as NumPy files and prints the folder.

    Where it is copied, --data npy:DIR reads it without tensorflow-datasets, under the same name and digest,
    so that runs are called the same.
    """
    from experiments.data import load
    from experiments.errors import usage_errors

    with usage_errors():
        loaded = load(data, split=split, test_split=test_split, data_dir=data_dir, download=download)
        folder = write_arrays(loaded, out, parts=parts, compressed=compressed)
    sizes = [file.stat().st_size / 1e6 for file in folder.iterdir()]
    logging.getLogger("experiments").info(
        f"{loaded.name}, digest {loaded.digest}: {len(sizes)} files of {sum(sizes):.1f} MB, the largest of "
        f"{max(sizes):.1f} MB"
    )
    print(folder)


if __name__ == "__main__":
    from experiments.cli import start

    start(main)
