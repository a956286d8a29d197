"""Follows the axes of a traced program's arrays from its arguments to its results."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from lgnn_jax._axes import Axis, constant, fresh
from lgnn_jax._rules import CALLS, RULES, Call, Value, Values, union


class Program(NamedTuple):
    """Runs a program on axes.

    Rules note in ``produced`` the axes along which products and convolutions give units, with the leaves that
    these come from; ``read`` are the leaves that any operation reads, ``dtypes`` the floating ones of all results.
    """

    produced: list[tuple[Axis, frozenset[str]]]
    read: set[str]
    dtypes: set[Any]

    def run(self, closed: Any, arguments: Values) -> list[Value]:
        """The results of a closed jaxpr."""
        jaxpr = closed.jaxpr if hasattr(closed, "jaxpr") else closed
        constants = [of_constant(value) for value in getattr(closed, "consts", ())]
        values = dict(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Value:
            return of_constant(variable.val) if isinstance(variable, Literal) else values[variable]

        for equation in jaxpr.eqns:
            operands = [read(variable) for variable in equation.invars]
            results = self._apply(equation, operands)
            values.update(zip(equation.outvars, results, strict=True))
            dtypes = (getattr(variable.aval, "dtype", None) for variable in equation.outvars)
            self.dtypes.update(dtype for dtype in dtypes if dtype is not None and _is_floating(dtype))
        return [read(variable) for variable in jaxpr.outvars]

    def _apply(self, equation: Any, operands: Values) -> list[Value]:
        name = equation.primitive.name
        shapes = [getattr(variable.aval, "shape", ()) for variable in equation.outvars]
        leaves = union(operands)
        call = Call(self, name, equation.params, operands, shapes)
        rule = RULES.get(name)
        if name not in CALLS:
            self.read.update(*(operand.leaves or () for operand in operands))
        empty = any(0 in shape for shape in (*shapes, *(operand.shape for operand in operands)))
        results = None
        if rule is not None and not empty:
            try:
                results = rule(call)
            except (AttributeError, KeyError):  # Parameters that another JAX calls otherwise: not followed.
                results = None
        if results is None:
            results = call.unknown()
        return [Value(tuple(axes), leaves) for axes in results]


def of_constant(value: Any) -> Value:
    """A value known when the program is traced: where it varies along an axis, that keeps its order."""
    try:
        array = np.asarray(value)
        varies = [bool((array != array.take([0], axis)).any()) for axis in range(array.ndim)]
    except Exception:  # A key, or what has no values yet.
        array, varies = value, [True] * len(np.shape(value))
    reason = "a constant of the network varies along it"
    return Value(
        tuple(
            fresh(length, reason=reason) if vary else constant(length)
            for length, vary in zip(array.shape, varies, strict=True)
        )
    )


def _is_floating(dtype: Any) -> bool:
    return jax.dtypes.issubdtype(dtype, np.floating)
