"""What a method is: all of it that training, names and logs need to know."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np
import optax

from experiments.optimizers import BEFORE
from lgnn_jax import Layer

if TYPE_CHECKING:
    from experiments.config import Run
    from experiments.run.step import Images, TrainState

# A term of the loss, from parameters and from activations by the paths of the layers' kernels.
Loss = Callable[[Any, Mapping[str, jax.Array]], jax.Array]


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train; its fields are its options. Each of the functions says by default that nothing is to be done.

    A new one is a frozen dataclass in a file of its own, and an entry in ``methods/__init__.py``. A field that a
    method gets after runs of it have been published says so with ``added`` (:func:`experiments.fields.setting`).
    """

    name: ClassVar[str]  # As --variant, in names and in config.json.
    about: ClassVar[str]  # In a few words, for the help of --variant.
    # Whether a sigma at every epoch is all that there is to it: such runs can be made at once, as one program.
    sigma_alone: ClassVar[bool] = False
    smooth: ClassVar[str] = BEFORE  # Its chain comes before gradients are normalised.

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if a value is out of range, or does not go with the rest of the run."""

    def start(self, run: Run, params: Any) -> Any:
        """The parameters with which training starts, from those that are drawn or another run's.

        They depend on both arguments alone: every host makes its own.
        """
        return params

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """What is done to gradients, before weight decay and the optimizer."""
        return optax.identity()

    def after(self, run: Run, steps_per_epoch: int) -> tuple[optax.GradientTransformation, ...]:
        """What is done to steps, after momentum and the learning rate."""
        return ()

    def loss(self, run: Run) -> Loss | None:
        """What is added to the loss; None for nothing, and then no activations are kept for it.

        The term is a replica's, of its share of the batch: activations ``(share, height, width, units)`` after
        normalisation and ReLU, as the next layer reads them. Gradients are averaged over replicas.
        """
        return None

    def between(self, run: Run, state: TrainState, epoch: int, training: Images) -> TrainState:
        """The state with which epoch ``epoch`` begins, from the one with which the last one ended.

        Epochs count from 0, which comes here only where training begins with the weights of another run.

        ``training`` has the training images. A run that goes on from a checkpoint passes here once, as one that
        was never interrupted; of several hosts the first one's state counts.
        """
        return state

    def orders(self, run: Run, params: Any) -> Mapping[str, np.ndarray]:
        """By the path of a kernel the order in which its units lie on the grid; layers left out lie in their own.

        Of an order, ``order[p]`` the unit at place ``p``, a summary has the metrics too, under ``permuted``.
        """
        return {}

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """What the log says of the epoch that begins with this step."""
        return {}

    def identity(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Those of a run's flat settings that decide its result."""
        return settings


def laid_out(run: Run, params: Any) -> list[tuple[Layer, jax.Array]]:
    """The layers that a run's network lays out, each with its kernel."""
    return [
        (layer, functools.reduce(operator.getitem, layer.path.split("/"), params))
        for layer in run.net.layout.layers(params)
    ]
