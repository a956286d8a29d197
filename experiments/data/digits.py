"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.data.dataset import Dataset
from experiments.data.images import Decoder


def read(location: str, **_: Any) -> Dataset:
    """All 1,797 digits; every fifth of a class is for testing."""
    del location
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
