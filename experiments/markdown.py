"""Numbers and tables as Markdown."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with columns of even width, readable as plain text."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)) + " |"
        for row in [header, *rows]
    ]
    return [lines[0], "|" + "|".join("-" * (size + 2) for size in widths) + "|", *lines[1:]]


def quartiles(values: ArrayLike, digits: int = 2) -> str:
    """The median of values, in brackets their quartiles.

    Example:
      >>> quartiles([1, 2, 3, 4, 5])
      '3.00 (2.00-4.00)'
    """
    low, middle, high = (f"{value:.{digits}f}" for value in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"{middle} ({low}-{high})"
