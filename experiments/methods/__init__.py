"""Ways to train that are compared, a file each."""

from __future__ import annotations

from experiments.methods.base import Method
from experiments.methods.baseline import Baseline
from experiments.methods.constant import Constant
from experiments.methods.decreasing import Decreasing

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (
        Baseline,
        Constant,
        Decreasing,
    )
}


def named(name: str) -> type[Method]:
    """A method by its name.

    Raises:
      ValueError: If there is none.
    """
    if name not in METHODS:
        raise ValueError(f"Unknown variant {name!r}. Known: {', '.join(METHODS)}.")
    return METHODS[name]
