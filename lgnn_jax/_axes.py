"""Axes of arrays as products of atoms, and which atoms must be permuted together.

An atom is a run of positions that may be permuted as one. An axis is a tuple of atoms, the slowest first: a
flattened map ``(height, width, channels)`` is one axis of three atoms, an axis of length 1 has none. Atoms that
must be permuted alike are in one class; a class that must keep its order has a reason.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


@dataclasses.dataclass(eq=False, slots=True)
class Atom:
    """``size`` positions; ``constant`` where what is stored is the same at all of them.

    Whatever is the same along an axis is tied to nothing by it. ``leaf`` is the leaf and its axis that an atom
    began as.
    """

    size: int
    constant: bool = False
    leaf: tuple[str, int] | None = None
    parent: Atom | None = None
    parts: tuple[Atom, ...] = ()
    reason: str = ""


Axis = tuple[Atom, ...]


class Run(NamedTuple):
    """An atom's class within a leaf's axis of ``before * class.size * after`` positions."""

    atom: Atom
    before: int
    after: int


def fresh(size: int, leaf: tuple[str, int] | None = None, reason: str = "") -> Axis:
    """An axis of its own; with a reason it keeps its order."""
    return () if size == 1 else (Atom(size, leaf=leaf, reason=reason),)


def constant(size: int) -> Axis:
    """An axis along which nothing varies."""
    return () if size == 1 else (Atom(size, constant=True),)


def resolved(axis: Axis) -> Axis:
    """The axis in atoms that are not split. They are those it was made of, not their classes."""
    return tuple(_resolved(axis))


def _resolved(axis: Axis) -> Iterator[Atom]:
    for atom in axis:
        parts = atom.parts or _root(atom).parts
        if not parts:
            yield atom
            continue
        if not atom.parts:  # Its class was split: it is split alike, and keeps its leaf.
            _divide(atom, [part.size for part in parts])
            for own, other in zip(atom.parts, parts, strict=True):
                own.parent = other
        yield from _resolved(atom.parts)


def _root(atom: Atom) -> Atom:
    """What stands for the atom's class."""
    while atom.parent is not None:
        if atom.parent.parent is not None:
            atom.parent = atom.parent.parent
        atom = atom.parent
    return atom


def _divide(atom: Atom, sizes: Sequence[int]) -> None:
    atom.parts = tuple(Atom(size, atom.constant, atom.leaf, reason=atom.reason) for size in sizes)


def split(atom: Atom, first: int) -> Axis:
    """An unsplit atom's two parts, of ``first`` and of ``size / first`` positions, and so of all its class."""
    if atom.constant:
        return constant(first) + constant(atom.size // first)
    _divide(_root(atom), [first, atom.size // first])
    return resolved((atom,))


def keep(axes: Iterable[Axis], reason: str) -> None:
    """The axes keep their order. The first reason counts."""
    for axis in axes:
        for atom in resolved(axis):
            if not atom.constant:
                _root(atom).reason = _root(atom).reason or reason


def tie(axes: Sequence[Axis], reason: str) -> Axis:
    """One axis for several of one length that are permuted alike.

    Args:
      axes: The axes.
      reason: Why they keep their order if their atoms do not fit.
    """
    tied, *others = sorted(axes, key=lambda axis: all(atom.constant for atom in axis))
    for axis in others:
        tied = _tie(tied, axis, reason)
    return tied


def _tie(first: Axis, second: Axis, reason: str) -> Axis:
    left, right = (list(_merged(resolved(axis)))[::-1] for axis in (first, second))
    tied = list[Atom]()
    while left and right:
        a, b = left.pop(), right.pop()
        size = math.gcd(a.size, b.size)
        if size != min(a.size, b.size):
            keep((first, second), reason)
            return fresh(math.prod(atom.size for atom in first), reason=reason)
        if a.size != b.size:  # The larger is split, and with it may be what is still to come.
            parts = [split(atom, size) if atom.size > size else (atom,) for atom in (a, b)]
            left, right = (
                list(resolved((*part, *rest[::-1])))[::-1]
                for part, rest in zip(parts, (left, right), strict=True)
            )
            continue
        if not a.constant and not b.constant:
            _join(a, b)
        tied.append(b if a.constant else a)
    return tuple(tied)


def _join(a: Atom, b: Atom) -> None:
    a, b = _root(a), _root(b)
    if a is not b:
        a.reason = a.reason or b.reason
        b.parent = a


def _merged(axis: Axis) -> Iterator[Atom]:
    """The axis with neighbouring constant atoms as one."""
    run = 1
    for atom in axis:
        if atom.constant:
            run *= atom.size
            continue
        yield from constant(run)
        yield atom
        run = 1
    yield from constant(run)


def reshaped(axes: Sequence[Axis], shape: Sequence[int], reason: str) -> list[Axis]:
    """The axes of a reshaped array; atoms are split where they must, or keep their order where that fails."""
    stack = [atom for axis in axes for atom in resolved(axis)][::-1]
    found: list[Axis] = []
    for length in shape:
        axis, left = list[Atom](), length
        while left > 1:
            atom = _root_parts(stack)
            size = math.gcd(atom.size, left)
            if size < atom.size and size != left:
                keep(axes, reason)
                return [fresh(length, reason=reason) for length in shape]
            if size < atom.size:
                first, rest = split(atom, size)
                stack.append(rest)
                atom = first
            axis.append(atom)
            left //= size
        found.append(tuple(axis))
    return found


def _root_parts(stack: list[Atom]) -> Atom:
    """The next unsplit atom; another's split may have split it."""
    atom = stack.pop()
    stack.extend(resolved((atom,))[::-1])
    return stack.pop()


def runs(axis: Axis) -> list[Run]:
    """The classes along a leaf's axis, with how many positions lie before and after each."""
    atoms = resolved(axis)
    sizes = [atom.size for atom in atoms]
    return [
        Run(_root(atom), math.prod(sizes[:at]), math.prod(sizes[at + 1 :])) for at, atom in enumerate(atoms)
    ]
