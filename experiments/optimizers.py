"""The optimizers that recipes may name: their defaults, and how all but SGD normalise gradients."""

from __future__ import annotations

import inspect
import math
from typing import Any

import jax
import optax

from experiments.errors import check_known

OPTIMIZERS = SGD, ADAMW, LION, MUON = ("sgd", "adamw", "lion", "muon")
# Whether a method acts on raw gradients or on normalised ones.
PLACES = BEFORE, AFTER = ("before", "after")
# Where a recipe says nothing else. In all three a step takes lr * weight_decay = 1e-4 of the weights away; SGD with
# its momentum takes 5e-4.
DEFAULTS: dict[str, dict[str, float]] = {
    ADAMW: {"lr": 1e-3, "weight_decay": 0.1},
    LION: {"lr": 1e-4, "weight_decay": 1.0},
    MUON: {"lr": 0.02, "weight_decay": 0.005},
}


def check(name: str) -> None:
    """Raises ``ValueError`` if there is no optimizer of this name, or not in this version of Optax."""
    check_known("optimizer", name, OPTIMIZERS)
    if name == MUON:
        _muon()


def normalising(name: str) -> optax.GradientTransformation:
    """What the optimizer makes of gradients, before decoupled weight decay and the learning rate.

    - ``adamw``: Adam's, with Optax's defaults: betas 0.9 and 0.999.
    - ``lion``: a sign, with Optax's defaults: betas 0.9 and 0.99.
    - ``muon``: convolution kernels as matrices ``(height width in, filters)``, orthogonalised, times
      ``sqrt(max(1, filters / (height width in)))``. Other parameters have Adam's at the learning rate of ``adamw``,
      if that of ``muon`` is its default.

    Raises:
      ValueError: As :func:`check`, or for ``sgd``, which normalises nothing.
    """
    check(name)
    if name == SGD:
        raise ValueError("sgd normalises nothing; its gradients go to decay and momentum as they are.")
    if name == MUON:
        others = optax.chain(
            optax.scale_by_adam(), optax.scale(DEFAULTS[ADAMW]["lr"] / DEFAULTS[MUON]["lr"])
        )
        return optax.partition({"kernel": _muon(), "other": others}, _kind)
    return {ADAMW: optax.scale_by_adam, LION: optax.scale_by_lion}[name]()


def _kind(params: Any) -> Any:
    return jax.tree.map(lambda leaf: "kernel" if leaf.ndim == 4 else "other", params)


def _muon() -> optax.GradientTransformation:
    from optax import contrib  # Which takes a moment, and few runs want it.

    found = getattr(contrib, "scale_by_muon", None)
    if found is None or "weight_dimension_numbers" not in inspect.signature(found).parameters:
        raise ValueError(
            "optimizer 'muon' needs an Optax whose optax.contrib.scale_by_muon takes convolution kernels "
            f"(weight_dimension_numbers), such as 0.2.8; this is {optax.__version__}. Update Optax."
        )
    as_matrix = contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return optax.chain(
        found(weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: as_matrix, tree)),
        optax.stateless_with_tree_map(
            lambda g, _: g * math.sqrt(max(1, g.shape[3] / math.prod(g.shape[:3])))
        ),
    )
