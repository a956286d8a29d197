"""What decides a run: frozen configurations, and presets named after the rows of the paper's tables."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import nets
from experiments.data import FULL, SPLITS, Dataset
from lgnn_jax import ConvLayout, Window, decreasing_sigma, lgnn

VARIANTS = ("baseline", "constant", "decreasing")
SCHEDULES = ("steps", "cosine")
BOUNDARIES = ("edge", "wrap")  # Of the grids: a plane or a torus.
# What a network computes in; what it keeps is float32 in any case.
PRECISIONS = {"float32": jnp.float32, "bf16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long and how fast a net is trained."""

    epochs: int
    milestones: tuple[float, ...] = ()
    schedule: str = "steps"
    batch: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    width: float = 1.0
    flip: bool = True


# The rows of the paper's Tables I and II: learning rate x0.2 at the milestones.
PAPER = {
    "vgg11": Recipe(epochs=100, milestones=(40, 70, 90)),
    "vgg19": Recipe(epochs=200, milestones=(60, 120, 160)),
    "wrn16-8": Recipe(epochs=200, milestones=(60, 120, 160)),
    "wrn28-10": Recipe(epochs=200, milestones=(60, 120, 160)),
}
# A shortened run keeps its net's weight-decay budget up to this decay, beyond which training suffers.
MOST_DECAY = {"vgg11": 0.01, "vgg19": 0.0025, "wrn16-8": 0.01, "wrn28-10": 0.01}
# Small real images, so that the first command takes minutes: a quarter of the width, digits unflipped.
DIGITS = Recipe(epochs=8, schedule="cosine", batch=32, weight_decay=0.02, width=0.25, flip=False)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of one run, and nothing else: no path, no hardware.

    Args:
      net: One of ``experiments.nets.NETS``.
      data: The data set's name.
      data_digest: SHA-256 of its pictures and labels, shortened.
      variant: ``baseline`` (no smoothing), ``constant`` or ``decreasing`` (equation 4).
      seed: Decides initialisation, order, augmentation and dropout, alike for every variant.
      epochs: Passes over the training set; the remainder of each is dropped.
      batch: Examples a step, over all devices.
      lr: Initial learning rate.
      schedule: ``steps`` (times 0.2 at the milestones) or ``cosine`` (to zero).
      milestones: In epochs, from 0; fractions are allowed.
      weight_decay: On all parameters.
      width: Factor on the number of filters of every layer.
      flip: Whether training pictures are mirrored at random.
      sigma: Width of the neighbourhood, in grid steps.
      window: Its taps.
      boundary: ``edge`` or ``wrap``.
      grids: Grid shapes by number of filters, as pairs; others are as square as possible.
      scope: Which convolutions of a WRN are smoothed: ``main``, ``resblocks`` or ``all``.
      sync_bn: Whether batch statistics are over all devices instead of each its own.
      momentum: Of SGD.
      precision: What the network computes in, ``float32`` or ``bf16`` (bfloat16); its parameters and
        statistics, the loss and the optimizer are float32 in either case.
      split: Of the data set, ``full`` or ``development``.

    Raises:
      ValueError: If a value is unknown or out of range.
    """

    net: str
    data: str
    data_digest: str
    variant: str
    seed: int
    epochs: int
    batch: int
    lr: float
    schedule: str
    milestones: tuple[float, ...]
    weight_decay: float
    width: float
    flip: bool
    sigma: float = 0.5
    window: int = 3
    boundary: str = "edge"
    grids: tuple[tuple[int, tuple[int, ...]], ...] = ()
    scope: str = "all"
    sync_bn: bool = False
    momentum: float = 0.9
    precision: str = "float32"
    split: str = FULL

    def __post_init__(self):
        for name, known in (
            ("net", nets.NETS),
            ("variant", VARIANTS),
            ("schedule", SCHEDULES),
            ("precision", tuple(PRECISIONS)),
            ("scope", nets.SCOPES),
            ("split", SPLITS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"Unknown {name} {getattr(self, name)!r}. Known: {', '.join(known)}.")
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("lr", "width"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}.")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")
        if self.scope not in nets.NETS[self.net].scopes:
            raise ValueError(
                f"scope {self.scope!r} is for wide residual networks; {self.net} has only 'all'."
            )
        if self.boundary not in BOUNDARIES:
            raise ValueError(
                f"Window boundary must be one of {', '.join(map(repr, BOUNDARIES))}, got {self.boundary!r}."
            )
        decreasing_sigma(self.sigma, 1, 1, window=self.neighbourhood)  # Checks sigma, also for schedules.
        _ = self.layout

    @property
    def dtype(self) -> Any:
        """What the network computes in."""
        return PRECISIONS[self.precision]

    @property
    def neighbourhood(self) -> Window:
        """The window of the neighbourhood function."""
        return Window(self.window)

    @property
    def layout(self) -> ConvLayout:
        """Which convolutions are smoothed, on which grids."""
        return dataclasses.replace(self.measured_layout, where=nets.NETS[self.net].scopes[self.scope])

    @property
    def measured_layout(self) -> ConvLayout:
        """The grids of all convolutions, smoothed or not: where topography is looked for."""
        return ConvLayout(shapes=dict(self.grids), wrap=self.boundary == "wrap")

    @property
    def how(self) -> str:
        """What a table's title says of a run that is less than the paper's: its width, precision and split."""
        width = "" if self.width == 1 else f" at {self.width:g} of the width"
        precision = "" if self.precision == "float32" else " in bfloat16"
        return width + precision + ("" if self.split == FULL else f" ({self.split} split)")

    def flat(self) -> dict[str, Any]:
        """The settings as in ``config.json``; without what came later, where it is as before."""
        fields = dataclasses.asdict(self)
        if self.split == FULL:
            del fields["split"]
        return fields

    def identity(self) -> dict[str, Any]:
        """What decides the result; a baseline depends on no neighbourhood, but is measured on its torus."""
        fields = self.flat()
        if self.variant == "baseline":
            for name in ("sigma", "window", "scope", *(("boundary",) if self.boundary == "edge" else ())):
                del fields[name]
        return fields

    @property
    def set_name(self) -> str:
        """The data set's name and split, as a part of file names."""
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.data)
        return name + ("" if self.split == FULL else f"-{self.split}")

    @property
    def subject(self) -> str:
        """Data set, net, width and precision, as a part of file names."""
        width = "" if self.width == 1 else f"-w{self.width:g}"
        return f"{self.set_name}-{self.net}{width}" + (
            "" if self.precision == "float32" else f"-{self.precision}"
        )

    @property
    def digest(self) -> str:
        """A hash of :meth:`identity`, as 8 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """A readable name that ends in :attr:`digest`."""
        return f"{self.subject}-{self.variant}-s{self.seed}-{self.digest}"

    def learning_rate(self, steps_per_epoch: int) -> optax.Schedule:
        """The learning rate at every step."""
        if self.schedule == "cosine":
            return optax.cosine_decay_schedule(self.lr, self.epochs * steps_per_epoch)

        def schedule(count):
            # Written out: the factor applies from the milestone's own step on.
            passed = sum(count >= round(milestone * steps_per_epoch) for milestone in self.milestones)
            return self.lr * 0.2 ** jnp.asarray(passed, jnp.float32)

        return schedule

    def sigma_schedule(self, steps_per_epoch: int) -> optax.ScalarOrSchedule:
        """The neighbourhood's width at every step."""
        if self.variant == "baseline":
            return 0.0
        if self.variant == "constant":
            return self.sigma
        return decreasing_sigma(self.sigma, self.epochs, steps_per_epoch, window=self.neighbourhood)

    def optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """Smoothing (unless this is a baseline), weight decay on every parameter, SGD with momentum."""
        smoothing = lgnn(
            self.sigma_schedule(steps_per_epoch), layout=self.layout, window=self.neighbourhood
        )
        return optax.chain(
            optax.identity() if self.variant == "baseline" else smoothing,
            optax.add_decayed_weights(self.weight_decay),
            optax.sgd(self.learning_rate(steps_per_epoch), momentum=self.momentum),
        )

    def check(self) -> None:
        """Raises ``ValueError`` if the run cannot be made on these devices, or its grids fit no layer."""
        devices = jax.device_count()
        if self.batch % devices:
            raise ValueError(
                f"A batch of {self.batch} does not divide over {devices} devices; use a multiple of {devices}."
            )
        params = _parameter_shapes(self.net, self.width)
        widths = {leaf.shape[-1] for leaf in jax.tree.leaves(params) if len(leaf.shape) == 4}
        if min(widths) < 2:
            raise ValueError(
                f"{self.net} at width {self.width:g} has layers of 1 filter, and a grid needs 2. Use "
                "a larger width."
            )
        self.measured_layout.layers(params)
        for width, _ in self.grids:
            if width not in widths:
                raise ValueError(
                    f"grids lays out {width} filters, but {self.net} at width {self.width:g} has layers of "
                    f"{', '.join(map(str, sorted(widths)))}."
                )


