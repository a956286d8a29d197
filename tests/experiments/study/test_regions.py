"""Regions of units that prefer the same class, beside a flood fill."""

import numpy as np
import pytest

from experiments.study.regions import NONE, members, preferred, regions
from lgnn_jax import Grid


def flood_fill(labels, grid):
    """Regions as sets of units, by hand."""
    rows, columns = grid.shape
    left, found = {unit for unit in range(grid.units) if labels[unit] != NONE}, []
    while left:
        todo, region = [left.pop()], set()
        while todo:
            unit = todo.pop()
            region.add(unit)
            row, column = divmod(unit, columns)
            for y, x in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if grid.wrap:
                    y, x = y % rows, x % columns
                other = y * columns + x
                if 0 <= y < rows and 0 <= x < columns and other in left and labels[other] == labels[unit]:
                    left.remove(other)
                    todo.append(other)
        found.append(region)
    return found


@pytest.mark.parametrize("wrap", [False, True])
def test_regions_are_those_of_a_flood_fill(wrap):
    grid = Grid((6, 5), wrap=wrap)
    for seed in range(10):
        labels = np.random.default_rng(seed).integers(NONE, 3, grid.units)
        wanted = flood_fill(labels, grid)
        found = members(labels, grid)
        assert sorted(map(sorted, wanted)) == sorted(units.tolist() for units in found)
        assert [len(units) for units in found] == sorted(map(len, wanted), reverse=True)
        counted = regions(labels, grid, permutations=2)
        assert (counted.count.value, counted.largest.value) == (len(wanted), max(map(len, wanted)))
        assert counted.count.left_out == (labels == NONE).sum()


def test_the_null_is_that_of_relabelled_units():
    grid, draw = Grid((8, 4)), np.random.default_rng(0)
    labels = draw.integers(NONE, 3, grid.units)
    found = regions(labels, grid, permutations=400)
    live, counts, largest = np.flatnonzero(labels != NONE), [], []
    for _ in range(400):
        other = labels.copy()
        other[live] = draw.permutation(labels[live])
        sizes = list(map(len, flood_fill(other, grid)))
        counts.append(len(sizes))
        largest.append(max(sizes))
    assert found.count.mean == pytest.approx(np.mean(counts), abs=0.4)
    assert found.largest.mean == pytest.approx(np.mean(largest), abs=0.4)
    assert found.count.samples.std() == pytest.approx(np.std(counts), rel=0.2)


def test_units_that_prefer_nothing_are_in_no_region():
    assert preferred(np.array([[np.nan, 1.0], [np.nan, 2.0]])).tolist() == [NONE, 1]
    assert members(np.full(4, NONE), Grid((2, 2))) == []
    with pytest.raises(ValueError, match="None of the 4 units prefers a class"):
        regions(np.full(4, NONE), Grid((2, 2)))
    with pytest.raises(ValueError, match="permutations must be at least 2, got 1"):
        regions(np.zeros(4, int), Grid((2, 2)), permutations=1)
