"""What decides a run: network, data, method, recipe and seed, and the name that they give it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import click
import jax
import jax.numpy as jnp
import optax

from experiments import fields, methods, nets, recipes
from experiments.data import FULL, SPLITS, Dataset
from experiments.errors import check_known
from experiments.fields import setting
from experiments.methods.base import Method
from experiments.optimizers import SGD
from experiments.recipes import Recipe
from lgnn_jax import ConvLayout

BOUNDARIES = ("edge", "wrap")  # Of the grids: a plane or a torus.
# What a network computes in; what it keeps is float32 in any case.
PRECISIONS = {"float32": jnp.float32, "bf16": jnp.bfloat16}

# The order of the settings in config.json; what came later stands behind them.
_ORDER = (
    "net",
    "data",
    "data_digest",
    "variant",
    "seed",
    "epochs",
    "batch",
    "lr",
    "schedule",
    "milestones",
)
_ORDER += ("weight_decay", "width", "flip", "sigma", "window", "boundary", "grids", "scope", "sync_bn")
_ORDER += ("momentum", "precision")


@dataclasses.dataclass(frozen=True)
class Net:
    """A network, what it computes in, and the grids of its layers, smoothed or not: where topography is measured.

    Args:
      name: One of ``experiments.nets.NETS``.
      width: Factor on the number of filters of every layer.
      boundary: ``edge`` or ``wrap``.
      grids: Grid shapes by number of filters, as pairs; others are as square as possible.
      sync_bn: Whether batch statistics are over all devices instead of each its own.
      precision: What the network computes in, ``float32`` or ``bf16`` (bfloat16); its parameters and
        statistics, the loss and the optimizer are float32 in either case.
      split: Of the data set, ``full`` or ``development``.

    Raises:
      ValueError: If a value is unknown or out of range.
    """

    name: str = setting(
        "Which network.", key="net", default="vgg11", show_default=True, metavar="|".join(nets.NETS)
    )
    width: float = setting("Factor on every layer's filters.", 1.0, "1; digits 0.25")
    boundary: str = setting(
        "What lies beyond the grid's border: its own units, or the other side.",
        "edge",
        metavar="|".join(BOUNDARIES),
    )
    grids: tuple[tuple[int, tuple[int, ...]], ...] = setting(
        "Grid shapes by number of filters, such as 512=32x16.",
        (),
        "as square as possible",
        type=fields.GridShapes(),
    )
    sync_bn: bool = setting(
        "Batch statistics over all devices instead of each its own.", False, default=None
    )
    precision: str = setting(
        "What networks compute in; bf16 is bfloat16, where parameters, statistics and optimizer stay in float32.",
        "float32",
        metavar="|".join(PRECISIONS),
    )

    def __post_init__(self):
        check_known("net", self.name, nets.NETS)
        check_known("precision", self.precision, PRECISIONS)
        if not 0 < self.width < math.inf:
            raise ValueError(f"width must be positive, got {self.width}.")
        if self.boundary not in BOUNDARIES:
            raise ValueError(
                f"Window boundary must be one of {', '.join(map(repr, BOUNDARIES))}, got {self.boundary!r}."
            )
        _ = self.layout

    @property
    def dtype(self) -> Any:
        """What the network computes in."""
        return PRECISIONS[self.precision]

    @property
    def layout(self) -> ConvLayout:
        """The grids of all convolutions."""
        return ConvLayout(shapes=dict(self.grids), wrap=self.boundary == "wrap")

    @property
    def how(self) -> str:
        """What a table's title says of a network that is less than the paper's: its width and its precision."""
        width = "" if self.width == 1 else f" at {self.width:g} of the width"
        return width + ("" if self.precision == "float32" else " in bfloat16")

    def check(self) -> None:
        """Raises ``ValueError`` if the grids fit no layer."""
        params = _parameter_shapes(self.name, self.width)
        widths = {leaf.shape[-1] for leaf in jax.tree.leaves(params) if len(leaf.shape) == 4}
        if min(widths) < 2:
            raise ValueError(
                f"{self.name} at width {self.width:g} has layers of 1 filter, and a grid needs 2. Use "
                "a larger width."
            )
        self.layout.layers(params)
        for width, _ in self.grids:
            if width not in widths:
                raise ValueError(
                    f"grids lays out {width} filters, but {self.name} at width {self.width:g} has layers of "
                    f"{', '.join(map(str, sorted(widths)))}."
                )


@functools.cache
def _parameter_shapes(net: str, width: float) -> Any:
    """Shapes of a network's parameters, whose convolutions depend on no data: tables ask for those of one often.

    Raises:
      ValueError: If it has no running statistics.
    """
    module = nets.build(net, 10, width)
    variables = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 3))
    )
    if "batch_stats" not in variables:
        raise ValueError(
            f"net {net!r} has no batch normalisation: wanted running statistics in the collection 'batch_stats', "
            f"got {', '.join(map(repr, variables))} alone. Put batch_norm of experiments.nets.layers behind a "
            "convolution of it."
        )
    return variables["params"]


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set.

    Args:
      name: What it is called.
      digest: SHA-256 of its pictures and labels, shortened; empty as long as it is not read.
      split: One of ``experiments.data.SPLITS``.
      test_split: What its source calls the images to test on; empty for ``test``.

    Raises:
      ValueError: If the split is unknown, or there is nothing to test on another one.
    """

    name: str = setting(
        "digits (embedded), folder:PATH (a folder or zip with train/<class>/* and test/<class>/*), npy:DIR "
        "(arrays that python -m experiments.data.arrays wrote), or an image-classification set of "
        "tensorflow-datasets such as cifar100.",
        key="data",
        default="digits",
        show_default=True,
        metavar="NAME",
    )
    digest: str = setting(value="", key="data_digest")
    split: str = setting(
        "full (as published), or development (a tenth of the training images of every class stands in for the test "
        "set, which is not read).",
        FULL,
        added=True,
        type=click.Choice(SPLITS),
    )
    test_split: str = setting(
        "Which images to test on: a split of a tensorflow-datasets set, or a folder beside train.",
        "",
        "test, or validation where tensorflow-datasets has no test",
        added=True,
        metavar="NAME",
    )

    def __post_init__(self):
        check_known("split", self.split, SPLITS)
        if self.test_split and self.split != FULL:
            raise ValueError(
                f"The {self.split} split tests on training images and would not read test_split "
                f"{self.test_split!r}; give one of them."
            )
        if self.test_split == "train":
            raise ValueError("test_split is 'train', on which networks are trained; give another one.")

    @property
    def how(self) -> str:
        """In which way it is not split as it was published, in words; empty where it is."""
        parts = [f"{self.split} split"] * (self.split != FULL)
        parts += [f"tested on {self.test_split}"] * bool(self.test_split)
        return ", ".join(parts)

    @property
    def file_name(self) -> str:
        """Its name and split, as a part of file names."""
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.name)
        return name + ("" if self.split == FULL else f"-{self.split}")


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides the result of one run, and nothing else: no path, no hardware.

    Args:
      net: The network, and the grids of its layers.
      data: What it is trained and tested on.
      method: What is compared, such as ``Constant(sigma=0.5)`` of :mod:`experiments.methods`.
      recipe: How long and how fast it is trained.
      seed: Decides initialisation, order, augmentation and dropout, alike for every method.

    Raises:
      ValueError: If a value is unknown or out of range.

    Example:
      >>> from experiments import recipes
      >>> from experiments.config import Data, Net, Run
      >>> from experiments.methods import Constant
      >>> run = Run(Net("vgg11", width=0.25), Data("digits"), Constant(sigma=0.4), recipes.DIGITS, seed=1)
      >>> run.name.rpartition("-")[0], run.flat()["sigma"]
      ('digits-vgg11-w0.25-constant-s1', 0.4)
      >>> run.having(sigma=0.3, seed=2) == Run(run.net, run.data, Constant(sigma=0.3), run.recipe, seed=2)
      True
    """

    net: Net
    data: Data
    method: Method
    recipe: Recipe
    seed: int = 0

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")
        self.method.check(self)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Run:
        """A run from its flat settings, as :meth:`flat` gives them, lists for tuples or not.

        Raises:
          ValueError: As a run itself, or if a setting is none of any method's.
        """
        settings = {key: _tuples(value) for key, value in settings.items()}
        method = methods.named(settings["variant"])
        known = {"variant", "seed", *known_settings()}
        for key in sorted(settings):
            check_known("setting", key, sorted(known))
        parts = (fields.made(kind, settings) for kind in (Net, Data, method, Recipe))
        return cls(*parts, seed=settings["seed"])

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.net, self.data, self.method, self.recipe

    def having(self, **settings: Any) -> Run:
        """The same run with other values of some settings, by their flat names."""
        return Run.of(self.settings() | settings)

    def settings(self) -> dict[str, Any]:
        """All settings by their flat names."""
        found = {"variant": self.method.name, "seed": self.seed}
        for part in self._parts:
            found |= fields.flat(part)
        order = {key: place for place, key in enumerate(_ORDER)}
        return {key: found[key] for key in sorted(found, key=lambda key: order.get(key, len(order)))}

    def _added(self) -> dict[str, Any]:
        return {key: value for part in self._parts for key, value in fields.added(part).items()}

    def flat(self) -> dict[str, Any]:
        """The settings by their flat names, as in ``config.json``.

        Left out are those that came later and are what they were before (``added`` of
        :func:`experiments.fields.setting`), so that neither files nor names of earlier runs change.
        """
        added = self._added()
        return {
            key: value for key, value in self.settings().items() if key not in added or value != added[key]
        }

    def identity(self) -> dict[str, Any]:
        """Those that decide the result."""
        return self.method.identity(self.flat())

    def differences(self, settings: Mapping[str, Any]) -> list[str]:
        """In which ways flat settings are those of another run, in words."""
        ours = json.loads(json.dumps(self.method.identity(self.settings())))
        theirs = json.loads(json.dumps(self._added() | dict(settings)))
        return [
            f"{key} is {json.dumps(theirs.get(key))} there and {json.dumps(value)} here"
            for key, value in ours.items()
            if key not in theirs or theirs[key] != value
        ] + [
            f"{key} is {json.dumps(value)} there and unknown here"
            for key, value in theirs.items()
            if key not in self.settings()
        ]

    @property
    def how(self) -> str:
        """What a table's title says of a run that is less than the paper's: its width, precision and split."""
        return self.net.how + (f" ({self.data.how})" if self.data.how else "")

    @property
    def subject(self) -> str:
        """Data set, net, width and precision, as a part of file names."""
        width = "" if self.net.width == 1 else f"-w{self.net.width:g}"
        precision = "" if self.net.precision == "float32" else f"-{self.net.precision}"
        return f"{self.data.file_name}-{self.net.name}{width}{precision}"

    @property
    def digest(self) -> str:
        """A hash of :meth:`identity`, as 8 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """A readable name that ends in :attr:`digest`."""
        return f"{self.subject}-{self.method.name}-s{self.seed}-{self.digest}"

    def optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The method's part, weight decay on every parameter, the optimizer; what the method does after."""
        chain, after = (part(self, steps_per_epoch) for part in (self.method.chain, self.method.after))
        return optax.chain(*self.recipe.descent(chain, steps_per_epoch, self.method.smooth), *after)

    def check(self) -> None:
        """Raises ``ValueError`` if the run cannot be made on these devices, or its grids fit no layer."""
        devices = jax.device_count()
        if self.recipe.batch % devices:
            raise ValueError(
                f"A batch of {self.recipe.batch} does not divide over {devices} devices; use a multiple of "
                f"{devices}."
            )
        self.net.check()


