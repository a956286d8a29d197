"""A control: smoothing along grids on which the filters lie in a random order that never changes."""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.fields import setting
from experiments.methods.constant import Constant
from experiments.methods.leaves import on_grids
from lgnn_jax import Layer

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class RandomGrid(Constant):
    """Gradients ``g`` become ``P^-1 S P g``: ``P`` puts a layer's filters into a random order, ``S`` smooths.

    The operator has the spectrum of :class:`Constant`'s. No layout is left in the network's own order; in the
    order of ``P``, which the summary measures too, there is one as by :class:`Constant`. The order of a layer
    depends on ``grid_seed`` and on the layer's path, not on the seed of the run.
    """

    name = "random_grid"
    about = "as constant, on grids where the filters lie in a random order"
    sigma_alone = False
    grid_seed: int = setting("With random_grid: seed of the filters' order.", 0)

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        super().check(run)
        if self.grid_seed < 0:
            raise ValueError(f"grid_seed must be at least 0, got {self.grid_seed}.")

    def _order(self, layer: Layer) -> np.ndarray:
        drawn = np.random.default_rng([self.grid_seed, zlib.crc32(layer.path.encode())])
        return drawn.permutation(layer.grid.units)

    def _there(self, layer: Layer, leaf: jax.Array) -> jax.Array:
        return jnp.take(leaf, self._order(layer), layer.axis, mode="clip")

    def _back(self, layer: Layer, leaf: jax.Array) -> jax.Array:
        return jnp.take(leaf, np.argsort(self._order(layer)), layer.axis, mode="clip")

    def orders(self, run: Run, params: Any) -> dict[str, np.ndarray]:
        """The random orders of the layers that are smoothed."""
        return {layer.path: self._order(layer) for layer in self.layout(run).layers(params)}

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """The smoothing, in the random order."""
        smoothing, layout = super().chain(run, steps_per_epoch), self.layout(run)

        def update(updates, state, params=None):
            layers = layout.layers(updates)
            moved, state = smoothing.update(on_grids(self._there, layers, updates), state, params)
            return on_grids(self._back, layers, moved), state

        return optax.GradientTransformation(smoothing.init, update)
