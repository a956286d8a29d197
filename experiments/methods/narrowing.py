"""A neighbourhood that narrows from wide to narrow, as a self-organising map's does."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from experiments.methods.smoothing import Annealed
from lgnn_jax import HeatKernel

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class Narrowing(Annealed):
    """Gradients are smoothed by the heat kernel, from ``sigma`` in the first epoch to ``sigma_end`` in the last.

    The ratio of the widths of two epochs is always the same. There is no window.
    """

    name = "narrowing"
    about = "the heat kernel from sigma to sigma_end"

    @property
    def neighbourhood(self) -> HeatKernel:
        """The heat kernel."""
        return HeatKernel()

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range, or the neighbourhood does not narrow."""
        super().check(run)
        if not 0 < self.sigma_end < self.sigma:
            raise ValueError(
                f"narrowing needs a sigma_end between 0 and sigma, such as --sigma 2 --sigma-end 0.3; got sigma "
                f"{self.sigma:g} and sigma_end {self.sigma_end:g}."
            )

    def identity(self, settings: dict[str, Any]) -> dict[str, Any]:
        """All but the window."""
        return {key: value for key, value in settings.items() if key != "window"}
