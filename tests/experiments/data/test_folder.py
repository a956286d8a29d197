"""Folders and zips of images as they are found: what is passed over and said, and what is refused."""

import shutil
import struct
import sys
import unicodedata
import warnings
import zipfile

import pytest

from experiments import cli, train
from experiments.data import load
from tests.experiments.data.test_data import pictures, png, write

SEVEN = pictures(7, 5)
# Of either class two images a part.
PETS = {
    f"{part}/{name}/{index}.png": png(SEVEN[2 * (name == "dog") + index + 3 * (part == "test")])
    for part in ("train", "test")
    for name in ("cat", "dog")
    for index in (0, 1)
}
IMAGE = png(SEVEN[6])


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(params=["folder", "zip"])
def made(request, tmp_path):
    """Makes a set of some files, and gives its source."""

    def make(files, name="pets"):
        if request.param == "zip":
            return f"folder:{zipped(tmp_path / f'{name}.zip', files)}"
        return f"folder:{write(tmp_path / name, files)}"

    return make


@pytest.mark.parametrize(
    "more, notes",
    [
        ({"train/dog/old/1.png": IMAGE, "test/cat/x/y/2.png": IMAGE},
         ["2 files in subfolders of a class passed over, such as train/dog/old/1.png"]),
        ({"train/1.png": IMAGE, "train/labels.csv": b"", "test/2.png": IMAGE},
         ["3 files beside the folders of classes passed over, such as train/1.png"]),
        ({"train/@eaDir/1.png": IMAGE, "train/dog/@eaDir/1.png/THUMB.png": IMAGE, "test/.git/x": b"",
          "train/__MACOSX/1.png": IMAGE, "test/Lost+Found/1.png": IMAGE, "train/.ipynb_checkpoints/1.png": IMAGE},
         ["6 files in hidden or system folders passed over, such as train/.ipynb_checkpoints/1.png"]),
        ({"val/cat/1.png": IMAGE}, ["1 folders beside train/ and test/ passed over, such as val"]),
        ({f"{folder}{name}": b"clutter" for folder in ("", "train/", "train/dog/", "test/cat/")
          for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png")}, []),
        ({"__MACOSX/train/dog/._0.png": b"", ".git/HEAD": b""}, []),
    ],
    ids=["subfolders", "beside", "systems'", "val", "clutter", "at the top"],
)  # fmt: skip
def test_what_is_passed_over_is_counted_and_said(made, more, notes):
    plain, found = load(made(PETS, "plain")), load(made(PETS | more))
    assert (found.digest, found.class_names) == (plain.digest, ("cat", "dog"))
    assert list(found.notes) == notes and plain.notes == ()


def test_notes_are_of_today_also_where_the_images_come_from_the_cache(made):
    assert load(made(PETS)).notes == ()
    (note,) = load(made(PETS | {"train/dog/old/1.png": IMAGE})).notes
    assert note.startswith("1 files in subfolders")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_that_would_vanish_is_refused(made, part):
    files = {name: content for name, content in PETS.items() if not name.startswith(f"{part}/dog")}
    with pytest.raises(
        ValueError, match=f"no image of a class 'dog' in {part}/dog/ itself, but .*{part}/dog/images/1.png"
    ):
        load(made(files | {f"{part}/dog/images/1.png": IMAGE}))


def test_a_class_that_has_nothing_at_all_is_said(made):
    found = load(made(PETS | {"train/eel/.keep": b""}))
    assert found.notes == ("1 folders of a class without an image passed over, such as train/eel",)


def test_links(tmp_path):
    folder = write(tmp_path / "pets", PETS)
    plain = load(f"folder:{folder}")
    (folder / "train/dog/2.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "test/dog/3.png").symlink_to("3.png")
    (folder / "train/dog/up").symlink_to(folder)
    found = load(f"folder:{folder}")
    assert found.digest == plain.digest
    assert found.notes == ("3 links that lead to no file passed over, such as train/dog/2.png",)
    shutil.move(folder / "train/cat", tmp_path / "elsewhere")
    (folder / "train/cat").symlink_to(tmp_path / "elsewhere")
    assert load(f"folder:{folder}").digest == plain.digest
    shutil.rmtree(tmp_path / "elsewhere")
    shutil.rmtree(folder / "test/cat")
    with pytest.raises(ValueError, match="no image of a class 'cat' in train/cat/"):
        load(f"folder:{folder}")


def test_links_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("train/dog/9.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(zipped(tmp_path / "pets.zip", PETS), "a") as archive:
        archive.writestr(link, "../cat/0.png")
    (note,) = load(f"folder:{tmp_path}/pets.zip").notes
    assert note == "1 links that lead to no file passed over, such as train/dog/9.png"


def test_a_file_beside_the_only_folder_of_a_zip(made):
    nested = {f"set/{name}": content for name, content in PETS.items()}
    assert load(made(nested | {"README.txt": b"", "__MACOSX/x": b""})).class_names == ("cat", "dog")


def test_names_in_either_form_of_unicode_are_the_same(made):
    """Some systems write an umlaut as one character and some as two."""
    named = {name.replace("cat", "Bär").replace("0.png", "ä.png"): it for name, it in PETS.items()}
    forms = {
        form: {unicodedata.normalize(form, name): it for name, it in named.items()}
        for form in ("NFC", "NFD")
    }
    mixed = {name: it for name, it in forms["NFC"].items() if name.startswith("train")}
    mixed |= {name: it for name, it in forms["NFD"].items() if name.startswith("test")}
    found = [load(made(files, name)) for name, files in (forms | {"mixed": mixed}).items()]
    assert {data.class_names for data in found} == {("Bär", "dog")}
    assert len({data.digest for data in found}) == 1
    halves = dict(sorted(forms["NFC"].items())[:-1]) | dict(sorted(forms["NFD"].items())[-1:])
    assert load(made(halves, "halves")).digest == found[0].digest


@pytest.mark.parametrize("top", ["", "set\\", ".\\"])
def test_backslashes_in_a_zip(tmp_path, top):
    plain = load(f"folder:{zipped(tmp_path / 'plain.zip', PETS)}")
    files = {(top + name).replace("/", "\\"): content for name, content in PETS.items()}
    files = {f"{top}train\\": b"", f"{top}train\\dog\\": b""} | files
    found = load(f"folder:{zipped(tmp_path / 'pets.zip', files)}")
    assert (found.digest, found.notes) == (plain.digest, ())


def test_a_member_that_is_there_twice_counts_once(tmp_path):
    plain = load(f"folder:{zipped(tmp_path / 'plain.zip', PETS)}")
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("train/dog/1.png", b"older")
        for name, content in PETS.items():
            archive.writestr(name, content)
    assert load(f"folder:{tmp_path}/pets.zip").digest == plain.digest


def test_another_folder_to_test_on(made):
    plain = load(made(PETS, "plain"))
    files = {name.replace("test/", "val/"): content for name, content in PETS.items()}
    found = load(made(files | {"test/cat/1.png": b"unlabelled"}), test_split="val")
    assert (found.digest, found.test_split, found.notes[:1]) == (
        plain.digest, "val", ("1 folders beside train/ and val/ passed over, such as test",)
    )  # fmt: skip
    with pytest.raises(ValueError, match="no pictures in valid/<class>/"):
        load(made(files), test_split="valid")


# Zips that cannot be read.

MEMBER = "train/dog/0.png"


def patched(path, *, central=(), local=(), content=None):
    """A zip whose entry of MEMBER is changed: pairs of an offset in its two headers and 16 bits."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(MEMBER)
        start, offset = archive.start_dir, info.header_offset
    while data[start + 46 : start + 46 + len(MEMBER)] != MEMBER.encode():
        name, extra, comment = struct.unpack_from("<HHH", data, start + 28)
        start += 46 + name + extra + comment
    for place, value in central:
        struct.pack_into("<H", data, start + place, value)
    for place, value in local:
        struct.pack_into("<H", data, offset + place, value)
    if content is not None:
        first = offset + 30 + len(MEMBER)
        data[first : first + len(content)] = content
    path.write_bytes(data)


def method(number):
    return lambda path: patched(path, central=[(10, number)], local=[(8, number)])


def flag(bits):
    return lambda path: patched(path, central=[(8, bits)], local=[(6, bits)])


DEFLATED, LZMA, BZIP2 = zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2
UNREADABLE = {
    "deflate64": (method(9), DEFLATED, "method 9 (deflate64). Unpack the zip and give the folder"),
    "unknown": (method(77), DEFLATED, "method 77 (unknown). Unpack the zip and give the folder"),
    "AES": (lambda path: patched(path, central=[(8, 1), (10, 99)], local=[(6, 1), (8, 99)]), DEFLATED, "password"),
    "password": (flag(1), DEFLATED, "it has a password. Unpack the zip and give the folder"),
    "strong": (flag(0x41), DEFLATED, "it has a password"),
    "other bytes": (lambda path: patched(path, content=b"\xff" * 200), DEFLATED, "The zip is damaged"),
    "other bytes, lzma": (lambda path: patched(path, content=b"\xff" * 200), LZMA, "The zip is damaged"),
    "other bytes, bzip2": (lambda path: patched(path, content=b"\xff" * 200), BZIP2, "The zip is damaged"),
    "wrong sum": (lambda path: patched(path, central=[(16, 0)]), DEFLATED, "Bad CRC-32"),
    "too short": (lambda path: patched(path, central=[(20, 20), (22, 0)]), DEFLATED, "The zip is damaged"),
    "other name": (lambda path: patched(path, local=[(30, 0)]), DEFLATED, "The zip is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_member_that_cannot_be_read_is_one_line(case, tmp_path, monkeypatch, capsys):
    damage, compression, words = UNREADABLE[case]
    path = zipped(tmp_path / "pets.zip", PETS, compression=compression)
    damage(path)
    line = refused(path, tmp_path, monkeypatch, capsys)
    assert f"{path}/{MEMBER} cannot be read: " in line and words in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data.replace(b"PK\x01\x02", b"PK\x09\x09"),
        lambda data: data.replace(b"train/dog/0.png", b"train/dog/\xff.png"),
        lambda data: data[:-6] + struct.pack("<I", 2**31) + data[-2:],
    ],
    ids=["half", "last byte", "directory", "name", "offset"],
)
def test_a_zip_that_is_not_whole_is_one_line(damage, tmp_path, monkeypatch, capsys):
    path = zipped(tmp_path / "pets.zip", PETS)
    patched(path, central=[(8, 0x800)])  # Names are UTF-8.
    path.write_bytes(damage(path.read_bytes()))
    line = refused(path, tmp_path, monkeypatch, capsys)
    assert f"{path}" in line and ("begins as a zip" in line or "The zip is damaged" in line)


def refused(path, out, monkeypatch, capsys):
    """The line with which training on a zip is refused."""
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["train", "--data", f"folder:{path}", "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        cli.start(train.main)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and lines[-1].startswith("error: ") and "Traceback" not in "".join(lines)
    return lines[-1]
