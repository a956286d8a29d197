import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments import cli, data, options
from experiments.data import arrays
from experiments.data.arrays import write_arrays
from tests.experiments.data import test_data

ROOT = pathlib.Path(__file__).parents[3]
RNG = np.random.default_rng(0)
# Every field has a value of its own.
SET = data.Dataset(
    "a set",
    RNG.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8),
    np.array([0, 1, 2, 2, 1, 0, 2], np.int32),
    RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8),
    np.array([2, 0, 1], np.int32),
    ("ant", "bee", "cät"),
    ("seven images were drawn",),
    ("insect", "mammal"),
    (0, 0, 1),
    related=("bee", "cät"),
)


def same(found, wanted):
    assert found.digest == wanted.digest
    for field in dataclasses.fields(wanted):
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs, field.name


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_what_is_written_is_read_back(tmp_path, parts, compressed):
    folder = write_arrays(SET, tmp_path / "some/where", parts=parts, compressed=compressed)
    assert len(list(folder.iterdir())) == 2 * parts + 3
    same(data.load(f"npy:{folder}"), SET)


def test_a_prepared_set_keeps_its_name_and_digest(tmp_path):
    test_data.prepare(tmp_path / "sets")
    wanted = data.load("tiny", data_dir=str(tmp_path / "sets"))
    same(data.load(f"npy:{write_arrays(wanted, tmp_path / 'other', parts=2)}"), wanted)


def test_more_parts_than_digits_are_joined_in_the_order_of_their_numbers(tmp_path):
    many = dataclasses.replace(SET, test_images=SET.train_images, test_labels=SET.train_labels)
    many = dataclasses.replace(
        many,
        **{f"{split}_images": np.concatenate([SET.train_images] * 2) for split in ("train", "test")},
        **{f"{split}_labels": np.concatenate([SET.train_labels] * 2) for split in ("train", "test")},
    )
    folder = write_arrays(many, tmp_path, parts=12)
    assert (folder / "train_images_11.npy").exists()
    same(data.load(f"npy:{folder}"), many)


def test_a_folder_made_by_hand(tmp_path, monkeypatch):
    """Nothing but what is needed, labels of another type, and parts of both kinds."""
    np.savez(tmp_path / "train_images_0.npz", anything=SET.train_images[:2])
    np.save(tmp_path / "train_images_1.npy", np.asfortranarray(SET.train_images[2:]))
    np.save(tmp_path / "test_images.npy", SET.test_images)
    np.save(tmp_path / "train_labels.npy", SET.train_labels.astype(np.uint8))
    np.save(tmp_path / "test_labels.npy", SET.test_labels.astype(np.int64))
    (tmp_path / "read me").touch()
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "mine", "class_names": ["a", "b", "c"]}))
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    found = data.load(f"npy:~/{tmp_path.name}")
    same(found, data.Dataset("mine", *found_arrays(SET), ("a", "b", "c")))


def found_arrays(of):
    return of.train_images, of.train_labels, of.test_images, of.test_labels


# What is done to a good folder of two parts, and what is then said.


def saved(name, array):
    return lambda folder: np.save(folder / name, array)


def written(text):
    return lambda folder: (folder / "dataset.json").write_text(text)


def about(**changes):
    def change(folder):
        file = folder / "dataset.json"
        known = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({key: value for key, value in known.items() if value is not None}))

    return change


def gone(name):
    return lambda folder: (folder / name).unlink()


def renamed(name, other):
    return lambda folder: (folder / name).rename(folder / other)


def several(folder):
    np.savez(folder / "test_images_0.npz", a=SET.test_images[:2], b=SET.test_images[2:])
    (folder / "test_images_0.npy").unlink()


def cut(folder):
    file = folder / "train_images_1.npy"
    file.write_bytes(file.read_bytes()[:-1])


