"""A control: the length of the steps that smoothing makes, without its smoothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from experiments.methods.constant import Constant
from experiments.methods.leaves import on_grids
from lgnn_jax import Layer

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class MatchedStep(Constant):
    """A layer's gradient ``g`` becomes ``g |S g| / |g|``, where ``S`` smooths as :class:`Constant` does.

    The ratio is measured anew at every step, on that step's gradient of this very run. No run of :class:`Constant`
    is asked, nothing is averaged over an epoch, and a layer's gradient has exactly the norm that smoothing would
    leave. It takes smoothing's place in the chain, before weight decay, which a smaller learning rate would
    weaken as well. A gradient of zero stays.
    """

    name = "matched_step"
    about = "gradients as long as constant's, not smoothed"
    sigma_alone = False

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """The raw gradients at the norm of the smoothed ones."""
        smoothing, layout = super().chain(run, steps_per_epoch), self.layout(run)

        def update(updates, state, params=None):
            smoothed, state = smoothing.update(updates, state, params)
            return on_grids(_at_norm_of, layout.layers(updates), updates, smoothed), state

        return optax.GradientTransformation(smoothing.init, update)


def _at_norm_of(layer: Layer, raw: jax.Array, smoothed: jax.Array) -> jax.Array:
    wanted, norm = (jnp.linalg.norm(g.ravel()) for g in (smoothed, raw))
    return raw * jnp.where(norm > 0, wanted / jnp.where(norm > 0, norm, 1), 1)
