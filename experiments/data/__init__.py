"""Image-classification sets as arrays in memory. A source of them is one file here, and a line of ``SOURCES``."""

from __future__ import annotations

import importlib

from experiments.data.dataset import FULL, SIZE, SPLITS, Dataset
from experiments.errors import check_known

__all__ = ["FULL", "SIZE", "SOURCES", "SPLITS", "Dataset", "load"]

# What a source's name begins with, and the module here whose ``read`` gets the rest of it. Modules are imported
# when they are asked for, since none should need another's packages.
SOURCES = {"digits": "digits", "folder:": "folder", "npy:": "arrays"}
_OTHERWISE = "tfds"


def load(
    source: str,
    *,
    split: str = FULL,
    test_split: str = "",
    data_dir: str | None = None,
    download: bool = False,
    cache: bool = True,
) -> Dataset:
    """Reads a data set into memory.

    Args:
      source: ``digits`` (embedded), ``folder:PATH`` (a folder or a zip with ``train/<class>/*`` and
        ``test/<class>/*``), ``npy:DIR`` (arrays that :func:`experiments.data.arrays.write_arrays` wrote), or
        the name of an image-classification set of tensorflow-datasets, optionally with a config and version
        (``name/config:1.0.0``).
      split: ``full``, as published, or ``development``: nine tenths of the published training images of every
        class to train on and the others to test on, always the same. The published test set is not read.
      test_split: What the source calls the images to test on: a split of tensorflow-datasets or a folder beside
        ``train``; empty for its ``test``.
      data_dir: Where tensorflow-datasets keeps its sets; None for its own default.
      download: Whether a set that is not there may be downloaded and prepared.
      cache: Whether decoded images are kept in ``$LGNN_JAX_CACHE`` (default ``~/.cache/lgnn_jax``).

    Raises:
      ValueError: If there is no such set or split, or an image or label in it cannot be used.

    Example:
      >>> from experiments import data
      >>> digits = data.load("digits")
      >>> digits.name, digits.classes, digits.train_images.shape
      ('digits', 10, (1433, 32, 32, 3))
      >>> len(data.load("digits", split="development").train_labels)
      1290
    """
    check_known("split", split, SPLITS)
    begins = source.partition(":")[0] + ":" * (":" in source)
    module = SOURCES.get(begins, _OTHERWISE)
    location = source if module == _OTHERWISE else source[len(begins) :]
    read = importlib.import_module(f"{__name__}.{module}").read
    data = read(
        location, split=split, test_split=test_split, data_dir=data_dir, download=download, cache=cache
    )
    if data.test_split != test_split:
        mend = f"give --test-split {data.test_split}" if data.test_split else "leave --test-split out"
        raise ValueError(
            f"The images that {source!r} has to test on are not those of a split {test_split or 'test'!r}; {mend}."
        )
    return data
