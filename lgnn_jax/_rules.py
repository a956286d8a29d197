"""What becomes of the axes of arrays in one operation: a rule for every operation that is followed.

Every rule keeps one promise: permute the operands along their axes, all atoms of a class alike and those with a
reason not at all, and the results are permuted along theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lgnn_jax._axes import Axis, constant, fresh, keep, reshaped, tie


class Value(NamedTuple):
    """The axes of one array, and the leaves it was computed from; None if from the inputs too."""

    axes: tuple[Axis, ...]
    leaves: frozenset[str] | None = frozenset()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(atom.size for atom in axis) for axis in self.axes)


Values = Sequence[Value]


class Call(NamedTuple):
    """One operation."""

    program: Any
    name: str
    params: dict[str, Any]
    operands: Values
    shapes: Sequence[tuple[int, ...]]

    def unknown(self) -> list[list[Axis]]:
        reason = f"reaches {self.name!r}, which is not followed"
        for operand in self.operands:
            keep(operand.axes, reason)
        return [
            [fresh(length, reason=f"comes from {self.name!r}") for length in shape] for shape in self.shapes
        ]

    def tie(self, *axes: Axis) -> Axis:
        return tie(axes, f"{self.name!r} joins axes that are made up differently")

    def kept(self, axis: Axis, length: int, reason: str) -> Axis:
        """``axis`` keeps its order, and so does what becomes of it."""
        keep([axis], reason)
        return fresh(length, reason=reason)


Results = list[list[Axis]] | None


def union(operands: Values) -> frozenset[str] | None:
    leaves = frozenset[str]()
    for operand in operands:
        if operand.leaves is None:
            return None
        leaves |= operand.leaves
    return leaves


def _elementwise(call: Call) -> Results:
    found = []
    for shape in call.shapes:
        axes = []
        for at, length in enumerate(shape):
            parts = [
                operand.axes[at]
                for operand in call.operands
                if len(operand.axes) == len(shape) and operand.shape[at] == length
            ]
            axes.append(call.tie(*parts) if parts else constant(length))
        found.append(axes)
    if any(len(operand.axes) not in (0, len(call.shapes[0])) for operand in call.operands):
        return None
    return found


def _each(call: Call) -> Results:
    """Every operand becomes a result as it is."""
    return [list(operand.axes) for operand in call.operands[: len(call.shapes)]]


def _broadcast(call: Call) -> Results:
    operand, shape = call.operands[0], call.shapes[0]
    axes = [constant(length) for length in shape]
    for at, to in enumerate(call.params["broadcast_dimensions"]):
        if operand.shape[at] == shape[to]:
            axes[to] = operand.axes[at]
    return [axes]


def _reshape(call: Call) -> Results:
    if call.params.get("dimensions") is not None:
        return None
    return [reshaped(call.operands[0].axes, call.shapes[0], "a reshape cuts across it")]


def _squeeze(call: Call) -> Results:
    operand = call.operands[0]
    gone = {at % len(operand.axes) for at in call.params["dimensions"]}
    return [[axis for at, axis in enumerate(operand.axes) if at not in gone]]


def _expand(call: Call) -> Results:
    axes, shape = list(call.operands[0].axes), call.shapes[0]
    new = {at % len(shape) for at in call.params["dimensions"]}
    rest = iter(axes)
    return [[() if at in new else next(rest) for at in range(len(shape))]]


def _transpose(call: Call) -> Results:
    return [[call.operands[0].axes[at] for at in call.params["permutation"]]]


def _reduce(call: Call) -> Results:
    gone = set(call.params["axes"])
    return [[axis for at, axis in enumerate(call.operands[0].axes) if at not in gone]]


def _index_of(call: Call) -> Results:
    for at in call.params["axes"]:
        keep([call.operands[0].axes[at]], f"{call.name!r} gives positions along it")
    return _reduce(call)


def _along_one(parameter: str, words: str) -> Callable[[Call], Results]:
    """All operands have one shape; those in ``parameter`` keep their order, the others are tied."""

    def rule(call: Call) -> Results:
        along = call.params[parameter]
        along = set(along) if isinstance(along, (tuple, list)) else {along}
        shape = call.operands[0].shape
        axes = []
        for at, length in enumerate(shape):
            axis = call.tie(*(operand.axes[at] for operand in call.operands))
            axes.append(call.kept(axis, length, words.format(call.name)) if at in along else axis)
        if any(result != shape for result in call.shapes):
            return None
        return [axes for _ in call.shapes]

    return rule


def _top_k(call: Call) -> Results:
    axes = list(call.operands[0].axes)
    along = call.params.get("axis", -1) % len(axes)
    axes[along] = call.kept(axes[along], call.shapes[0][along], "'top_k' sorts it")
    return [axes for _ in call.shapes]


def _window(call: Call) -> Results:
    params, found = call.params, []
    if len(call.operands) > len(call.shapes) + ("select_and_gather" in call.name):
        return None
    for at, length in enumerate(call.shapes[0]):
        axis = call.tie(*(operand.axes[at] for operand in call.operands))
        still = (
            params["window_dimensions"][at] == params["window_strides"][at] == 1
            and tuple(params["padding"][at]) == (0, 0)
            and params.get("base_dilation", (1,) * (at + 1))[at] == 1
        )
        found.append(axis if still else call.kept(axis, length, "a window slides along it"))
    return [found for _ in call.shapes]


def _pad(call: Call) -> Results:
    axes = []
    for axis, length, config in zip(
        call.operands[0].axes, call.shapes[0], call.params["padding_config"], strict=True
    ):
        still = tuple(int(number) for number in config) == (0, 0, 0)
        axes.append(axis if still else call.kept(axis, length, "it is padded"))
    return [axes]


def _slice(call: Call) -> Results:
    operand = call.operands[0]
    strides = call.params.get("strides") or (1,) * len(operand.axes)
    return [_cut(call, operand, call.shapes[0], strides)]


def _cut(call: Call, operand: Value, shape: Sequence[int], strides: Sequence[int]) -> list[Axis]:
    axes = []
    for axis, old, new, stride in zip(operand.axes, operand.shape, shape, strides, strict=True):
        if old == new and (stride == 1 or old == 1):
            axes.append(axis)
        elif all(atom.constant for atom in axis):
            axes.append(constant(new))
        else:
            axes.append(call.kept(axis, new, "a part of it is cut out"))
    return axes


def _dynamic_slice(call: Call) -> Results:
    operand = call.operands[0]
    return [_cut(call, operand, call.shapes[0], (1,) * len(operand.axes))]


def _update_slice(call: Call) -> Results:
    operand, update = call.operands[:2]
    axes = []
    for at, (axis, other) in enumerate(zip(operand.axes, update.axes, strict=True)):
        if operand.shape[at] == update.shape[at]:
            axes.append(call.tie(axis, other))
        else:
            keep([axis, other], "a part of it is written")
            axes.append(fresh(operand.shape[at], reason="a part of it is written"))
    return [axes]


def _concatenate(call: Call) -> Results:
    along, shape = call.params["dimension"], call.shapes[0]
    axes = []
    for at, length in enumerate(shape):
        parts = [operand.axes[at] for operand in call.operands]
        if at != along or len(parts) == 1:
            axes.append(call.tie(*parts))
        else:
            keep(parts, "arrays are concatenated along it")
            axes.append(fresh(length, reason="arrays are concatenated along it"))
    return [axes]


def _stack(call: Call) -> Results:
    along = call.params["axis"] % len(call.shapes[0])
    axes = [call.tie(*parts) for parts in zip(*(operand.axes for operand in call.operands), strict=True)]
    axes.insert(along, fresh(len(call.operands), reason="arrays are stacked along it"))
    return [axes]


def _split(call: Call) -> Results:
    operand = call.operands[0]
    return [_cut(call, operand, shape, (1,) * len(shape)) for shape in call.shapes]


def _unstack(call: Call) -> Results:
    axes = list(call.operands[0].axes)
    keep([axes.pop(call.params["axis"])], "a part of it is cut out")
    return [axes for _ in call.shapes]


def _iota(call: Call) -> Results:
    along = call.params["dimension"]
    return [
        [
            fresh(length, reason="it is counted along") if at == along else constant(length)
            for at, length in enumerate(call.shapes[0])
        ]
    ]


def _gather(call: Call) -> Results:
    operand, indices = call.operands
    numbers, sizes = call.params["dimension_numbers"], call.params["slice_sizes"]
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    dropped = {*numbers.collapsed_slice_dims, *batching}
    inside = []
    for at, (axis, length) in enumerate(zip(operand.axes, operand.shape, strict=True)):
        if at in dropped:
            keep([axis], "it is looked up along it")
        elif sizes[at] == length:
            inside.append(axis)
        else:
            inside.append(call.kept(axis, sizes[at], "a part of it is cut out"))
    *outside, last = indices.axes
    keep([last], "'gather' reads positions along it")
    if batching:
        keep(outside, "'gather' reads positions along it")
    rest, offsets = iter(outside), iter(inside)
    found = [
        next(offsets) if at in numbers.offset_dims else next(rest) for at in range(len(call.shapes[0]))
    ]
    return [found]


def _dot(call: Call) -> Results:
    (left_sum, right_sum), (left_batch, right_batch) = call.params["dimension_numbers"]
    left, right = call.operands
    for a, b in zip(left_sum, right_sum, strict=True):
        call.tie(left.axes[a], right.axes[b])
    axes = [call.tie(left.axes[a], right.axes[b]) for a, b in zip(left_batch, right_batch, strict=True)]
    for operand, used in ((left, (*left_sum, *left_batch)), (right, (*right_sum, *right_batch))):
        free = [axis for at, axis in enumerate(operand.axes) if at not in used]
        axes += free
        if operand.leaves:
            call.program.produced.extend((axis, operand.leaves) for axis in free)
    return [axes]


def _conv(call: Call) -> Results:
    left, right = call.operands
    params, shape = call.params, call.shapes[0]
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if params["batch_group_count"] != 1:
        return None
    batch, features, *window = (left.axes[at] for at in numbers.lhs_spec)
    outputs, inputs, *kernel = (right.axes[at] for at in numbers.rhs_spec)
    channels, filters = left.shape[numbers.lhs_spec[1]], right.shape[numbers.rhs_spec[0]]
    if right.leaves:
        call.program.produced.append((outputs, right.leaves))
    if groups == 1:
        call.tie(features, inputs)
    elif groups == channels:
        outputs = call.tie(
            (*features, *fresh(filters // channels, reason="several filters of one depthwise channel")),
            outputs,
        )
    else:
        words = f"a convolution of {groups} groups runs along it"
        keep([features, inputs], words)
        outputs = call.kept(outputs, filters, words)
    axes: list[Axis] = [()] * len(shape)
    axes[numbers.out_spec[0]], axes[numbers.out_spec[1]] = batch, outputs
    for at, to in enumerate(numbers.out_spec[2:]):
        dilation, strides, padding = params["lhs_dilation"], params["window_strides"], params["padding"]
        still = right.shape[numbers.rhs_spec[2 + at]] == strides[at] == dilation[at] == 1 and tuple(
            padding[at]
        ) == (0, 0)
        words = "a window slides along it"
        keep([kernel[at]], "along a convolution's window")
        axes[to] = window[at] if still else call.kept(window[at], shape[to], words)
    return [axes]


def _inside(call: Call) -> Results:
    """A call of another jaxpr, as it is."""
    inner = next((call.params[name] for name in _INNER if name in call.params), None)
    if inner is None:
        return None
    if len((inner.jaxpr if hasattr(inner, "jaxpr") else inner).invars) != len(call.operands):
        return None
    return [list(value.axes) for value in call.program.run(inner, call.operands)]


_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _cond(call: Call) -> Results:
    branches = call.params["branches"]
    # What is chosen by the platform is one function in several forms; the last is for any platform.
    if call.params.get("branches_platforms") is not None:
        branches = branches[-1:]
    results = [call.program.run(branch, call.operands[1:]) for branch in branches]
    return [
        [call.tie(*axes) for axes in zip(*(value.axes for value in values), strict=True)]
        for values in zip(*results, strict=True)
    ]


def _carried(call: Call, values: Values) -> list[Value]:
    """What a loop will change: where it is the same along an axis now, it need not stay so."""
    leaves = union(call.operands)
    return [
        Value(
            tuple(sum((fresh(a.size) if a.constant else (a,) for a in axis), ()) for axis in value.axes),
            leaves,
        )
        for value in values
    ]


def _tie_all(call: Call, before: Values, after: Values) -> list[list[Axis]]:
    return [
        [call.tie(a, b) for a, b in zip(old.axes, new.axes, strict=True)]
        for old, new in zip(before, after, strict=True)
    ]


def _while(call: Call) -> Results:
    params = call.params
    tests, bodies = params["cond_nconsts"], params["body_nconsts"]
    carry = _carried(call, call.operands[tests + bodies :])
    call.program.run(params["cond_jaxpr"], [*call.operands[:tests], *carry])
    after = call.program.run(params["body_jaxpr"], [*call.operands[tests : tests + bodies], *carry])
    return _tie_all(call, carry, after)


def _scan(call: Call) -> Results:
    params = call.params
    if "ft_in" in params:  # Of JAX 0.12.
        consts, carries, _ = map(len, params["ft_in"].unpack())
    else:
        consts, carries = params["num_consts"], params["num_carry"]
    carry = _carried(call, call.operands[consts : consts + carries])
    slices = []
    for value in call.operands[consts + carries :]:
        keep(value.axes[:1], "a scan runs along it")
        slices.append(Value(value.axes[1:], value.leaves))
    after = call.program.run(params["jaxpr"], [*call.operands[:consts], *carry, *slices])
    ends = _tie_all(call, carry, after[:carries])
    stacked = [
        [fresh(params["length"], reason="a scan runs along it"), *value.axes] for value in after[carries:]
    ]
    return ends + stacked


_ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
convert_element_type copy copy_p cos cosh device_put_elementwise digamma div eq erf erf_inv erfc exp exp2 expm1
floor ge gt igamma igammac imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter
not or polygamma population_count pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n
shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta
""".split()
CALLS = """
checkpoint closed_call core_call custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr jit named_call pjit remat
remat2
""".split()
_AS_IT_IS = """
device_put layout_constraint mesh_cast optimization_barrier pvary reshard sharding_constraint
""".split()

RULES: dict[str, Callable[[Call], Results]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(CALLS, _inside),
    **dict.fromkeys(_AS_IT_IS, _each),
    **{f"reduce_{name}": _reduce for name in ("sum", "max", "min", "prod", "and", "or", "xor")},
    **dict.fromkeys(("argmax", "argmin"), _index_of),
    **{
        f"cum{name}": _along_one("axis", "{!r} runs along it")
        for name in ("sum", "prod", "max", "min", "logsumexp")
    },
    "rev": _along_one("dimensions", "{!r} turns it round"),
    "sort": _along_one("dimension", "{!r} sorts it"),
    "top_k": _top_k,
    **{f"reduce_window_{name}": _window for name in ("sum", "max", "min")},
    "select_and_gather_add": _window,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "transpose": _transpose,
    "pad": _pad,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _update_slice,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "split": _split,
    "iota": _iota,
    "gather": _gather,
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "cond": _cond,
    "while": _while,
    "scan": _scan,
}
