"""Networks that train on noise: what a step takes does not depend on what the pictures show."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from experiments.config import configure
from experiments.data import SIZE, Dataset
from experiments.errors import check_known, usage_errors
from experiments.run.step import PlacedData, Trainer, TrainState, order

option = functools.partial(click.option, show_default=True)


def chosen(names: str, known: Sequence[str], what: str) -> list[str]:
    """The names in a comma-separated option.

    Raises:
      click.UsageError: If one is not known.
    """
    with usage_errors():
        for name in names.split(","):
            check_known(what, name, known)
    return names.split(",")


def pictures(train: int, test: int = 1) -> Dataset:
    """Noise in 100 classes."""
    images = np.random.default_rng(0).integers(0, 256, (train + test, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(train + test, dtype=np.int32) % 100
    return Dataset(
        "noise", images[:train], labels[:train], images[train:], labels[train:], tuple(map(str, range(100)))
    )


class Training:
    """A run whose every step is on the whole of ``data``; called, it makes the next one.

    Args:
      data: As many pictures as a batch has.
      **options: Of :func:`experiments.config.configure`.
    """

    def __init__(self, data: Dataset, **options: Any):
        batch = len(data.train_labels)
        self.config, _ = configure(data, batch=batch, **options)
        self.trainer = Trainer(self.config, PlacedData(data))
        self.state, self.keys = self.trainer.start(0)
        self.examples = order(0, 0, batch, batch)[0]

    def __call__(self) -> TrainState:
        """The state after another step."""
        self.state = self.trainer.step(self.state, self.keys, self.examples)
        return self.state

    def program(self) -> str:
        """The text of the compiled step."""
        return self.trainer.program(self.state, self.keys, self.examples)

    def evaluate(self) -> tuple[np.ndarray, float]:
        """Which test pictures the network classifies correctly, and the mean loss."""
        return self.trainer.evaluate(self.state)
