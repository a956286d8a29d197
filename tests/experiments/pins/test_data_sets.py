"""Digests, shapes and names of the data sets that can be read."""

import hashlib
import itertools
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments import data
from tests import golden
from tests.experiments.data import test_cifar
from tests.experiments.data.test_data import png, prepare, write

kept = golden.Golden(__file__, "data_sets", exact=True, entries=True)

# Adapters.


def read(source, **options):
    """A data set as plain values."""
    loaded = data.load(source, cache=False, **options)
    mean, deviation = loaded.statistics()
    return {
        "name": loaded.name,
        "digest": loaded.digest,
        "train": [list(loaded.train_images.shape), str(loaded.train_images.dtype)],
        "test": [list(loaded.test_images.shape), str(loaded.test_images.dtype)],
        "train labels": np.bincount(loaded.train_labels, minlength=loaded.classes).tolist(),
        "test labels": np.bincount(loaded.test_labels, minlength=loaded.classes).tolist(),
        "label type": str(loaded.train_labels.dtype),
        "classes": loaded.class_names,
        "superclasses": [loaded.superclass_names, loaded.superclass_of],
        "notes": loaded.notes,
        "mean": [golden.digits(value) for value in mean],
        "std": [golden.digits(value) for value in deviation],
    }


# Pins.


def noise(seed, *shape):
    """uint8 noise that no library decides."""
    size = int(np.prod(shape))
    return np.frombuffer(hashlib.shake_256(f"{seed}".encode()).digest(size), np.uint8).reshape(shape)


FILES = {
    f"{split}/{name}/{index}.png": png(noise(f"{split}{name}{index}", 32, 32, 3))
    for split, count in (("train", 3), ("test", 2))
    for name in ("ant", "bee")
    for index in range(count)
}
OTHERS = {
    "train/cat/grey.png": png(noise("grey", 32, 32)),
    "train/cat/large.png": png(noise("large", 64, 48, 3)),
    "test/bee/small.png": png(noise("small", 8, 8, 3)),
}


def folder(path, files):
    return f"folder:{write(path / 'insects', files)}"


def zipped(path, files):
    source = write(path / "plain", {f"inside/{name}": content for name, content in files.items()})
    return f"folder:{shutil.make_archive(path / 'insects', 'zip', source)}"


@pytest.mark.parametrize("files", ["plain", "others"])
@pytest.mark.parametrize("kind", [folder, zipped])
def test_a_folder_and_a_zip(kind, files, tmp_path):
    source = kind(tmp_path, FILES if files == "plain" else FILES | OTHERS)
    kept.check(f"{kind.__name__}, {files}", read(source))


def test_the_digits():
    kept.check("digits", read("digits"))


LABELS = np.arange(9) * 5 % 3
NAMES = ["ant", "bee", "cat"]
FEATURES = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=NAMES)}
COARSE = {"coarse_label": tfds.features.ClassLabel(names=["insect", "mammal"])}


def test_a_prepared_set(tmp_path):
    content = {split: (noise(split, 9, 32, 32, 3), LABELS) for split in ("train", "test")}
    prepare(tmp_path, features=FEATURES, content=content, supervised_keys=("image", "label"))
    kept.check("prepared", read("tiny", data_dir=str(tmp_path)))


def test_a_prepared_set_with_superclasses_and_validation(tmp_path):
    content = {
        split: (noise(split, 9, 40, 32, 3), LABELS, LABELS == 2) for split in ("train", "validation")
    }
    keys = ("image", "label", "coarse_label")
    prepare(tmp_path, "tiny", "2.1.0", "small", features=FEATURES | COARSE, content=content, keys=keys)
    found = read("tiny/small:2.1.0", data_dir=str(tmp_path))
    kept.check("prepared, others", found)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_downloaded_set(name, site, tmp_path, monkeypatch):
    (files, address), numbers = site, itertools.count()

    def records(name, count, _):
        images = noise(f"{name}{next(numbers)}", count, 32, 32, 3)
        labels = [
            (np.arange(count) * 3 % classes).astype(np.uint8)
            for classes in test_cifar.CLASSES[name].values()
        ]
        planes = [images[..., channel].reshape(count, 1024) for channel in range(3)]
        return np.hstack([np.stack(labels, 1), *planes]).tobytes(), images, labels[-1]

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(test_cifar, "records", records)
    test_cifar.archive(name, files / f"{name}.tar.gz")
    test_cifar.redirect(monkeypatch, name, f"{address}/{name}.tar.gz")
    kept.check(name, read(name, data_dir=str(tmp_path / "sets"), download=True))


site = test_cifar.site


def test_no_set_is_left():
    kinds = [f"{kind}, {files}" for kind in ("folder", "zipped") for files in ("plain", "others")]
    kept.check_cases([*kinds, "digits", "prepared", "prepared, others", "cifar10", "cifar100"])
