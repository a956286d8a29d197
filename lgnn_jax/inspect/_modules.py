"""What a network's parameters tell of its modules, and what the calls of these gave."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from lgnn_jax._kernels import Tree, judge
from lgnn_jax._tree import named_leaves
from lgnn_jax.inspect._marks import Seen

KERNELS = ("kernel", "w", "weight")  # Of linen and NNX, Haiku, Equinox.


class Calls(NamedTuple):
    """What one run of a network gave.

    ``own`` has by path the output of a module that was run once, ``normalised`` of a convolution that of the
    normalisation that reads it, ``reasons`` why there is none.
    """

    own: dict[str, jax.Array]
    normalised: dict[str, jax.Array]
    reasons: dict[str, str]
    output: Any


def calls_of(seen: Seen, output: Any) -> Calls:
    """What the modules gave, of which each that was run once has an array."""
    own, reasons = dict[str, Any](), dict[str, str]()
    for path, calls in seen.calls.items():
        told = [call for call in calls if isinstance(call, str)]
        if len(calls) == 1 and not told:
            own[path] = calls[0]
        else:
            reasons[path] = told[0] if told else f"it was run {len(calls)} times"
    return Calls(own, {path: found for path, (_, found) in seen.readers.items()}, reasons, output)


class Source(Protocol):
    """A network as an adapter gives it; ``state`` are its arrays, in any tree.

    ``see(state, images)`` runs it on images as it wants them. ``chosen(layers)`` gives paths by the names asked
    for, or None for whatever there is.
    """

    state: Any
    absent: str  # Why a layer has no array that ``see`` says nothing of.

    def chosen(self, layers: Iterable[str] | None) -> dict[str, str] | None:
        """Paths by the names asked for."""
        ...

    def beside(self, calls: Calls) -> dict[str, str]:
        """What else by default is left out, with the reason."""
        ...

    def kernel(self, path: str, units: int) -> tuple[Any, int] | None:
        """A layer's weights and the axis of its units."""
        ...

    def see(self, state: Any, images: Any) -> Calls:
        """What one run gives."""
        ...


