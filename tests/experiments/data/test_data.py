import dataclasses
import io
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import types
import zipfile

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.extractor import ExtractError

from experiments.data import Dataset, folder, load
from experiments.data import tfds as tfds_source
from experiments.data.images import Decoder

ROOT = pathlib.Path(__file__).parents[3]


def pictures(count, seed=0, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


FOUR = pictures(4)
# Not in the order in which they are wanted, and with what has to be left out.
FILES = {
    "train/b/1.png": png(FOUR[2]),
    "train/a/2.png": png(FOUR[1]),
    "train/a/1.png": png(FOUR[0]),
    "test/b/1.png": png(FOUR[3]),
    "train/a/.DS_Store": b"clutter",
    "train/.hidden/1.png": b"clutter",
    "train/a/nested/1.png": b"clutter",
    "train/read me": b"clutter",
    "read me": b"clutter",
}
PASSED = tuple(
    f"1 files {what} passed over, such as train/{first}"
    for what, first in (
        ("in hidden or system folders", ".hidden/1.png"),
        ("in subfolders of a class", "a/nested/1.png"),
        ("beside the folders of classes", "read me"),
    )
)


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def check_four(loaded, name):
    assert (loaded.name, loaded.class_names, loaded.notes) == (name, ("a", "b"), PASSED)
    np.testing.assert_array_equal(loaded.train_images, FOUR[:3])
    np.testing.assert_array_equal(loaded.test_images, FOUR[3:])
    assert (loaded.train_labels.tolist(), loaded.test_labels.tolist()) == ([0, 0, 1], [1])
    assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    folder = tmp_path / "own cache"
    monkeypatch.setenv("LGNN_JAX_CACHE", str(folder))
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The names of the pictures that had to be decoded."""
    names = []

    class Counting(Decoder):
        def __call__(self, encoded, name):
            names.append(name)
            return super().__call__(encoded, name)

    for source in (folder, tfds_source):
        monkeypatch.setattr(source, "Decoder", Counting)
    return names


def test_every_fifth_digit_of_a_class_is_for_testing():
    from sklearn.datasets import load_digits

    digits, loaded = load_digits(), load("digits")
    ranks = np.array([(digits.target[:index] == label).sum() for index, label in enumerate(digits.target)])
    places = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)  # Of output pixels, in the input's.
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(8)), 0)
    wanted = weights @ (digits.images * 255 / 16) @ weights.T
    for split, chosen in (("train", ranks % 5 != 0), ("test", ranks % 5 == 0)):
        images, labels = getattr(loaded, f"{split}_images"), getattr(loaded, f"{split}_labels")
        np.testing.assert_array_equal(labels, digits.target[chosen])
        assert np.abs(images - wanted[chosen][..., None]).max() <= 1.5
        assert set(labels) == set(range(10))
    assert (len(loaded.train_labels), len(loaded.test_labels)) == (1433, 364) and loaded.classes == 10
    assert loaded.class_names == tuple("0123456789") and "1797 grey pictures" in loaded.notes[0]
    assert loaded.digest == load("digits").digest


def test_the_digest_sees_every_pixel_and_label():
    first = load("digits")
    digests = {first.digest}
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(first, field).copy()
        changed.flat[-1] ^= 1
        digests.add(dataclasses.replace(first, **{field: changed}).digest)
    assert len(digests) == 5 and all(len(digest) == 16 for digest in digests)


def test_statistics_are_those_of_the_training_pictures():
    loaded = Dataset("set", pictures(6), np.zeros(6, int), pictures(1) // 2, np.zeros(1, int), ("a", "b"))
    mean, deviation = loaded.statistics()
    np.testing.assert_allclose(mean, (loaded.train_images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(deviation, (loaded.train_images / 255).std((0, 1, 2)), rtol=1e-12)


def test_a_channel_that_never_changes_has_a_deviation_of_one():
    images, labels = pictures(4), np.array([0, 1, 0, 1], np.int32)
    images[..., 1] = 77
    mean, deviation = Dataset("set", images, labels, images, labels, ("a", "b")).statistics()
    assert mean[1] == pytest.approx(77 / 255) and deviation[1] == 1 and 0 < deviation[0] < 1


@pytest.mark.parametrize("top", ["", "set/"], ids=["flat", "nested"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_class_folders(tmp_path, top, kind):
    clutter = {".DS_Store": b"clutter", "__MACOSX/set/1.png": b"clutter"}
    write(tmp_path / "pets", {top + name: content for name, content in FILES.items()} | clutter)
    if kind == "zip":
        shutil.make_archive(tmp_path / "zipped", "zip", tmp_path / "pets")
        check_four(load(f"folder:{tmp_path}/zipped.zip"), "zipped")
    else:
        check_four(load(f"folder:{tmp_path}/pets"), "pets")


def test_a_folder_in_the_home_and_a_relative_one(tmp_path, monkeypatch):
    write(tmp_path / "pets", FILES)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "pets" / "train")
    for location in ("~/pets", "../../pets", ".."):
        check_four(load(f"folder:{location}"), "pets")


@pytest.mark.parametrize("name", ["digits", "pets.v2"])
def test_a_folder_is_called_what_it_is_and_never_digits(tmp_path, name):
    loaded = load(f"folder:{write(tmp_path / name, FILES)}")
    assert loaded.name != "digits" and name in loaded.name


def test_changed_pictures_are_noted(tmp_path):
    others = {
        "train/a/3.png": png(pictures(1, 1, (40, 40))[0]),
        "test/b/2.png": png(pictures(1, 2, (8, 8, 3))[0]),
    }
    loaded = load(f"folder:{write(tmp_path, FILES | others)}")
    assert loaded.notes == (
        "1 grey pictures given three channels",
        "2 pictures resampled to 32x32",
        *PASSED,
    )


def only(*prefixes, **more):
    return {name: content for name, content in FILES.items() if name.startswith(prefixes)} | more


@pytest.mark.parametrize(
    "files, words",
    [
        (only("train"), "no pictures in test/<class>/"),
        (only("test"), "no pictures in train/<class>/"),
        (only("train/b", "test/b"), "1 classes; at least 2"),
        (only("train/a", "test"), "test pictures of b, which train/ lacks"),
        (only("train/a", "test") | {"train/b/.keep": b""}, "test pictures of b, which train/ lacks"),
        (
            FILES | {"train/b/5.png": png(pictures(1, 0, (32, 32, 4))[0])},
            "train/b/5.png has an alpha channel",
        ),
        (FILES | {"test/a/x.txt": b"text"}, "test/a/x.txt is not a readable image"),
        ({"1.png": b""}, "no pictures in train/<class>/. Wanted: train/<class>/. and test/<class>/."),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_folders_that_cannot_be_used(tmp_path, files, words, kind):
    source = write(tmp_path / "pets", files)
    if kind == "zip":
        source = shutil.make_archive(tmp_path / "zipped", "zip", source)
    with pytest.raises(ValueError, match=words):
        load(f"folder:{source}")


def test_a_class_without_any_picture_is_none(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "0 empty").mkdir(parents=True)
    assert load(f"folder:{write(tmp_path, FILES)}").class_names == ("a", "b")


def test_a_class_may_lack_test_pictures(tmp_path):
    loaded = load(f"folder:{write(tmp_path, FILES | {'train/c/1.png': png(FOUR[0])})}")
    assert loaded.class_names == ("a", "b", "c") and loaded.test_labels.tolist() == [1]


@pytest.mark.parametrize(
    "source, words",
    [
        ("folder:{}/missing", "There is no folder or zip '{}/missing'"),
        ("folder:{}/file", "'{}/file' is neither a folder nor a zip"),
        ("", "Unknown data set ''"),
        ("{}", "Unknown data set '{}'. Give digits, folder:PATH"),
        ("./here", "Unknown data set './here'"),
    ],
)
def test_sources_that_are_none(tmp_path, source, words):
    (tmp_path / "file").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=words.format(tmp_path)):
        load(source.format(tmp_path))


FEATURES = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=3)}


def prepare(
    folder,
    name="tiny",
    version="1.0.0",
    config=None,
    splits=("train", "test"),
    features=FEATURES,
    keys=("image", "label"),
    content=None,
    **about,
):
    """Writes a set with tensorflow-datasets; returns the pictures and labels of every split."""
    content = content or {split: (pictures(9, seed), np.arange(9) % 3) for seed, split in enumerate(splits)}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            wanted = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=wanted, disable_shuffling=True, **about)

        def _split_generators(self, _):
            return {split: self._generate_examples(*arrays) for split, arrays in content.items()}

        def _generate_examples(self, images, *labels):
            for index, (image, *ours) in enumerate(zip(images, *labels, strict=True)):
                yield index, dict(zip(keys, (Image.fromarray(image), *map(int, ours)), strict=True))

    Builder.name = name
    Builder(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return content


def check_set(loaded, content, train="train", test="test"):
    np.testing.assert_array_equal(loaded.train_images, content[train][0])
    np.testing.assert_array_equal(loaded.train_labels, content[train][1])
    np.testing.assert_array_equal(loaded.test_images, content[test][0])
    np.testing.assert_array_equal(loaded.test_labels, content[test][1])


def test_a_prepared_set(tmp_path, monkeypatch):
    content = prepare(tmp_path)
    loaded = load("tiny", data_dir=str(tmp_path))
    check_set(loaded, content)
    assert (loaded.name, loaded.class_names, loaded.notes) == ("tiny", ("0", "1", "2"), ())
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert load("tiny").digest == load("tiny", download=True, cache=False).digest == loaded.digest


def test_pictures_and_labels_are_the_supervised_keys(tmp_path):
    names, keys = ("cat", "dog", "eel"), ("what", "kind")
    features = {"what": tfds.features.Image(), "kind": tfds.features.ClassLabel(names=names)}
    content = prepare(tmp_path, features=features, keys=keys, supervised_keys=keys)
    loaded = load("tiny", data_dir=str(tmp_path))
    check_set(loaded, content)
    assert loaded.class_names == names


def test_a_set_of_more_than_one_block_and_other_sizes(tmp_path):
    values, labels = np.arange(1003, dtype=np.uint8), np.arange(1003) % 3
    grey = np.broadcast_to(values[:, None, None], (1003, 8, 8))
    prepare(tmp_path, content={"train": (grey, labels), "test": (grey[:2], labels[:2])})
    loaded = load("tiny", data_dir=str(tmp_path))
    assert (loaded.train_images == values[:, None, None, None]).all()
    np.testing.assert_array_equal(loaded.train_labels, labels)
    assert [note.split()[0] for note in loaded.notes] == ["1005", "1005"]


def test_the_newest_version_or_the_named_one(tmp_path):
    folder = str(tmp_path)
    old, new = (
        prepare(tmp_path, version=version, splits=splits)
        for version, splits in (("1.9.0", ("test", "train")), ("1.10.0", ("train", "test")))
    )
    check_set(load("tiny", data_dir=folder), new)
    check_set(load("tiny:1.9.0", data_dir=folder), old)
    with pytest.raises(ValueError, match="'tiny:2.0.0' is not prepared"):
        load("tiny:2.0.0", data_dir=folder)


def test_a_set_with_configurations(tmp_path):
    content = prepare(tmp_path, config="small")
    for source in ("tiny/small", "tiny/small:1.0.0"):
        check_set(load(source, data_dir=str(tmp_path)), content)
    only, other = load("tiny", data_dir=str(tmp_path)), tmp_path / "tiny" / "large"
    assert only.digest == load("tiny/small", data_dir=str(tmp_path)).digest
    shutil.copytree(tmp_path / "tiny" / "small", other)
    with pytest.raises(ValueError, match="several configs; give one of tiny/large, tiny/small"):
        load("tiny", data_dir=str(tmp_path))


def test_coarse_labels_are_superclasses_if_every_class_has_one(tmp_path):
    features = FEATURES | {"coarse_label": tfds.features.ClassLabel(names=["animal", "thing"])}
    keys, labels = ("image", "label", "coarse_label"), np.arange(9) % 3
    for name, coarse, expected in (("set", labels % 2, (0, 1, 0)), ("other", np.arange(9) % 2, ())):
        content = {split: (pictures(9), labels, coarse) for split in ("train", "test")}
        prepare(tmp_path, name, features=features, keys=keys, content=content)
        for _ in range(2):  # The second from the cache.
            loaded = load(name, data_dir=str(tmp_path))
            assert loaded.superclass_of == expected
            assert loaded.superclass_names == (("animal", "thing") if expected else ())


TREES = ("maple_tree", "palm_tree", "pine_tree")


def test_related_classes_are_declared_by_the_set_and_not_by_a_name(tmp_path):
    assert load("digits").compared == ("3", "5", "8")
    images = ("image", "label")
    for name, classes, wanted in (
        ("cifar100", ("elm", *TREES), TREES),
        ("cifar100", ("elm", *TREES[:2]), ()),
        ("other", ("elm", *TREES), ()),
    ):
        features = FEATURES | {"label": tfds.features.ClassLabel(names=classes)}
        prepare(tmp_path / f"{len(classes)}", name, features=features, keys=images)
        loaded = load(name, data_dir=str(tmp_path / f"{len(classes)}"))
        assert (loaded.related, loaded.compared) == (wanted, wanted or ("elm", *TREES[:2]))
    named = {f"{part}/{name}/1.png": png(FOUR[0]) for part in ("train", "test") for name in ("elm", *TREES)}
    for called in ("cifar100", "digits"):
        assert load(f"folder:{write(tmp_path / called, named)}").compared == ("elm", *TREES[:2])


def test_validation_stands_in_for_a_missing_test_split(tmp_path):
    content = prepare(tmp_path, splits=("train", "validation"))
    loaded = load("tiny", data_dir=str(tmp_path))
    check_set(loaded, content, test="validation")
    assert loaded.notes == ("the validation split serves as test set",)
    both = prepare(tmp_path, name="both", splits=("validation", "train", "test"))
    loaded = load("both", data_dir=str(tmp_path))
    check_set(loaded, both)
    assert loaded.notes == ()


SHARD = "tiny-train.array_record-00000-of-00001"


def rewritten(folder, **changes):
    info = folder / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | changes))


@pytest.mark.parametrize(
    "about, words",
    [
        ({"splits": ("train",)}, "'tiny' lacks a train or test split; it has train"),
        ({"splits": ("test", "validation")}, "'tiny' lacks a train or test split"),
        (
            {"features": {"image": FEATURES["image"], "label": tfds.features.Scalar(np.int64)}},
            "'tiny' is no image-classification set; its features are .*image",
        ),
        (
            {
                "features": {"image": FEATURES["image"], "kind": FEATURES["label"]},
                "keys": ("image", "kind"),
            },
            "'tiny' is no image-classification set; its features are .*kind",
        ),
        (
            {"content": {split: (pictures(3, 0, (32, 32, 4)), np.arange(3)) for split in ("train", "test")}}
            | {"features": FEATURES | {"image": tfds.features.Image(shape=(None, None, 4))}},
            "picture 0 of split 'train' has an alpha channel",
        ),
    ],
)
def test_sets_that_cannot_be_used(tmp_path, about, words):
    prepare(tmp_path, **about)
    with pytest.raises(ValueError, match=words):
        load("tiny", data_dir=str(tmp_path))


def test_a_set_in_another_format(tmp_path):
    prepare(tmp_path)
    rewritten(tmp_path / "tiny/1.0.0", fileFormat="tfrecord")
    with pytest.raises(ValueError, match="in the format tfrecord; only array_record"):
        load("tiny", data_dir=str(tmp_path))


def promising(pictures):
    def change(folder):
        info = json.loads((folder / "dataset_info.json").read_text())
        rewritten(folder, splits=[split | {"shardLengths": [pictures]} for split in info["splits"]])

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (promising("10"), "promises 10 pictures and holds 9"),
        (promising("8"), "promises 8 pictures and holds 9"),
        (lambda folder: (folder / SHARD).unlink(), "cannot be read: .*No such file"),
        (lambda folder: (folder / SHARD).write_bytes(b"short"), "cannot be read: "),
        (lambda folder: os.truncate(folder / SHARD, 65000), "cannot be read: "),
    ],
)
def test_a_set_that_is_not_whole(tmp_path, change, words):
    prepare(tmp_path)
    change(tmp_path / "tiny/1.0.0")
    with pytest.raises(ValueError, match=f"Split 'train' {words}.*; prepare it again"):
        load("tiny", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["cifar100", "mnist", "no_such_set", "mnist/config:1.0.0"])
def test_a_set_that_is_not_there(tmp_path, name):
    started = time.monotonic()
    with pytest.raises(
        ValueError,
        match=f"{name!r} is not prepared in '{tmp_path}'.*--data-dir.*--download.*digits.*folder:",
    ):
        load(name, data_dir=str(tmp_path))
    assert time.monotonic() - started < 5


def test_a_misspelt_set_gets_a_suggestion(tmp_path):
    (tmp_path / "flowers").mkdir()
    for wrong, right in (("digit", "digits"), ("cifra100", "cifar100"), ("flower", "flowers")):
        with pytest.raises(ValueError, match=f"^Did you mean '{right}'. Data set '{wrong}'"):
            load(wrong, data_dir=str(tmp_path))


class DownloadError(Exception):
    pass


@pytest.mark.parametrize(
    "error, words",
    [
        (requests.exceptions.ConnectionError("no network"), "could not be downloaded to '{}': no network"),
        (NonMatchingChecksumError("wrong checksum"), "could not be downloaded to '{}': wrong checksum"),
        (DownloadError("HTTP code: 404"), "could not be downloaded to '{}': HTTP code: 404"),
        (ModuleNotFoundError("No module", name="scipy"), "needs a package that is not installed .scipy."),
        (
            ExtractError("No module named 'tensorflow'"),
            "needs a package that is not installed .tensorflow.",
        ),
    ],
)
def test_a_download_that_fails(tmp_path, monkeypatch, error, words):
    if isinstance(error, ExtractError):
        error.__cause__ = ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    class Builder:
        url_infos = ()

        def download_and_prepare(self):
            raise error

    monkeypatch.setattr(tfds, "builder", lambda *_, **__: Builder())
    with pytest.raises(ValueError, match=words.format(tmp_path)):
        load("mnist", data_dir=str(tmp_path), download=True)


def test_a_site_that_cannot_be_reached_is_told_at_once(tmp_path, monkeypatch):
    class Builder:
        url_infos = ("http://127.0.0.1:9/set.zip",)

    monkeypatch.setattr(tfds, "builder", lambda *_, **__: Builder())
    with pytest.raises(ValueError, match="could not be downloaded.*127.0.0.1:9/set.zip cannot be reached"):
        load("mnist", data_dir=str(tmp_path), download=True)


def test_a_damaged_zip_names_the_picture(tmp_path):
    folder = tmp_path / "pets"
    for split, kind in itertools.product(("train", "test"), "ab"):
        (folder / split / kind).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / split / kind / "one.bmp")
    packed = pathlib.Path(shutil.make_archive(tmp_path / "zipped", "zip", folder))
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        member = archive.getinfo("train/a/one.bmp")
    content[member.header_offset + 30 + len(member.filename) + 20] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(ValueError, match="train/a/one.bmp cannot be read"):
        load(f"folder:{packed}")


def test_a_download_of_what_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="knows no data set 'no_such_set'"):
        load("no_such_set", data_dir=str(tmp_path), download=True)


def test_nothing_is_imported_that_is_not_needed(tmp_path):
    write(tmp_path / "pets", FILES)
    prepare(tmp_path / "sets")
    code = """
import sys
from experiments.data import load
load("digits"), load(f"folder:{sys.argv[1]}/pets")
print("tensorflow_datasets" in sys.modules)
load("tiny", data_dir=f"{sys.argv[1]}/sets")
print("tensorflow_datasets" in sys.modules, "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "False"], done.stderr


def test_pictures_are_decoded_once(tmp_path, cache, decoded):
    write(tmp_path / "pets", FILES | {"train/a/3.png": png(FOUR[0, ..., 0])})
    prepare(tmp_path)
    for source, count in ((f"folder:{tmp_path}/pets", 5), ("tiny", 18)):
        first = load(source, data_dir=str(tmp_path))
        assert len(decoded) == count
        second = load(source, data_dir=str(tmp_path))
        assert len(decoded) == count
        assert (first.name, first.class_names, first.notes) == (
            second.name,
            second.class_names,
            second.notes,
        )
        assert first.digest == second.digest and second.train_labels.dtype == np.int32
        decoded.clear()
    assert len(list(cache.iterdir())) == 2


def test_without_a_cache(tmp_path, cache, decoded):
    write(tmp_path, FILES)
    for _ in range(2):
        check_four(load(f"folder:{tmp_path}", cache=False), tmp_path.name)
    assert len(decoded) == 8 and not cache.exists()


def test_a_cache_that_cannot_be_written(tmp_path, cache, decoded):
    cache.write_text("a file")
    write(tmp_path / "pets", FILES)
    for _ in range(2):
        check_four(load(f"folder:{tmp_path}/pets"), "pets")
    assert len(decoded) == 8


CHANGES = {
    "other content": lambda folder: (folder / "train/a/1.png").write_bytes(png(FOUR[3])),
    "one more": lambda folder: (folder / "train/a/3.png").write_bytes(png(FOUR[3])),
    "one less": lambda folder: (folder / "train/a/2.png").unlink(),
    "another class": lambda folder: (folder / "train/a/1.png").rename(folder / "train/b/0.png"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_changed_files_are_read_again(tmp_path, decoded, kind, change):
    folder = write(tmp_path / "pets", FILES)

    def source():
        return folder if kind == "folder" else shutil.make_archive(tmp_path / "zipped", "zip", folder)

    before = load(f"folder:{source()}")
    CHANGES[change](folder)
    after = load(f"folder:{source()}")
    assert before.digest != after.digest == load(f"folder:{source()}", cache=False).digest


def test_a_set_that_was_prepared_again_is_read_again(tmp_path):
    prepare(tmp_path)
    before = load("tiny", data_dir=str(tmp_path))
    shutil.rmtree(tmp_path / "tiny")
    content = prepare(tmp_path, splits=("test", "train"))
    after = load("tiny", data_dir=str(tmp_path))
    check_set(after, content)
    assert before.digest != after.digest


CORRUPTIONS = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"garbage" * 99,
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "flipped": lambda content: content.replace(FOUR[1, 0].tobytes(), bytes(96)),
    "a password": lambda content: content.replace(
        b"PK\x01\x02\x2d\x03\x2d\x00\x00", b"PK\x01\x02\x2d\x03\x2d\x00\x01"
    ),
    "another method": lambda content: content.replace(
        b"PK\x01\x02\x2d\x03\x2d\x00\x00\x00\x00", b"PK\x01\x02\x2d\x03\x2d\x00\x00\x00\x63"
    ),
    "no text": lambda content: content.replace(b'{"name"', b'["name"'),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corrupt_cache_is_replaced(tmp_path, cache, decoded, corruption):
    write(tmp_path / "pets", FILES)
    load(f"folder:{tmp_path}/pets")
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(CORRUPTIONS[corruption](whole))
    assert file.read_bytes() != whole
    for count in (8, 8):
        check_four(load(f"folder:{tmp_path}/pets"), "pets")
        assert len(decoded) == count
    assert file.read_bytes() == whole and list(cache.iterdir()) == [file]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"train_labels": np.array([0, 1, 3])}, "train: label 3 of picture 2 is not in 0..1"),
        ({"test_labels": np.array([-1])}, "test: label -1 of picture 0 is not in 0..1"),
        ({"train_images": FOUR[:0], "train_labels": np.zeros(0, int)}, "an empty train split"),
        ({"test_images": FOUR[:0], "test_labels": np.zeros(0, int)}, "an empty test split"),
        (
            {"train_images": FOUR[:2]},
            r"train: wanted 3 uint8 pictures of 32x32x3, got uint8 of shape \(2, 32",
        ),
        ({"train_images": FOUR[:3, ..., :1]}, "train: wanted 3 uint8 pictures of 32x32x3, got"),
        ({"test_images": FOUR[3:, :16]}, "test: wanted 1 uint8 pictures of 32x32x3, got"),
        ({"test_images": FOUR[3:].astype(np.float32)}, "test: wanted 1 uint8 .* got float32"),
        ({"class_names": ("a",)}, "1 classes; at least 2 needed"),
        ({"related": ("a", "c")}, "related classes a, c are not all among its classes"),
        ({"superclass_names": ("x",)}, r"one of 1 superclasses for each of 2 classes, got \(\)"),
        ({"superclass_of": (0, 0)}, r"one of 0 superclasses for each of 2 classes, got \(0, 0\)"),
    ],
)
def test_sets_that_do_not_fit_together(changes, words):
    good = Dataset("set", FOUR[:3], np.array([0, 1, 1]), FOUR[3:], np.array([1]), ("a", "b"))
    assert good.classes == 2
    with pytest.raises(ValueError, match=f"'set'.*{words}"):
        dataclasses.replace(good, **changes)


