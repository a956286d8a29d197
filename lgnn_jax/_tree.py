"""The leaves of a parameter tree by name, whatever boxes they come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

# Flax's boxes, known without importing Flax: nnx.Param and its kind; linen's Partitioned and its kind.
_BOXES = frozenset({"Variable", "VariableState", "AxisMetadata"})


def is_box(node: Any) -> bool:
    """Whether ``node`` is a box of Flax's around an array, such as ``nnx.Param`` or ``nn.Partitioned``."""
    return any(
        kind.__name__ in _BOXES and kind.__module__.partition(".")[0] == "flax"
        for kind in type(node).__mro__
    )


def unboxed(x: Any) -> Any:
    """The array in a box of Flax's; anything else as it is.

    Example:
      >>> import flax.linen as nn
      >>> from lgnn_jax._tree import unboxed
      >>> unboxed(nn.Partitioned(3.0, names=())), unboxed(2.0)
      (3.0, 2.0)
    """
    return jax.tree.leaves(x)[0] if is_box(x) else x


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with its name such as ``"block_0/conv_1/kernel"``, in flattening order.

    A box is no part of a name: NNX shows a trailing ``.value`` in ``init`` and not in ``update``. A field
    of that name in a module of one's own is.

    Example:
      >>> from lgnn_jax._tree import named_leaves
      >>> named_leaves({"a": [1, {"b": 2}]})
      [('a/0', 1), ('a/1/b', 2)]
    """
    found = []
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_box):
        within = jax.tree_util.tree_leaves_with_path(node) if is_box(node) else [((None,), node)]
        found += [(_name((*path, *inner[1:])), leaf) for inner, leaf in within]
    return found


def _name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")
