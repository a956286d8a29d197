"""How images are made: steps and ranges of transforms."""

from __future__ import annotations

import dataclasses

from lgnn_jax.inspect._checks import finite_numbers, pixels, positive

STEEPEST = 45.0  # Degrees; steeper rotations cannot be resampled along rows and then columns.


@dataclasses.dataclass(frozen=True)
class Setting:
    """How images are made; the defaults are Lucid's, for images of 128 pixels and more.

    Every step draws one of each transform, applied in this order: pad with grey, crop by ``jitter``, scale,
    rotate about the middle, crop by ``jitter_after``.

    Args:
      steps: Steps of Adam, positive.
      learning_rate: Adam's, positive.
      hold: From 0 to 1, the share of the steps after which the learning rate falls, linearly, to 0; 1 for never.
      b1: Adam's decay of the gradient's mean, from 0 to below 1.
      b2: Adam's decay of the mean of its square, from 0 to below 1. The nearer to 0, the less a step depends on
        what was drawn for earlier ones.
      decorrelate: Whether the spectrum is of decorrelated colours, which needs three channels; images of
        one channel are made without.
      pad: Pixels of grey on every side, at least 0.
      jitter: Pixels to crop in each dimension, at a random place, at least 0.
      scales: Factors on the size, positive, each as likely.
      angles: Degrees of rotation, counterclockwise, from -45 to 45, each as likely.
      jitter_after: Pixels to crop at last, as ``jitter``.

    Raises:
      ValueError: If a value is out of range.

    Example:
      >>> import dataclasses
      >>> from lgnn_jax.inspect import SMALL
      >>> thorough = dataclasses.replace(SMALL, steps=1024)
    """

    steps: int = 512
    learning_rate: float = 0.05
    hold: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    decorrelate: bool = True
    pad: int = 12
    jitter: int = 8
    scales: tuple[float, ...] = tuple(1 + (i - 5) / 50 for i in range(11))
    angles: tuple[float, ...] = (*range(-10, 11), *5 * (0,))
    jitter_after: int = 4

    def __post_init__(self) -> None:
        """Checks the values and makes tuples of floats."""
        object.__setattr__(self, "steps", positive("steps", self.steps))
        for name in ("pad", "jitter", "jitter_after"):
            object.__setattr__(self, name, pixels(name, getattr(self, name)))
        if not isinstance(self.decorrelate, bool):
            raise ValueError(f"decorrelate must be True or False, got {self.decorrelate!r}.")
        rate = finite_numbers("learning_rate", (self.learning_rate,))[0]
        if rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {rate:g}.")
        hold, *decays = finite_numbers("hold, b1 and b2", (self.hold, self.b1, self.b2))
        if not 0 <= hold <= 1:
            raise ValueError(f"hold must be from 0 to 1, got {hold:g}.")
        for name, decay in zip(("b1", "b2"), decays, strict=True):
            if not 0 <= decay < 1:
                raise ValueError(f"{name} must be from 0 to below 1, got {decay:g}.")
        for name in ("scales", "angles"):
            object.__setattr__(self, name, finite_numbers(name, getattr(self, name)))
        if min(self.scales) <= 0:
            raise ValueError(f"scales must be positive, got {min(self.scales):g}.")
        if max(map(abs, self.angles)) > STEEPEST:
            raise ValueError(
                f"angles must be from -{STEEPEST:g} to {STEEPEST:g} degrees, got {max(self.angles, key=abs):g}."
            )


LUCID = Setting()
# For images of about 32 pixels: a crop that keeps the size, and steps that soon forget those before.
SMALL = Setting(
    steps=80,
    learning_rate=0.3,
    hold=0.3,
    b1=0.5,
    b2=0.7,
    pad=2,
    jitter=4,
    scales=(0.95, 0.975, 1.0, 1.025, 1.05),
    angles=(-5, -4, -3, -2, -1, 0, 0, 0, 1, 2, 3, 4, 5),
    jitter_after=0,
)
