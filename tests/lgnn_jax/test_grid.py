import numpy as np
import pytest

from lgnn_jax import ConvLayout, Grid, HeatKernel, Window, distances, grid_shape, neighbours
from lgnn_jax._grid import check_axis, coordinates


@pytest.mark.parametrize(
    "units, shape",
    [(1, (1, 1)), (2, (2, 1)), (7, (7, 1)), (12, (4, 3)), (16, (4, 4)), (64, (8, 8)), (128, (16, 8))]
    + [(160, (16, 10)), (256, (16, 16)), (320, (20, 16)), (512, (32, 16)), (640, (32, 20))],
)
def test_grid_shape_is_the_most_square_factorisation(units, shape):
    assert grid_shape(units) == shape


def test_grid_shape_prefers_the_table():
    assert grid_shape(512, {512: (64, 8), 64: (64, 1)}) == (64, 8)
    assert grid_shape(64, {512: (64, 8)}) == (8, 8)
    assert grid_shape(8, {8: [2, 2, 2]}) == (2, 2, 2)


@pytest.mark.parametrize("units", [0, -4, 2.5, "8", None, True])
def test_grid_shape_refuses_what_is_no_width(units):
    with pytest.raises(ValueError, match="units must be a positive integer, got"):
        grid_shape(units)


def test_grid_shape_refuses_a_table_that_does_not_hold_the_units():
    with pytest.raises(ValueError, match="lays 64 units out as 8x4, which holds 32"):
        grid_shape(64, {64: (8, 4)})


@pytest.mark.parametrize("shape", [(), (0, 4), (-1, 2), (2.0, 2), "88", 8, None, (True, 4)])
def test_a_grid_refuses_malformed_shapes(shape):
    with pytest.raises(ValueError, match="A grid shape is one or more positive integers"):
        Grid(shape)


def test_a_grid_is_a_value():
    assert Grid([np.int64(4), 2]) == Grid((4, 2)) != Grid((4, 2), wrap=True)
    assert len({Grid((4, 2)), Grid([4, 2])}) == 1
    assert Grid((4, 2)).units == 8


def test_an_axis_is_checked_where_there_is_one():
    assert check_axis(Grid((4, 2)), (8, 3, 3, 3), 0) == 0
    assert check_axis(Grid((4, 2)), (3, 3, 3, 8), -1) == 3
    with pytest.raises(
        ValueError, match=r"kernel of shape \(3, 3, 1, 9\) has 9 units on axis -1, but a grid of 4x2"
    ):
        check_axis(Grid((4, 2)), (3, 3, 1, 9), -1, "kernel")
    with pytest.raises(ValueError, match="has no axis 4"):
        check_axis(Grid((4, 2)), (3, 3, 1, 8), 4)
    with pytest.raises(ValueError, match="axis must be an integer"):
        check_axis(Grid((4, 2)), (8,), 0.5)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (
            lambda: Grid((4, 2), axis=0),
            r"no argument axis any more.*write Layer\(path, Grid\(shape\), axis\)",
        ),
        (
            lambda: Grid((4, 2), 0),
            r"wrap must be True or False, got 0.*write Layer\(path, Grid\(shape\), axis\)",
        ),
        (lambda: neighbours(Grid((4, 2)), wrap=True), r"no argument wrap.*Grid\(shape, wrap=True\)"),
        (lambda: distances(Grid((4, 2)), wrap=True), r"no argument wrap.*Grid\(shape, wrap=True\)"),
        (
            lambda: Window(5, "wrap"),
            r"normalise must be True or False, got 'wrap'.*Grid\(shape, wrap=True\)",
        ),
        (lambda: Window(boundary="wrap"), r"no argument boundary.*ConvLayout\(wrap=True\)"),
        (lambda: HeatKernel("wrap"), r"no argument boundary.*ConvLayout\(wrap=True\)"),
        (lambda: ConvLayout(table={8: (4, 2)}), r"no argument table.*shapes=.*paths="),
    ],
)
def test_arguments_that_have_moved_are_refused_with_what_to_write_now(call, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        call()


def test_units_are_row_major():
    position = coordinates(Grid((3, 5)))
    assert [tuple(position[k]) for k in (0, 4, 5, 14)] == [(0, 0), (0, 4), (1, 0), (2, 4)]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (4, 1), (3, 5), (5,), (2, 3, 4)])
def test_neighbours_are_the_pairs_at_unit_distance(shape, wrap):
    grid = Grid(shape, wrap)
    distance = distances(grid)
    first, second = np.nonzero(np.triu(np.isclose(distance, 1), 1))
    assert neighbours(grid).tolist() == np.stack([first, second], 1).tolist()


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("shape", [(2, 2), (4, 1), (3, 5), (4, 4)])
def test_diagonal_neighbours_are_the_pairs_at_distance_root_two(shape, wrap):
    grid = Grid(shape, wrap)
    distance = distances(grid)
    first, second = np.nonzero(np.triu(np.isclose(distance, 2**0.5), 1))
    assert neighbours(grid, diagonal=True).tolist() == np.stack([first, second], 1).tolist()


def test_distances_on_a_torus_go_the_short_way():
    assert distances(Grid((4, 4), wrap=True)).max() == pytest.approx(8**0.5)
    assert distances(Grid((4, 4))).max() == pytest.approx(18**0.5)
