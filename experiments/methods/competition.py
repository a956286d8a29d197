"""Units compete for gradients: those with a strong gradient of their own take more of their neighbours'."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from experiments.fields import setting
from experiments.methods.leaves import on_grids
from experiments.methods.smoothing import Smoothing, geometric
from lgnn_jax import Layer, LGNNState, smooth

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class Competition(Smoothing):
    """A layer's gradients ``g`` become ``g'[i] = sum_j p[i, j] g[j]``, with shares that sum to 1 over ``i``.

    ``p[i, j] = eta[i, j] exp(n[i] / T) / sum_k eta[k, j] exp(n[k] / T)``, where ``eta`` is the neighbourhood of
    ``sigma`` and ``window``, and ``n[i]`` the norm of ``g[i]`` over the mean norm of its layer. Unit ``j`` hands
    its gradient out within its neighbourhood, of 3x3 units for a window of 3, so that the layer's sum stays.

    A high temperature ``T`` leaves the smoothing of :class:`Constant` (of a window of 3 or on a torus exactly). A
    low one gives all to the unit with the strongest gradient. It falls from ``soft`` in the first epoch to ``hard``
    in the last, by the same ratio from one to the next.

    The operator is neither symmetric nor positive definite, so ``g'`` need not be a descent direction.
    """

    name = "competition"
    about = "neighbours compete for gradients, from soft to hard"
    soft: float = setting("With competition: temperature in the first epoch.", 10.0)
    hard: float = setting("With competition: temperature in the last epoch.", 0.1)

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        super().check(run)
        if not 0 < self.hard <= self.soft < math.inf:
            raise ValueError(
                f"Temperatures fall from soft to hard and stay above 0, got soft {self.soft:g} and hard "
                f"{self.hard:g}."
            )

    def schedule(self, run: Run, steps_per_epoch: int) -> float:
        """The neighbourhood's width."""
        return self.sigma

    def _temperature(self, run: Run, steps_per_epoch: int) -> optax.Schedule:
        return geometric(self.soft, self.hard, run.recipe.epochs, steps_per_epoch)

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """The competition."""
        smoothing, layout = super().chain(run, steps_per_epoch), self.layout(run)
        temperature = self._temperature(run, steps_per_epoch)

        def update(updates, state, params=None):
            del params
            now = temperature(state.count)
            shared = on_grids(lambda layer, g: self._shared(layer, g, now), layout.layers(updates), updates)
            return shared, LGNNState(optax.safe_increment(state.count))

        return optax.GradientTransformation(smoothing.init, update)

    def _shared(self, layer: Layer, g: jax.Array, temperature: jax.Array) -> jax.Array:
        rows = jnp.moveaxis(g, layer.axis, 0)
        norms = jnp.linalg.norm(rows.reshape(len(rows), -1), axis=1)
        mean = norms.mean()
        eta = smooth(jnp.eye(len(rows)), layer.grid, self.sigma, self.neighbourhood, axis=0)
        strong = norms / jnp.where(mean > 0, mean, 1) / temperature
        shares = jax.nn.softmax(jnp.log(eta) + strong[:, None], axis=0)
        with jax.default_matmul_precision("highest"):
            return jnp.moveaxis(jnp.tensordot(shares, rows, 1), 0, layer.axis)

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """The neighbourhood's width and the temperature."""
        temperature = float(self._temperature(run, steps_per_epoch)(step))
        return super().logged(run, step, steps_per_epoch) | {"temperature": temperature}
