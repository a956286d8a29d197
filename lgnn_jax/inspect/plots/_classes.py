"""Figures of responses to classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lgnn_jax.inspect._regions import Region
from lgnn_jax.inspect.plots import _canvas as canvas


def class_maps(
    maps: Mapping[str, jax.typing.ArrayLike],
    classes: Mapping[str, int],
    *,
    regions: Mapping[str, Sequence[Region]] | None = None,
    label: str = "mean response",
    axes: Any = None,
) -> tuple[Figure, dict[str, np.ndarray]]:
    """What some classes activate, over the grid: a row a network, a column a class.

    A row has one scale: from blue to red around 0 where it has values below 0, else from low
    to high.

    Args:
      maps: By title of the network ``(classes, m, n)``, as :func:`lgnn_jax.inspect.class_maps`
        gives, or selectivities laid out likewise.
      classes: The classes to draw, by their names.
      regions: By title regions to outline, each on its own class, on a grid without wrapping.
      label: What the values are.
      axes: Matplotlib axes to draw on, ``(networks, classes)``; None for a new figure.

    Returns:
      The figure, and by title the maps drawn, ``(len(classes), m, n)``.

    Raises:
      ValueError: If maps are not ``(classes, m, n)`` and finite where drawn (NaN may mark units), a
        class is not among them, or axes do not fit.

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 3.
    """
    chosen = np.array(list(classes.values()), np.int64)
    drawn = {}
    for title, values in maps.items():
        array = np.asarray(values, np.float64)
        if array.ndim != 3 or not len(chosen) or chosen.min() < 0 or chosen.max() >= len(array):
            raise ValueError(
                f"maps of {title!r} must be (classes, m, n) with classes {chosen.tolist()}, got {array.shape}."
            )
        drawn[title] = array[chosen]
        if np.isinf(drawn[title]).any() or np.isnan(drawn[title]).all():
            raise ValueError(f"maps of {title!r} are infinite somewhere or NaN everywhere.")
    if not drawn:
        raise ValueError("There are no maps to draw.")
    rows, columns = next(iter(drawn.values())).shape[1:]
    scale = 2.4 / max(rows, columns)
    size = ((columns * scale + 0.3) * len(chosen) + 1.6, (rows * scale + 0.4) * len(drawn) + 0.2)
    panels = canvas.panels(axes, (len(drawn), len(chosen)), size)
    figure = panels[0, 0].figure
    # Long names in letters as small as it takes to stay above their own panels.
    letters = (columns * scale + 0.2) / 0.075 / max(map(len, classes))
    fontsize = min(10.0, max(5.0, 10 * letters)) if axes is None else 10.0
    for row, (title, arrays) in enumerate(drawn.items()):
        line = panels[row]
        low, high = np.nanmin(arrays), np.nanmax(arrays)
        largest = max(abs(low), abs(high))
        norm = Normalize(-largest, largest) if low < 0 else Normalize(low, high)
        colours = ScalarMappable(norm, canvas.DIVERGING if low < 0 else "viridis")
        line[0].set_ylabel(title, fontsize=12)
        for panel, (name, index), array in zip(line, classes.items(), arrays, strict=True):
            panel.imshow(array, cmap=colours.cmap, norm=colours.norm, interpolation="nearest")
            panel.set_facecolor("0.6")
            panel.set_xticks([])
            panel.set_yticks([])
            if row == 0:
                panel.set_title(name, fontsize=fontsize)
            for region in (regions or {}).get(title, ()):
                if region.label == index:
                    canvas.outline(panel, region.members, array.shape)
        figure.colorbar(colours, ax=line.tolist(), label=label, shrink=0.8, aspect=20)
    return figure, drawn
