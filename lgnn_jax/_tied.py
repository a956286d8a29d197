"""Groups of axes that are permuted together, and one order a group that suits the layers' grids."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lgnn_jax._arrange import arrange
from lgnn_jax._layout import Layer
from lgnn_jax._tree import named_leaves

UNREAD = "the network does not read it"


class Member(NamedTuple):
    """An axis of a leaf that holds the units of a group.

    Its length is ``before * units * after``: both are 1 unless the axis is a product, as the inputs of a dense
    layer are that reads a flattened map ``(height, width, channels)``, with ``before = height * width``.
    ``produces`` tells whether a convolution or a dense layer gives the units along this axis.
    """

    path: str
    axis: int
    before: int = 1
    after: int = 1
    produces: bool = False


class Tied(NamedTuple):
    """One group: so many units, and all axes that hold them."""

    units: int
    members: tuple[Member, ...]


class Kept(NamedTuple):
    """An axis of a leaf that keeps its order, and why."""

    path: str
    axis: int
    reason: str
    produces: bool = False


class Traced(NamedTuple):
    """What it takes to run the network again: to check that a reordered one computes the same."""

    run: Callable[[Any, Any], Any]
    inputs: tuple[Any, ...]
    structure: Any
    exact: bool = True


@dataclasses.dataclass(frozen=True)
class Ties:
    """Groups of axes that are permuted together, and axes that keep their order.

    :func:`ties` reads one off a network; :meth:`of` takes groups written by hand where that cannot.

    Args:
      groups: What may be permuted, each with its members in the order of the tree's leaves.
      kept: What may not, with the reason.
      shapes: The shape of every leaf by path.
      traced: The network, for the check of :func:`reorder`; None for groups written by hand.
    """

    groups: tuple[Tied, ...]
    kept: tuple[Kept, ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    traced: Traced | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, params: Any, groups: Iterable[Iterable[Sequence[Any]]]) -> Ties:
        """Ties written by hand, where a network cannot be traced.

        Args:
          params: The tree whose leaves they name.
          groups: Of each its members: ``(path, axis)``, or ``(path, axis, before)`` where the axis is a product
            in which that many positions lie before the units. The first is the layer that gives the units.

        Raises:
          ValueError: If a path or an axis does not exist, an axis does not hold the units, or is in two groups.

        Example:
          >>> import jax.numpy as jnp
          >>> from lgnn_jax import Ties
          >>> conv = {"kernel": jnp.zeros((3, 3, 3, 8)), "bias": jnp.zeros(8)}
          >>> params = {"conv": conv, "dense": {"kernel": jnp.zeros((4 * 4 * 8, 10))}}
          >>> members = ("conv/kernel", -1), ("conv/bias", 0), ("dense/kernel", 0, 16)
          >>> print(Ties.of(params, [members]).describe())
          8 units
            conv/kernel axis 3
            conv/bias axis 0
            dense/kernel axis 0 (16 x units)
        """
        shapes = {path: tuple(np.shape(leaf)) for path, leaf in named_leaves(params)}
        seen: set[tuple[str, int]] = set()
        found = []
        for group in groups:
            members, units = [], 0
            for path, axis, *rest in group:
                member, units = _by_hand(shapes, path, axis, rest, units)
                if member[:2] in seen:
                    raise ValueError(f"Axis {axis} of {path!r} is named twice. Name every axis once.")
                seen.add(member[:2])
                members.append(member)
            if not members:
                raise ValueError("A group of ties has one member or more, such as ('conv/kernel', -1).")
            found.append(Tied(units, tuple(members)))
        return cls(tuple(found), shapes=tuple(shapes.items()))

    def describe(self) -> str:
        """A readable table: every group with the layers that give its units first; then what keeps its order."""
        lines = []
        for group in self.groups:
            first = sorted(group.members, key=lambda member: not member.produces)
            lines += [f"{group.units} units", *(f"  {_member_text(member)}" for member in first)]
        by_leaf: dict[tuple[str, str], list[str]] = {}
        for row in self.kept:
            by_leaf.setdefault((row.path, row.reason), []).append(str(row.axis))
        for (path, reason), axes in by_leaf.items():
            lines.append(f"  {path} ax{'i' if len(axes) == 1 else 'e'}s {', '.join(axes)}: {reason}")
        if self.kept:
            lines.insert(len(lines) - len(by_leaf), "in their order")
        return "\n".join(lines)

    def find(self, path: str) -> str:
        """The whole path of the leaf that ``path`` names, which may lack what comes before it.

        Raises:
          ValueError: If it names none, or several.
        """
        known = [name for name, _ in self.shapes]
        if path in known:
            return path
        found = [name for name in known if name.endswith("/" + path)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{path!r} may be any of {', '.join(map(repr, found))}. Give the whole path of one."
            )
        # What is asked for may have the longer path.
        found = [name for name in known if name and path.endswith("/" + name)]
        if found:
            return max(found, key=len)
        near = difflib.get_close_matches(path, known, 3, 0.4) or known[:8]
        raise ValueError(
            f"{path!r} is no leaf of the network. Near it: {', '.join(map(repr, near)) or 'none at all'}."
        )

    def group_of(self, path: str, axis: int | None = None) -> int:
        """The position in ``groups`` of the one that a leaf's units form.

        Args:
          path: The leaf, as :meth:`find` takes it.
          axis: Its axis of units; None for the one along which it produces them or, if it produces none, the
            only one that is in a group.

        Raises:
          ValueError: If the units keep their order, which says why; if the leaf has no such axis, or if
            several groups could be meant.
        """
        path = self.find(path)
        ndim = len(dict(self.shapes)[path])
        if axis is not None and not -ndim <= axis < ndim:
            raise ValueError(f"{path!r} has {ndim} axes and so no axis {axis}.")
        held = [
            (at, member)
            for at, group in enumerate(self.groups)
            for member in group.members
            if member.path == path
        ]
        kept = [row for row in self.kept if row.path == path]
        if axis is not None:
            held = [(at, member) for at, member in held if member.axis == axis % ndim]
            kept = [row for row in kept if row.axis == axis % ndim]
        elif any(member.produces for _, member in held) or any(row.produces for row in kept):
            held = [(at, member) for at, member in held if member.produces]
            kept = [row for row in kept if row.produces]
        if len({at for at, _ in held}) > 1:
            axes = ", ".join(str(member.axis) for _, member in held)
            raise ValueError(
                f"{path!r} holds units of several groups, along its axes {axes}. Say which, such as "
                f"({path!r}, {held[0][1].axis})."
            )
        if not held:
            reasons = "; ".join(f"axis {row.axis}: {row.reason}" for row in kept)
            raise ValueError(f"{path!r} keeps its order ({reasons or 'it is in no group'}). Leave it out.")
        return held[0][0]

    def orders(
        self,
        similarities: Mapping[str, Any],
        layers: Sequence[Layer],
        *,
        start: Mapping[str, Any] | None = None,
        key: jax.Array | None = None,
    ) -> dict[str, np.ndarray]:
        """One order a group that puts similar units near each other on the layers' grid.

        Args:
          similarities: Of layers by path, each ``(units, units)``. A group's is the mean of those given, of two
            units over the layers in which both are alive.
          layers: The layout, such as ``ConvLayout().layers(params)``. Paths may lack what comes before them in
            the traced tree (``params/``).
          start: Orders to begin with by path, as :func:`lgnn_jax.arrange` takes one.
          key: For :func:`lgnn_jax.arrange`; folded with the group's position.

        Returns:
          By path, as ``layers`` has it, the order of every layer whose group has a similarity. Those that keep
          their order are left out.

        Raises:
          ValueError: If a similarity is of no layer or does not fit, or layers of one group are on different
            grids.

        Example:
          >>> import jax.numpy as jnp
          >>> from lgnn_jax import ConvLayout, Ties, reorder, topography
          >>> params = {"conv": {"kernel": jnp.arange(36.0).reshape(3, 3, 1, 4) % 7, "bias": jnp.zeros(4)}}
          >>> tied = Ties.of(params, [[("conv/kernel", -1), ("conv/bias", 0)]])
          >>> similarities = {"conv/kernel": topography.cosines(params["conv"]["kernel"])}
          >>> orders = tied.orders(similarities, ConvLayout().layers(params))
          >>> sorted(orders["conv/kernel"].tolist())
          [0, 1, 2, 3]
          >>> params = reorder(params, tied, orders)
        """
        if not isinstance(layers, (tuple, list)):
            raise TypeError(
                f"layers must be a tuple of Layers, such as ConvLayout().layers(params), got {layers!r}."
            )
        of_group: dict[int, list[Layer]] = {}
        whole = {self.find(layer.path): layer for layer in layers}
        for path, layer in whole.items():
            at = self._laid_out(path, layer.axis)
            if at is not None:
                of_group.setdefault(at, []).append(layer)
        given = {self.find(path): np.asarray(value) for path, value in similarities.items()}
        starts = {self.find(path): np.asarray(value) for path, value in (start or {}).items()}
        for path in (*given, *starts):
            if path not in whole:
                raise ValueError(
                    f"{path!r} is none of the layers: {', '.join(map(repr, whole)) or 'there are none'}."
                )
        found: dict[str, np.ndarray] = {}
        for at, members in of_group.items():
            paths = [self.find(layer.path) for layer in members]
            mine = {path: given[path] for path in paths if path in given}
            if not mine:
                continue
            if len({layer.grid for layer in members}) > 1:
                grids = ", ".join(f"{layer.path!r} on {layer.grid}" for layer in members)
                raise ValueError(
                    f"Layers tied together need one grid, got {grids}. Give them the same shape."
                )
            units = self.groups[at].units
            for path, value in mine.items():
                if value.shape != (units, units):
                    raise ValueError(
                        f"The similarity of {path!r} must be ({units}, {units}), one row a unit, got {value.shape}."
                    )
            order = arrange(
                _mean(list(mine.values())),
                members[0].grid,
                start=next((starts[path] for path in paths if path in starts), None),
                key=None if key is None else jax.random.fold_in(key, at),
            )
            found.update((layer.path, np.asarray(order)) for layer in members)
        return {layer.path: found[layer.path] for layer in layers if layer.path in found}

    def _laid_out(self, path: str, axis: int) -> int | None:
        """The group of the units along a layer's axis, one position a unit."""
        axis %= len(dict(self.shapes)[path])
        for at, group in enumerate(self.groups):
            if any(
                member[:2] == (path, axis) and member.before == member.after == 1
                for member in group.members
            ):
                return at
        return None


