"""Ways to train that are compared, a file each.

A new one is a file like these, and an entry in :data:`METHODS`:

Example:
  >>> import dataclasses
  >>> import jax.numpy as jnp
  >>> from experiments.fields import setting
  >>> from experiments.methods.base import Method
  >>> @dataclasses.dataclass(frozen=True)
  ... class Sparse(Method):
  ...     name, about = "sparse", "few activations"
  ...     strength: float = setting("Factor on the mean activation.", 0.1)
  ...     def loss(self, run):
  ...         return lambda params, seen: self.strength * sum(jnp.abs(x).mean() for x in seen.values())
"""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments import fields
from experiments.errors import check_known
from experiments.methods.arranged import Arranged
from experiments.methods.base import Method
from experiments.methods.baseline import Baseline
from experiments.methods.by_depth import ByDepth
from experiments.methods.competition import Competition
from experiments.methods.constant import Constant
from experiments.methods.decreasing import Decreasing
from experiments.methods.lsgd import LSGD
from experiments.methods.matched_step import MatchedStep
from experiments.methods.narrowing import Narrowing
from experiments.methods.pull import Pull
from experiments.methods.random_grid import RandomGrid
from experiments.methods.smooth_init import SmoothInit
from experiments.methods.tdann import Tdann
from experiments.methods.topoloss import TopoLoss
from experiments.methods.weight_similarity import WeightSimilarity

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (
        Baseline,
        Constant,
        Decreasing,
        Arranged,
        TopoLoss,
        Tdann,
        WeightSimilarity,
        RandomGrid,
        MatchedStep,
        SmoothInit,
        Pull,
        Narrowing,
        LSGD,
        Competition,
        ByDepth,
    )
}


def named(name: str) -> type[Method]:
    """A method by its name.

    Raises:
      ValueError: If there is none.
    """
    check_known("variant", name, METHODS)
    return METHODS[name]


def options() -> dict[str, dataclasses.Field[Any]]:
    """The options of all methods, by their flat names."""
    return {key: field for kind in METHODS.values() for key, field in fields.by_key(kind).items()}


def described() -> str:
    """All methods in a sentence, without its end."""
    *others, last = (f"{name} ({kind.about})" for name, kind in METHODS.items())
    return f"{', '.join(others)} or {last}"
