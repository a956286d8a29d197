"""CIFAR-10 and CIFAR-100 prepared for tensorflow-datasets without TensorFlow.

Download, checksum and the written files are tensorflow-datasets' own. Only unpacking the archive and reading
the binary files, which it does with TensorFlow, are done here with the standard library and NumPy.
"""

from __future__ import annotations

import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np

NAMES = ("cifar10", "cifar100")
_PIXELS = 32 * 32 * 3


def read_binary(data: bytes, labels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels ``(labels,)`` and image ``(32, 32, 3)`` of every record of a CIFAR binary file.

    A record is one byte a label (CIFAR-10: the class; CIFAR-100: superclass, class), then 1024 bytes each
    of red, green and blue, row by row.

    Raises:
      ValueError: If the file does not hold a whole number of records.
    """
    record = labels + _PIXELS
    if len(data) % record:
        raise ValueError(
            f"A CIFAR file of {len(data)} bytes does not hold whole records of {record} bytes."
        )
    for row in np.frombuffer(data, np.uint8).reshape(-1, record):
        yield row[:labels], row[labels:].reshape(3, 32, 32).transpose(1, 2, 0)


def builder(name: str, data_dir: str | None):
    """A tensorflow-datasets builder of ``cifar10`` or ``cifar100`` that never touches TensorFlow."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.image_classification import cifar as original

    base = {"cifar10": original.Cifar10, "cifar100": original.Cifar100}[name]

    def splits(self, dl_manager):
        info = self._cifar_info
        with tarfile.open(dl_manager.download(info.url)) as archive:
            files = {file.name: archive.extractfile(file).read() for file in archive if file.isfile()}
        for key, name in zip(info.label_keys, info.label_files, strict=True):
            names = files[info.prefix + name].decode().split("\n")
            self.info.features[key].names = [name for name in names if name]
        return {
            split: self._generate_examples(f"{split}_", [files[info.prefix + name] for name in names])
            for split, names in (("train", info.train_files), ("test", info.test_files))
        }

    def generate(self, prefix, files):
        keys, index = self._cifar_info.label_keys, 0
        for data in files:
            for labels, image in read_binary(data, len(keys)):
                record = {key: int(label) for key, label in zip(keys, labels, strict=True)}
                yield index, record | {"id": f"{prefix}{index:05d}", "image": Image.fromarray(image)}
                index += 1

    # The class's name and module decide where tensorflow-datasets looks for its checksums.
    overridden = {
        "_split_generators": splits,
        "_generate_examples": generate,
        "__module__": base.__module__,
    }
    with tfds.core.registered.skip_registration():
        prepared = type(base.__name__, (base,), overridden)
    return prepared(data_dir=data_dir, file_format="array_record")


def check_reachable(url: str, timeout: float = 5.0) -> None:
    """Raises ``ConnectionError`` if nothing answers at ``url``, before a client retries for minutes."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise ConnectionError(f"{url} answers {error.code}.") from None
    except (OSError, ValueError) as error:
        raise ConnectionError(f"{url} cannot be reached: {error}") from None


def prepare(name: str, data_dir: str | None) -> None:
    """Downloads ``name``, checks it and writes it to ``data_dir`` in tensorflow-datasets' format.

    Raises:
      ConnectionError: If the site cannot be reached.
    """
    prepared = builder(name, data_dir)
    check_reachable(prepared._cifar_info.url)
    prepared.download_and_prepare()