@functools.cache
def _parameter_shapes(net: str, width: float) -> Any:
    """Shapes of a network's parameters, whose convolutions depend on no data: tables ask for those of one often."""
    module = nets.build(net, 10, width)
    return jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 3))
    )["params"]


def recipe(net: str, data: str) -> Recipe:
    """How a net is trained on a data set, unless something else is asked for."""
    if net not in PAPER:
        raise ValueError(f"Unknown net {net!r}. Known: {', '.join(PAPER)}.")
    return DIGITS if data == "digits" else PAPER[net]


def configure(data: Dataset, **fields: Any) -> tuple[RunConfig, tuple[str, ...]]:
    """A run's configuration with a data set that is at hand: :func:`foresee` with its digest.

    Raises:
      ValueError: As there, and if the set has fewer training pictures than a batch.
    """
    foreseen, notes = foresee(data.name, **fields | {"split": data.split})
    if len(data.train_labels) < foreseen.batch:
        raise ValueError(
            f"Data set {data.name!r} has {len(data.train_labels)} training pictures, fewer than a batch "
            f"of {foreseen.batch}. Use a smaller --batch."
        )
    return dataclasses.replace(foreseen, data_digest=data.digest), notes


def foresee(
    data: str,
    *,
    net: str = "vgg11",
    variant: str = "constant",
    seed: int = 0,
    **overrides: Any,
) -> tuple[RunConfig, tuple[str, ...]]:
    """A run's configuration from its net's recipe, with what is not None in ``overrides`` put in its place.

    This is all that can be said, and refused, before the data set is read; its digest is left empty.

    Without an own ``weight_decay``, a run of fewer epochs than its recipe's gets a larger one, so that it
    still spends the recipe's budget ``sum lr * weight_decay / (1 - momentum)`` up to a decay of 0.01,
    or for VGG-19 of 0.0025, with more of which it hardly learns.
    Milestones keep their place within the run.

    Returns:
      The configuration, and sentences on what was adapted.

    Raises:
      ValueError: If a value is unknown, out of range, or impossible on these devices.
    """
    whole = recipe(net, data)
    given = {name: value for name, value in overrides.items() if value is not None}
    epochs, notes = given.pop("epochs", whole.epochs), []
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}.")
    fields = dataclasses.asdict(whole)
    if epochs < whole.epochs and "weight_decay" not in given:
        scaled = whole.weight_decay * whole.epochs / epochs
        most = max(MOST_DECAY[net], whole.weight_decay)
        fields["weight_decay"] = min(scaled, most)
        if fields["weight_decay"] > whole.weight_decay:
            notes.append(
                f"{epochs} of the recipe's {whole.epochs} epochs: weight decay {fields['weight_decay']:g} "
                f"instead of {whole.weight_decay:g}, so that the random initialisation wears off in fewer "
                f"epochs ({min(most / scaled, 1):.0%} of the decay that the whole recipe adds up to)"
            )
    fields |= {
        "epochs": epochs,
        "milestones": tuple(milestone * epochs / whole.epochs for milestone in whole.milestones),
    }
    config = RunConfig(net=net, data=data, data_digest="", variant=variant, seed=seed, **(fields | given))
    config.check()
    return config, tuple(notes)
