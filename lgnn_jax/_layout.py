"""Which leaf of a parameter tree is laid out on which grid, along which of its axes."""

from __future__ import annotations

import collections
import dataclasses
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from lgnn_jax._grid import Grid, as_axis, as_shape, check_axis, grid_shape
from lgnn_jax._kernels import Tree, judge
from lgnn_jax._moved import moved
from lgnn_jax._tree import named_leaves


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer: a leaf of a parameter tree, its grid, and the axis that counts its units.

    Args:
      path: The leaf's name, such as ``"block_0/conv_1/kernel"``: keys, fields and indices with slashes
        between; a box of Flax's (``nnx.Param``, ``nn.Partitioned``) adds nothing.
      grid: Where its units lie.
      axis: The axis of the leaf that holds them: -1 in HWIO kernels, 0 in OIHW kernels.

    Raises:
      ValueError: If ``path`` is no text, ``grid`` no Grid or ``axis`` no integer.

    Example:
      >>> from lgnn_jax import Grid, Layer
      >>> Layer("conv/kernel", Grid((8, 8)), axis=-1).grid.units
      64
    """

    path: str
    grid: Grid
    axis: int

    def __post_init__(self):
        if not isinstance(self.path, str) or not isinstance(self.grid, Grid):
            raise ValueError(
                f'A Layer is a path and a Grid, such as Layer("conv/kernel", Grid((8, 8)), -1), got '
                f"{self.path!r} and {self.grid!r}."
            )
        object.__setattr__(self, "axis", as_axis(self.axis))


class Layout(Protocol):
    """Anything that chooses layers: one method, a tree in, its layers out."""

    def layers(self, tree: Any) -> tuple[Layer, ...]:
        """The layers of a tree of arrays, or of anything with ``shape`` and ``dtype``."""
        ...


@moved(table="Write shapes={512: (32, 16)} for widths and paths={'conv/kernel': (8, 8)} for paths.")
@dataclasses.dataclass(frozen=True)
class ConvLayout:
    """Lays the filters of convolution kernels out on grids.

    By default every floating leaf with four dimensions is a kernel, its filters on the last axis as Flax and
    Haiku store them (HWIO), and gets a grid of the most square shape. What stands beside the leaf tells the
    exceptions:

    - a bias as long as the kernel's other axis of channels, or Haiku's name for it: a transposed
      convolution stored (out, in), laid out along that axis;
    - a bias, or a normalisation's scale beside, with a leading axis as long as the kernel's: layers stacked
      by a scan. Convolutions in it (five dimensions) are laid out, other kernels are not;
    - a bias of two dimensions, or modules ``query``, ``key``, ``value`` and ``out`` side by side: attention;
    - a name such as ``pos_embedding``, or a leading axis of 1 without a bias under a name that is no
      kernel's: an embedding or a constant;
    - a single weight a filter: a bias.

    A doubt that nothing dispels (a transposed convolution with as many inputs as outputs, an axis that looks
    like the kernel's height) draws a warning. Not told at all are other weights of four dimensions under a
    kernel's name (experts, an einsum's), and transposed convolutions stored (out, in) without a bias or with
    as many inputs as outputs under a name without ``transpose``. :meth:`describe` shows what is done and
    what is in doubt; ``where`` and ``paths`` mend it.

    Args:
      where: ``where(path, leaf) -> bool`` leaves out some of what would be laid out; ``path`` is like
        ``"block_0/conv_1/kernel"``.
      shapes: Grid shapes by width, as in the paper's lookup table; others are the most square.
      paths: Grid shapes by path, which come before those by width. A path may name a leaf that is no
        kernel, which puts it on a grid; one that names no leaf is an error.
      axis: The axis that counts the filters: ``-1`` for HWIO, ``0`` for OIHW (Equinox, PyTorch).
      wrap: Whether grids are toruses.

    ``shapes`` and ``paths`` are kept as tuples of pairs, copies.

    Raises:
      ValueError: If a key or shape is malformed; in :meth:`layers`, if a shape does not hold a leaf's
        filters, a path names no leaf, or two leaves to be laid out have the same path.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import ConvLayout
      >>> params = {"conv": {"kernel": jnp.zeros((3, 3, 3, 64)), "bias": jnp.zeros(64)}}
      >>> ConvLayout(shapes={64: (16, 4)}).layers(params)
      (Layer(path='conv/kernel', grid=Grid(shape=(16, 4), wrap=False), axis=-1),)
    """

    where: Callable[[str, Any], bool] | None = None
    shapes: Mapping[int, Sequence[int]] | tuple | None = None
    paths: Mapping[str, Sequence[int]] | tuple | None = None
    axis: int = -1
    wrap: bool = False

    def __post_init__(self):
        if self.where is not None and not callable(self.where):
            raise ValueError(f"where must be a function (path, leaf) -> bool, got {self.where!r}.")
        object.__setattr__(self, "axis", as_axis(self.axis))
        object.__setattr__(self, "shapes", _by_width(self.shapes))
        object.__setattr__(self, "paths", _by_path(self.paths))
        if not isinstance(self.wrap, bool):
            raise ValueError(f"wrap must be True or False, got {self.wrap!r}.")

    def layers(self, tree: Any) -> tuple[Layer, ...]:
        """The layers of a tree, in flattening order.

        Args:
          tree: Arrays or anything with ``shape`` and ``dtype`` (``jax.ShapeDtypeStruct``); boxes of Flax's
            are opened.
        """
        rows = self._rows(tree)
        for row in rows:
            if row.doubt:
                warnings.warn(row.doubt, stacklevel=2)
        return tuple(row.layer for row in rows if row.layer is not None)

    def describe(self, tree: Any) -> str:
        """A readable table of every leaf: its path, its shape, its grid or why it has none; and all doubts.

        Example:
          >>> import jax.numpy as jnp
          >>> from lgnn_jax import ConvLayout
          >>> print(ConvLayout().describe({"kernel": jnp.zeros((3, 3, 3, 64)), "bias": jnp.zeros(64)}))
          path    shape          grid
          bias    (64,)          - (1 dimension, not 4)
          kernel  (3, 3, 3, 64)  8x8 on axis -1
        """
        rows, cells = self._rows(tree), [("path", "shape", "grid")]
        for row in rows:
            text = f"- ({row.reason})"
            if row.layer is not None:
                text = f"{row.layer.grid.size}{' torus' if self.wrap else ''} on axis {row.layer.axis}"
            cells.append((row.path, str(tuple(getattr(row.leaf, "shape", ()))), text))
        widths = [max(len(line[column]) for line in cells) for column in range(2)]
        lines = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in cells]
        return "\n".join([*lines, *(f"In doubt: {row.doubt}" for row in rows if row.doubt)])

    def warn_if_nothing(self, tree: Any) -> None:
        """Warns where no leaf is laid out though some could be and nothing was left out by ``where``."""
        rows = self._rows(tree)
        could = any(len(row.leaf.shape) >= 2 for row in rows if row.reason != _NOT_FLOATING)
        if could and all(row.layer is None and row.reason != _LEFT_OUT for row in rows):
            warnings.warn(
                "Nothing is laid out on a grid, so nothing will be smoothed. Name leaves in "
                f"ConvLayout(paths=...), or give Layers.\n{self.describe(tree)}",
                stacklevel=3,
            )

    def _rows(self, tree: Any) -> list[_Row]:
        """What becomes of every leaf."""
        named, paths = named_leaves(tree), dict(self.paths or ())
        _check_known("The layout's paths name", paths, named)
        beside = Tree({path: tuple(leaf.shape) for path, leaf in named if _is_floating(leaf)})
        rows = [self._row(path, leaf, paths.get(path), beside) for path, leaf in named]
        _check_unique([row.path for row in rows if row.layer is not None], named)
        return rows

    def _row(self, path: str, leaf: Any, shape_of_grid: Sequence[int] | None, beside: Tree) -> _Row:
        """What becomes of a leaf, for which ``paths`` may have a grid."""
        if not _is_floating(leaf):
            return _Row(path, leaf, reason=_NOT_FLOATING)
        shape, named = tuple(leaf.shape), shape_of_grid is not None
        verdict = judge(path, shape, self.axis, beside)
        doubt = f"{path!r} of shape {shape} {verdict.doubt}" if verdict.doubt and not named else ""
        if verdict.axis is None and len(shape) != 4 and not named and not doubt:
            return _Row(path, leaf, reason=verdict.reason)
        if self.where is not None and not self.where(path, leaf):
            return _Row(path, leaf, reason=_LEFT_OUT)
        if verdict.axis is None and not named:
            return _Row(path, leaf, reason=verdict.reason, doubt=doubt)
        axis = self.axis if verdict.axis is None else verdict.axis
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"{path!r} of shape {shape} has no axis {axis}.")
        units = shape[axis]
        if units == 0:
            return _Row(path, leaf, reason="no units")
        if math.prod(shape) == units and not named:
            return _Row(path, leaf, reason="one weight a filter, a bias")
        if shape_of_grid is None:
            shape_of_grid = grid_shape(units, dict(self.shapes or ()))
        grid = Grid(tuple(shape_of_grid), self.wrap)
        check_axis(grid, shape, axis, repr(path))
        return _Row(path, leaf, Layer(path, grid, axis), doubt=doubt)


class _Row(NamedTuple):
    """What becomes of a leaf: its layer, or why it has none; and what is doubtful about that."""

    path: str
    leaf: Any
    layer: Layer | None = None
    reason: str = ""
    doubt: str = ""


_NOT_FLOATING, _LEFT_OUT = "not a floating array", "left out by where"


def _is_floating(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return hasattr(leaf, "shape") and dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def _by_width(shapes: Any) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Grid shapes by width, validated, as pairs: a copy that can be hashed and not changed."""
    entries = {}
    for key, shape in _pairs("shapes", "widths", "{512: (32, 16)}", shapes):
        if isinstance(key, (bool, str)) or not hasattr(key, "__index__"):
            raise ValueError(
                f"A layout's shapes have widths as keys, such as {{512: (32, 16)}}, got {key!r}. Shapes by path go "
                "into paths."
            )
        entries[operator.index(key)] = grid_shape(key, {operator.index(key): shape})
    return tuple(sorted(entries.items()))


