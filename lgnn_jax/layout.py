"""Which leaf of a parameter tree is laid out on which grid."""

from __future__ import annotations

import dataclasses
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax.grid import Grid, as_shape, grid_shape


@runtime_checkable
class Layout(Protocol):
    """Anything that chooses grids: one method, a tree in, a like tree of ``Grid | None`` out."""

    def grids(self, updates: Any) -> Any:
        """A tree with the structure of ``updates`` that holds a Grid or None for every leaf."""
        ...


def path_name(path: Sequence[Any]) -> str:
    """A key path as ``"block_0/conv_1/kernel"``, the same for Flax linen and NNX.

    NNX shows a trailing ``.value`` in ``init`` and not in ``update``; it is dropped.

    Example:
      >>> import jax
      >>> from lgnn_jax.layout import path_name
      >>> [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path({"a": [1, {"b": 2}]})]
      ['a/0', 'a/1/b']
    """
    names = []
    for entry in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                names.append(str(getattr(entry, attribute)))
                break
        else:
            names.append(str(entry))
    if len(names) > 1 and path[-1] == jax.tree_util.GetAttrKey("value"):
        names.pop()
    return "/".join(names)


@dataclasses.dataclass(frozen=True)
class ConvLayout:
    """Lays the filters of convolution kernels out on grids.

    By default every floating leaf with four dimensions gets a grid on its last axis, as Flax and Haiku
    store kernels (HWIO), of the most square shape. All other leaves (biases, normalisation, dense
    kernels) get none, nor do those with a single weight a filter (the biases of Equinox's ``Conv3d``).
    Four dimensions do not make a convolution: layers stacked by a scan have one more than they seem to, so
    that dense kernels get a grid and convolutions none. :meth:`describe` shows it; ``where`` and ``table``
    mend it.

    Args:
      where: ``where(path, leaf) -> bool`` narrows the choice; ``path`` is like
        ``"block_0/conv_1/kernel"``.
      table: Grid shapes by width (an ``int``) or by path (a ``str``); the path comes before the width,
        the width before the default. A path may also name a leaf that does not have four dimensions,
        which puts it on a grid. A path that names no leaf is an error. Kept as a tuple of pairs, a copy.
      axis: The axis that counts the filters: ``-1`` for HWIO, ``0`` for OIHW (Equinox, PyTorch).

    Raises:
      ValueError: If a table's key or shape is malformed; in :meth:`grids`, if a shape does not hold a
        leaf's filters or a path names no leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import ConvLayout
      >>> params = {"conv": {"kernel": jnp.zeros((3, 3, 3, 64)), "bias": jnp.zeros(64)}}
      >>> ConvLayout(table={64: (16, 4)}).grids(params)["conv"]
      {'bias': None, 'kernel': Grid(shape=(16, 4), axis=-1)}
    """

    where: Callable[[str, Any], bool] | None = None
    table: Mapping[int | str, Sequence[int]] | tuple | None = None
    axis: int = -1

    def __post_init__(self):
        if self.where is not None and not callable(self.where):
            raise ValueError(f"where must be a function (path, leaf) -> bool, got {self.where!r}.")
        try:
            object.__setattr__(self, "axis", operator.index(self.axis))
        except TypeError:
            raise ValueError(f"axis must be an integer, got {self.axis!r}.") from None
        object.__setattr__(self, "table", _frozen(self.table))

    def grids(self, updates: Any) -> Any:
        """A tree with the structure of ``updates`` that holds a Grid or None for every leaf.

        Args:
          updates: Arrays or anything with ``shape`` and ``dtype`` (``jax.ShapeDtypeStruct``).
        """
        leaves, structure = jax.tree_util.tree_flatten_with_path(updates)
        named = [(path_name(path), leaf) for path, leaf in leaves]
        table = self._table
        unknown = {key for key in table if isinstance(key, str)} - {name for name, _ in named}
        if unknown:
            known = ", ".join(repr(name) for name, _ in named) or "none"
            raise ValueError(
                f"The layout's table names {', '.join(map(repr, sorted(unknown)))}, which the tree does "
                f"not have. Its leaves are: {known}."
            )
        chosen = [self._choose(name, leaf, table)[0] for name, leaf in named]
        return jax.tree_util.tree_unflatten(structure, chosen)

    def describe(self, params: Any) -> str:
        """A readable table of every leaf: its path, its shape, and its grid or why it has none.

        Example:
          >>> import jax.numpy as jnp
          >>> from lgnn_jax import ConvLayout
          >>> print(ConvLayout().describe({"kernel": jnp.zeros((3, 3, 3, 64)), "bias": jnp.zeros(64)}))
          path    shape          grid
          bias    (64,)          - (1 dimension, not 4)
          kernel  (3, 3, 3, 64)  8x8 on axis -1
        """
        self.grids(params)  # Raises for what does not fit.
        rows, table = [("path", "shape", "grid")], self._table
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            name = path_name(path)
            grid, reason = self._choose(name, leaf, table)
            text = f"{'x'.join(map(str, grid.shape))} on axis {grid.axis}" if grid else f"- ({reason})"
            rows.append((name, str(tuple(getattr(leaf, "shape", ()))), text))
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows)

    @property
    def _table(self) -> dict[Any, tuple[int, ...]]:
        return dict(_frozen(self.table))

    def _choose(self, name: str, leaf: Any, table: Mapping[Any, Any]) -> tuple[Grid | None, str]:
        """The leaf's grid, or None and the reason."""
        shape = getattr(leaf, "shape", None)
        dtype = getattr(leaf, "dtype", None)
        if shape is None or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            return None, "not a floating array"
        if len(shape) != 4 and name not in table:
            return None, f"{len(shape)} dimension{'s' if len(shape) != 1 else ''}, not 4"
        if self.where is not None and not self.where(name, leaf):
            return None, "left out by where"
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(f"{name!r} of shape {tuple(shape)} has no axis {self.axis}.")
        units = shape[self.axis]
        if units == 0:
            return None, "no units"
        if math.prod(shape) == units and name not in table:
            return None, "one weight a filter, a bias"
        if name in table:
            grid = Grid(table[name], self.axis)
            grid.check(shape, repr(name))
        else:
            try:
                grid = Grid(grid_shape(units, table), self.axis)
            except ValueError as error:
                raise ValueError(f"{name!r} of shape {tuple(shape)}: {error}") from None
        if name not in table and _looks_spatial(tuple(shape), self.axis):
            warnings.warn(
                f"Axis {self.axis} of {name!r}, of shape {tuple(shape)}, looks like the kernel's height "
                "or width rather than its filters. Filters are on axis -1 in HWIO kernels (Flax, Haiku) and on "
                "axis 0 in OIHW kernels (Equinox, PyTorch).",
                stacklevel=2,
            )
        return grid, ""


