"""The paper's figures of networks."""

from __future__ import annotations

import itertools
import pathlib

import numpy as np

from experiments import data as datasets
from experiments.inspect.networks import Network
from lgnn_jax import Grid
from lgnn_jax.inspect import plots
from lgnn_jax.inspect.regions import regions
from lgnn_jax.inspect.responses import class_maps

_FIGURE_2 = ((1, 1), (1, 3), (1, 5))  # The paper's filters, as rows and columns of the grid.
_THRESHOLD = 5.0  # A unit responds to a class if its t is larger.


def draw(
    networks: dict[str, Network],
    data: datasets.Dataset,
    classes: dict[str, int],
    shown: str,
    out: pathlib.Path,
) -> None:
    """Figures 1 to 3, of the layer ``shown``, and its top images."""
    layers = next(iter(networks.values())).layers
    first, grid = next(iter(layers)), layers[shown][0]
    label = shown.removesuffix("/kernel")

    def kernels(name: str) -> dict[str, np.ndarray]:
        return {title: found.layers[name][1] for title, found in networks.items()}

    figure, _ = plots.first_layer(kernels(first), layers[first][0])
    figure.suptitle("first layer; every filter from its smallest to its largest weight", fontsize=9)
    figure.savefig(out / "fig1.png", dpi=150)
    rows, columns = grid.shape
    units = [row * columns + column for row, column in _FIGURE_2 if row < rows and column < columns]
    figure, _ = plots.similarity_maps(kernels(shown), grid, units)
    figure.suptitle(
        f"{label}; filters by row and column of the grid, from 0; grey: the filter itself", fontsize=9
    )
    figure.savefig(out / "fig2.png", dpi=150)
    statistics = {title: found.responses[shown] for title, found in networks.items()}
    selective = {
        title: regions(found.selectivity(constant="nan"), grid, threshold=_THRESHOLD)
        for title, found in statistics.items()
    }
    figure, _ = plots.class_maps(
        {title: class_maps(found, Grid(grid.shape)) for title, found in statistics.items()},
        classes,
        regions=selective,
        label="mean response",
    )
    panels = itertools.product(networks.values(), classes.values())
    for axes, (found, index) in zip(figure.axes, panels, strict=False):  # Colour bars come after.
        axes.set_xlabel(f"test accuracy {found.class_accuracy[index]:.0%}", fontsize=8)
    title = f"{label}; colour: mean response, outlined: t for the class above {_THRESHOLD:g}"
    figure.suptitle(title, fontsize=9)
    figure.savefig(out / "fig3.png", dpi=150)
    figure, _ = plots.top_images(data.test_images, list(statistics.values())[-1].top_images, grid)
    figure.suptitle(
        f"{list(networks)[-1]}, {label}: the nine most exciting test pictures by row and column", fontsize=8
    )
    figure.savefig(out / "top_images.png", dpi=150)
