"""Filters are drawn towards the smooth ones beside the gradient's step, as weight decay draws them to zero."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import optax

from experiments.errors import check_known
from experiments.fields import setting
from experiments.methods.leaves import on_grids
from experiments.methods.smoothing import Shaped
from lgnn_jax import Layer, smooth

if TYPE_CHECKING:
    from experiments.config import Run

CONSTANT, LINEAR = SCHEDULES = ("constant", "linear")


@dataclasses.dataclass(frozen=True)
class Pull(Shaped):
    """Beside its step, which stays as it is, a kernel ``W`` moves by ``strength lr (S W - W)``.

    ``S`` smooths over the grid and ``lr`` is the step's learning rate. The pull comes after momentum and learning
    rate, so that momentum knows nothing of it: it is decoupled as AdamW's decay is. ``W`` is the kernel before
    the step.
    """

    name = "pull"
    about = "filters drawn towards smooth ones beside the gradient's step"
    strength: float = setting(
        "With pull: how far filters move towards smooth ones, per unit of the learning rate.",
        0.01,
        key="pull_strength",
    )
    pull: str = setting(
        "With pull: whether it stays as strong, or ends at zero.",
        CONSTANT,
        key="pull_schedule",
        metavar="|".join(SCHEDULES),
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        super().check(run)
        part = self.strength * run.recipe.lr
        if not 0 <= part <= 1:
            raise ValueError(
                f"pull_strength {self.strength:g} at lr {run.recipe.lr:g} would move filters {part:g} of the way "
                f"to smooth ones at every step; give one between 0 and {1 / run.recipe.lr:g}."
            )
        check_known("pull_schedule", self.pull, SCHEDULES)

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """Gradients stay as they are."""
        return optax.identity()

    def _strength(self, run: Run, steps_per_epoch: int) -> optax.Schedule:
        end = self.strength if self.pull == CONSTANT else 0.0
        return optax.linear_schedule(self.strength, end, run.recipe.epochs * steps_per_epoch)

    def after(self, run: Run, steps_per_epoch: int) -> tuple[optax.GradientTransformation, ...]:
        """The pull."""
        layout, rate = self.layout(run), run.recipe.learning_rate(steps_per_epoch)
        strength = self._strength(run, steps_per_epoch)

        def update(updates, state, params):
            far = strength(state.count) * rate(state.count)

            def pulled(layer: Layer, step: jax.Array, kernel: jax.Array) -> jax.Array:
                smoothed = smooth(kernel, layer.grid, self.sigma, self.neighbourhood, axis=layer.axis)
                return step + far * (smoothed - kernel)

            moved = on_grids(pulled, layout.layers(params), updates, params)
            return moved, optax.ScaleByScheduleState(optax.safe_increment(state.count))

        return (optax.GradientTransformation(optax.scale_by_schedule(rate).init, update),)

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """The neighbourhood's width and the strength."""
        return {"sigma": self.sigma, "pull_strength": float(self._strength(run, steps_per_epoch)(step))}

    def identity(self, settings: dict[str, Any]) -> dict[str, Any]:
        """All but where gradients would be smoothed."""
        return {key: value for key, value in settings.items() if key != "smooth"}
