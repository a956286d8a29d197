import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from lgnn_jax import ConvLayout, Grid, lgnn
from lgnn_jax.layout import path_name, resolve


def tree():
    return {
        "conv_0": {"kernel": jnp.zeros((3, 3, 3, 8)), "bias": jnp.zeros(8)},
        "conv_1": {"kernel": jnp.zeros((3, 3, 8, 12))},
        "dense": {"kernel": jnp.zeros((12, 10))},
        "steps": jnp.zeros((2, 2, 2, 4), jnp.int32),
    }


def test_by_default_floating_leaves_with_four_dimensions_are_laid_out():
    assert ConvLayout().grids(tree()) == {
        "conv_0": {"kernel": Grid((4, 2)), "bias": None},
        "conv_1": {"kernel": Grid((4, 3))},
        "dense": {"kernel": None},
        "steps": None,
    }


def test_the_path_comes_before_the_width_before_the_default():
    layout = ConvLayout(table={8: (8, 1), "conv_1/kernel": (2, 6), 12: (12, 1)})
    grids = layout.grids(tree())
    assert grids["conv_0"]["kernel"] == Grid((8, 1))
    assert grids["conv_1"]["kernel"] == Grid((2, 6))


def test_a_path_puts_a_leaf_of_other_dimensions_on_a_grid():
    assert ConvLayout(table={"dense/kernel": (5, 2)}).grids(tree())["dense"]["kernel"] == Grid((5, 2))


def test_where_narrows_by_path_and_leaf():
    seen = []

    def where(path, leaf):
        seen.append((path, leaf.shape))
        return path.startswith("conv_1")

    grids = ConvLayout(where=where).grids(tree())
    assert grids["conv_0"]["kernel"] is None and grids["conv_1"]["kernel"] == Grid((4, 3))
    assert ("conv_0/kernel", (3, 3, 3, 8)) in seen


def test_a_path_that_names_no_leaf_is_an_error():
    with pytest.raises(
        ValueError, match="names 'conv_7/kernel', which the tree does not have.*'conv_0/kernel'"
    ):
        ConvLayout(table={"conv_7/kernel": (4, 2)}).grids(tree())


@pytest.mark.parametrize("table", [{8: (4, 4)}, {"conv_0/kernel": (4, 4)}])
def test_a_shape_that_does_not_hold_the_filters_is_an_error(table):
    with pytest.raises(ValueError, match="8"):
        ConvLayout(table=table).grids(tree())


def test_the_error_names_leaf_shape_and_grid():
    with pytest.raises(
        ValueError, match=r"'conv_0/kernel' of shape \(3, 3, 3, 8\) has 8 units.*4x4 holds 16"
    ):
        ConvLayout(table={"conv_0/kernel": (4, 4)}).grids(tree())


@pytest.mark.parametrize("table", [{2.5: (1, 2)}, {None: (1, 1)}, {8: 8}, {True: (1, 1)}])
def test_malformed_tables_are_refused(table):
    with pytest.raises(ValueError):
        ConvLayout(table=table)


def test_a_layout_is_a_value_and_keeps_a_copy_of_its_table():
    table = {8: (4, 2)}
    layout = ConvLayout(table=table)
    table[8] = (8, 1)
    assert layout.grids(tree())["conv_0"]["kernel"] == Grid((4, 2))
    assert layout == ConvLayout(table={8: [4, 2]}) and hash(layout) == hash(ConvLayout(table={8: [4, 2]}))
    assert layout != ConvLayout()


@pytest.mark.parametrize(
    "shape, axis, warns",
    [((64, 3, 3, 3), -1, True), ((512, 512, 3, 3), -1, True), ((64, 64, 1, 1), -1, True)]
    + [((3, 3, 3, 64), 0, True), ((3, 3, 3, 64), -1, False), ((3, 3, 512, 512), -1, False)]
    + [((1, 1, 64, 64), -1, False), ((64, 3, 3, 3), 0, False), ((512, 512, 3, 3), 0, False)],
)
def test_an_axis_that_looks_like_height_or_width_draws_a_warning(shape, axis, warns):
    params = {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ConvLayout(axis=axis).grids(params)
    assert bool(caught) == warns
    if warns:
        assert "looks like the kernel's height or width" in str(caught[0].message)


def test_paths_are_the_same_for_linen_and_nnx():
    class Entry(NamedTuple):
        value: int

    class Module(NamedTuple):
        conv: dict

    linen = {"conv": {"kernel": 0}}
    nnx = Module(conv={"kernel": Entry(0)})
    names = [[path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(t)] for t in (linen, nnx)]
    assert names[0] == names[1] == ["conv/kernel"]


def test_a_key_of_a_dict_called_value_stays_in_the_path():
    params = {"attention": {"key": jnp.zeros((4, 8)), "value": jnp.zeros((4, 8))}}
    assert "attention/value  (4, 8)" in ConvLayout().describe(params)
    grids = ConvLayout(table={"attention/value": (4, 2)}).grids(params)
    assert grids == {"attention": {"key": None, "value": Grid((4, 2))}}


def test_a_ready_tree_and_any_object_with_grids_serve_as_layouts():
    class Last:
        def grids(self, updates):
            return jax.tree.map(lambda leaf: Grid((leaf.shape[-1],)), updates)

    updates = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)}
    assert resolve(Last(), updates) == [Grid((3,)), Grid((4,))]
    assert resolve({"a": None, "b": Grid((2, 2))}, updates) == [None, Grid((2, 2))]
    lgnn(layout={"a": None, "b": Grid((2, 2))}).init(updates)


@pytest.mark.parametrize(
    "layout, words",
    [
        ({"a": None}, "does not match"),
        (3, "does not match"),
        ({"a": None, "b": (2, 2)}, "must be a Grid or None"),
    ]
    + [({"a": Grid((2, 2)), "b": None}, r"'a' of shape \(2, 3\) has 3 units")],
)
def test_layouts_that_do_not_fit_are_refused(layout, words):
    with pytest.raises(ValueError, match=words):
        lgnn(layout=layout).init({"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)})


def test_describe_gives_every_leaf_and_the_reason():
    text = ConvLayout(where=lambda path, leaf: "conv_1" in path).describe(tree()).splitlines()
    assert len(text) == 1 + 5
    assert any("conv_1/kernel" in line and "4x3 on axis -1" in line for line in text)
    assert any("conv_0/kernel" in line and "left out by where" in line for line in text)
    assert any("steps" in line and "not a floating array" in line for line in text)


def test_a_single_weight_a_filter_is_a_bias_unless_the_table_names_it():
    tree = {"bias": jnp.zeros((64, 1, 1, 1)), "weight": jnp.zeros((64, 3, 3, 3))}
    assert ConvLayout(axis=0).grids(tree) == {"bias": None, "weight": Grid((8, 8), 0)}
    assert ConvLayout(axis=0, table={"bias": (8, 8)}).grids(tree)["bias"] == Grid((8, 8), 0)
    assert "one weight a filter" in ConvLayout(axis=0).describe(tree)


@pytest.mark.parametrize("table", [[3], "abc", 5])
def test_a_table_is_a_mapping(table):
    with pytest.raises(ValueError, match="maps widths or paths to shapes"):
        ConvLayout(table=table)


def test_a_layout_is_no_class():
    with pytest.raises(ValueError, match=r"such as ConvLayout\(\), got the class itself"):
        lgnn(layout=ConvLayout).init(tree())


def test_a_number_has_no_grid():
    with pytest.raises(ValueError, match="'x' of shape .* has no axis -1"):
        lgnn(layout={"x": Grid((2, 2))}).init({"x": 1.0})
