"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.data.dataset import FULL, Dataset, assembled, parts_of
from experiments.data.images import Decoder

_RELATED = ("3", "5", "8")


def read(location: str, *, split: str = FULL, **_: Any) -> Dataset:
    """All 1,797 digits; every fifth of a class is for testing."""
    del location
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    decode = Decoder()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[::5]] = True
    arrays = {}
    for part in parts_of(split):
        chosen = test if part == "test" else ~test
        images = [decode.convert(Image.fromarray(image), "digit") for image in grey[chosen]]
        arrays |= {f"{part}_images": np.stack(images), f"{part}_labels": labels[chosen]}
    names = tuple(str(label) for label in range(10))
    return assembled("digits", split, arrays, class_names=names, notes=decode.notes, related=_RELATED)
