"""A neighbourhood of another width in every layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import optax

from experiments import nets
from experiments.errors import check_known
from experiments.fields import setting
from experiments.methods.leaves import on_grids
from experiments.methods.smoothing import Shaped
from lgnn_jax import Layer, decreasing_sigma, smooth

if TYPE_CHECKING:
    from experiments.config import Run

DEPTH, WIDTH = BY = ("depth", "width")


@dataclasses.dataclass(frozen=True)
class ByDepth(Shaped):
    """Gradients are smoothed with a width of every layer's own, the same throughout.

    By depth, layer ``i`` of ``L`` has ``sigma + (sigma_last - sigma) i / (L - 1)``, counted from the image on among
    those that are smoothed. By width, a layer has ``sigma side / side of the largest``, where a grid's side is the
    geometric mean of its lengths: neighbourhoods reach over the same part of every grid.
    """

    name = "by_depth"
    about = "a neighbourhood of each layer's own, by its depth or width"
    sigma_by: str = setting(
        "With by_depth: what decides a layer's width of the neighbourhood, its depth or its number of filters.",
        DEPTH,
        metavar="|".join(BY),
    )
    sigma_last: float = setting(
        "With by_depth: width in the last layer, sigma is that of the first. By width, sigma is the largest "
        "layer's and there is no last.",
        0.8,
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        super().check(run)
        check_known("sigma_by", self.sigma_by, BY)
        if self.sigma_by == WIDTH and self.sigma_last != ByDepth.sigma_last:
            raise ValueError(
                "sigma_last is the last layer's width by depth; by width, sigma is the largest layer's. "
                f"Leave sigma_last out, got {self.sigma_last:g}."
            )
        decreasing_sigma(self.sigma_last, 1, 1, window=self.neighbourhood)  # Checks it.

    def sigmas(self, run: Run, layers: Sequence[Layer]) -> dict[str, float]:
        """The width of the neighbourhood in every layer, by its path."""
        if self.sigma_by == WIDTH:
            sides = {layer.path: layer.grid.units ** (1 / len(layer.grid.shape)) for layer in layers}
            return {path: self.sigma * side / max(sides.values()) for path, side in sides.items()}
        paths = nets.NETS[run.net.name].by_depth(layer.path for layer in layers)
        step = (self.sigma_last - self.sigma) / max(len(paths) - 1, 1)
        return {path: self.sigma + step * place for place, path in enumerate(paths)}

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """The smoothing."""
        layout = self.layout(run)

        def smoothed(updates, params):
            del params
            layers = layout.layers(updates)
            sigmas = self.sigmas(run, layers)

            def change(layer: Layer, g: jax.Array) -> jax.Array:
                return smooth(g, layer.grid, sigmas[layer.path], self.neighbourhood, axis=layer.axis)

            return on_grids(change, layers, updates)

        return optax.stateless(smoothed)

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """The setting that is the first layer's width, or the largest one's."""
        return {"sigma": self.sigma}