def _member_text(member: Member) -> str:
    factors = (
        [str(member.before)] * (member.before > 1) + ["units"] + [str(member.after)] * (member.after > 1)
    )
    product = f" ({' x '.join(factors)})" if len(factors) > 1 else ""
    return f"{member.path} axis {member.axis}{product}"


def _by_hand(
    shapes: Mapping[str, tuple[int, ...]], path: str, axis: int, rest: Sequence[int], units: int
) -> tuple[Member, int]:
    """A member written by hand, and how many units its group has; ``units`` is 0 for the first."""
    if path not in shapes:
        near = difflib.get_close_matches(path, shapes, 3, 0.4) or list(shapes)[:8]
        raise ValueError(f"{path!r} is no leaf of the tree. Near it: {', '.join(map(repr, near))}.")
    shape = shapes[path]
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{path!r} of shape {shape} has no axis {axis}.")
    length, before = shape[axis], rest[0] if rest else 1
    first, units = not units, units or length
    if length % (before * units) or (not rest and length != units):
        raise ValueError(
            f"Axis {axis} of {path!r} has {length} positions, which do not hold {units} units with {before} before "
            "them. Where an axis is a product write (path, axis, before)."
        )
    return Member(path, axis % len(shape), before, length // before // units, first), units


def _mean(similarities: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of similarities; a unit that is dead in all of them, with 0 on the diagonal, stays so."""
    alive = [np.diagonal(each) > 0 for each in similarities]
    both = sum(np.outer(each, each).astype(int) for each in alive)
    return np.sum(similarities, axis=0) / np.maximum(both, 1)
