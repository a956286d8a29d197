"""What figures share: panels, colours, and images laid out as tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

DIVERGING = "RdBu_r"  # Told apart with any colour vision.
BETWEEN = (0.72, 0.80, 0.88)  # Between tiles: neither white nor black nor grey, as images may be.


def panels(axes: Any, shape: tuple[int, int], size: tuple[float, float]) -> np.ndarray:
    """The axes that were given, or those of a new figure of ``size`` inches, as an array of ``shape``."""
    if axes is None:
        return Figure(figsize=size, layout="constrained").subplots(*shape, squeeze=False)
    panels = np.array(axes, object, ndmin=2)
    if panels.shape != shape:
        raise ValueError(f"axes must be {shape}, got {panels.shape}.")
    return panels


def lay_out(tiles: np.ndarray, places: np.ndarray, gap: int) -> np.ndarray:
    """Images at their places on one canvas.

    Args:
      tiles: ``(tiles, height, width, 3)`` in [0, 1].
      places: Rows and columns, integers ``(tiles, 2)`` from 0.
      gap: Pixels between tiles.

    Returns:
      Floats ``(rows * (height + gap) - gap, columns * (width + gap) - gap, 3)``.
    """
    height, width = tiles.shape[1:3]
    rows, columns = places.max(0) + 1
    canvas = np.broadcast_to(
        BETWEEN, (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    ).copy()
    for (row, column), tile in zip(places, tiles, strict=True):
        y, x = row * (height + gap), column * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    return canvas


def outline(panel: Any, members: np.ndarray, shape: tuple[int, int]) -> None:
    """Draws a line around units of a grid."""
    inside = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    inside[1:-1, 1:-1].flat[members] = True
    for row, column in np.argwhere(inside[:, 1:] != inside[:, :-1]) - (1, 0):
        panel.plot([column - 0.5] * 2, [row - 0.5, row + 0.5], color="black", linewidth=1.2)
    for row, column in np.argwhere(inside[1:] != inside[:-1]) - (0, 1):
        panel.plot([column - 0.5, column + 0.5], [row - 0.5] * 2, color="black", linewidth=1.2)
