"""What a data set is once it is read: arrays in memory, and what they are called."""

from __future__ import annotations

import dataclasses
import hashlib
import reprlib
from typing import Any

import numpy as np

from experiments.errors import check_known

SIZE = 32  # Of images, in pixels, each way.
# Which images are trained on and which tested on: those that were published for it, or, while something is being
# developed, nine tenths and one tenth of the published training images of every class.
SPLITS = FULL, DEVELOPMENT = ("full", "development")
_TESTED = 2  # Test images of a class: with fewer, its responses have no variance.


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
      split: One of ``SPLITS``.
      related: Names of classes that are worth seeing side by side; empty where the source knows none.
      test_split: What the source calls the images to test on, where they are not those it has for that.

    Raises:
      ValueError: If a part is empty, shapes disagree, a label or group is out of range, or a related class is none.
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
    split: str = FULL
    related: tuple[str, ...] = ()
    test_split: str = ""

    def __post_init__(self):
        check_known("split", self.split, SPLITS)
        if len(self.class_names) < 2:
            raise ValueError(
                f"Data set {self.name!r} has {len(self.class_names)} classes; at least 2 needed."
            )
        for part, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if len(images) == 0:
                raise ValueError(f"Data set {self.name!r} has an empty {part} split.")
            if images.shape != (len(labels), SIZE, SIZE, 3) or images.dtype != np.uint8:
                raise ValueError(
                    f"Data set {self.name!r}, {part}: wanted {len(labels)} uint8 pictures of "
                    f"{SIZE}x{SIZE}x3, got {images.dtype} of shape {images.shape}."
                )
            wrong = (labels < 0) | (labels >= len(self.class_names))
            if wrong.any():
                raise ValueError(
                    f"Data set {self.name!r}, {part}: label {labels[wrong][0]} of picture "
                    f"{np.flatnonzero(wrong)[0]} is not in 0..{len(self.class_names) - 1}."
                )

        groups = len(self.superclass_names)
        if len(self.superclass_of) not in ((self.classes,) if groups else (0,)) or any(
            not 0 <= group < groups for group in self.superclass_of
        ):
            raise ValueError(
                f"Data set {self.name!r}: wanted one of {groups} superclasses for each of {self.classes} "
                f"classes, got {reprlib.repr(self.superclass_of)}."
            )

        if not set(self.related) <= set(self.class_names):
            raise ValueError(
                f"Data set {self.name!r}: related classes {', '.join(self.related)} are not all among its classes."
            )

    @property
    def compared(self) -> tuple[str, ...]:
        """The classes that figures of a few show: those that are related, or the first three."""
        return self.related or self.class_names[:3]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def check_tested(self) -> None:
        """Raises ``ValueError`` if a class has too few test images for statistics of responses to it.

        They are part of every run's summary, and of all that inspects it.
        """
        counts = np.bincount(self.test_labels, minlength=self.classes)
        named = zip(self.class_names, counts, strict=True)
        few = [f"{name} ({count})" for name, count in named if count < _TESTED]
        if not few:
            return
        more = f" and {len(few) - 5} more classes" if len(few) > 5 else ""
        mend = "Add some, or leave the class out."
        if self.split != FULL:
            mend = "This split holds back a tenth: give a class 15 training images, or --split full."
        raise ValueError(
            f"Data set {self.name!r} has too few test images of {', '.join(few[:5])}{more}; statistics of "
            f"responses need {_TESTED} of every class. {mend}"
        )

    @property
    def superclasses(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names of the superclasses that have classes, and which of them each class is in; none if it is one."""
        used = sorted(set(self.superclass_of))
        if len(used) < 2:
            return (), ()
        places = {group: place for place, group in enumerate(used)}
        return tuple(self.superclass_names[group] for group in used), tuple(
            places[group] for group in self.superclass_of
        )

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


def parts_of(split: str) -> tuple[str, ...]:
    """The published parts of a set that a split is made of; a source reads no other."""
    return ("train",) if split == DEVELOPMENT else ("train", "test")


def assembled(name: str, split: str, arrays: dict[str, np.ndarray], **about: Any) -> Dataset:
    """A set from the published parts of its split, ``train_images``, ``train_labels`` and so on."""
    if split == DEVELOPMENT:
        arrays = _development(arrays["train_images"], arrays["train_labels"])
    return Dataset(name, **arrays, **about, split=split)


def _development(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Of the images of every class a tenth to test on, at least one if there are two, and the others, in order."""
    draw = np.random.RandomState(0)  # Its numbers are the same in every version of NumPy.
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, (len(members) + 5) // 10), len(members) - 1)
        held[draw.permutation(members)[:count]] = True
    return {
        "train_images": images[~held],
        "train_labels": labels[~held],
        "test_images": images[held],
        "test_labels": labels[held],
    }
