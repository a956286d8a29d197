"""Image-classification sets that tensorflow-datasets prepared, read without TensorFlow."""

from __future__ import annotations

import dataclasses
import difflib
import os
import pathlib
from typing import Any

import numpy as np

from experiments.data import cifar
from experiments.data.cache import cached
from experiments.data.dataset import FULL, SIZE, Dataset, assembled, parts_of
from experiments.data.images import Decoder

# Errors of tensorflow-datasets, by name: it is imported only where it is needed.
_DOWNLOAD_ERRORS = ("DownloadError", "ExtractError", "NonMatchingChecksumError")
_AT_ONCE = 1000  # Examples that are read together.
# Classes worth seeing side by side, of sets that are known.
_RELATED = {
    "cifar100": ("maple_tree", "palm_tree", "pine_tree"),
    "cifar10": ("cat", "dog", "horse"),
    "tinyimagenet100": ("tabby", "persian_cat", "egyptian_cat"),
}


def read(
    location: str,
    *,
    split: str = FULL,
    test_split: str = "",
    data_dir: str | None = None,
    download: bool = False,
    cache: bool = True,
) -> Dataset:
    """The set that ``location`` names, from ``data_dir``, where ``download`` may put it."""
    if not location or location.startswith(("/", ".")):
        raise ValueError(
            f"Unknown data set {location!r}. Give digits, folder:PATH, or the name of a tensorflow-datasets set."
        )
    name, _, version = location.partition(":")
    folder = pathlib.Path(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()
    prepared = _prepared(folder, name, version)
    if prepared is None and download:
        _download(name, folder)
        prepared = _prepared(folder, name, version)
    if prepared is None:
        close = difflib.get_close_matches(location, ["digits", *cifar.NAMES, *_present(folder)], n=1)
        hint = f"Did you mean {close[0]!r}? " if close and close[0] != name else ""
        raise ValueError(
            f"{hint}Data set {location!r} is not prepared in {str(folder)!r}. Give the folder that holds it with "
            "--data-dir, download it with --download (cifar10 and cifar100 need nothing else, others that "
            "tensorflow-datasets knows need TensorFlow), or work offline: --data digits, or --data folder:PATH "
            "with train/<class>/* and test/<class>/*."
        )
    stamp = (prepared / "dataset_info.json").read_text()
    key = [str(prepared.resolve()), " ".join(filter(None, (split, test_split))), stamp]
    data = cached(key, lambda: _read_tfds(name, prepared, split, test_split), cache)
    related = _RELATED.get(name, ())
    return dataclasses.replace(data, related=related if set(related) <= set(data.class_names) else ())


def _present(folder: pathlib.Path) -> list[str]:
    """What lies in a folder of sets."""
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _prepared(folder: pathlib.Path, name: str, version: str) -> pathlib.Path | None:
    """The folder of the newest (or the named) prepared version; a set's only config need not be named."""
    pattern = f"{version or '*'}/dataset_info.json"
    versions = [info.parent for info in (folder / name).glob(pattern)]
    if not versions and "/" not in name:
        versions = [info.parent for info in (folder / name).glob(f"*/{pattern}")]
        configs = sorted({path.parent.name for path in versions})
        if len(configs) > 1:
            choices = ", ".join(f"{name}/{config}" for config in configs)
            raise ValueError(f"Data set {name!r} is prepared in several configs; give one of {choices}.")

    def order(path: pathlib.Path):
        return [int(part) if part.isdigit() else -1 for part in path.name.split(".")]

    return max(versions, key=order, default=None)


def _download(name: str, folder: pathlib.Path) -> None:
    """Lets tensorflow-datasets download and prepare a set."""
    try:
        if name in cifar.NAMES:
            cifar.prepare(name, str(folder))
        else:
            import tensorflow_datasets as tfds

            builder = tfds.builder(name, data_dir=str(folder), file_format="array_record")
            for url in list(builder.url_infos)[:1]:
                cifar.check_reachable(url)
            builder.download_and_prepare()
    except Exception as error:
        kind = type(error).__name__
        if kind == "DatasetNotFoundError":
            raise ValueError(f"tensorflow-datasets knows no data set {name!r}.") from None
        missing = next((e for e in (error, error.__cause__) if isinstance(e, ImportError)), None)
        if missing is not None:
            raise ValueError(
                f"Preparing data set {name!r} needs a package that is not installed ({missing.name or missing}); "
                "pip install tensorflow, or prepare it elsewhere and give its folder with --data-dir."
            ) from None
        if isinstance(error, OSError) or kind in _DOWNLOAD_ERRORS:
            raise ValueError(
                f"Data set {name!r} could not be downloaded to {str(folder)!r}: {error} Offline: --data "
                "digits, --data folder:PATH, or --data-dir with the set prepared elsewhere."
            ) from None
        raise


def _read_tfds(name: str, folder: pathlib.Path, split: str, test_split: str) -> Dataset:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    info = builder.info
    if info.file_format != tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{str(folder)!r} is in the format {info.file_format.value}; only array_record can be read without "
            "TensorFlow. Prepare it again with file_format='array_record'."
        )
    image_key, label_key, notes = _supervised(name, info)
    features = dict(info.features.items())
    label = features[label_key]
    theirs = {"train": "train"}
    if "test" in parts_of(split):
        theirs["test"] = test_split or ("test" if "test" in info.splits else "validation")
        if test_split and test_split not in info.splits:
            raise ValueError(f"{name!r} has no split {test_split!r}; it has {', '.join(info.splits)}.")
    if not set(theirs.values()) <= set(info.splits):
        raise ValueError(f"{name!r} lacks a train or test split; it has {', '.join(info.splits)}.")
    coarse = features.get("coarse_label")
    coarse = coarse if isinstance(coarse, tfds.features.ClassLabel) else None
    decode, arrays, groups = Decoder(), {}, np.zeros(label.num_classes, np.int32)
    sources = {called: _source(builder, called, image_key) for called in theirs.values()}
    for called, source in sources.items():  # What has no labels has none from the start.
        first = _examples(source, called, range(min(_AT_ONCE, len(source))))
        _check_labels(info, called, label_key, np.array([example[label_key] for example in first]))
    for part, called in theirs.items():
        images, labels, groups_of = _read_split(
            info, called, sources[called], image_key, label_key, coarse, decode
        )
        arrays |= {f"{part}_images": images, f"{part}_labels": labels}
        if part == "train":
            groups[labels] = groups_of
        if (groups[labels] != groups_of).any():
            coarse = None  # Not groups of classes.
    notes = decode.notes + notes
    if theirs.get("test") == "validation" and not test_split:
        notes += ("the validation split serves as test set",)
    about: dict[str, Any] = {"test_split": test_split}
    if coarse is not None:
        about |= {"superclass_names": tuple(coarse.names), "superclass_of": tuple(map(int, groups))}
    return assembled(name, split, arrays, class_names=tuple(label.names), notes=notes, **about)


