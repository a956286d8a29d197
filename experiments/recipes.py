"""How networks are trained, by network and data set: the paper's schedules, shorter ones, the digits."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import optax

from experiments import optimizers
from experiments.errors import check_known
from experiments.fields import setting
from experiments.nets import NETS
from experiments.optimizers import AFTER, BEFORE, SGD

SCHEDULES = ("steps", "cosine")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long and how fast a network is trained.

    Args:
      epochs: Passes over the training set; the remainder of each is dropped.
      batch: Examples a step, over all devices.
      lr: Initial learning rate.
      schedule: ``steps`` (times 0.2 at the milestones) or ``cosine`` (to zero).
      milestones: In epochs, from 0; fractions are allowed.
      weight_decay: On all parameters.
      flip: Whether training pictures are mirrored at random.
      momentum: Of SGD.
      optimizer: One of ``experiments.optimizers.OPTIMIZERS``.
      start: Name of a finished run with whose weights training begins; empty for weights that are drawn.

    Raises:
      ValueError: If a value is unknown or out of range.
    """

    epochs: int = setting("Length of a run.", shown="the net's recipe; digits 8")
    batch: int = setting("Pictures a step.", 128, "128; digits 32")
    lr: float = setting("Initial learning rate.", 0.1, "0.1; adamw 0.001, lion 0.0001, muon 0.02")
    weight_decay: float = setting(
        "Decay of all parameters.",
        5e-4,
        "5e-4 over the recipe's epochs, more for fewer so that the run spends the same budget, at most 0.01 "
        "(vgg19: 0.0025); digits 0.02; adamw 0.1, lion 1, muon 0.005",
    )
    schedule: str = "steps"
    milestones: tuple[float, ...] = ()
    flip: bool = True
    momentum: float = 0.9
    optimizer: str = setting(
        "SGD with momentum, or one of those that normalise gradients; their weight decay is decoupled.",
        SGD,
        added=True,
        metavar="|".join(optimizers.OPTIMIZERS),
    )
    start: str = setting(
        "Name of a finished run in --out with whose weights training begins; weight decay is then not scaled to "
        "the length. A method that puts units in order does so at once.",
        "",
        "weights are drawn",
        added=True,
        metavar="RUN",
    )

    def __post_init__(self):
        check_known("schedule", self.schedule, SCHEDULES)
        optimizers.check(self.optimizer)
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive, got {self.lr}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}.")

    def learning_rate(self, steps_per_epoch: int) -> optax.Schedule:
        """The learning rate at every step."""
        if self.schedule == "cosine":
            return optax.cosine_decay_schedule(self.lr, self.epochs * steps_per_epoch)

        def schedule(count):
            # Written out: the factor applies from the milestone's own step on.
            passed = sum(count >= round(milestone * steps_per_epoch) for milestone in self.milestones)
            return self.lr * 0.2 ** jnp.asarray(passed, jnp.float32)

        return schedule

    def descent(
        self, method: optax.GradientTransformation, steps_per_epoch: int, place: str = BEFORE
    ) -> tuple[optax.GradientTransformation, ...]:
        """The chain that ends with a method's steps: its part, weight decay on every parameter, the optimizer.

        Args:
          method: What it does to gradients.
          steps_per_epoch: Steps of an epoch.
          place: Whether that is done ``before`` or ``after`` gradients are normalised; SGD has no after.
        """
        decay, rate = optax.add_decayed_weights(self.weight_decay), self.learning_rate(steps_per_epoch)
        if self.optimizer == SGD:
            return method, decay, optax.sgd(rate, momentum=self.momentum)
        first, then = method, optimizers.normalising(self.optimizer)
        if place == AFTER:
            first, then = then, first
        return first, then, decay, optax.scale_by_learning_rate(rate)


# The rows of the paper's Tables I and II: learning rate x0.2 at the milestones.
PAPER = {
    "vgg11": Recipe(epochs=100, milestones=(40, 70, 90)),
    "vgg19": Recipe(epochs=200, milestones=(60, 120, 160)),
    "wrn16-8": Recipe(epochs=200, milestones=(60, 120, 160)),
    "wrn28-10": Recipe(epochs=200, milestones=(60, 120, 160)),
}
# Of a network that is not in the paper.
OTHERS = PAPER["vgg11"]
# A shortened run keeps its net's weight-decay budget up to this decay, beyond which training suffers.
# Others may have 0.01.
MOST_DECAY = {"vgg11": 0.01, "vgg19": 0.0025, "wrn16-8": 0.01, "wrn28-10": 0.01}
# Small real images, so that the first command takes minutes: a quarter of the width, digits unflipped.
DIGITS = Recipe(epochs=8, schedule="cosine", batch=32, weight_decay=0.02, flip=False)
DIGITS_WIDTH = 0.25


def recipe(net: str, data: str, optimizer: str = SGD) -> Recipe:
    """How a net is trained on a data set, unless something else is asked for.

    Of another optimizer than SGD, learning rate and weight decay are ``experiments.optimizers.DEFAULTS``.

    Raises:
      ValueError: If the net or the optimizer is unknown.
    """
    check_known("net", net, NETS)
    found = DIGITS if data == "digits" else PAPER.get(net, OTHERS)
    return dataclasses.replace(found, optimizer=optimizer, **optimizers.DEFAULTS.get(optimizer, {}))


def width(data: str) -> float:
    """The factor on every layer's filters, unless another one is asked for."""
    return DIGITS_WIDTH if data == "digits" else 1.0


def of_length(net: str, whole: Recipe, epochs: int) -> tuple[Recipe, str | None]:
    """A recipe stretched or shortened to a number of epochs, and a sentence on what that does to weight decay.

    Milestones keep their place within the run. One of fewer epochs gets a larger weight decay, so that it still
    spends the recipe's budget ``sum lr * weight_decay / (1 - momentum)``, up to a decay of 0.01, or for VGG-19 of
    0.0025, with more of which it hardly learns. That of other optimizers than SGD stays.

    Raises:
      ValueError: If there are no epochs.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}.")
    milestones = tuple(milestone * epochs / whole.epochs for milestone in whole.milestones)
    found = dataclasses.replace(whole, epochs=epochs, milestones=milestones)
    if epochs >= whole.epochs or whole.optimizer != SGD:
        return found, None
    scaled = whole.weight_decay * whole.epochs / epochs
    most = max(MOST_DECAY.get(net, 0.01), whole.weight_decay)
    decay = min(scaled, most)
    if decay <= whole.weight_decay:
        return found, None
    note = (
        f"{epochs} of the recipe's {whole.epochs} epochs: weight decay {decay:g} instead of "
        f"{whole.weight_decay:g}, so that the random initialisation wears off in fewer epochs "
        f"({min(most / scaled, 1):.0%} of the decay that the whole recipe adds up to)"
    )
    return dataclasses.replace(found, weight_decay=decay), note
