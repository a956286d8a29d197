"""A folder, or a zip of it, with ``train/<class>/*`` and ``test/<class>/*``."""

from __future__ import annotations

import dataclasses
import pathlib
import unicodedata
from typing import Any

import numpy as np

from experiments.data.cache import cached
from experiments.data.dataset import FULL, Dataset, assembled, parts_of
from experiments.data.images import Decoder
from experiments.data.listing import Entry, Listing, opened

# What systems and programs leave behind, in small letters; hidden files and folders are such as well.
_CLUTTER_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_CLUTTER_FOLDERS = ("__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "__pycache__")
_CLUTTER_FOLDERS += ("system volume information", "lost+found")
_LINK, _DEEPER = "links that lead to no file", "files in subfolders of a class"
_WANTED = "Wanted: train/<class>/* and test/<class>/*."


def read(
    location: str, *, split: str = FULL, test_split: str = "", cache: bool = True, **_: Any
) -> Dataset:
    """The images of the folder or zip ``location``, whose name the set gets.

    ``test_split`` is the folder beside ``train`` to test on, if not ``test``. What is passed over and may be missed
    is noted, and a class of which nothing else is there is refused.
    """
    path = pathlib.Path(location).expanduser().resolve()
    if not path.exists():
        raise ValueError(f"There is no folder or zip {str(path)!r}.")
    called = unicodedata.normalize("NFC", path.name if path.is_dir() else path.stem)
    called = "digits-folder" if called == "digits" else called  # The embedded set's name brings its recipe.
    folders = {part: test_split or part if part == "test" else part for part in parts_of(split)}
    with opened(path) as top:
        visible = [name for name in top.folders if not _keeps_clutter(name)]
    inside = visible[0] if len(visible) == 1 and visible[0] not in ("train", "test") else None
    with opened(path, inside) as listing:
        passed: dict[str, list[str]] = {}
        found = {part: _classes(location, listing, folder, passed) for part, folder in folders.items()}
        names = tuple(sorted(found["train"]))
        unknown = sorted(set(found.get("test", ())) - set(names))
        if unknown:
            raise ValueError(f"{location!r} has test pictures of {', '.join(unknown)}, which train/ lacks.")

        def decoded() -> Dataset:
            decode, arrays = Decoder(), {}
            for part, classes in found.items():
                items = [
                    (file, label) for label, name in enumerate(names) for file in classes.get(name, ())
                ]
                images = np.stack([decode(file.read(), file.name) for file, _ in items])
                labels = np.array([label for _, label in items], np.int32)
                arrays |= {f"{part}_images": images, f"{part}_labels": labels}
            return assembled(called, split, arrays, class_names=names, notes=decode.notes)

        files = [(name, file) for part in found.values() for name, group in part.items() for file in group]
        stamps = [f"{name} {file.stamp()}" for name, file in files]
        data = cached([str(path), split, *stamps], decoded, cache)
    others = [name for name in listing.folders if not _keeps_clutter(name) and name not in folders.values()]
    if split == FULL and others:
        passed[f"folders beside train/ and {folders['test']}/"] = others
    notes = [f"{len(some)} {what} passed over, such as {some[0]}" for what, some in passed.items()]
    return dataclasses.replace(data, notes=(*data.notes, *notes), test_split=test_split)


def _classes(
    location: str, listing: Listing, folder: str, passed: dict[str, list[str]]
) -> dict[str, list[Entry]]:
    """The files of every class in a folder, in order; what is passed over is added to ``passed``."""
    classes: dict[str, list[Entry]] = {}
    seen: dict[str, Entry | None] = {}  # By class what else its folder holds, if that may hold images.
    for entry in listing.below(folder):
        name = _same(entry.parts[0]) if entry.parts else ""
        what = _passed_over(entry)
        if what is None:
            classes.setdefault(name, []).append(entry)
        elif what:
            passed.setdefault(what, []).append("/".join((folder, *entry.parts)))
        if what in (_LINK, _DEEPER):
            seen[name] = seen.get(name) or entry
        elif (len(entry.parts) > 1 or entry.kind == "folder") and name and not _keeps_clutter(name):
            seen.setdefault(name)
    for name, entry in seen.items():
        if name in classes:
            continue
        if entry is not None:
            raise ValueError(
                f"{location!r} has no image of a class {name!r} in {folder}/{name}/ itself, but {entry.name}. Move "
                f"its images there, or remove that. {_WANTED}"
            )
        passed.setdefault("folders of a class without an image", []).append(f"{folder}/{name}")
    if not classes:
        raise ValueError(f"{location!r} has no pictures in {folder}/<class>/. {_WANTED}")
    for files in classes.values():
        files.sort(key=lambda file: (_same(file.parts[-1]), file.parts))
    return classes


def _passed_over(entry: Entry) -> str | None:
    """What an entry is, in words, that is no image of a class; none where nobody would miss it."""
    *above, last = entry.parts or ("",)
    if entry.kind == "folder" or last.startswith(".") or last.lower() in _CLUTTER_FILES:
        return ""
    if any(map(_keeps_clutter, above)):
        return "files in hidden or system folders"
    if entry.kind == "link":
        return _LINK
    if not above:
        return "files beside the folders of classes"
    return _DEEPER if len(above) > 1 else None


def _keeps_clutter(folder: str) -> bool:
    """Whether systems and programs keep a folder of this name for themselves."""
    return folder.startswith(".") or folder.lower() in _CLUTTER_FOLDERS


def _same(name: str) -> str:
    """A name in the form of Unicode that most systems write: it looks the same in others."""
    return unicodedata.normalize("NFC", name)
