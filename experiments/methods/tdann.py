"""As TDANN: units that are near on the grid are to respond alike, the nearer the more."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from experiments.fields import setting
from experiments.methods.base import Loss, Method
from lgnn_jax import losses

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class Tdann(Method):
    """A factor times the sum over the layers of :func:`lgnn_jax.losses.response_loss` is added to the loss.

    The sum and the factor of 0.25 a layer are TDANN's. All units of a layer are compared at every step, each
    replica's on its own share of the batch.
    """

    name = "tdann"
    about = "correlations of responses by distance added to the loss, as TDANN"
    strength: float = setting(
        "With tdann: factor on the sum of the layers' losses.", 0.25, key="response_strength"
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if the factor is out of range."""
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"response_strength must be at least 0 and finite, got {self.strength:g}.")

    def loss(self, run: Run) -> Loss:
        """The term."""

        def term(params, seen):
            return self.strength * sum(
                losses.response_loss(seen[layer.path], layer.grid, most=None)
                for layer in run.net.layout.layers(params)
            )

        return term

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """Its factor."""
        return {"response_strength": self.strength}
