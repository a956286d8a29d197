"""A folder, or a zip of it, with ``train/<class>/*`` and ``test/<class>/*``."""

from __future__ import annotations

import dataclasses
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.data.cache import cached
from experiments.data.dataset import FULL, Dataset, assembled, parts_of
from experiments.data.images import Decoder


def read(location: str, *, split: str = FULL, cache: bool = True, **_: Any) -> Dataset:
    """The images of the folder or zip ``location``, whose name the set gets."""
    path = pathlib.Path(location).expanduser().resolve()
    if not path.exists():
        raise ValueError(f"There is no folder or zip {str(path)!r}.")
    if path.is_dir():
        root: pathlib.Path | zipfile.Path = path
    else:
        try:
            root = zipfile.Path(path)
        except zipfile.BadZipFile:
            raise ValueError(f"{str(path)!r} is neither a folder nor a zip.") from None
    inside = _visible(root)
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name not in ("train", "test"):
        root = inside[0]
    found = {part: _class_files(root / part) for part in parts_of(split)}
    for part, files in found.items():
        if not files:
            raise ValueError(
                f"{location!r} has no pictures in {part}/<class>/. Wanted: train/<class>/* and test/<class>/*."
            )
    names = tuple(sorted(found["train"]))
    called = path.name if path.is_dir() else path.stem
    called = "digits-folder" if called == "digits" else called  # The embedded set's name brings its recipe.
    unknown = sorted(set(found.get("test", ())) - set(names))
    if unknown:
        raise ValueError(f"{location!r} has test pictures of {', '.join(unknown)}, which train/ lacks.")

    def decoded() -> Dataset:
        decode, arrays = Decoder(), {}
        for part, files in found.items():
            items = [(file, label) for label, name in enumerate(names) for file in files.get(name, ())]
            pictures = np.stack([decode(file.read_bytes(), str(file)) for file, _ in items])
            labels = np.array([label for _, label in items], np.int32)
            arrays |= {f"{part}_images": pictures, f"{part}_labels": labels}
        return assembled(called, split, arrays, class_names=names, notes=decode.notes)

    everything = [file for files in found.values() for group in files.values() for file in group]
    return cached([str(path), split, *_stamps(path, everything)], decoded, cache)


def _visible(folder: pathlib.Path | zipfile.Path) -> list:
    """What a folder holds, by name, without hidden files and archive clutter."""
    names = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return sorted(names, key=lambda entry: entry.name)


def _class_files(part: pathlib.Path | zipfile.Path) -> dict[str, list]:
    """The files of every class of a part that has any."""
    if not part.is_dir():
        return {}
    classes = {folder.name: folder for folder in _visible(part) if folder.is_dir()}
    files = {
        name: [_Picture(file) for file in _visible(folder) if file.is_file()]
        for name, folder in classes.items()
    }
    return {name: group for name, group in files.items() if group}


@dataclasses.dataclass(frozen=True)
class _Picture:
    """A file on disk or in a zip, by its path."""

    path: pathlib.Path | zipfile.Path

    def __str__(self):
        return str(self.path)

    def read_bytes(self) -> bytes:
        try:
            return self.path.read_bytes()
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self} cannot be read: {error}") from None


def _stamps(path: pathlib.Path, files: Iterable[_Picture]) -> Iterable[str]:
    """What changes when a folder's or a zip's content does."""
    on_disk = [path] if path.is_file() else [pathlib.Path(str(file)) for file in files]
    for file in on_disk:
        status = file.stat()
        yield f"{file} {status.st_size} {status.st_mtime_ns}"
