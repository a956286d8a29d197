"""Permutes the units of a network in everything that is shaped like its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lgnn_jax._tied import UNREAD, Member, Ties
from lgnn_jax._tree import named_leaves

_TOLERANCE, _ROUGH = 1e-5, 5e-2
Order = Any
Moves = dict[str, list[tuple[Member, int, Order]]]


def reorder(tree: Any, ties: Ties, orders: Mapping[Any, Any], *, check: bool = True) -> Any:
    """Permutes units in parameters, statistics, averages and optimizer state alike; the function stays the same.

    A leaf of ``tree`` is that leaf of the ties whose path its own ends with and whose shape it has. Of ties with
    a collection ``params`` a leaf may lack the collection: momentum is called ``opt_state/0/trace/conv/kernel``.
    Other leaves stay as they are. Every copy in ``tree`` is permuted alike: of a state of several networks give
    the part of one.

    Args:
      tree: Parameters, a whole training state or an optimizer's state alone; arrays of JAX or NumPy, in boxes
        of Flax's or not.
      ties: What belongs together: of :func:`ties`, or by hand.
      orders: By path of a leaf an order of its units, integers ``(units,)``: ``order[p]`` is the unit that comes
        to position p. Any leaf of a group names it; the pair ``(path, axis)`` where the path alone may mean
        several.
      check: Whether to run the network on random inputs before and after. It is run if ``tree`` holds all leaves
        that were traced, on those with the shortest path; not within ``jit``, and not with ties by hand.

    Returns:
      The tree, permuted.

    Raises:
      ValueError: If an order is no permutation of its units, is of a path that is not known or keeps its order, or
        contradicts another of its group; if a leaf has the name of one to be permuted and not its shape, as in
        Adafactor's state, may be two, or is in a module with permuted units and was not traced; if the outputs
        change by more than 1e-5 of the largest (5e-2 where the network computes in 16 bits). Nothing is permuted
        then.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Ties, reorder
      >>> params = {"conv": {"kernel": jnp.zeros((3, 3, 1, 3)), "bias": jnp.arange(3)}}
      >>> by_hand = Ties.of(params, [[("conv/kernel", -1), ("conv/bias", 0)]])
      >>> reorder(params, by_hand, {"conv/kernel": [2, 0, 1]})["conv"]["bias"].tolist()
      [2, 0, 1]
    """
    if not isinstance(ties, Ties):
        raise TypeError(f"Write reorder(tree, ties, orders); the ties are {type(ties).__name__}.")
    chosen = _by_group(ties, orders)
    moves: Moves = {}
    for at, order in chosen.items():
        for member in ties.groups[at].members:
            moves.setdefault(member.path, []).append((member, ties.groups[at].units, order))
    named = named_leaves(tree)
    leaves, structure = jax.tree.flatten(tree)
    names = _Names(ties, moves)
    matched = [names.find(name, leaf) for name, leaf in named]
    names.check_whole(named)
    for at in chosen:
        if not any(member.path in matched for member in ties.groups[at].members):
            raise ValueError(
                f"The tree has none of the leaves of {ties.groups[at].members[0].path!r} and what is tied to it, "
                "so nothing would be permuted. Give the tree that the ties were traced from, or one that holds it."
            )

    def permuted(leaves: Sequence[Any]) -> list[Any]:
        return [
            leaf if whole is None else _permuted(leaf, moves[whole])
            for leaf, whole in zip(leaves, matched, strict=True)
        ]

    new = permuted([leaf for _, leaf in named])
    traced = any(isinstance(x, jax.core.Tracer) for x in (*leaves, *chosen.values()))
    if check and chosen and not traced and ties.traced is not None:
        paths = [name for name, _ in named]
        if not _check(ties, paths, leaves, new):  # Zeros show nothing: a head may start as zeros.
            noisy = [_noisy(leaf) for leaf in leaves]
            _check(ties, paths, noisy, permuted(noisy))
    return jax.tree.unflatten(structure, new)


def _by_group(ties: Ties, orders: Mapping[Any, Any]) -> dict[int, Order]:
    """One order a group, by its position in ``ties.groups``."""
    if not isinstance(orders, Mapping):
        raise ValueError(f"orders must be a dict of orders by path, got {type(orders).__name__}.")
    chosen: dict[int, Order] = {}
    names: dict[int, Any] = {}
    for name, order in orders.items():
        path, axis = name if isinstance(name, tuple) and len(name) == 2 else (name, None)
        if not isinstance(path, str):
            raise ValueError(f"orders are named by a path or by (path, axis), got {name!r}.")
        at = ties.group_of(path, axis)
        order = _as_order(name, order, ties.groups[at].units)
        if at in chosen and not _same(chosen[at], order):
            raise ValueError(
                f"{names[at]!r} and {name!r} are tied together and have different orders. Give one of them."
            )
        chosen[at], names[at] = order, name
    return chosen


def _as_order(name: Any, order: Any, units: int) -> Order:
    shape = np.shape(order)
    if shape != (units,):
        raise ValueError(
            f"The order of {name!r} must have one integer for each of {units} units, got {shape}."
        )
    if isinstance(order, jax.core.Tracer):
        return order
    order = np.asarray(order)
    if not np.issubdtype(order.dtype, np.integer):
        raise ValueError(f"The order of {name!r} must be of integers, got {order.dtype}.")
    missing = np.setdiff1d(np.arange(units), order)
    if ((order < 0) | (order >= units)).any():
        outside = order[(order < 0) | (order >= units)][0]
        raise ValueError(
            f"The order of {name!r} must hold 0 to {units - 1}, each once; it has {outside}. Units count from 0."
        )
    if len(missing):
        raise ValueError(
            f"The order of {name!r} is no permutation of 0 to {units - 1}: it lacks {missing[0]} and has "
            f"{units - len(np.unique(order))} numbers too many."
        )
    return order


def _same(a: Order, b: Order) -> bool:
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return a is b
    return bool((a == b).all())


class _Names:
    """Which leaf of the ties a leaf of another tree is."""

    def __init__(self, ties: Ties, moves: Moves):
        self._moves = moves
        self._shapes = dict(ties.shapes)
        self._short = _short(self._shapes)
        self._unread = {row.path for row in ties.kept if row.reason == UNREAD}
        # By module the numbers of units that are permuted in it.
        self._modules: dict[str, set[int]] = {}
        for path, rows in moves.items():
            module = path.rpartition("/")[0]
            for name in {module, module.partition("/")[2]} if self._short else {module}:
                self._modules.setdefault(name, set()).update(units for _, units, _ in rows)
        for name in ("", "params"):
            self._modules.pop(name, None)

    def find(self, name: str, leaf: Any) -> str | None:
        """The path in the ties of a leaf to be permuted; None if it stays as it is."""
        shape, parts = tuple(np.shape(leaf)), name.split("/")
        if math.prod(shape) == 1 or not self._moves:  # A placeholder, a count.
            return None
        for start in range(len(parts)):  # The longest ending first.
            called = self._called(parts[start:])
            if called:
                whole = self._one_of(name, shape, called)
                if whole in self._unread:
                    self._check_alone(name, shape, parts, "is not read by the network as it was traced")
                return whole if whole in self._moves else None
        for stop in range(len(parts) - 1, 0, -1):
            for start in range(stop):
                self._check_shape(name, shape, self._called(parts[start:stop]))
        self._check_alone(name, shape, parts, "is not among the leaves that were traced")
        if len(shape) == 1 < len(self._shapes) and shape[0] in _totals(self._shapes):
            raise ValueError(
                f"{name!r} is as long as all parameters together, so it may be a state of optax.flatten, which "
                "cannot be reordered: start that optimizer anew on the reordered parameters."
            )
        return None

    def check_whole(self, named: Sequence[tuple[str, Any]]) -> None:
        """Raises ``ValueError`` for a leaf beside those that were traced with an axis as long as units that move.

        It is beside them in a container that has them all, as the layers of a deeper network have those of another.
        """
        paths = list(self._shapes)
        lengths = {units for rows in self._moves.values() for _, units, _ in rows}
        within = "params/" if self._short else ""
        for prefix in _prefixes([name for name, _ in named], paths):
            for name, leaf in named:
                beside = name.startswith(prefix + within) and name.removeprefix(prefix) not in self._shapes
                if beside and lengths & set(np.shape(leaf)) and math.prod(np.shape(leaf)) > 1:
                    raise ValueError(
                        f"{name!r} was not traced, is beside what was, and has an axis as long as units that are "
                        "to be permuted, so the ties may be those of another network. Trace the network that "
                        "has it, or take that leaf out."
                    )

    def _called(self, parts: Sequence[str]) -> list[str]:
        """The paths in the ties of what is called so, with or without its collection."""
        name = "/".join(parts)
        return [name] if name in self._shapes else self._short.get(name, [])

    def _one_of(self, name: str, shape: tuple[int, ...], called: list[str]) -> str | None:
        fitting = [whole for whole in called if self._shapes[whole] == shape]
        if not fitting:
            self._check_shape(name, shape, called)
            return None
        if len({_signature(self._moves.get(whole, ())) for whole in fitting}) > 1:
            raise ValueError(
                f"{name!r} may be any of {', '.join(map(repr, fitting))}, which are not permuted alike. Reorder "
                "that part of the tree by itself, under its whole path."
            )
        return fitting[0]

    def _check_shape(self, name: str, shape: tuple[int, ...], called: list[str]) -> None:
        for whole in called:
            if whole in self._moves:
                raise ValueError(
                    f"{name!r} of shape {shape} belongs to {whole!r} of shape {self._shapes[whole]}, which is to "
                    "be permuted, so it is not known which of its axes hold the units. Factored statistics "
                    "(Adafactor, Shampoo) cannot be reordered: start the optimizer anew on the reordered "
                    "parameters. Of a stack of states reorder one at a time."
                )

    def _check_alone(self, name: str, shape: tuple[int, ...], parts: Sequence[str], what: str) -> None:
        """Raises ``ValueError`` for a leaf without ties that is in a module with units as many as it is long."""
        for start in range(len(parts)):
            for stop in range(start + 1, len(parts)):
                module = "/".join(parts[start:stop])
                if self._modules.get(module, set()) & set(shape):
                    raise ValueError(
                        f"{name!r} {what}, but is in {module!r}, whose units are to be permuted, and has an axis "
                        "as long. Trace the network in evaluation mode with all its variables, such as ties(apply, "
                        '{"params": params, "batch_stats": batch_stats}, images), or take that leaf out.'
                    )


def _short(shapes: Mapping[str, Any]) -> dict[str, list[str]]:
    """Paths by what they are called without their collection, if there are collections."""
    found: dict[str, list[str]] = {}
    if any(path.startswith("params/") for path in shapes):
        for path in shapes:
            found.setdefault(path.partition("/")[2], []).append(path)
    found.pop("", None)
    return found


def _totals(shapes: Mapping[str, Any]) -> set[int]:
    """The number of all values, and of those of the collection ``params``."""
    sizes = {path: math.prod(shape) for path, shape in shapes.items()}
    of_params = sum(size for path, size in sizes.items() if path.startswith("params/"))
    return {sum(sizes.values()), of_params}


def _signature(moves: Sequence[tuple[Member, int, Order]]) -> tuple[Any, ...]:
    return tuple((member[1:4], id(order)) for member, _, order in moves)


def _permuted(leaf: Any, moves: Sequence[tuple[Member, int, Order]]) -> Any:
    """A leaf with every order applied along its axis; of NumPy if it was."""
    traced = any(isinstance(x, jax.core.Tracer) for x in (leaf, *(order for _, _, order in moves)))
    if traced or not getattr(leaf, "is_fully_addressable", True):
        return _taken(leaf, moves, jnp)
    new = _taken(np.asarray(leaf), moves, np)  # Compiles nothing, where JAX would for every shape.
    if not isinstance(leaf, jax.Array):
        return new
    return jax.device_put(new, leaf.sharding) if leaf.committed else jnp.asarray(new)


def _taken(leaf: Any, moves: Sequence[tuple[Member, int, Order]], xp: Any) -> Any:
    for member, units, order in moves:
        before, after = xp.arange(member.before), xp.arange(member.after)
        places = (before[:, None, None] * units + xp.asarray(order)[None, :, None]) * member.after
        leaf = xp.take(leaf, (places + after[None, None, :]).ravel(), axis=member.axis)
    return leaf


def _noisy(leaf: Any) -> Any:
    """A leaf with something added to every float."""
    if not jnp.issubdtype(getattr(leaf, "dtype", np.int32), jnp.floating):
        return leaf
    noise = np.random.default_rng(0).random(np.shape(leaf)) / 10
    return leaf + jnp.asarray(noise, leaf.dtype)


def _check(ties: Ties, names: Sequence[str], old: Sequence[Any], new: Sequence[Any]) -> bool:
    """Raises ``ValueError`` if the network computes something else from the new leaves.

    Returns:
      Whether that shows anything: False where all outputs are zero.
    """
    places = _copy(names, [path for path, _ in ties.shapes])
    if places is None:
        return True
    traced = ties.traced
    assert traced is not None
    inputs = _drawn(traced.inputs)
    with jax.default_matmul_precision("highest"):
        before, after = (
            traced.run(jax.tree.unflatten(traced.structure, [leaves[at] for at in places]), inputs)
            for leaves in (old, new)
        )
    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    if not all(bool(jnp.isfinite(x).all()) for x, _ in pairs if jnp.issubdtype(x.dtype, jnp.inexact)):
        raise ValueError(
            "The network's outputs on random inputs are not finite, so the check cannot compare them. Nothing was "
            "reordered. Give ties() inputs of integers as arrays, or skip the check with check=False."
        )
    change = max((_change(*pair) for pair in pairs), default=0.0)
    if not change <= (_TOLERANCE if traced.exact else _ROUGH):
        raise ValueError(
            f"The reordered network does not compute the same: on random inputs its outputs change by {change:.1e} "
            "of the largest. Nothing was reordered. Its ties may have been traced in another mode: trace them "
            "again with the apply that is used, or leave out the layers that differ."
        )
    return any(bool((x != 0).any()) for x, _ in pairs if jnp.issubdtype(x.dtype, jnp.number))


def _copy(names: Sequence[str], paths: Sequence[str]) -> list[int] | None:
    """The positions of all leaves that were traced, below the shortest path that has them all."""
    whole = _prefixes(names, paths)
    if not whole:
        return None
    found = whole[min(whole, key=lambda prefix: prefix.count("/"))]
    return [found[path] for path in paths]


def _prefixes(names: Sequence[str], paths: Sequence[str]) -> dict[str, dict[str, int]]:
    """Where all leaves that were traced are: by what comes before their paths, their positions."""
    by_prefix: dict[str, dict[str, int]] = {}
    for path in paths:
        for at, name in enumerate(names):
            if name == path or name.endswith("/" + path):
                by_prefix.setdefault(name.removesuffix(path), {})[path] = at
    return {prefix: found for prefix, found in by_prefix.items() if len(found) == len(paths)}


def _drawn(inputs: Any) -> Any:
    """Values for inputs of which the shapes alone are known."""
    generator = np.random.default_rng(0)

    def draw(x: Any) -> Any:
        if not isinstance(x, jax.ShapeDtypeStruct):
            return x
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), x.shape) if x.shape else jax.random.key(0)
        if jnp.issubdtype(x.dtype, jnp.inexact):
            return jnp.asarray(generator.normal(size=x.shape), x.dtype)
        return jnp.asarray(generator.integers(0, 2, x.shape), x.dtype)

    return jax.tree.map(draw, inputs)


def _change(before: Any, after: Any) -> float:
    """The largest difference, as a part of the largest output."""
    if not jnp.issubdtype(before.dtype, jnp.inexact):
        return float((np.asarray(before) != np.asarray(after)).any())
    before, after = (
        np.asarray(x, np.complex128 if jnp.iscomplexobj(x) else np.float64) for x in (before, after)
    )
    if before.size == 0:
        return 0.0
    difference = np.abs(after - before).max()
    return float(difference / np.abs(before).max()) if difference else 0.0
