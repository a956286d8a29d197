"""Units are put in order between epochs, and gradients are smoothed along the grids on which they then lie."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from experiments.errors import check_known
from experiments.fields import setting
from experiments.methods.smoothing import Annealed, Shaped
from experiments.nets import ordering
from lgnn_jax import reorder

if TYPE_CHECKING:
    from experiments.config import Run
    from experiments.run.step import Images, TrainState

_LOOKED_AT = 1000  # Training images whose responses an epoch's order is fitted on.


@dataclasses.dataclass(frozen=True)
class Arranged(Annealed, Shaped):
    """Smoothing, and a new order of the units between epochs, which leaves the network's function as it is.

    Of a width of 0 the order alone is left.
    """

    name = "arranged"
    about = "the units are put in order between epochs, gradients smoothed as by constant"
    arrange_by: str = setting(
        "With arranged: what makes units alike, responses being those to 1,000 training images.",
        ordering.BOTH,
        metavar="|".join(ordering.BY),
    )
    arrange_every: int = setting("With arranged: epochs between two orders.", 1)

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        check_known("arrange_by", self.arrange_by, ordering.BY)
        if self.arrange_every < 1:
            raise ValueError(f"arrange_every must be at least 1 epoch, got {self.arrange_every}.")
        super().check(run)

    def between(self, run: Run, state: TrainState, epoch: int, training: Images) -> TrainState:
        """The state with its units in order, from the order that they are in."""
        if epoch % self.arrange_every:
            return state
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        first = epoch == (0 if run.recipe.start else self.arrange_every)
        layers = run.net.layout.layers(state.params)
        found = ordering.orders(
            run.net,
            variables,
            training,
            self.arrange_by,
            images=_LOOKED_AT,
            start=None if first else {layer.path: np.arange(layer.grid.units) for layer in layers},
        )
        # Between epochs nothing but the state has changed, so that one look at what is tied suffices.
        return reorder(state, ordering.tied(run.net, variables), found, check=False)
