"""What the paper's methods share: gradients are smoothed along the grids of the layers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax.numpy as jnp
import optax

from experiments import nets
from experiments.errors import check_known
from experiments.fields import setting
from experiments.methods.base import Method
from experiments.optimizers import AFTER, BEFORE, PLACES, SGD
from lgnn_jax import ConvLayout, HeatKernel, Window, decreasing_sigma, lgnn

if TYPE_CHECKING:
    from experiments.config import Run

WINDOW, HEAT = SHAPES = ("window", "heat")


@dataclasses.dataclass(frozen=True)
class Smoothing(Method):
    """Gradients are smoothed along the grids of the layers."""

    sigma: float = setting("Width of the neighbourhood in grid steps.", 0.5)
    window: int = setting("Taps of the neighbourhood: 3, 5 or 7.", 3)
    scope: str = setting(
        "Convolutions of a WRN to smooth: the blocks' 3x3, with their shortcuts, or all.",
        "all",
        metavar="|".join(nets.SCOPES),
    )
    smooth: str = setting(
        "Whether gradients are smoothed before or after adamw, lion or muon normalise them.",
        BEFORE,
        added=True,
        metavar="|".join(PLACES),
    )

    def schedule(self, run: Run, steps_per_epoch: int) -> optax.ScalarOrSchedule:
        """The neighbourhood's width at every step."""
        raise NotImplementedError

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        check_known("scope", self.scope, nets.SCOPES)
        if self.scope not in nets.NETS[run.net.name].scopes:
            raise ValueError(
                f"scope {self.scope!r} is for wide residual networks; {run.net.name} has only 'all'."
            )
        check_known("smooth", self.smooth, PLACES)
        if self.smooth == AFTER and run.recipe.optimizer == SGD:
            raise ValueError(
                "smooth 'after' is after gradients are normalised, which sgd does not do. Choose the optimizer "
                "adamw, lion or muon, or smooth before."
            )
        decreasing_sigma(self.sigma, 1, 1, window=self.neighbourhood)  # Checks sigma, also for schedules.

    @property
    def neighbourhood(self) -> Window | HeatKernel:
        """Its shape."""
        return Window(self.window)

    def layout(self, run: Run) -> ConvLayout:
        """Which convolutions are smoothed, on which grids."""
        return dataclasses.replace(run.net.layout, where=nets.NETS[run.net.name].scopes[self.scope])

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """The smoothing."""
        sigma = self.schedule(run, steps_per_epoch)
        return lgnn(sigma, layout=self.layout(run), window=self.neighbourhood)

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """The neighbourhood's width."""
        sigma = self.schedule(run, steps_per_epoch)
        return {"sigma": float(sigma(step) if callable(sigma) else sigma)}


@dataclasses.dataclass(frozen=True)
class Shaped(Smoothing):
    """With a neighbourhood that may be as wide as one likes."""

    shape: str = setting(
        "Of some methods: the paper's window, or the heat kernel, which takes any sigma and has no --window.",
        WINDOW,
        key="neighbourhood",
        metavar="|".join(SHAPES),
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        check_known("neighbourhood", self.shape, SHAPES)
        super().check(run)

    @property
    def neighbourhood(self) -> Window | HeatKernel:
        """Its shape."""
        return Window(self.window) if self.shape == WINDOW else HeatKernel()


@dataclasses.dataclass(frozen=True)
class Annealed(Smoothing):
    """With a neighbourhood whose width may change from epoch to epoch, always by the same ratio."""

    sigma_end: float = setting(
        "With arranged or narrowing: width in the last epoch, from sigma on in equal ratios.",
        0.0,
        shown="as sigma",
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range."""
        super().check(run)
        decreasing_sigma(self.sigma_end, 1, 1, window=self.neighbourhood)  # Checks it.
        if self.sigma_end and not self.sigma:
            raise ValueError(
                f"sigma_end {self.sigma_end:g} is reached geometrically, which needs a positive sigma; got 0."
            )

    def schedule(self, run: Run, steps_per_epoch: int) -> optax.ScalarOrSchedule:
        """Its width."""
        if not self.sigma_end:
            return self.sigma
        return geometric(self.sigma, self.sigma_end, run.recipe.epochs, steps_per_epoch)


def geometric(first: float, last: float, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """A positive value that changes by the same ratio from every epoch to the next.

    Example:
      >>> from experiments.methods.smoothing import geometric
      >>> [round(float(geometric(2.0, 0.5, 3, 10)(count)), 3) for count in (0, 9, 10, 20, 100)]
      [2.0, 2.0, 1.0, 0.5, 0.5]
    """

    def value(count):
        part = jnp.minimum(jnp.asarray(count) // steps_per_epoch / max(epochs - 1, 1), 1)
        return first * (last / first) ** part

    return value
