"""The development split: part of the published training set, and nothing of the published test set."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest

from experiments import cli, data, train
from experiments import options as options_module
from experiments.config import configure, foresee
from experiments.data.arrays import write_arrays
from experiments.data.dataset import assembled
from experiments.inspect.__main__ import main as inspect
from experiments.inspect.networks import check_pair, read_config
from tests.experiments.data import test_arrays, test_data

COUNTS = (1, 2, 4, 10, 14, 15, 100)
HELD = (0, 1, 1, 1, 1, 2, 10)  # Of each class, to the nearest tenth.


def numbered(counts=COUNTS):
    """Training images that hold their number, in classes of some sizes, shuffled."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    labels = np.random.RandomState(0).permutation(labels)
    images = np.zeros((len(labels), 32, 32, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) // 256, np.arange(len(labels)) % 256
    return images, labels


def split(counts=COUNTS):
    images, labels = numbered(counts)
    names = tuple(map(str, range(len(counts))))
    arrays = {"train_images": images, "train_labels": labels}
    return assembled("set", "development", arrays, class_names=names)


def numbers(images):
    return images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 0, 1]


def test_every_class_gives_a_tenth_and_every_image_is_in_one_part():
    found, (images, labels) = split(), numbered()
    held = np.bincount(found.test_labels, minlength=len(COUNTS))
    assert tuple(held) == HELD
    assert tuple(np.bincount(found.train_labels, minlength=len(COUNTS)) + held) == COUNTS
    of = {"train": numbers(found.train_images), "test": numbers(found.test_images)}
    assert sorted([*of["train"], *of["test"]]) == list(range(len(images)))
    for part, places in of.items():
        assert (np.diff(places) > 0).all()  # In the order they were in.
        np.testing.assert_array_equal(getattr(found, f"{part}_labels"), labels[places])
    assert (found.name, found.split) == ("set", "development")


def test_it_is_the_size_that_is_promised_for_cifar100():
    found = split((500,) * 100)
    assert (len(found.train_labels), len(found.test_labels)) == (45_000, 5_000)
    assert set(np.bincount(found.test_labels)) == {50}


def test_it_is_always_the_same_and_no_block():
    """The held images are those of a draw that was written down."""
    found = numbers(split((30, 30)).test_images)
    assert found.tolist() == [4, 12, 28, 31, 40, 55]
    assert split().digest == split().digest


def test_unknown_splits_are_refused():
    for refused in (lambda: data.load("digits", split="test"), lambda: foresee("digits", split="test")):
        with pytest.raises(ValueError, match="Unknown split 'test'. Known: full, development"):
            refused()
    with pytest.raises(ValueError, match="Unknown split"):
        data.Dataset(*[None] * 6, split="dev")


def check_part(found, full):
    """Development and full split of a set: the training images of the one are both parts of the other."""
    assert (found.split, full.split, found.name) == ("development", "full", full.name)
    assert (found.class_names, found.superclass_of) == (full.class_names, full.superclass_of)
    both = (
        np.concatenate([found.train_images, found.test_images]),
        [*found.train_labels, *found.test_labels],
    )
    known = sorted((image.tobytes(), label) for image, label in zip(*both, strict=True))
    pairs = zip(full.train_images, full.train_labels, strict=True)
    assert known == sorted((image.tobytes(), label) for image, label in pairs)
    assert found.digest != full.digest


def test_the_digits():
    found = data.load("digits", split="development")
    check_part(found, data.load("digits"))
    assert found.notes[0].startswith("1433 grey")  # The others were not even converted.


@pytest.mark.parametrize("cache", [False, True])
def test_a_prepared_set_without_its_test_files(tmp_path, cache):
    test_data.prepare(tmp_path)
    full = data.load("tiny", data_dir=str(tmp_path), cache=cache)
    for file in (tmp_path / "tiny/1.0.0").glob("*test*"):
        file.unlink()
    for _ in range(2):  # The second from the cache.
        check_part(data.load("tiny", split="development", data_dir=str(tmp_path), cache=cache), full)
    if cache:
        assert data.load("tiny", data_dir=str(tmp_path)).digest == full.digest


def test_a_prepared_set_that_never_had_a_test_split(tmp_path):
    content = test_data.prepare(tmp_path, splits=("train",))
    found = data.load("tiny", split="development", data_dir=str(tmp_path))
    assert len(found.train_labels) + len(found.test_labels) == len(content["train"][1])


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_with_broken_test_images_or_none(tmp_path, kind):
    many = {f"train/{name}/{index}.png": test_data.png(test_data.pictures(1, index)[0])
            for index, name in enumerate("aaabbb")}  # fmt: skip
    folder = test_data.write(tmp_path / "pets", many | {"test/b/1.png": test_data.png(test_data.FOUR[3])})

    def source(name):
        return folder if kind == "folder" else shutil.make_archive(tmp_path / name, "zip", folder)

    full = data.load(f"folder:{source('pets')}")
    test_data.write(folder, {"test/c/1.png": b"no image"})
    check_part(data.load(f"folder:{source('pets')}", split="development"), full)
    shutil.rmtree(folder / "test")
    check_part(data.load(f"folder:{source('pets')}", split="development"), full)


