"""Which axes of which parameters must be permuted together, so that a network computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax._axes import Atom, Axis, fresh, keep, runs, tie
from lgnn_jax._follow import Program, Value
from lgnn_jax._tied import UNREAD, Kept, Member, Tied, Ties, Traced
from lgnn_jax._tree import named_leaves


def ties(apply: Callable[..., Any], params: Any, *inputs: Any) -> Ties:
    """Reads off a network which axes of which of its parameters must be permuted together.

    The program that JAX traces is followed operation by operation. Convolutions and dense layers give units and
    sum over them; biases, batch normalisation, activations, residual sums, pooling and flattening tie axes
    together. What is not followed keeps its order: axes that reach the inputs or the results, that are
    concatenated, cut, padded, sorted, grouped by a reshape, meet a constant that varies, or reach an operation
    without a rule. Nothing is computed.

    Args:
      apply: ``apply(params, *inputs)``, in evaluation mode.
      params: All that is to be permuted, batch statistics included: arrays or ``jax.ShapeDtypeStruct`` in any
        tree, with or without boxes of Flax's.
      *inputs: What the network reads, likewise. Integers and keys that are arrays serve as they are when
        :func:`reorder` runs the network.

    Returns:
      The groups, and what keeps its order with the reason.

    Raises:
      ValueError: If a leaf is no array, or two have one name.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from lgnn_jax import ties
      >>> net = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, lambda x: x.reshape(len(x), -1), nn.Dense(3)])
      >>> images = jnp.zeros((2, 4, 4, 1))
      >>> print(ties(net.apply, net.init(jax.random.key(0), images), images).describe())
      8 units
        params/layers_0/kernel axis 3
        params/layers_0/bias axis 0
        params/layers_3/kernel axis 0 (16 x units)
      in their order
        params/layers_0/kernel axes 0, 1: along a convolution's window
        params/layers_3/bias axis 0: reaches the results
        params/layers_3/kernel axis 1: reaches the results
    """
    named = named_leaves(params)
    shapes = tuple((path, tuple(np.shape(leaf))) for path, leaf in named)
    _check_names([path for path, _ in named])
    leaves, structure = jax.tree.flatten(params)
    abstract = jax.tree.unflatten(structure, map(_abstract, leaves))
    closed = jax.make_jaxpr(apply)(abstract, *jax.tree.map(_abstract, inputs))
    run = jax.jit(lambda params, inputs: apply(params, *inputs))
    return _read(closed, shapes, inputs, Traced(run, jax.tree.map(_probe, inputs), structure))


def _read(closed: Any, shapes: Any, inputs: Any, traced: Traced) -> Ties:
    arguments = [
        Value(tuple(fresh(length, (path, at)) for at, length in enumerate(shape)), frozenset({path}))
        for path, shape in shapes
    ]
    for at, given in enumerate(inputs):
        for leaf in jax.tree.leaves(given):
            arguments.append(
                Value(tuple(fresh(n, reason=f"reaches input {at}") for n in np.shape(leaf)), None)
            )
    program = Program([], set(), set())
    for result in program.run(closed, arguments):
        keep(result.axes, "reaches the results")
    by_path = {path: value for (path, _), value in zip(shapes, arguments, strict=False)}
    for path, value in by_path.items():
        if path not in program.read:
            _tie_unread(path, value, by_path)
    axes = {
        (path, at): axis
        for (path, _), value in zip(shapes, arguments, strict=False)
        for at, axis in enumerate(value.axes)
    }
    _keep_split(axes.values())
    produced = _producers(program, axes)
    exact = all(jnp.finfo(dtype).bits >= 32 for dtype in program.dtypes)
    return _grouped(axes, produced, shapes, traced._replace(exact=exact))


def _tie_unread(path: str, value: Value, by_path: Mapping[str, Value]) -> None:
    """A leaf that no operation reads keeps its order, but Haiku's sums behind its moving averages."""
    module, _, own = path.rpartition("/")
    average = by_path.get(f"{module}/average")
    if own == "hidden" and average is not None and average.shape == value.shape:
        for axis, other in zip(value.axes, average.axes, strict=True):
            tie([other, axis], "")
    else:
        keep(value.axes, UNREAD)


def _keep_split(axes: Iterable[Axis]) -> None:
    """An axis split into several parts that could all be permuted keeps its order: its units are none of them."""
    found = [[run.atom for run in runs(axis)] for axis in axes]
    for atoms in found:
        atoms[:] = [atom for atom in atoms if not atom.reason]
    for atoms in found:
        if len(atoms) > 1:
            sizes = " x ".join(str(atom.size) for atom in atoms)
            keep(
                [tuple(atoms)], f"a reshape splits it into {sizes}, as group normalisation and attention do"
            )


def _producers(program: Program, axes: Mapping[tuple[str, int], Axis]) -> set[tuple[str, int]]:
    """The leaves' axes along which products and convolutions give units."""
    found = set()
    for axis, leaves in program.produced:
        exact = {
            atom.leaf
            for atom in axis
            if atom.leaf is not None and atom.leaf[0] in leaves and _ndim(axes, atom.leaf[0]) > 1
        }
        if not exact:  # A kernel that was computed, from a gain and a direction say.
            atoms = {id(run.atom) for run in runs(axis)}
            exact = {
                place
                for place, own in axes.items()
                if place[0] in leaves
                and _ndim(axes, place[0]) > 1
                and atoms & {id(run.atom) for run in runs(own)}
            }
        found |= exact
    return found


def _ndim(axes: Mapping[tuple[str, int], Axis], path: str) -> int:
    return sum(name == path for name, _ in axes)


def _grouped(axes: Any, produced: set[tuple[str, int]], shapes: Any, traced: Traced) -> Ties:
    groups: dict[int, tuple[Atom, list[Member]]] = {}
    kept = []
    for (path, at), axis in axes.items():
        found = runs(axis)
        free = [run for run in found if not run.atom.reason]
        for run in free:
            member = Member(path, at, run.before, run.after, (path, at) in produced)
            groups.setdefault(id(run.atom), (run.atom, []))[1].append(member)
        if found and not free:
            kept.append(Kept(path, at, found[0].atom.reason, (path, at) in produced))
    tied = tuple(Tied(atom.size, tuple(members)) for atom, members in groups.values())
    return Ties(tied, tuple(kept), shapes, traced)


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    try:
        dtype = x.dtype if hasattr(x, "dtype") else jnp.result_type(x)
    except TypeError:
        raise ValueError(
            f"ties follows arrays, got {x!r} among them. Leave out what is none, as eqx.partition(model, "
            "eqx.is_array) does for a model of Equinox, and put it back within apply."
        ) from None
    return jax.ShapeDtypeStruct(np.shape(x), dtype)


def _probe(x: Any) -> Any:
    """An input to run the network on again: a value where it may not be drawn at random."""
    floating = jax.dtypes.issubdtype(_abstract(x).dtype, np.inexact)
    return _abstract(x) if floating or isinstance(x, jax.ShapeDtypeStruct) else x


def _check_names(paths: Sequence[str]) -> None:
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(f"Several leaves are called {twice[0]!r}. Give them different names.")