def _supervised(name: str, info: Any) -> tuple[str, str, tuple[str, ...]]:
    """The names of the image and of its class among the features, and notes on what is supervised beside them.

    Supervised keys may be three, the last of them a weight, and each may be several in tuples or dictionaries.
    """
    import tensorflow_datasets as tfds

    keys = info.supervised_keys or ("image", "label")
    features = dict(info.features.items())
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    found = [
        [key for key in _leaves(part) if isinstance(features.get(key), kind)]
        for part, kind in zip(keys, kinds, strict=False)
    ]
    if [len(some) for some in found] != [1, 1]:
        supervised = f" and its supervised keys {keys}" if info.supervised_keys else ""
        raise ValueError(
            f"{name!r} is no image-classification set; its features are {', '.join(sorted(features))}{supervised}. "
            "Wanted: one image and one class."
        )
    (image,), (label,) = found
    others = [key for key in _leaves(keys) if key not in (image, label)]
    return image, label, (f"not read beside {image} and {label}: {', '.join(others)}",) if others else ()


def _leaves(keys: Any) -> list[str]:
    """The names in nested tuples and dictionaries."""
    if isinstance(keys, str):
        return [keys]
    return [name for part in (keys.values() if isinstance(keys, dict) else keys) for name in _leaves(part)]


def _source(builder: Any, split: str, image_key: str) -> Any:
    """The examples of a split, their images as they are encoded.

    Raises:
      ValueError: If its files do not hold what is promised.
    """
    import tensorflow_datasets as tfds

    count = builder.info.splits[split].num_examples
    try:
        held = sum(map(_records, builder.info.splits[split].filepaths))
    except RuntimeError as error:
        raise ValueError(f"Split {split!r} cannot be read: {error}; prepare it again.") from None
    if held != count:  # The source below takes its length from the promise.
        raise ValueError(f"Split {split!r} promises {count} pictures and holds {held}; prepare it again.")
    return builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})


def _examples(source: Any, split: str, indices: range) -> list[dict[str, Any]]:
    """Some examples of a split."""
    try:
        return source.__getitems__(list(indices)) if indices else []
    except Exception as error:  # array_record and protobuf raise whatever they meet.
        raise ValueError(f"Split {split!r} cannot be read: {error}; prepare it again.") from None


def _read_split(
    info: Any, split: str, source: Any, image_key: str, label_key: str, coarse: Any, decode: Decoder
):
    """Pictures, labels and (where there is a feature ``coarse``) coarse labels of a split."""
    count = len(source)
    images, labels = np.empty((count, SIZE, SIZE, 3), np.uint8), np.empty(count, np.int32)
    groups = np.zeros(count, np.int32)
    for start in range(0, count, _AT_ONCE):
        indices = range(start, min(start + _AT_ONCE, count))
        examples = _examples(source, split, indices)
        labels[start : start + len(examples)] = [example[label_key] for example in examples]
        _check_labels(info, split, label_key, labels[: start + len(examples)])
        for index, example in zip(indices, examples, strict=True):
            images[index] = decode(example[image_key], f"picture {index} of split {split!r}")
            groups[index] = example["coarse_label"] if coarse is not None else 0
    return images, labels, groups


def _check_labels(info: Any, split: str, key: str, labels: np.ndarray) -> None:
    """Raises ``ValueError`` at a label that is no class; published test splits may come without, as -1."""
    bad = np.flatnonzero((labels < 0) | (labels >= info.features[key].num_classes))
    if not len(bad):
        return
    what = f"{info.name!r}: image {bad[0]} of split {split!r} has label {labels[bad[0]]}, which is no class"
    if split == "train":
        raise ValueError(f"{what}; wanted labels of all images to train on.")
    others = [name for name in info.splits if name not in ("train", split)]
    choice = f"--test-split {' or '.join(others)}" if others else "--split development"
    raise ValueError(f"{what}. Test on images that have one: {choice}.")


def _records(path: os.PathLike) -> int:
    """How many records a file of a prepared set holds."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(os.fspath(path))
    try:
        return reader.num_records()
    finally:
        reader.close()