class Modules:
    """A network of modules; a :class:`Source`.

    Args:
      params: The parameters, whose modules are layers that may be asked for.
      every: All variables; of linen by collection.
      state: What ``see`` is given.
      see: ``see(modules, state, images)`` gives what one run does.
      norms: The framework's normalisations, which own nothing where they have neither scale nor bias.
      axis: The axis of a kernel's filters, -1 or 0.
    """

    absent = "it was run 0 times"

    def __init__(
        self,
        params: Any,
        every: Any,
        state: Any,
        see: Callable[[Modules, Any, Any], Calls],
        norms: tuple[type, ...],
        axis: int = -1,
    ):
        self.state, self._see, self._norms, self._axis = state, see, norms, axis
        known, convolutions, stacked = set[str](), set[str](), set[str]()
        self._named = named = named_leaves(params)
        for name, leaf in named:
            parts = name.split("/")[:-1]
            known.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
            if not parts:
                known.add("")
            if np.ndim(leaf) >= 4 and not _one_a_unit(name, np.shape(leaf)):
                (convolutions if np.ndim(leaf) == 4 else stacked).add("/".join(parts))

        def natural(name):  # conv_10 follows conv_9; text and numbers alternate.
            return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]

        self.known = sorted(known, key=natural)
        # What holds layers, and a kernel or an embedding beside them, gives more than a convolution's output.
        own = {name for name, _ in named}
        self._blocks = convolutions & {
            "/".join(parts[:end])
            for parts in (name.split("/") for name, _ in named)
            for end in range(len(parts) - 1)
            if "/".join(parts[: end + 1]) not in own
        }
        self.convolutions, self._stacked = frozenset(convolutions - self._blocks), frozenset(stacked)
        trees = every.values() if isinstance(every, Mapping) and "params" in every else [every]
        self._shapes: dict[str, list[tuple[int, ...]]] = {}  # By path, those of all below it too.
        for name, leaf in (named for tree in trees for named in named_leaves(tree)):
            parts = name.split("/")[:-1]
            for end in range(len(parts) + 1):
                self._shapes.setdefault("/".join(parts[:end]), []).append(np.shape(leaf))

    def see(self, state: Any, images: Any) -> Calls:
        """What one run gives."""
        return self._see(self, state, images)

    def chosen(self, layers: Iterable[str] | None) -> dict[str, str]:
        """Paths by the names asked for; None for the convolutions."""
        if isinstance(layers, str):
            raise ValueError(f"layers must be a list of names, got the text {layers!r}.")
        names = [x for x in self.known if x in self.convolutions] if layers is None else list(layers)
        chosen = {name: name if name in self.known else _module(name) for name in names}
        for name, path in chosen.items():
            if path not in self.known:
                raise ValueError(f"Unknown layer {name!r}. Known: {', '.join(self.known)}.")
        if not chosen:
            raise ValueError(f"No layer to look at: no convolution among {', '.join(self.known)}.")
        return chosen

    def beside(self, calls: Calls) -> dict[str, str]:
        """What is no single layer: modules that hold others beside a kernel, and stacks in loops."""
        found = {path: "it holds other layers" for path in sorted(self._blocks)}
        # Layers of a stack that a loop runs through have a dimension more.
        return found | {path: calls.reasons[path] for path in sorted(self._stacked & calls.reasons.keys())}

    def normalises(self, path: str, module: Any, units: int) -> bool:
        """Whether a module is one of the framework's norms, or holds numbers a unit alone."""
        shapes = set(self._shapes.get(path, ()))
        return isinstance(module, self._norms) or (units,) in shapes and shapes <= {(units,), ()}

    def kernel(self, path: str, units: int) -> tuple[Any, int] | None:
        """The weights of the module itself, and the axis that counts its units."""
        leaves = dict(self._named)
        name = next((x for own in KERNELS if (x := f"{path}/{own}" if path else own) in leaves), None)
        if name is None or np.ndim(leaves[name]) < 2:
            return None
        leaf = leaves[name]
        axes = [self._axis]
        if np.ndim(leaf) == 4:
            beside = Tree({path: tuple(np.shape(leaf)) for path, leaf in self._named})
            verdict = judge(name, tuple(np.shape(leaf)), self._axis, beside)
            axes = [verdict.axis, *axes] if verdict.axis is not None else axes
        return next(((leaf, axis) for axis in axes if np.shape(leaf)[axis] == units), None)


def _one_a_unit(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a leaf is a scale or an offset as Haiku stores those of batch normalisation, ``(1, 1, 1, units)``."""
    return name.rpartition("/")[2] not in KERNELS and math.prod(shape) == max(shape)


def _module(name: str) -> str:
    """The module of a kernel that a layout names."""
    path, _, own = name.rpartition("/")
    return path if own in KERNELS else name


def picked(
    source: Source, calls: Calls, chosen: Mapping[str, str] | None, default: bool, normalised: bool
) -> tuple[dict[str, jax.Array], dict[str, str]]:
    """The chosen layers' arrays, and what is left out with the reason.

    Raises:
      ValueError: If a layer that was asked for by name has no array, or none has.
    """
    found, left_out = dict[str, jax.Array](), dict[str, str]()
    for name, path in ({name: name for name in calls.own} if chosen is None else chosen).items():
        if path in calls.own:
            found[name] = calls.normalised.get(path, calls.own[path]) if normalised else calls.own[path]
            continue
        reason = calls.reasons.get(path, source.absent)
        if not default:
            raise ValueError(f"{name!r} must be run once and give one array, but {reason}.")
        left_out[name] = reason
    if default:
        left_out |= source.beside(calls)
    if not found:
        reasons = [
            f"{name!r} must be run once and give one array, but {why}" for name, why in left_out.items()
        ]
        raise ValueError(f"No layer to look at: {'; '.join(reasons) or 'the network names none'}.")
    return found, left_out


def told(left_out: Mapping[str, str]) -> str:
    """A sentence on the layers that are left out."""
    reasons = ", ".join(f"{name!r} ({reason})" for name, reason in left_out.items())
    return (
        f"Layers left out, because a layer must be run once and give one array of its own: {reasons}. Name "
        "the layers to look at by layers=."
    )


def norms_of(framework: Any) -> tuple[type, ...]:
    """A framework's normalisations."""
    names = ("BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm")
    return tuple(getattr(framework, name) for name in names if hasattr(framework, name))


def nothing(output: Any) -> None:
    """Of a network's output."""
