import warnings

import jax
import jax.numpy as jnp
import pytest

from lgnn_jax import ConvLayout, Grid, Layer, lgnn
from lgnn_jax._layout import lay_out


def tree():
    return {
        "conv_0": {"kernel": jnp.zeros((3, 3, 3, 8)), "bias": jnp.zeros(8)},
        "conv_1": {"kernel": jnp.zeros((3, 3, 8, 12))},
        "dense": {"kernel": jnp.zeros((12, 10))},
        "steps": jnp.zeros((2, 2, 2, 4), jnp.int32),
    }


def by_path(layout, tree):
    """The grids of the layers, by path."""
    return {layer.path: layer.grid for layer in layout.layers(tree)}


def test_by_default_floating_leaves_with_four_dimensions_are_laid_out():
    assert ConvLayout().layers(tree()) == (
        Layer("conv_0/kernel", Grid((4, 2)), -1),
        Layer("conv_1/kernel", Grid((4, 3)), -1),
    )


def test_a_layout_of_toruses_gives_toruses():
    grids = by_path(ConvLayout(paths={"conv_1/kernel": (12,)}, wrap=True), tree())
    assert grids == {"conv_0/kernel": Grid((4, 2), wrap=True), "conv_1/kernel": Grid((12,), wrap=True)}
    assert "4x2 torus on axis -1" in ConvLayout(wrap=True).describe(tree())


def test_the_path_comes_before_the_width_before_the_default():
    layout = ConvLayout(shapes={8: (8, 1), 12: (12, 1)}, paths={"conv_1/kernel": (2, 6)})
    assert by_path(layout, tree()) == {"conv_0/kernel": Grid((8, 1)), "conv_1/kernel": Grid((2, 6))}


def test_a_path_puts_a_leaf_of_other_dimensions_on_a_grid():
    assert by_path(ConvLayout(paths={"dense/kernel": (5, 2)}), tree())["dense/kernel"] == Grid((5, 2))


def test_where_narrows_by_path_and_leaf():
    seen = []

    def where(path, leaf):
        seen.append((path, leaf.shape))
        return path.startswith("conv_1")

    assert by_path(ConvLayout(where=where), tree()) == {"conv_1/kernel": Grid((4, 3))}
    assert ("conv_0/kernel", (3, 3, 3, 8)) in seen


def test_a_path_that_names_no_leaf_is_an_error():
    with pytest.raises(
        ValueError, match="name 'conv_7/kernel', which the tree does not have.*'conv_0/kernel'"
    ):
        ConvLayout(paths={"conv_7/kernel": (4, 2)}).layers(tree())


def test_a_shape_that_does_not_hold_the_filters_is_an_error():
    with pytest.raises(ValueError, match="8"):
        ConvLayout(shapes={8: (4, 4)})
    with pytest.raises(
        ValueError, match=r"'conv_0/kernel' of shape \(3, 3, 3, 8\) has 8 units.*4x4 holds 16"
    ):
        ConvLayout(paths={"conv_0/kernel": (4, 4)}).layers(tree())


@pytest.mark.parametrize(
    "tables, words",
    [
        ({"shapes": shapes}, words)
        for shapes, words in [
            ({2.5: (1, 2)}, "widths as keys"),
            ({None: (1, 1)}, "widths as keys"),
            ({"a": (1, 1)}, "widths as keys"),
            ({True: (1, 1)}, "widths as keys"),
            ({8: 8}, "A grid shape is"),
            ([3], "map widths"),
            (5, "map widths"),
        ]
    ]
    + [
        ({"paths": paths}, words)
        for paths, words in [
            ({8: (4, 2)}, "paths as keys"),
            ({"a": 8}, "A grid shape is"),
            ("abc", "map paths"),
            (5, "map paths"),
        ]
    ]
    + [
        ({"wrap": 1}, "wrap must be True or False"),
        ({"axis": 0.5}, "axis must be an integer"),
        ({"where": "conv"}, "where must be a function"),
    ],
)
def test_malformed_options_are_refused(tables, words):
    with pytest.raises(ValueError, match=words):
        ConvLayout(**tables)


def test_a_layout_is_a_value_and_keeps_a_copy_of_its_tables():
    shapes = {8: (4, 2)}
    layout = ConvLayout(shapes=shapes)
    shapes[8] = (8, 1)
    assert by_path(layout, tree())["conv_0/kernel"] == Grid((4, 2))
    assert layout == ConvLayout(shapes={8: [4, 2]}) and hash(layout) == hash(ConvLayout(shapes={8: [4, 2]}))
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
        ConvLayout(axis=axis).layers(params)
    assert bool(caught) == warns
    if warns:
        assert "looks like the kernel's height or width" in str(caught[0].message)


