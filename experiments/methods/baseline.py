"""Training as it is without locality guidance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import optax

from experiments.methods.smoothing import Smoothing

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class Baseline(Smoothing):
    """No smoothing; its options are those of the runs it stands beside, and decide nothing."""

    name = "baseline"
    about = "no smoothing"
    sigma_alone = True

    def schedule(self, run: Run, steps_per_epoch: int) -> float:
        """There is no neighbourhood."""
        return 0.0

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """Gradients stay as they are."""
        return optax.identity()

    def identity(self, settings: dict[str, Any]) -> dict[str, Any]:
        """All but the neighbourhood; a torus stays, on which the network is measured."""
        decide_nothing = {"sigma", "window", "scope", "smooth"} | (
            {"boundary"} if settings["boundary"] == "edge" else set()
        )
        return {key: value for key, value in settings.items() if key not in decide_nothing}
