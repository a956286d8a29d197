"""The same neighbourhood throughout."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments.methods.smoothing import Smoothing

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class Constant(Smoothing):
    """Gradients are smoothed with the same neighbourhood throughout."""

    name = "constant"
    about = "the same neighbourhood throughout"
    sigma_alone = True

    def schedule(self, run: Run, steps_per_epoch: int) -> float:
        """Its width."""
        return self.sigma
