"""Which images an order is fitted on, and which it is measured on."""

from __future__ import annotations

import numpy as np

_MOST = 2000  # More say hardly more of how alike units are.
_LEFT = 2  # Images of a class that are left to measure on; Welch's t needs them.


def halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending indices of the images to fit on and of all others.

    To fit on are half of every class's, drawn at random and always the same, but no more than 2,000 of all
    classes and never so many that a class is left with fewer than two.
    """
    draw, counts = np.random.default_rng(0), np.bincount(labels).tolist()
    most = max(1, _MOST // max(1, len(counts)))
    chosen = [
        draw.permutation(np.flatnonzero(labels == label))[: max(0, min(count // 2, count - _LEFT, most))]
        for label, count in enumerate(counts)
    ]
    fit = np.sort(np.concatenate(chosen))
    return fit, np.setdiff1d(np.arange(len(labels)), fit)