def _by_path(paths: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Grid shapes by path, likewise."""
    entries = {}
    for key, shape in _pairs("paths", "paths", "{'conv/kernel': (32, 16)}", paths):
        if not isinstance(key, str):
            raise ValueError(f"A layout's paths have paths as keys, such as 'conv/kernel', got {key!r}.")
        entries[key] = as_shape(shape)
    return tuple(sorted(entries.items()))


def _pairs(name: str, what: str, example: str, mapping: Any) -> list[tuple[Any, Any]]:
    try:
        return list(dict(mapping or {}).items())
    except (TypeError, ValueError):
        raise ValueError(
            f"A layout's {name} map {what} to grid shapes, such as {example}, got {mapping!r}."
        ) from None


def _check_known(who: str, paths: Iterable[str], named: Sequence[tuple[str, Any]]) -> None:
    """Raises ``ValueError`` if one of ``paths`` is no leaf's."""
    unknown = set(paths) - {path for path, _ in named}
    if unknown:
        known = ", ".join(repr(path) for path, _ in named) or "none"
        raise ValueError(
            f"{who} {', '.join(map(repr, sorted(unknown)))}, which the tree does not have. Its leaves are: {known}."
        )


def _check_unique(paths: Sequence[str], named: Sequence[tuple[str, Any]]) -> None:
    """Raises ``ValueError`` if one of ``paths`` is the name of two leaves."""
    counts = collections.Counter(name for name, _ in named)
    for path in paths:
        if counts[path] > 1:
            raise ValueError(
                f"{counts[path]} leaves are called {path!r}, so it does not say which of them is a layer. Give "
                "them different names."
            )


def lay_out(layout: Layout | Sequence[Layer], tree: Any) -> list[Layer | None]:
    """The layer of every leaf of ``tree``, in flattening order.

    Args:
      layout: An object with a method ``layers``, or a ready tuple of Layers.
      tree: The tree of arrays.

    Raises:
      ValueError: If a layer names no leaf or one that is not floating, two name the same, or a grid does
        not hold its leaf.
    """
    named = named_leaves(tree)
    layers = _layers_of(layout, tree)
    by_path = {layer.path: layer for layer in layers}
    if len(by_path) < len(layers):
        twice = collections.Counter(layer.path for layer in layers).most_common(1)[0][0]
        raise ValueError(f"The layout has more than one layer for {twice!r}. Give one a leaf.")
    _check_known("The layout lays out", by_path, named)
    _check_unique(list(by_path), named)
    for name, leaf in named:
        if name not in by_path:
            continue
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(
                f"The layout lays out {name!r}, which is not floating: {jnp.result_type(leaf)}."
            )
        check_axis(
            by_path[name].grid, np.shape(leaf), by_path[name].axis, repr(name) if name else "the array"
        )
    return [by_path.get(name) for name, _ in named]


def _layers_of(layout: Layout | Sequence[Layer], tree: Any) -> tuple[Layer, ...]:
    if isinstance(layout, type):
        raise ValueError(f"A layout is an object, such as {layout.__name__}(), got the class itself.")
    found = layout.layers(tree) if hasattr(layout, "layers") else layout
    if isinstance(found, (tuple, list)) and all(isinstance(layer, Layer) for layer in found):
        return tuple(found)
    raise ValueError(
        "A layout is an object with a method layers(tree), or a tuple of Layers such as "
        f'(Layer("conv/kernel", Grid((8, 8)), -1),); got {found!r}. A method grids(updates) and a tree of Grids '
        "are no layouts any more."
    )
