"""Statistics of paired runs: how far the difference of two variants can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
RESAMPLES = 10_000
T_INTERVAL = (
    "t interval: where, in 95 % of such experiments, the mean difference of infinitely many seeds lies, if the "
    "paired differences of the seeds are draws from one normal distribution; the test pictures are taken as given"
)
BOOTSTRAP_INTERVAL = (
    "bootstrap interval: the middle 95 % of the mean differences of these very networks on as many test pictures "
    "drawn anew, with replacement and the same for all networks, 10,000 times; the seeds are taken as given"
)

Interval = tuple[float, float]


def t_interval(differences: Sequence[float]) -> Interval | None:
    """The 95 % interval of Student's t for the mean of paired differences; None for fewer than two.

    Example:
      >>> low, high = t_interval([1.0, 2.0, 3.0])
      >>> round(low, 3), round(high, 3)
      (-0.484, 4.484)
    """
    if len(differences) < 2:
        return None
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    reach = float(stdtrit(len(differences) - 1, (1 + LEVEL) / 2)) * error
    return mean - reach, mean + reach


def bootstrap_interval(correct: np.ndarray, reference: np.ndarray, seed: int = 0) -> Interval | None:
    """The 95 % percentile interval of a paired bootstrap over test pictures, of a mean difference of accuracies.

    A picture is drawn together with what every network made of it. Pictures with the same mean difference are
    drawn as one, by a multinomial distribution, which is the same and takes no time.

    Args:
      correct: Which pictures were right, bool ``(seeds, pictures)``.
      reference: Likewise of the same seeds without smoothing.
      seed: Of the resamples.

    Returns:
      Lower and upper end, or None without any seed.

    Raises:
      ValueError: If the shapes differ.
    """
    if correct.shape != reference.shape or correct.ndim != 2:
        raise ValueError(
            f"correct and reference must be (seeds, pictures) alike, got {correct.shape} and {reference.shape}."
        )
    seeds, pictures = correct.shape
    if not correct.size:
        return None
    values, counts = np.unique(correct.sum(0, dtype=np.int64) - reference.sum(0), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(pictures, counts / pictures, size=RESAMPLES)
    low, high = np.quantile(drawn @ (values / seeds) / pictures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