def flipped(folder):
    """One bit of a compressed image is another."""
    np.savez_compressed(folder / "train_images_1.npz", SET.train_images[4:])
    (folder / "train_images_1.npy").unlink()
    content = bytearray((folder / "train_images_1.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "train_images_1.npz").write_bytes(content)


PARTS = r"train_images_0.npy, train_images_1.npy"
GAP = "wanted train_images.npy, or train_images_0.npy, train_images_1.npy and so on without a gap. Copy"
BROKEN = {
    "no json": (
        gone("dataset.json"),
        r"'{}' has no dataset.json; python -m experiments.data.arrays writes",
    ),
    "empty": (written(""), "'{}/dataset.json' is no JSON: .*. Write or copy it again"),
    "half": (written('{"name": "a s'), "'{}/dataset.json' is no JSON: "),
    "a list": (
        written("[1]"),
        r"'{}/dataset.json' holds \[1\]; wanted an object with name and class_names",
    ),
    "unknown": (
        about(sizes=1, klasses=2),
        "dataset.json' has unknown keys klasses, sizes; wanted name and class_names, and where there are any notes",
    ),
    "nameless": (about(name=None), "dataset.json' has no name; wanted name and"),
    "classless": (about(name=None, class_names=None), "has no name and no class_names; wanted"),
    "numbered": (about(name=5), "dataset.json': name is 5; wanted str"),
    "text": (about(class_names="ab"), "dataset.json': class_names is 'ab'; wanted a list of str"),
    "mixed": (about(class_names=["a", 1]), r"class_names is \['a', 1\]; wanted a list of str"),
    "truth": (about(superclass_of=[0, 0, True]), r"superclass_of is \[0, 0, True\]; wanted a list of int"),
    "few groups": (
        about(superclass_of=[0, 0]),
        r"one of 2 superclasses for each of 3 classes, got \(0, 0\)",
    ),
    "no groups": (about(superclass_of=None), r"one of 2 superclasses for each of 3 classes, got \(\)"),
    "other groups": (about(superclass_of=[0, 0, 2]), r"one of 2 superclasses .*got \(0, 0, 2\)"),
    "unrelated": (about(related=["ant", "elk"]), "related classes ant, elk are not all among its classes"),
    "few classes": (
        about(class_names=["a", "b"], superclass_of=None, superclass_names=None, related=None),
        "train: label 2 of picture 2 is not in 0..1",
    ),
    "first": (gone("train_images_0.npy"), f"'{{}}' holds train_images_1.npy of 'train'; {GAP}"),
    "last": (
        gone("train_images_1.npy"),
        "'{}' holds 7 labels and 4 images of 'train', in train_images_0.npy; wanted as many of both. Copy",
    ),
    "gap": (
        renamed("train_images_1.npy", "train_images_2.npy"),
        f"holds train_images_0.npy, train_images_2.npy of 'train'; {GAP}",
    ),
    "padded": (
        renamed("train_images_1.npy", "train_images_01.npy"),
        "train_images_01.npy of 'train'; w",
    ),
    "whole too": (saved("train_images.npy", SET.train_images), f"train_images.npy, {PARTS} of .*; {GAP}"),
    "twice": (
        lambda folder: np.savez(folder / "train_images_1.npz", SET.train_images[4:]),
        f"{PARTS}, train_images_1.npz of 'train'; {GAP}",
    ),
    "no images": (
        lambda folder: [file.unlink() for file in folder.glob("test_images*")],
        "'{}' holds no images of 'test'; wanted test_images.npy, or test_images_0.npy",
    ),
    "no labels": (gone("test_labels.npy"), "'{}' has no test_labels.npy; copy it there"),
    "more": (saved("train_images_2.npy", SET.test_images), f"7 labels and 10 images of .*, in {PARTS}, "),
    "labels": (saved("test_labels.npy", SET.test_labels[:2]), "2 labels and 3 images of 'test'"),
    "label type": (
        saved("test_labels.npy", SET.test_labels + 0.5),
        r"'{}/test_labels.npy' holds float64 of shape \(3,\); wanted integers of shape \(n,\). Write it again",
    ),
    "label shape": (
        saved("test_labels.npy", SET.test_labels[:, None]),
        r"holds int32 of shape \(3, 1\); wanted integers of shape \(n,\)",
    ),
    "label range": (
        saved("test_labels.npy", SET.test_labels + 1),
        "test: label 3 of picture 0 is not in 0..2",
    ),
    "image type": (
        saved("train_images_1.npy", SET.train_images[4:] / 255),
        r"'{}/train_images_1.npy' holds float64 of shape \(3, 32, 32, 3\); wanted uint8 of shape \(n, 32, 32, 3\)",
    ),
    "image shape": (
        saved("train_images_1.npy", SET.train_images[4:].transpose(0, 3, 1, 2)),
        r"holds uint8 of shape \(3, 3, 32, 32\); wanted uint8 of shape \(n, 32, 32, 3\). Write it again",
    ),
    "one image": (
        saved("train_images_1.npy", SET.train_images[4]),
        r"of shape \(32, 32, 3\); wanted uint8",
    ),
    "scalar": (saved("test_labels.npy", np.int32(0)), r"holds int32 of shape \(\); wanted integers"),
    "objects": (
        lambda folder: np.save(folder / "test_labels.npy", np.array([{}]), allow_pickle=True),
        "'{}/test_labels.npy' cannot be read: .*. Copy it again",
    ),
    "clutter": (
        lambda folder: (folder / "train_images_1.npy").write_bytes(b"clutter"),
        "'{}/train_images_1.npy' cannot be read: .*. Copy it again",
    ),
    "nothing": (
        lambda folder: (folder / "train_images_1.npy").write_bytes(b""),
        "'{}/train_images_1.npy' cannot be read: .*. Copy it again",
    ),
    "cut": (cut, "'{}/train_images_1.npy' cannot be read: .*. Copy it again"),
    "flipped": (flipped, "'{}/train_images_1.npz' cannot be read: .*. Copy it again"),
    "several": (several, "'{}/test_images_0.npz' holds 2 arrays; wanted one. Write it again"),
    "swapped": (
        lambda folder: saved("train_labels.npy", SET.train_labels[::-1].copy())(folder),
        f"'{{}}' has digest [0-9a-f]{{{{16}}}}, and dataset.json wants {SET.digest}; copy it again",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path, kind):
    change, words = BROKEN[kind]
    folder = write_arrays(SET, tmp_path / "arrays", parts=2)
    same(data.load(f"npy:{folder}"), SET)
    change(folder)
    with pytest.raises(ValueError, match=words.format(folder)) as error:
        data.load(f"npy:{folder}")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=f"There is no folder '{tmp_path}/{name}'; python -m experiments.d"
    ):
        data.load(f"npy:{tmp_path}/{name}")


@pytest.mark.parametrize("parts", [0, 4])
def test_a_number_of_parts_that_cannot_be(tmp_path, parts):
    with pytest.raises(ValueError, match=f"parts must be 1 to 3, the images of .*, got {parts}"):
        write_arrays(SET, tmp_path / "arrays", parts=parts)
    assert not (tmp_path / "arrays").exists()


@pytest.mark.parametrize("name", ["", "file"])
def test_a_folder_that_holds_something_is_not_written_to(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=f"'{tmp_path / name}' is not an empty folder; remove it or choose"
    ):
        write_arrays(SET, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def run(monkeypatch, capsys, *arguments):
    """Exit code, standard output and standard error of the command."""
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["arrays", *map(str, arguments)])
    code = 0
    try:
        cli.start(arrays.main)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_the_command(tmp_path, monkeypatch, capsys):
    out, digits = tmp_path / "digits", data.load("digits")
    done = run(monkeypatch, capsys, "--data", "digits", "--out", out, "--parts", 3, "--compressed")
    assert done[:2] == (0, f"{out}\n")
    assert f"digits, digest {digits.digest}: 9 files of" in done[2]
    assert len(list(out.glob("*.npz"))) == 6
    same(data.load(f"npy:{out}"), digits)
    for arguments, words in (
        (("--data", "digits", "--out", out), f"'{out}' is not an empty folder"),
        (("--data", "no_such_set", "--data-dir", tmp_path, "--out", tmp_path / "b"), "is not prepared in"),
        (("--data", "digits", "--out", tmp_path / "b", "--parts", 365), "parts must be 1 to 364"),
        (("--data", "digits"), "Missing option '--out'"),
    ):
        code, said, complaint = run(monkeypatch, capsys, *arguments)
        assert (code, said) == (2, "") and complaint.count("\n") == 1
        assert complaint.startswith("error: ") and words in complaint


def test_reading_needs_no_package_for_images(tmp_path):
    """Neither tensorflow-datasets nor what it brings, nor Pillow, nor scikit-learn."""
    folder = write_arrays(SET, tmp_path / "arrays", parts=2)
    code = """
import sys
for name in ("tensorflow_datasets", "tensorflow", "array_record", "PIL", "sklearn"):
    sys.modules[name] = None  # Importing it now fails.
from experiments import data
from experiments.data.arrays import write_arrays
found = data.load(f"npy:{sys.argv[1]}")
again = data.load(f"npy:{write_arrays(found, sys.argv[1] + '-again')}")
print(found.name, found.digest, again.digest)
"""
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"{SET.name} {SET.digest} {SET.digest}\n", done.stderr


def test_the_command_runs_as_a_module(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "experiments.data.arrays", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--parts" in done.stdout and done.stderr == "", done.stderr


@pytest.mark.parametrize("source, said", [("npy:/some/where: else", "npy:DIR"), ("npy", "npy")])
def test_commands_that_are_printed_name_no_folder(source, said, tmp_path):
    assert options.Options(source, None, False, tmp_path, 1.0, {}).arguments == f"--data {said}"
