"""TopoLoss of TopoNets: filters are pulled towards their own sheet, blurred."""

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
class TopoLoss(Method):
    """``tau`` times the mean over the layers of :func:`lgnn_jax.losses.topoloss` is added to the loss.

    The mean is the package's, ``TopoLoss.compute``. Sheets are the network's grids.
    """

    name = "topoloss"
    about = "TopoLoss of TopoNets added to the loss"
    tau: float = setting("With topoloss: factor on the mean of the layers' TopoLoss.", 1.0)
    factor: float = setting(
        "With topoloss: how many times coarser a sheet becomes, or its longest side if that is less.",
        3.0,
        key="topo_factor",
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"tau must be at least 0 and finite, got {self.tau:g}.")
        if not 1 <= self.factor < math.inf:
            raise ValueError(f"topo_factor must be at least 1 and finite, got {self.factor:g}.")

    def loss(self, run: Run) -> Loss:
        """The term."""

        def term(params, seen):
            found = [
                losses.topoloss(
                    kernel, layer.grid, factor=min(self.factor, max(layer.grid.shape)), axis=layer.axis
                )
                for layer, kernel in laid_out(run, params)
            ]
            return self.tau * sum(found) / len(found)

        return term

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """Its strength."""
        return {"tau": self.tau}