def _looks_spatial(shape: tuple[int, ...], axis: int) -> bool:
    """Whether ``axis`` is one of two equal axes that are smaller than one of the other two."""
    pairs = shape[:2], shape[2:]
    own, other = pairs if axis % 4 < 2 else pairs[::-1]
    return own[0] == own[1] < max(other)


def _frozen(table: Any) -> tuple[tuple[int | str, tuple[int, ...]], ...]:
    """A table of grid shapes, validated, as pairs: a copy that can be hashed and not changed."""
    entries: dict[int | str, tuple[int, ...]] = {}
    try:
        pairs = dict(table or {}).items()
    except (TypeError, ValueError):
        raise ValueError(
            f"A layout's table maps widths or paths to shapes, such as {{512: (32, 16)}}, got {table!r}."
        ) from None
    for key, shape in pairs:
        if isinstance(key, str):
            entries[key] = as_shape(shape)
        elif isinstance(key, bool) or not hasattr(key, "__index__"):
            raise ValueError(f"A layout's table has widths (int) or paths (str) as keys, got {key!r}.")
        else:
            entries[operator.index(key)] = grid_shape(key, {operator.index(key): shape})
    return tuple(sorted(entries.items(), key=lambda entry: (str(type(entry[0])), entry[0])))


def resolve(layout: Any, updates: Any) -> list[Grid | None]:
    """The grid of every leaf of ``updates``, in flattening order.

    Args:
      layout: An object with a ``grids`` method, or a ready tree of ``Grid | None``.
      updates: The tree of arrays.

    Raises:
      ValueError: If the grids' tree does not match ``updates`` or a grid does not hold its leaf.
    """
    if isinstance(layout, type):
        raise ValueError(f"A layout is an object, such as {layout.__name__}(), got the class itself.")
    grids = layout.grids(updates) if isinstance(layout, Layout) else layout
    structure: Any
    leaves, structure = jax.tree_util.tree_flatten_with_path(updates)
    try:
        chosen = structure.flatten_up_to(grids)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "A layout is an object with a method grids(updates), or a tree with the structure of the "
            f"updates that holds a Grid or None for every leaf. This one does not match: {error}"
        ) from None
    for (path, leaf), grid in zip(leaves, chosen, strict=True):
        if grid is None:
            continue
        name = path_name(path) or "the array"
        if not isinstance(grid, Grid):
            raise ValueError(f"The layout gives {name!r} {grid!r}; it must be a Grid or None.")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(
                f"The layout lays out {name!r}, which is not floating: {jnp.result_type(leaf)}."
            )
        grid.check(np.shape(leaf), repr(name))
    return chosen
