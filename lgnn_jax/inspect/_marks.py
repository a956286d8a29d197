"""What a network's modules take and give, wherever they run: within ``jit`` and ``remat`` too.

A trace of the network is made in which every module's call names its arrays (JAX's ``name`` primitive, that of
``checkpoint_name``). The trace is then evaluated one equation after another. ``jit`` and ``remat`` are opened where
names are within; an array that passes from one module to another is then the same object. In a loop, a branch or
``vmap`` there is no array of the whole batch, which is said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name

_OURS = "lgnn_jax.inspect:"
_OPENED = {"jit", "pjit", "remat", "remat2", "checkpoint", "closed_call", "core_call"}
# Of as many numbers as its input has, a normalisation computes none of these: they apply an activation function,
# or mix units.
_OTHER = {"abs", "clamp", "cos", "custom_jvp_call", "custom_vjp_call", "erf", "exp", "exp2", "log", "log1p"}
_OTHER |= {
    "logistic",
    "max",
    "min",
    "select_n",
    "sign",
    "sin",
    "tanh",
    "conv_general_dilated",
    "dot_general",
}


class _Mark(NamedTuple):
    """What the name of an array tells; it is all there is, for a compiled function may come from a cache."""

    path: str
    end: str  # "in" of a normalisation or "out" of any module.
    shape: list[int]  # As the module saw it; under vmap it is larger.
    gave: str  # The type of an output that is no array.


class Marks:
    """Names what modules give, and what those take that may be normalisations.

    Args:
      normalises: ``normalises(path, module, units)`` tells whether a module is a normalisation of so many
        units.
      axis: Where the first input of a module has its units.
    """

    def __init__(self, normalises: Callable[[str, Any, int], bool], axis: int = -1):
        self._normalises, self._axis = normalises, axis
        self._open = set[int]()
        self._kept: list[Any] = []  # An equation whose output is nowhere used would be dropped.

    def call(self, path: str, module: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The output of ``function(*args, **kwargs)``, a call of ``module``."""
        if id(module) in self._open:  # super().__call__().
            return function(*args, **kwargs)
        self._open.add(id(module))
        try:
            first: Any = args[0] if args else next(iter(kwargs.values()), None)
            if (
                _is_numbers(first)
                and first.ndim
                and self._normalises(path, module, first.shape[self._axis])
            ):
                marked = self._marked(first, _Mark(path, "in", list(first.shape), ""))
                args, kwargs = (
                    ((marked, *args[1:]), kwargs) if args else (args, {**kwargs, [*kwargs][0]: marked})
                )
            output = function(*args, **kwargs)
        finally:
            self._open.discard(id(module))
        if _is_numbers(output):
            return self._marked(output, _Mark(path, "out", list(output.shape), ""))
        leaves, tree = jax.tree.flatten(output)
        for index, leaf in enumerate(leaves):
            if _is_numbers(leaf):
                leaves[index] = self._marked(
                    leaf, _Mark(path, "out", list(leaf.shape), type(output).__name__)
                )
                return jax.tree.unflatten(tree, leaves)
        return output

    def _marked(self, array: Any, mark: _Mark) -> Any:
        self._kept.append(checkpoint_name(array, _OURS + json.dumps(mark)))
        return self._kept[-1]


