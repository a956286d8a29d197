"""Which leaf gets which grid, what ``describe`` prints, and the words of every error about grids and layouts."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import (
    ConvLayout,
    Grid,
    HeatKernel,
    Layer,
    Window,
    decreasing_sigma,
    grid_shape,
    largest_sigma,
    lgnn,
    smooth,
)
from lgnn_jax._layout import lay_out
from tests.golden import Golden, message

# Calls into the library.


def conv_layout(table=None, **options):
    """Grid shapes by width and by path are two options."""
    by = {
        kind: {key: shape for key, shape in (table or {}).items() if isinstance(key, kind)}
        for kind in (int, str)
    }
    return ConvLayout(shapes=by[int], paths=by[str], **options)


def described(params, **options):
    """The printed table, the grids' shapes by leaf, and what was warned of."""
    layout = conv_layout(**options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers = lay_out(layout, params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lines = layout.describe(params).splitlines()
    return {
        "describe": lines,
        "grids": [None if layer is None else layer.grid.shape for layer in layers],
        "warnings": [str(warning.message) for warning in caught],
    }


def resolved(layout, params):
    return [None if layer is None else layer.grid.shape for layer in lay_out(layout, params)]


def layers(**shapes):
    """A layout of ready layers along the last axis."""
    return tuple(Layer(path, Grid(shape), -1) for path, shape in shapes.items())


def smoothed(shape, sigma=0.5, dtype=np.float32, grid_shape=(8, 8), axis=-1, window=Window()):
    return smooth(np.ones(shape, dtype), Grid(grid_shape), sigma, window, axis=axis)


# Trees.


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def vgg(widths=(3, 64, 64, 128, 256, 512)):
    """Names and shapes of linen's, with batch normalisation."""
    params = {}
    for index, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        params[f"conv_{index}"] = {"kernel": array(3, 3, a, b), "bias": array(b)}
        params[f"bn_{index}"] = {"scale": array(b), "bias": array(b)}
    return params | {"dense": {"kernel": array(widths[-1], 10), "bias": array(10)}}


def nnx():
    """The parameters of a model of NNX, whose leaves are in variables."""
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(3, 16, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.blocks = nnx.Dict(one=nnx.Conv(16, 24, (3, 3), use_bias=False, rngs=rngs))
            self.last = nnx.Linear(24, 10, rngs=rngs)

    return nnx.state(nnx.eval_shape(lambda: Model(nnx.Rngs(0))), nnx.Param)


class Variable(NamedTuple):
    value: jax.ShapeDtypeStruct


def oihw():
    return {
        "conv": {"weight": array(64, 3, 3, 3), "bias": array(64, 1, 1, 1)},
        "deep": {"weight": array(96, 64, 3, 3)},
        "linear": {"weight": array(10, 96)},
    }


def odd():
    """Leaves of every kind that get no grid, and of unusual shapes."""
    return {
        "prime": array(1, 1, 3, 7),
        "empty": array(3, 3, 3, 0),
        "bias of Conv3d": array(1, 1, 1, 8),
        "whole numbers": array(2, 2, 2, 4, dtype=jnp.int32),
        "stacked": array(4, 3, 3, 8, 16),
        "scalar": array(),
        "low": array(3, 3, 8, 16, dtype=jnp.bfloat16),
        "python": 1.5,
        "list": [array(3, 3, 2, 12), array(2, 2)],
    }


TABLES = {
    "by width": {64: (16, 4), 512: (64, 8)},
    "by path": {"conv_1/kernel": (4, 16), "dense/kernel": (5, 2), "bn_0/scale": (32, 2)},
    "both": {"conv_1/kernel": (4, 4, 4), 64: [64, 1], 128: (8, 4, 4)},
}
TREES = {
    "VGG": lambda: described(vgg()),
    "VGG, where": lambda: described(vgg(), where=lambda path, leaf: leaf.shape[-2] != 3 and "conv" in path),
    **{f"VGG, table {name}": lambda t=table: described(vgg(), table=t) for name, table in TABLES.items()},
    "VGG, table and where": lambda: described(
        vgg(), table={"dense/kernel": (5, 2)}, where=lambda path, leaf: "dense" in path
    ),
    "NNX": lambda: described(nnx()),
    "NNX, table": lambda: described(nnx(), table={"blocks/one/kernel": (2, 12), "first/kernel": (16,)}),
    "variables by attribute": lambda: described({"conv": {"kernel": Variable(array(3, 3, 3, 8))}}),
    "OIHW": lambda: described(oihw(), axis=0),
    "OIHW, table": lambda: described(oihw(), axis=0, table={64: (4, 16), "linear/weight": (2, 5)}),
    "OIHW taken for HWIO": lambda: described(oihw()),
    "HWIO taken for OIHW": lambda: described(vgg((3, 64, 128)), axis=0),
    "third axis": lambda: described({"conv": array(3, 3, 16, 8)}, axis=2),
    "odd leaves": lambda: described(odd()),
    "no leaves": lambda: described({}),
    "a single array": lambda: described(array(3, 3, 3, 12)),
    "resolved layout": lambda: resolved(ConvLayout(shapes={64: (2, 32)}), vgg((3, 64, 64))),
    "resolved tree": lambda: resolved(layers(b=(2, 3)), {"a": array(4), "b": array(5, 6)}),
    "most square": lambda: {
        str(units): grid_shape(units) for units in [*range(1, 33), 48, 96, 512, 640, 1000]
    },
    "largest sigma": lambda: {str(size): largest_sigma(Window(size)) for size in (3, 5, 7)},
    "largest sigma of a heat kernel": lambda: largest_sigma(HeatKernel()),
    "decreasing sigma": lambda: [decreasing_sigma(0.5, 10, 3)(step) for step in (0, 2, 3, 29, 30, 100)],
}
kept = Golden(__file__, "layout")


@pytest.mark.parametrize("case", TREES)
def test_grids_and_descriptions(case):
    kept.check(case, TREES[case]())


def test_no_tree_is_pinned_in_vain():
    kept.check_cases(TREES)


# Errors.


def laid_out(params=None, **options):
    return lambda: conv_layout(**options).layers(vgg((3, 64)) if params is None else params)


def resolving(layout, params=None):
    params = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)} if params is None else params
    return lambda: lgnn(layout=layout).init(params)


class Whole:
    def layers(self, tree):
        return {"a": None}


ERRORS = {
    **{
        f"grid shape {shape!r}": lambda s=shape: Grid(s)
        for shape in ((), (0, 4), (2.5,), "88", 8, (True, 2))
    },
    "grid axis": lambda: Layer("a", Grid((8, 8)), 1.5),
    "no such axis": lambda: smoothed((3, 64), axis=2),
    "other units": lambda: smoothed((3, 63)),
    "whole numbers": lambda: smoothed((3, 64), dtype=np.int32),
    **{f"units {units!r}": lambda u=units: grid_shape(u) for units in (0, -3, 2.5, True, None)},
    "table of another product": lambda: grid_shape(64, {64: (8, 9)}),
    "where": lambda: ConvLayout(where="conv"),
    "axis": lambda: ConvLayout(axis=0.5),
    **{
        f"table {table!r}": lambda t=table: ConvLayout(shapes=t)
        for table in (5, {2.5: (1, 2)}, {True: (1, 1)}, {None: (1, 1)}, {8: 8}, {8: (3, 3)}, {"a": (1,)})
    },
    "unknown path": laid_out(table={"conv_7/kernel": (4, 2), "a": (1,)}),
    "unknown path of nothing": laid_out(params={}, table={"a": (1,)}),
    "path with another product": laid_out(table={"conv_0/kernel": (8, 9)}),
    "path to a leaf without the axis": laid_out(table={"conv_0/bias": (8, 8)}, axis=2),
    "leaf without the axis": laid_out(axis=4),
    "describe": lambda: ConvLayout(paths={"conv_0/kernel": (8, 9)}).describe(vgg((3, 64))),
    "layout is a class": resolving(ConvLayout),
    "layout is a number": resolving(3),
    "layout of another structure": resolving({"a": None}),
    "object of another structure": resolving(Whole()),
    "tuples for layers": resolving((("b", (2, 2), -1),)),
    "grid that does not fit": resolving(layers(a=(2, 2))),
    "grid that does not fit a single array": resolving(layers(**{"": (2, 2)}), jnp.zeros(3)),
    "grid without its axis": resolving((Layer("b", Grid((2, 2)), 1),)),
    "grid of whole numbers": resolving(layers(a=(3,)), {"a": np.zeros((2, 3), int), "b": 0.0}),
    "window size": lambda: Window(4),
    "window size of text": lambda: Window("3"),
    "window boundary": lambda: Window(boundary="wrap"),
    "heat kernel boundary": lambda: HeatKernel("wrap"),
    "window": lambda: lgnn(window=5),
    **{f"sigma {x!r}": lambda x=x: lgnn(x) for x in (-1.0, 0.9, "0.5", True, float("nan"), float("inf"))},
    "sigma of 5 taps": lambda: lgnn(1.3, window=Window(5)),
    "sigma of several numbers": lambda: lgnn(np.ones(2)),
    "sigma of a jax array": lambda: smoothed((3, 64), jnp.ones(3)),
    "decreasing from": lambda: decreasing_sigma(0.9, 10, 10),
    "decreasing epochs": lambda: decreasing_sigma(0.5, 0, 10),
    "decreasing steps": lambda: decreasing_sigma(0.5, 10, 2.5),
}
messages = Golden(__file__, "layout_errors")


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    messages.check(case, message(ERRORS[case]))


def test_no_error_is_pinned_in_vain():
    messages.check_cases(ERRORS)