def labelled(**labels):
    """Splits of nine images with labels of their own."""
    return {split: (pictures(9, seed), np.array(of)) for seed, (split, of) in enumerate(labels.items())}


THREE, NONE = [0, 1, 2] * 3, [-1] * 9


def test_a_test_split_without_labels_is_refused_before_anything_is_decoded(tmp_path, decoded):
    """As of sets that are for competitions: the images to test on are published, and their classes are not."""
    content = labelled(train=THREE, test=NONE, validation=THREE, more=THREE)
    prepare(tmp_path, content=content)
    with pytest.raises(
        ValueError,
        match="'tiny': image 0 of split 'test' has label -1, .*--test-split (validation|more) or (validation|more)",
    ):
        load("tiny", data_dir=str(tmp_path))
    assert not decoded
    for split in ("validation", "more"):
        found = load("tiny", data_dir=str(tmp_path), test_split=split)
        check_set(found, content, test=split)
        assert (found.test_split, found.notes) == (split, ())
    with pytest.raises(ValueError, match="'tiny' has no split 'valid'; it has .*validation"):
        load("tiny", data_dir=str(tmp_path), test_split="valid")


@pytest.mark.parametrize(
    "content, words",
    [
        (
            labelled(train=THREE, test=NONE),
            "'test' has label -1, which is no class. .* --split development",
        ),
        (labelled(train=THREE, test=[*THREE[:8], -1]), "image 8 of split 'test' has label -1"),
        (
            labelled(train=NONE, test=THREE),
            "'train' has label -1, .*wanted labels of all",
        ),
    ],
)
def test_labels_that_are_missing(tmp_path, content, words):
    prepare(tmp_path, content=content)
    with pytest.raises(ValueError, match=words):
        load("tiny", data_dir=str(tmp_path))


