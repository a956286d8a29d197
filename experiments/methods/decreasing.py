"""A neighbourhood that narrows to nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import optax

from experiments.methods.smoothing import Smoothing
from lgnn_jax import decreasing_sigma

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class Decreasing(Smoothing):
    """Gradients are smoothed with a neighbourhood that narrows to nothing by the end (equation 4)."""

    name = "decreasing"
    about = "eq. 4"
    sigma_alone = True

    def schedule(self, run: Run, steps_per_epoch: int) -> optax.Schedule:
        """Its width, from ``sigma`` on."""
        return decreasing_sigma(self.sigma, run.recipe.epochs, steps_per_epoch, window=self.neighbourhood)