def known_settings() -> dict[str, dataclasses.Field[Any]]:
    """The fields of all parts of a run, of any method, by their flat names."""
    net, data, recipe = map(fields.by_key, (Net, Data, Recipe))
    return net | data | recipe | methods.options()


def _tuples(value: Any) -> Any:
    """A value with tuples where JSON has lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def configure(data: Dataset, **settings: Any) -> tuple[Run, tuple[str, ...]]:
    """A run with a data set that is at hand: :func:`foresee` with its digest.

    Raises:
      ValueError: As there, and if the set has fewer training pictures than a batch.
    """
    foreseen, notes = foresee(data.name, **settings | {"split": data.split, "test_split": data.test_split})
    if len(data.train_labels) < foreseen.recipe.batch:
        raise ValueError(
            f"Data set {data.name!r} has {len(data.train_labels)} training pictures, fewer than a batch "
            f"of {foreseen.recipe.batch}. Use a smaller --batch."
        )
    return foreseen.having(data_digest=data.digest), notes


def foresee(
    data: str, *, net: str = "vgg11", variant: str = "constant", seed: int = 0, **settings: Any
) -> tuple[Run, tuple[str, ...]]:
    """A run from its net's recipe, with what is not None in ``settings`` put in its place, by flat names.

    This is all that can be said, and refused, before the data set is read; its digest is left empty. Without an
    own ``weight_decay``, a run of other length than its recipe's is that of :func:`experiments.recipes.of_length`;
    one that begins with trained weights keeps the recipe's.

    Returns:
      The run, and sentences on what was adapted.

    Raises:
      ValueError: If a value is unknown, out of range, or impossible on these devices.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    whole = recipes.recipe(net, data, given.get("optimizer", SGD))
    recipe, note = recipes.of_length(net, whole, given.get("epochs", whole.epochs))
    if given.get("start"):
        recipe, note = dataclasses.replace(recipe, weight_decay=whole.weight_decay), None
    which = {"net": net, "data": data, "variant": variant, "seed": seed, "width": recipes.width(data)}
    run = Run.of(which | fields.flat(recipe) | given)
    run.check()
    notes = () if note is None or "weight_decay" in given else (note,)
    unknown = methods.options().keys() & given.keys() - fields.by_key(run.method).keys()
    return run, notes + tuple(f"{variant} has no {key}; it changes nothing" for key in sorted(unknown))
