"""Image-classification sets as arrays in memory: tensorflow-datasets, class folders, embedded digits."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from experiments import cifar
from experiments.images import SIZE, Decoder

_CACHE_FORMAT = 2
# Errors of tensorflow-datasets, by name: it is imported only where it is needed.
_DOWNLOAD_ERRORS = ("DownloadError", "ExtractError", "NonMatchingChecksumError")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training and a test set of 32x32 RGB pictures.

    Args:
      name: What the set is called in tables.
      train_images: uint8 ``(train, 32, 32, 3)``.
      train_labels: int32 ``(train,)``, 0 to ``len(class_names) - 1``.
      test_images: uint8 ``(test, 32, 32, 3)``.
      test_labels: int32 ``(test,)``.
      class_names: A name a class, at least two.
      notes: Sentences on what was changed while reading.
      superclass_names: A name a group of classes; empty where the set has none.
      superclass_of: The group of every class.

    Raises:
      ValueError: If a split is empty, shapes disagree or a label is out of range.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    superclass_names: tuple[str, ...] = ()
    superclass_of: tuple[int, ...] = ()

    def __post_init__(self):
        if len(self.class_names) < 2:
            raise ValueError(
                f"Data set {self.name!r} has {len(self.class_names)} classes; at least 2 needed."
            )
        for split, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if len(images) == 0:
                raise ValueError(f"Data set {self.name!r} has an empty {split} split.")
            if images.shape != (len(labels), SIZE, SIZE, 3) or images.dtype != np.uint8:
                raise ValueError(
                    f"Data set {self.name!r}, {split}: wanted {len(labels)} uint8 pictures of "
                    f"{SIZE}x{SIZE}x3, got {images.dtype} of shape {images.shape}."
                )
            wrong = (labels < 0) | (labels >= len(self.class_names))
            if wrong.any():
                raise ValueError(
                    f"Data set {self.name!r}, {split}: label {labels[wrong][0]} of picture "
                    f"{np.flatnonzero(wrong)[0]} is not in 0..{len(self.class_names) - 1}."
                )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def digest(self) -> str:
        """SHA-256 of all pictures and labels, as 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every channel of the training pictures, of 1, float64 ``(3,)``.

        A channel that never changes has a deviation of 1, so that it stays at 0.
        """
        values = np.arange(256) / 255
        counts = [np.bincount(self.train_images[..., c].ravel(), minlength=256) for c in range(3)]
        share = np.stack(counts) / (self.train_images.size / 3)
        mean = share @ values
        deviation = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
        return mean, np.where(deviation > 1e-6, deviation, 1)


def load(
    source: str, *, data_dir: str | None = None, download: bool = False, cache: bool = True
) -> Dataset:
    """Reads a data set into memory.

    Args:
      source: ``digits`` (embedded), ``folder:PATH`` (a folder or a zip with ``train/<class>/*`` and
        ``test/<class>/*``), or the name of an image-classification set of tensorflow-datasets, optionally
        with a config and version (``name/config:1.0.0``).
      data_dir: Where tensorflow-datasets keeps its sets; None for its own default.
      download: Whether a set that is not there may be downloaded and prepared.
      cache: Whether decoded pictures are kept in ``$LGNN_JAX_CACHE`` (default ``~/.cache/lgnn_jax``).

    Raises:
      ValueError: If there is no such set, or a picture or label in it cannot be used.
    """
    if source == "digits":
        return _digits()
    if source.startswith("folder:"):
        return _folder(source.removeprefix("folder:"), cache)
    if not source or source.startswith(("/", ".")):
        raise ValueError(
            f"Unknown data set {source!r}. Give digits, folder:PATH, or the name of a tensorflow-datasets set."
        )
    return _tfds(source, data_dir, download, cache)


def _digits() -> Dataset:
    """The 1,797 handwritten digits that come with scikit-learn; every fifth of a class is for testing."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    decode = Decoder()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.stack([decode.convert(Image.fromarray(image), "digit") for image in grey])
    labels = digits.target.astype(np.int32)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[::5]] = True
    names = tuple(str(label) for label in range(10))
    return Dataset("digits", images[~test], labels[~test], images[test], labels[test], names, decode.notes)


def _folder(location: str, cache: bool) -> Dataset:
    """A folder, or a zip of it, with ``train/<class>/*`` and ``test/<class>/*``."""
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
    found = {split: _class_files(root / split) for split in ("train", "test")}
    for split, files in found.items():
        if not files:
            raise ValueError(
                f"{location!r} has no pictures in {split}/<class>/. Wanted: train/<class>/* and test/<class>/*."
            )
    names = tuple(sorted(found["train"]))
    called = path.name if path.is_dir() else path.stem
    called = "digits-folder" if called == "digits" else called  # The embedded set's name brings its recipe.
    unknown = sorted(set(found["test"]) - set(names))
    if unknown:
        raise ValueError(f"{location!r} has test pictures of {', '.join(unknown)}, which train/ lacks.")

    def read() -> Dataset:
        decode, arrays = Decoder(), {}
        for split, files in found.items():
            items = [(file, label) for label, name in enumerate(names) for file in files.get(name, ())]
            pictures = np.stack([decode(file.read_bytes(), str(file)) for file, _ in items])
            labels = np.array([label for _, label in items], np.int32)
            arrays |= {f"{split}_images": pictures, f"{split}_labels": labels}
        return Dataset(called, class_names=names, notes=decode.notes, **arrays)

    everything = [file for files in found.values() for group in files.values() for file in group]
    return _cached([str(path), *_stamps(path, everything)], read, cache)


def _visible(folder: pathlib.Path | zipfile.Path) -> list:
    """What a folder holds, by name, without hidden files and archive clutter."""
    names = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return sorted(names, key=lambda entry: entry.name)


def _class_files(split: pathlib.Path | zipfile.Path) -> dict[str, list]:
    """The files of every class of a split that has any."""
    if not split.is_dir():
        return {}
    classes = {folder.name: folder for folder in _visible(split) if folder.is_dir()}
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


def _tfds(source: str, data_dir: str | None, download: bool, cache: bool) -> Dataset:
    """A set that tensorflow-datasets prepared, read without TensorFlow."""
    name, _, version = source.partition(":")
    folder = pathlib.Path(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()
    prepared = _prepared(folder, name, version)
    if prepared is None and download:
        _download(name, folder)
        prepared = _prepared(folder, name, version)
    if prepared is None:
        close = difflib.get_close_matches(source, ["digits", *cifar.NAMES, *_present(folder)], n=1)
        hint = f"Did you mean {close[0]!r}? " if close and close[0] != name else ""
        raise ValueError(
            f"{hint}Data set {source!r} is not prepared in {str(folder)!r}. Give the folder that holds it with "
            "--data-dir, download it with --download (cifar10 and cifar100 need nothing else, others that "
            "tensorflow-datasets knows need TensorFlow), or work offline: --data digits, or --data folder:PATH "
            "with train/<class>/* and test/<class>/*."
        )
    stamp = (prepared / "dataset_info.json").read_text()
    return _cached([str(prepared.resolve()), stamp], lambda: _read_tfds(name, prepared), cache)


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


def _read_tfds(name: str, folder: pathlib.Path) -> Dataset:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    info = builder.info
    if info.file_format != tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{str(folder)!r} is in the format {info.file_format.value}; only array_record can be read without "
            "TensorFlow. Prepare it again with file_format='array_record'."
        )
    image_key, label_key = info.supervised_keys or ("image", "label")
    features = dict(info.features.items())
    label = features.get(label_key)
    if not isinstance(features.get(image_key), tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            f"{name!r} is no image-classification set; its features are {', '.join(sorted(features))}."
        )
    test = next((split for split in ("test", "validation") if split in info.splits), None)
    if "train" not in info.splits or test is None:
        raise ValueError(f"{name!r} lacks a train or test split; it has {', '.join(info.splits)}.")
    coarse = features.get("coarse_label")
    coarse = coarse if isinstance(coarse, tfds.features.ClassLabel) else None
    decode, arrays, groups = Decoder(), {}, np.zeros(label.num_classes, np.int32)
    for ours, theirs in (("train", "train"), ("test", test)):
        images, labels, groups_of = _read_split(builder, theirs, image_key, label_key, coarse, decode)
        arrays |= {f"{ours}_images": images, f"{ours}_labels": labels}
        if ours == "train":
            groups[labels] = groups_of
        if (groups[labels] != groups_of).any():
            coarse = None  # Not groups of classes.
    notes = decode.notes + (() if test == "test" else (f"the {test} split serves as test set",))
    about: dict[str, Any] = {}
    if coarse is not None:
        about = {"superclass_names": tuple(coarse.names), "superclass_of": tuple(map(int, groups))}
    return Dataset(name, class_names=tuple(label.names), notes=notes, **arrays, **about)


def _read_split(builder, split: str, image_key: str, label_key: str, coarse: Any, decode: Decoder):
    """Pictures, labels and (where there is a feature ``coarse``) coarse labels of a split."""
    import tensorflow_datasets as tfds

    count = builder.info.splits[split].num_examples
    try:
        held = sum(map(_records, builder.info.splits[split].filepaths))
    except RuntimeError as error:
        raise ValueError(f"Split {split!r} cannot be read: {error}; prepare it again.") from None
    if held != count:  # The source below takes its length from the promise.
        raise ValueError(f"Split {split!r} promises {count} pictures and holds {held}; prepare it again.")
    source = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    images, labels = np.empty((count, SIZE, SIZE, 3), np.uint8), np.empty(count, np.int32)
    groups = np.zeros(count, np.int32)
    for start in range(0, count, 1000):
        indices = range(start, min(start + 1000, count))
        for index, example in zip(indices, source.__getitems__(list(indices)), strict=True):
            images[index] = decode(example[image_key], f"picture {index} of split {split!r}")
            labels[index] = example[label_key]
            groups[index] = example["coarse_label"] if coarse is not None else 0
    return images, labels, groups


def _records(path: os.PathLike) -> int:
    """How many records a file of a prepared set holds."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(os.fspath(path))
    try:
        return reader.num_records()
    finally:
        reader.close()


def _cached(key: Iterable[str], read: Callable[[], Dataset], enabled: bool) -> Dataset:
    """What ``read`` gives, kept decoded in a file that ``key`` names."""
    if not enabled:
        return read()
    digest = hashlib.sha256("\n".join([str(_CACHE_FORMAT), *key]).encode()).hexdigest()[:24]
    folder = pathlib.Path(os.environ.get("LGNN_JAX_CACHE") or "~/.cache/lgnn_jax").expanduser()
    file = folder / f"{digest}.npz"
    if file.exists():
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
                arrays = dict(stored)
            about = json.loads(arrays.pop("about").tobytes())
            lists = {name: tuple(value) for name, value in about.items() if isinstance(value, list)}
            return Dataset(about["name"], **lists, **arrays)
    data = read()
    fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    about = json.dumps({name: value for name, value in fields.items() if name not in arrays})
    buffer = io.BytesIO()
    np.savez(buffer, about=np.frombuffer(about.encode(), np.uint8), **arrays)
    with contextlib.suppress(OSError):  # A cache that cannot be written is no reason to stop.
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.tmp")
        partial.write_bytes(buffer.getbuffer())
        partial.replace(file)
    return data
