"""Which leaf is a convolution's kernel, and along which axis its filters lie: from what stands beside it.

Four dimensions alone do not tell. A transposed convolution may be stored (out, in), an embedding of positions
is ``(1, h, w, c)``, and layers that a scan has stacked have one dimension more than they seem to, so that
attention looks like a convolution and a convolution like a 3-D one. The bias, the scale of a normalisation
and the names tell most of them; where they do not, the verdict holds a doubt that the layout warns of.
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

Shape = tuple[int, ...]

_KERNELS = frozenset({"kernel", "w", "weight"})  # Of linen and NNX, Haiku, Equinox and PyTorch.
_BIASES = ("bias", "b")
_SCALES = ("scale", "offset")  # Of normalisations, always of one dimension unless stacked.
_ATTENTION = frozenset({"query", "key", "value", "out"})
_EMBEDDINGS = frozenset({"embed", "embedding", "embeddings", "pos", "position", "positions"})
_SPATIAL = 11  # Kernels are rarely larger; two equal sides above it are rather numbers of channels.
_LARGEST = 64  # Few kernels have unequal sides above it; a bias tells those.

_MEND = (
    "If its filters lie elsewhere, leave it out with where=, and give lgnn the tuple of Layers that "
    "ConvLayout(where=...).layers(params) and Layer(path, Grid(shape), axis) for this one make."
)
_NAME = "To lay it out name it in ConvLayout(paths=...)."
_SPATIAL_DOUBT = (
    "is laid out along axis {axis}, which looks like the kernel's height or width rather than its filters. "
    "Filters are on axis -1 in HWIO kernels (Flax, Haiku) and on axis 0 in OIHW kernels (Equinox, PyTorch)."
)
_LARGE_DOUBT = (
    "is laid out along axis {axis}, and a kernel of {sides} would be a large one, so it may be no convolution's. "
    "If it is none, leave it out with where=."
)
_TRANSPOSED_DOUBT = (
    "is laid out along axis {axis}, and as a transposed convolution it may be stored (out, in), with its "
    "filters on axis {other}. " + _MEND
)
_BIAS_DOUBT = "has a bias of {outputs}, which is not the length of axis {axis}. " + _MEND
_STACKED_DOUBT = (
    "has 5 dimensions and no bias, so it may be a 3-D convolution or a stack of 2-D ones; it is left as it is. "
    + _NAME
)
_EMBEDDING_DOUBT = (
    "has a leading axis of 1 and no bias, so it may be an embedding and not a kernel; it is left as it is. "
    + _NAME
)


class Verdict(NamedTuple):
    """The axis of the filters, or None and why there are none; and what is doubtful about it."""

    axis: int | None
    reason: str = ""
    doubt: str = ""


class Tree:
    """The shapes of a tree's floating leaves by name, and what stands beside what."""

    def __init__(self, shapes: Mapping[str, Shape]):
        self._shapes = shapes

    def outputs(self, module: str) -> Shape | None:
        """The shape of the bias in a module, without the axes of length 1 that Equinox puts behind."""
        for name in _BIASES:
            shape = self._shapes.get(f"{module}/{name}" if module else name)
            if shape:
                kept = max(at for at, length in enumerate(shape, 1) if length > 1 or at == 1)
                return shape[:kept]
        return None

    def siblings(self, module: str) -> frozenset[str]:
        """The names of the modules and leaves beside a module, its own among them."""
        return frozenset(self._children[_parent(module)])

    def lead(self, module: str, shape: Shape, outputs: Shape | None) -> int:
        """How many layers a scan has stacked along a leaf's first axis, by the bias or by a norm beside; else 0."""
        if len(shape) < 4:
            return 0
        if outputs is not None:
            return shape[0] if len(outputs) > 1 and outputs[0] == shape[0] else 0
        return shape[0] if shape[0] in self._stacked_scales[_parent(module)] else 0

    @functools.cached_property
    def _children(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = collections.defaultdict(set)
        for name in self._shapes:
            while name:
                block, _, own = name.rpartition("/")
                found[block].add(own)
                name = block
        return found

    @functools.cached_property
    def _stacked_scales(self) -> dict[str, set[int]]:
        """By block the leading lengths of the scales of two dimensions in it and in its modules."""
        found: dict[str, set[int]] = collections.defaultdict(set)
        for name, shape in self._shapes.items():
            module, _, own = name.rpartition("/")
            if own in _SCALES and len(shape) == 2:
                found[module].add(shape[0])
                found[_parent(module)].add(shape[0])
        return found


def _parent(module: str) -> str:
    return module.rpartition("/")[0]


def judge(name: str, shape: Shape, axis: int, tree: Tree) -> Verdict:
    """Whether a leaf is a convolution's kernel, and the axis of its filters.

    Args:
      name: The leaf's name, such as ``"block_0/conv_1/kernel"``.
      shape: Its shape.
      axis: Where filters lie unless something tells otherwise: -1 for HWIO kernels, 0 for OIHW.
      tree: What stands beside it.

    Raises:
      ValueError: If the leaf has four dimensions and no such axis.

    Example:
      >>> from lgnn_jax._kernels import Tree, judge
      >>> judge("up/kernel", (3, 3, 32, 16), -1, Tree({"up/bias": (32,)}))  # A transposed convolution's.
      Verdict(axis=-2, reason='', doubt='')
      >>> judge("layers/conv/kernel", (6, 3, 3, 16, 16), -1, Tree({"layers/conv/bias": (6, 16)})).axis
      -1
    """
    module, _, own = name.rpartition("/")
    words = frozenset(own.lower().split("_"))
    outputs = tree.outputs(module)
    lead = tree.lead(module, shape, outputs)
    if lead and len(shape) == 5:  # One layer of the stack, in which axes from the front are one less.
        within = _among_channels(name, shape[1:], axis, None if outputs is None else outputs[1:])
        shifted = within.axis + 1 if within.axis is not None and within.axis >= 0 else within.axis
        return within._replace(axis=shifted)
    if len(shape) != 4:
        reason = f"{len(shape)} dimension{'s' if len(shape) != 1 else ''}, not 4"
        open_question = len(shape) == 5 and own in _KERNELS and outputs is None and min(shape) > 0
        return Verdict(None, reason, _STACKED_DOUBT if open_question else "")
    if lead:
        return Verdict(None, f"one of {lead} stacked layers, and no convolution")
    if outputs is not None and len(outputs) > 1:
        return Verdict(None, f"a dense kernel, its bias has {len(outputs)} dimensions")
    if _ATTENTION <= tree.siblings(module) and module.rpartition("/")[2] in _ATTENTION:
        return Verdict(None, "a projection of attention")
    if outputs is None and not words & _KERNELS:
        told = bool(words & _EMBEDDINGS)
        if told or shape[0] == 1 < shape[1]:
            doubt = "" if told or shape[1] == shape[2] else _EMBEDDING_DOUBT
            return Verdict(None, "an embedding or a constant", doubt)
    return _among_channels(name, shape, axis, outputs)


def _among_channels(name: str, shape: Shape, axis: int, outputs: Shape | None) -> Verdict:
    """The axis of a convolution's filters: ``axis``, or the other one of its two axes of channels."""
    if not -4 <= axis < 4:
        raise ValueError(f"{name!r} of shape {shape} has no axis {axis}.")
    module, _, own = name.rpartition("/")
    other = ((axis % 4) ^ 1) - (4 if axis < 0 else 0)
    transposed = "transpose" in module.rpartition("/")[2].lower()
    fits = [outputs is None or shape[i] == outputs[0] for i in (axis, other)]
    if fits == [False, True]:
        return Verdict(other)
    if transposed and all(fits):
        if own == "w":  # Haiku stores them (out, in) without exception.
            return Verdict(other)
        return Verdict(axis, doubt=_TRANSPOSED_DOUBT.format(axis=axis, other=other))
    if _looks_spatial(own, shape, axis, outputs):
        return Verdict(axis, doubt=_SPATIAL_DOUBT.format(axis=axis))
    height, width = shape[2:] if axis % 4 < 2 else shape[:2]
    if outputs is None and height != width and max(height, width) > _LARGEST:
        return Verdict(axis, doubt=_LARGE_DOUBT.format(axis=axis, sides=f"{height}x{width}"))
    if outputs is not None and not any(fits):
        return Verdict(axis, doubt=_BIAS_DOUBT.format(outputs=outputs[0], axis=axis))
    return Verdict(axis)


def _looks_spatial(own: str, shape: Shape, axis: int, outputs: Shape | None) -> bool:
    """Whether ``axis`` is rather one of a kernel's height and width, two equal sides that are the smaller ones."""
    pairs = shape[:2], shape[2:]
    mine, others = pairs if axis % 4 < 2 else pairs[::-1]
    told = outputs is not None or own in (("weight",) if axis % 4 < 2 else ("w", "kernel"))
    small_square = others[0] == others[1] <= _SPATIAL
    return mine[0] == mine[1] < max(others) and math.prod(mine) > 0 and not (small_square and told)