def test_arrays_without_their_test_files(tmp_path):
    full = test_arrays.SET
    folder = write_arrays(full, tmp_path / "full", parts=2)
    for file in folder.glob("test*"):
        file.unlink()
    found = data.load(f"npy:{folder}", split="development")
    check_part(found, full)
    kept = write_arrays(found, tmp_path / "kept")
    test_arrays.same(data.load(f"npy:{kept}", split="development"), found)
    with pytest.raises(
        ValueError, match=f"'{kept}' holds the development split alone; read it with --split d"
    ):
        data.load(f"npy:{kept}")
    about = json.loads((kept / "dataset.json").read_text())
    (kept / "dataset.json").write_text(json.dumps(about | {"split": "dev"}))
    with pytest.raises(ValueError, match="dataset.json': split is 'dev'; wanted full or development"):
        data.load(f"npy:{kept}", split="development")


def test_every_source_gives_the_same(tmp_path):
    test_data.prepare(tmp_path / "sets")
    full = data.load("tiny", data_dir=str(tmp_path / "sets"))
    found = data.load("tiny", split="development", data_dir=str(tmp_path / "sets"))
    folder = write_arrays(full, tmp_path / "arrays", parts=2)
    test_arrays.same(data.load(f"npy:{folder}", split="development"), found)


def test_a_run_says_on_which_split_it_is():
    options = {"variant": "baseline", "epochs": 1, "batch": 8}
    full, _ = configure(data.load("digits"), **options)
    found, _ = configure(data.load("digits", split="development"), **options)
    assert (found.data.name, found.data.split, found.net.width) == ("digits", "development", 0.25)
    assert found.name.startswith("digits-development-vgg11-") and "development" not in full.name
    assert "(development split)" in found.how and "split" not in full.how
    assert found.identity()["split"] == "development" and "split" not in full.flat()
    with pytest.raises(ValueError, match="differ in split: RUN has 'full', BASELINE 'development'"):
        check_pair({"run": full, "baseline": found})


@pytest.mark.slow
def test_the_option_from_training_to_figures(tmp_path, monkeypatch, capsys):
    def command(main, *arguments):
        monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        cli.start(main)
        return capsys.readouterr().out.splitlines()[-1]

    small = ("--width", "0.0625", "--epochs", 1, "--out", tmp_path)
    run = tmp_path / command(train.main, *small, "--split", "development").split("/")[-1]
    assert run.name.startswith("digits-development-") and read_config(run).data.split == "development"
    assert json.loads((run / "summary.json").read_text())["test_examples"] == 143
    out = command(inspect, run, "--pictures", "none", "--out", tmp_path / "seen")
    assert "digits (development split)" in (tmp_path / "seen/topography.md").read_text(), out
    assert "digits, development split" in (tmp_path / "seen/atlas.html").read_text()


def test_the_option_is_said_again_and_reaches_the_data_set(tmp_path, monkeypatch):
    seen, digits = {}, data.load("digits")
    monkeypatch.setattr(
        options_module.datasets, "load", lambda source, **options: seen.update(options) or digits
    )
    options = options_module.Options("npy:x", None, False, tmp_path, 1.0, {"split": "development"})
    options.load()
    assert seen["split"] == "development" and options.arguments == "--data npy:DIR --split development"
    options = options_module.Options("npy:x", None, False, tmp_path, 1.0, {"split": None})
    options.load()
    assert seen["split"] == "full" and options.arguments == "--data npy:DIR"
    options = options_module.Options("npy:x", None, False, tmp_path, 1.0, {"test_split": "validation"})
    options.load()
    assert (
        seen["test_split"] == "validation" and options.arguments == "--data npy:DIR --test-split validation"
    )


def test_images_to_test_on_can_be_others(tmp_path):
    """A run tells of it, is called otherwise, and what was written as arrays is read as the same."""
    content = test_data.labelled(train=[0, 1, 2] * 3, test=[-1] * 9, validation=[2, 1, 0] * 3)
    test_data.prepare(tmp_path, content=content)
    found = data.load("tiny", data_dir=str(tmp_path), test_split="validation")
    options = {"variant": "baseline", "epochs": 1, "batch": 8, "width": 0.25}
    run, _ = configure(found, **options)
    assert run.flat()["test_split"] == "validation" and "(tested on validation)" in run.how
    other, _ = configure(dataclasses.replace(found, test_split=""), **options)
    assert "test_split" not in other.flat() and run.name != other.name
    folder = write_arrays(found, tmp_path / "arrays")
    test_arrays.same(data.load(f"npy:{folder}", test_split="validation"), found)
    for read, split, words in (
        (f"npy:{folder}", "", "not those of a split 'test'; give --test-split validation"),
        ("digits", "validation", "'digits' .* not those of a split 'validation'; leave --test-split out"),
    ):
        with pytest.raises(ValueError, match=words):
            data.load(read, test_split=split)
    assert data.load(f"npy:{folder}", split="development").test_split == ""


def test_images_to_test_on_that_cannot_be():
    for split, words in (
        ("train", "is 'train', on which networks are trained"),
        ("dev", "give one of them"),
    ):
        with pytest.raises(ValueError, match=words):
            foresee("tiny", test_split=split, split="full" if split == "train" else "development")