class Seen:
    """What the calls of a network gave.

    Args:
      convolutions: Paths of convolutions.
      change: ``change(path, output)`` gives what is to take the place of an output.

    Attributes:
      calls: By path what every call gave: an array, or in words why there is none.
      readers: By path of a convolution the path of the normalisation that reads its output as it is, and
        the output of that one.
    """

    def __init__(self, convolutions: frozenset[str], change: Callable[[str, Any], Any] | None = None):
        self.calls: dict[str, list[Any]] = {}
        self.readers: dict[str, tuple[str, Any]] = {}
        self._convolutions, self._change = convolutions, change
        self._made: dict[int, tuple[str, Any]] = {}  # With the output, so that its id stays its own.
        self._reading: dict[str, tuple[str, Any]] = {}  # By normalisations that run.

    def reads(self, path: str) -> str | None:
        """The convolution whose output is what the normalisation at ``path`` reads now."""
        return self._reading.get(path, (None,))[0]

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The output of ``function(*args)``, whose modules' calls :class:`Marks` names."""
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        output = self._evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), output)

    def _evaluate(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

        def read(atom):
            return atom.val if hasattr(atom, "val") else values[atom]

        for equation in jaxpr.eqns:
            inputs, mark = [read(atom) for atom in equation.invars], _mark_of(equation)
            inner = _within(equation)
            if mark is not None:
                outputs = [self._met(mark, inputs[0])]
            elif equation.primitive.name in _OPENED and any(True for part in inner for _ in _marks(part)):
                body = inner[0]
                outputs = self._evaluate(_plain(body), getattr(body, "consts", ()), inputs)
            else:
                for part in inner:
                    for mark in _marks(part):
                        if mark.end == "out":
                            self._say(mark.path, f"it runs within {equation.primitive.name}")
                self._check_readers(equation)
                params = equation.primitive.get_bind_params(equation.params)
                functions, params = params if isinstance(params, tuple) else ((), params)  # Before JAX 0.8.
                with equation.ctx.manager:
                    found = equation.primitive.bind(*functions, *inputs, **params)
                outputs = found if equation.primitive.multiple_results else [found]
            values.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _met(self, mark: _Mark, value: Any) -> Any:
        """Takes note of a named array, and gives what takes its place."""
        if mark.end == "in":
            convolution = self._made.get(id(value), (None, None))[0]
            if convolution is not None:
                self._reading[mark.path] = convolution, value
            return value
        if list(value.shape) != mark.shape:
            self._say(mark.path, "it runs within vmap")
            return value
        # A normalisation may give its state beside its output.
        taken = self._reading.get(mark.path, (None, None))[1]
        normalised = taken is not None and taken.shape == value.shape
        if self._change is not None and (normalised or not mark.gave):
            value = self._change(mark.path, value)
        reading = self._reading.pop(mark.path, None)
        if reading is not None and normalised:
            self.readers.setdefault(reading[0], (mark.path, value))
        if mark.gave:
            self._say(mark.path, f"it was run once and gave {mark.gave}")
            return value
        self.calls.setdefault(mark.path, []).append(value)
        if mark.path in self._convolutions:
            self._made[id(value)] = mark.path, value
        return value

    def _say(self, path: str, reason: str) -> None:
        self.calls.setdefault(path, []).append(reason)

    def _check_readers(self, equation: Any) -> None:
        """What applies an activation function or a layer is no normalisation, whatever it holds."""
        for path, (_, taken) in list(self._reading.items()):
            if _does_more(equation, np.size(taken)):
                del self._reading[path]


def _is_numbers(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray)) and not jax.dtypes.issubdtype(
        x.dtype, jax.dtypes.extended
    )


def _mark_of(equation: Any) -> _Mark | None:
    name = equation.params.get("name")
    if equation.primitive.name != "name" or not name.startswith(_OURS):
        return None
    return _Mark(*json.loads(name.removeprefix(_OURS)))


def _plain(jaxpr: Any) -> Any:
    """A jaxpr without its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def _within(equation: Any) -> list[Any]:
    """The jaxprs that an equation holds."""
    parts = [
        part for x in equation.params.values() for part in (x if isinstance(x, (tuple, list)) else (x,))
    ]
    return [part for part in parts if hasattr(part, "eqns")]


def _marks(jaxpr: Any) -> Iterator[_Mark]:
    """All names of ours within a jaxpr."""
    for equation in _plain(jaxpr).eqns:
        mark = _mark_of(equation)
        if mark is not None:
            yield mark
        for part in _within(equation):
            yield from _marks(part)


def _does_more(equation: Any, size: int) -> bool:
    """Whether an equation gives so many numbers by what no normalisation does."""
    if equation.primitive.name in _OTHER and any(math.prod(x.aval.shape) == size for x in equation.outvars):
        return True
    return any(_does_more(inner, size) for part in _within(equation) for inner in _plain(part).eqns)
