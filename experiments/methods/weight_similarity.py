"""Weight similarity: filters that are neighbours on the grid are pulled towards each other's directions."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from experiments.fields import setting
from experiments.methods.base import Loss, Method, laid_out
from lgnn_jax import losses

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class WeightSimilarity(Method):
    """A factor times the mean over the layers of :func:`lgnn_jax.losses.weight_similarity_loss` is added.

    The mean is as in TopoLoss, so that factors compare; how the paper combines layers was not found.
    """

    name = "weight_similarity"
    about = "cosines of neighbouring filters added to the loss"
    strength: float = setting(
        "With weight_similarity: factor on the mean of the layers' losses.", 1.0, key="weight_strength"
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if the factor is out of range."""
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"weight_strength must be at least 0 and finite, got {self.strength:g}.")

    def loss(self, run: Run) -> Loss:
        """The term."""

        def term(params, seen):
            found = [
                losses.weight_similarity_loss(kernel, layer.grid, axis=layer.axis)
                for layer, kernel in laid_out(run, params)
            ]
            return self.strength * sum(found) / len(found)

        return term

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """Its factor."""
        return {"weight_strength": self.strength}