def test_a_key_of_a_dict_called_value_stays_in_the_path():
    params = {"attention": {"key": jnp.zeros((4, 8)), "value": jnp.zeros((4, 8))}}
    assert "attention/value  (4, 8)" in ConvLayout().describe(params)
    assert by_path(ConvLayout(paths={"attention/value": (4, 2)}), params) == {
        "attention/value": Grid((4, 2))
    }


def test_ready_layers_and_any_object_with_layers_serve_as_layouts():
    class Last:
        def layers(self, tree):
            return tuple(Layer(name, Grid((leaf.shape[-1],)), -1) for name, leaf in tree.items())

    updates = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)}
    assert lay_out(Last(), updates) == [Layer("a", Grid((3,)), -1), Layer("b", Grid((4,)), -1)]
    ready = (Layer("b", Grid((2, 2)), 0),)
    assert lay_out(ready, updates) == [None, *ready]
    lgnn(layout=ready).init(updates)


class Old:
    def grids(self, updates):
        return updates


@pytest.mark.parametrize(
    "layout, words",
    [
        (
            {"a": None, "b": Grid((2, 2))},
            "a tuple of Layers such as.*a tree of Grids are no layouts any more",
        ),
        (Old(), r"a method layers\(tree\).*grids\(updates\).*no layouts any more"),
        (3, "a tuple of Layers such as"),
        ((Grid((2, 2)),), "a tuple of Layers such as"),
        ((Layer("a", Grid((2, 2)), -1),), r"'a' of shape \(2, 3\) has 3 units"),
        (
            (Layer("c", Grid((2, 2)), -1),),
            "lays out 'c', which the tree does not have. Its leaves are: 'a', 'b'",
        ),
        ((Layer("b", Grid((2, 2)), -1), Layer("b", Grid((4,)), -1)), "more than one layer for 'b'"),
        ((Layer("n", Grid((2, 2)), -1),), "lays out 'n', which is not floating: int32"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(layout, words):
    tree = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)}
    if "int32" in words:
        tree["n"] = jnp.zeros(4, jnp.int32)
    with pytest.raises(ValueError, match=words):
        lgnn(layout=layout).init(tree)


@pytest.mark.parametrize("arguments", [(3, Grid((2, 2)), 0), ("a", (2, 2), 0), ("a", Grid((2, 2)), 0.5)])
def test_a_malformed_layer_is_refused(arguments):
    with pytest.raises(ValueError, match=r"A Layer is a path and a Grid, such as|axis must be an integer"):
        Layer(*arguments)


def test_leaves_of_one_name_are_an_error_where_they_are_laid_out():
    kernel = jnp.zeros((3, 3, 3, 8))
    twice = {"a/kernel": kernel, "a": {"kernel": kernel}, "b": {"kernel": kernel}}
    for layout in (ConvLayout(), (Layer("a/kernel", Grid((4, 2)), -1),)):
        with pytest.raises(ValueError, match="2 leaves are called 'a/kernel'"):
            lgnn(layout=layout).init(twice)
    only_b = ConvLayout(where=lambda path, leaf: path.startswith("b"))
    lgnn(layout=only_b).init(twice)


def test_describe_gives_every_leaf_and_the_reason():
    text = ConvLayout(where=lambda path, leaf: "conv_1" in path).describe(tree()).splitlines()
    assert len(text) == 1 + 5
    assert any("conv_1/kernel" in line and "4x3 on axis -1" in line for line in text)
    assert any("conv_0/kernel" in line and "left out by where" in line for line in text)
    assert any("steps" in line and "not a floating array" in line for line in text)


def test_a_single_weight_a_filter_is_a_bias_unless_the_table_names_it():
    tree = {"bias": jnp.zeros((64, 1, 1, 1)), "weight": jnp.zeros((64, 3, 3, 3))}
    assert ConvLayout(axis=0).layers(tree) == (Layer("weight", Grid((8, 8)), 0),)
    assert ConvLayout(axis=0, paths={"bias": (8, 8)}).layers(tree)[0] == Layer("bias", Grid((8, 8)), 0)
    assert "one weight a filter" in ConvLayout(axis=0).describe(tree)


def test_a_layout_is_no_class():
    with pytest.raises(ValueError, match=r"such as ConvLayout\(\), got the class itself"):
        lgnn(layout=ConvLayout).init(tree())


def test_a_number_has_no_grid():
    with pytest.raises(ValueError, match="'x' of shape .* has no axis -1"):
        lgnn(layout=(Layer("x", Grid((2, 2)), -1),)).init({"x": 1.0})
