"""Which leaf is a convolution's kernel, and along which axis its filters lie: from what stands beside it.

Four dimensions alone do not tell. A transposed convolution may be stored (out, in), an embedding of positions
is ``(1, h, w, c)``, and layers that a scan has stacked have one dimension more than they seem to, so that
attention looks like a convolution and a convolution like a 3-D one. The bias, the scale of a normalisation
and the names tell most of them; where they do not, the verdict holds a doubt that the layout warns of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

Shape = tuple[int, ...]

_KERNELS = ("kernel", "w", "weight")  # Of linen and NNX, Haiku, Equinox and PyTorch.
_BIASES = ("bias", "b")
_SCALES = ("scale", "offset")  # Of normalisations, always of one dimension unless stacked.
_ATTENTION = frozenset({"query", "key", "value", "out"})
_SPATIAL = 11  # Kernels are rarely larger; two equal sides above it are rather numbers of channels.
_LARGEST = 64  # Few kernels have unequal sides above it; a bias tells those.


class Verdict(NamedTuple):
    """The axis of the filters, or None and why there are none; and what is doubtful about it."""

    axis: int | None
    reason: str = ""
    doubt: str = ""


def judge(name: str, shape: Shape, axis: int, leaves: Mapping[str, Shape]) -> Verdict:
    """Whether a leaf is a convolution's kernel, and the axis of its filters.

    Args:
      name: The leaf's name, such as ``"block_0/conv_1/kernel"``.
      shape: Its shape.
      axis: Where filters lie unless something tells otherwise: -1 for HWIO kernels, 0 for OIHW.
      leaves: Shapes by name of all leaves of the tree.

    Example:
      >>> from lgnn_jax._kernels import judge
      >>> judge("up/kernel", (3, 3, 32, 16), -1, {"up/bias": (32,)})  # A transposed convolution's.
      Verdict(axis=-2, reason='', doubt='')
      >>> judge("layers/conv/kernel", (6, 3, 3, 16, 16), -1, {"layers/conv/bias": (6, 16)}).axis
      -1
    """
    module, _, own = name.rpartition("/")
    outputs = _outputs(module, leaves)
    lead = _stacked(module, shape, outputs, leaves)
    if lead and len(shape) == 5:
        within = judge(name, shape[1:], axis, _unstacked(leaves, lead))
        shifted = within.axis + 1 if within.axis is not None and within.axis >= 0 else within.axis
        return within._replace(axis=shifted)
    if len(shape) != 4:
        reason = f"{len(shape)} dimension{'s' if len(shape) != 1 else ''}, not 4"
        open_question = len(shape) == 5 and own in _KERNELS and outputs is None and min(shape) > 0
        return Verdict(None, reason, _STACKED_DOUBT if open_question else "")
    if lead:
        return Verdict(None, f"a stack of {lead} layers that are no convolutions")
    if outputs is not None and len(outputs) > 1:
        return Verdict(None, f"a dense kernel, its bias has {len(outputs)} dimensions")
    if _ATTENTION <= _siblings(module, leaves) and module.rpartition("/")[2] in _ATTENTION:
        return Verdict(None, "a projection of attention")
    if outputs is None and own not in _KERNELS and ("embed" in own or shape[0] == 1 < shape[1]):
        told = "embed" in own or shape[1] == shape[2]
        return Verdict(None, "an embedding or a constant", "" if told else _EMBEDDING_DOUBT)
    if not -4 <= axis < 4:
        raise ValueError(f"{name!r} of shape {shape} has no axis {axis}.")
    return _among_channels(module, own, shape, axis, outputs)


def _among_channels(module: str, own: str, shape: Shape, axis: int, outputs: Shape | None) -> Verdict:
    """The axis of a convolution's filters: ``axis``, or the other one of its two axes of channels."""
    other = (axis % 4 ^ 1) - (4 if axis < 0 else 0)
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
    if outputs is not None and not any(fits):
        return Verdict(
            axis, doubt=f"has a bias of {outputs[0]}, which is not the length of axis {axis}. {_MEND}"
        )
    return Verdict(axis)


def _outputs(module: str, leaves: Mapping[str, Shape]) -> Shape | None:
    """The shape of the bias in a module, without the axes of length 1 that Equinox puts behind."""
    for name in _BIASES:
        shape = leaves.get(f"{module}/{name}" if module else name)
        if shape:
            kept = len(shape)
            while kept > 1 and shape[kept - 1] == 1:
                kept -= 1
            return shape[:kept]
    return None


def _stacked(module: str, shape: Shape, outputs: Shape | None, leaves: Mapping[str, Shape]) -> int:
    """How many layers a scan has stacked along the kernel's first axis, by its bias or by a norm beside; else 0."""
    if len(shape) < 4:
        return 0
    if outputs is not None:
        return shape[0] if len(outputs) > 1 and outputs[0] == shape[0] else 0
    block = module.rpartition("/")[0]
    for name, scale in leaves.items():
        parent, _, own = name.rpartition("/")
        beside = parent == block or parent.rpartition("/")[0] == block
        if own in _SCALES and beside and len(scale) == 2 and scale[0] == shape[0]:
            return shape[0]
    return 0


def _unstacked(leaves: Mapping[str, Shape], lead: int) -> dict[str, Shape]:
    """The leaves of one of the stacked layers."""
    return {name: shape[1:] if shape[:1] == (lead,) else shape for name, shape in leaves.items()}


def _siblings(module: str, leaves: Mapping[str, Shape]) -> frozenset[str]:
    """The modules beside a module, by their own names."""
    block = module.rpartition("/")[0]
    inside = f"{block}/" if block else ""
    return frozenset(name[len(inside) :].split("/")[0] for name in leaves if name.startswith(inside))


def _looks_spatial(own: str, shape: Shape, axis: int, outputs: Shape | None) -> bool:
    """Whether ``axis`` is rather a kernel's height or width, or what should be those two is too large."""
    pairs = shape[:2], shape[2:]
    mine, others = pairs if axis % 4 < 2 else pairs[::-1]
    told = outputs is not None or own in (("w", "kernel") if axis < 0 or axis > 1 else ("weight",))
    small_square = others[0] == others[1] <= _SPATIAL
    if mine[0] == mine[1] < max(others) and math.prod(mine) > 0 and not (small_square and told):
        return True
    return outputs is None and others[0] != others[1] and max(others) > _LARGEST


_MEND = (
    "If its filters lie elsewhere, give a tuple of Layers as the layout: those of "
    "ConvLayout(...).layers(params), and Layer(name, Grid(shape), axis) for this one."
)
_SPATIAL_DOUBT = (
    "is laid out along axis {axis}, which looks like the kernel's height or width rather than its filters. "
    "Filters are on axis -1 in HWIO kernels (Flax, Haiku) and on axis 0 in OIHW kernels (Equinox, PyTorch)."
)
_TRANSPOSED_DOUBT = (
    "is laid out along axis {axis}, and as a transposed convolution it may be stored (out, in), with its "
    "filters on axis {other}. " + _MEND
)
_STACKED_DOUBT = (
    "has 5 dimensions and no bias, so it may be a 3-D convolution or a stack of 2-D ones; it is left as it is. "
    "To lay it out name it in ConvLayout(paths=...)."
)
_EMBEDDING_DOUBT = (
    "has a leading axis of 1 and no bias, so it may be an embedding and not a kernel; it is left as it is. "
    "To lay it out name it in ConvLayout(paths=...)."
)
