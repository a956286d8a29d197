"""The files of a folder or of a zip, by their paths below it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import stat
import zipfile
from collections.abc import Callable, Iterator

Parts = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file below a folder, or an empty folder, or a link that leads to neither.

    Args:
      parts: Its path below the folder.
      name: What it is called in errors.
      kind: ``file``, ``folder`` or ``link``.
      stamp: What changes when its content does.
      read: Gives its bytes; ``ValueError`` with its name and what to do where it cannot be read.
    """

    parts: Parts
    name: str
    kind: str
    stamp: Callable[[], str]
    read: Callable[[], bytes]


class Listing:
    """A folder or zip: ``folders`` at its top, and :meth:`below` what they hold.

    A folder that is a link is followed at the first level below those at the top, and no deeper: links may lead
    back up.
    """

    def __init__(self, folders: list[str], below: Callable[[str], Iterator[Entry]]):
        self.folders, self.below = folders, below


@contextlib.contextmanager
def opened(path: pathlib.Path, inside: str | None = None) -> Iterator[Listing]:
    """The listing of a folder or zip, or of the folder ``inside`` at its top.

    Raises:
      ValueError: If it is neither, or a zip that Python cannot read.
    """
    if path.is_dir():
        root = path / (inside or "")
        yield Listing(sorted(entry.name for entry in root.iterdir() if entry.is_dir()), _OnDisk(root))
        return
    with _archive(path) as archive:
        top = (inside,) if inside else ()
        members = {
            parts[len(top) :]: member
            for parts, member in ((_parts(member), member) for member in archive.infolist())
            if parts[: len(top)] == top and len(parts) > len(top)
        }
        above = {parts[:length] for parts in members for length in range(1, len(parts))}
        folders = {parts[0] for parts in above} | {
            parts[0] for parts, member in members.items() if _is_folder(member)
        }
        members = {parts: member for parts, member in members.items() if parts not in above}
        yield Listing(sorted(folders), _InZip(path, archive, members))


class _OnDisk:
    """Entries of the folders in a folder."""

    def __init__(self, root: pathlib.Path):
        self._root = root

    def __call__(self, folder: str) -> Iterator[Entry]:
        """Those of one, by name; none if it is not there."""
        if (self._root / folder).is_dir():
            yield from self._walk(self._root / folder, ())

    def _walk(self, folder: pathlib.Path, parts: Parts) -> Iterator[Entry]:
        with os.scandir(folder) as found:
            inside = sorted(found, key=lambda entry: entry.name)
        for entry in inside:
            path, below = folder / entry.name, (*parts, entry.name)
            if _leads(entry.is_dir, follow_symlinks=not parts):
                yield from self._walk(path, below)
            else:
                yield self._entry(path, below, "file" if _leads(entry.is_file) else "link")
        if not inside:
            yield self._entry(folder, parts, "folder")

    def _entry(self, path: pathlib.Path, parts: Parts, kind: str) -> Entry:
        def read() -> bytes:
            try:
                return path.read_bytes()
            except OSError as error:
                raise ValueError(f"{path} cannot be read: {error}") from None

        def stamp() -> str:
            status = path.stat()
            return f"{path} {status.st_size} {status.st_mtime_ns}"

        return Entry(parts, str(path), kind, stamp, read)


def _leads(test: Callable[..., bool], **options: bool) -> bool:
    """What a test of a link's end says; False where there is none, as of a link to itself."""
    try:
        return test(**options)
    except OSError:
        return False


class _InZip:
    """Entries of the folders in a zip; of members with the same path, the last counts."""

    def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile, members: dict[Parts, zipfile.ZipInfo]):
        self._path, self._archive, self._members = path, archive, members
        status = path.stat()
        self._stamp = f"{status.st_size} {status.st_mtime_ns}"

    def __call__(self, folder: str) -> Iterator[Entry]:
        """Those of one, by name; none if it is not there."""
        for parts, member in sorted(self._members.items(), key=lambda item: item[0]):
            if parts[0] == folder:
                yield self._entry(parts[1:], member)

    def _entry(self, parts: Parts, member: zipfile.ZipInfo) -> Entry:
        name = f"{self._path}/{'/'.join(_parts(member))}"

        def read() -> bytes:
            try:
                return self._archive.read(member)
            except Exception as error:  # zipfile and its decompressors raise a dozen kinds.
                raise ValueError(f"{name} cannot be read: {_mend(member, error)}") from None

        linked = stat.S_ISLNK(member.external_attr >> 16)
        kind = "folder" if _is_folder(member) else "link" if linked else "file"
        return Entry(parts, name, kind, lambda: f"{name} {self._stamp}", read)


def _parts(member: zipfile.ZipInfo) -> Parts:
    """A member's path; some programs of Windows write it with backslashes."""
    return tuple(part for part in member.filename.replace("\\", "/").split("/") if part not in ("", "."))


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith(("/", "\\"))


def _archive(path: pathlib.Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # As above.
        with path.open("rb") as file:
            begins = file.read(2)
        if begins != b"PK":
            raise ValueError(f"{str(path)!r} is neither a folder nor a zip.") from None
        raise ValueError(
            f"{str(path)!r} begins as a zip and cannot be read as one ({error}). Copy or make it again, or give "
            "the folder."
        ) from None


def _mend(member: zipfile.ZipInfo, error: Exception) -> str:
    """Why a member cannot be read, and what to do."""
    if member.flag_bits & 0x1:
        return "it has a password. Unpack the zip and give the folder, or make it again without one."
    if isinstance(
        error, NotImplementedError | RuntimeError
    ):  # Another method, or one that this Python lacks.
        method = zipfile.compressor_names.get(member.compress_type, "unknown")
        return (
            f"this Python does not know its compression, method {member.compress_type} ({method}). Unpack the zip "
            "and give the folder, or make it again with the usual one, deflate."
        )
    return f"{error}. The zip is damaged; copy or make it again."