WEIGHT = {"weight": tfds.features.Scalar(np.int64)}


@pytest.mark.parametrize("keys", [("image", "label", "weight"), (("image", "weight"), "label"),
                                  ({"x": "image"}, {"y": "label", "z": "weight"})])  # fmt: skip
def test_supervised_keys_of_more_than_image_and_label(tmp_path, keys):
    content = {split: (*arrays, np.ones(9)) for split, arrays in labelled(train=THREE, test=THREE).items()}
    names = ("image", "label", "weight")
    prepare(tmp_path, features=FEATURES | WEIGHT, keys=names, content=content, supervised_keys=keys)
    found = load("tiny", data_dir=str(tmp_path))
    check_set(found, content)
    assert found.notes == ("not read beside image and label: weight",)


def test_supervised_keys_of_two_images_are_refused():
    features, keys = FEATURES | {"mask": FEATURES["image"]}, (("image", "mask"), "label")
    info = types.SimpleNamespace(supervised_keys=keys, features=features)
    with pytest.raises(
        ValueError, match="no image-classification.* supervised keys .*Wanted: one image and one"
    ):
        tfds_source._supervised("tiny", info)


def test_a_record_that_is_damaged(tmp_path):
    prepare(tmp_path)
    file = tmp_path / "tiny/1.0.0" / SHARD
    content = file.read_bytes()
    middle = content.index(b"IHDR")
    file.write_bytes(content[:middle] + b"\xff" * 60 + content[middle + 60 :])
    with pytest.raises(ValueError, match="Split 'train' cannot be read: .*; prepare it again"):
        load("tiny", data_dir=str(tmp_path))
