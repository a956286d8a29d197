"""Regions of labels and their null, beside a flood fill in plain Python."""

import random

import jax
import numpy as np
import pytest

from lgnn_jax import Grid
from lgnn_jax.inspect import group_region_scores, label_regions, preferred, region_scores, regions

KEY = jax.random.key(0)
GRIDS = [Grid((6, 5)), Grid((6, 5), wrap=True), Grid((24,)), Grid((3, 2, 4), wrap=True)]


def flood_fill(labels, grid):
    """Regions as sets of units."""
    places = list(np.ndindex(*grid.shape))
    label = dict(zip(places, labels, strict=True))
    left, found = {place for place in places if label[place] >= 0}, []
    while left:
        todo = [left.pop()]
        region = set(todo)
        while todo:
            place = todo.pop()
            for axis, length in enumerate(grid.shape):
                for step in (-1, 1):
                    other = list(place)
                    other[axis] += step
                    if grid.wrap:
                        other[axis] %= length
                    other = tuple(other)
                    if other in left and label[other] == label[place]:
                        left.remove(other)
                        todo.append(other)
                        region.add(other)
        found.append({places.index(place) for place in region})
    return found


def by_hand(labels, grid, alive, count):
    """Counts, largest and mean sizes of relabellings, the units shuffled by Python."""
    draw, live = random.Random(1), [unit for unit in range(grid.units) if alive[unit]]
    rows = []
    for _ in range(count):
        shuffled, moved = live[:], list(labels)
        draw.shuffle(shuffled)
        for place, unit in zip(live, shuffled, strict=True):
            moved[place] = labels[unit]
        sizes = [len(region) for region in flood_fill(moved, grid)]
        rows.append((len(sizes), max(sizes, default=0), sum(sizes) / max(1, len(sizes))))
    return np.array(rows)


def agree(scores, wanted):
    for score, column in zip((scores.count, scores.largest, scores.mean), wanted.T, strict=True):
        close = 5 * column.std() * (1 / len(column) + 1 / len(score.samples)) ** 0.5 + 1e-9
        assert score.mean == pytest.approx(column.mean(), abs=close)
        assert score.samples.std() == pytest.approx(column.std(), rel=0.25, abs=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
def test_regions_of_labels_are_those_of_a_flood_fill(grid):
    for seed in range(5):
        labels = np.random.default_rng(seed).integers(-1, 3, grid.units)
        wanted, found = flood_fill(labels, grid), label_regions(labels, grid)
        assert sorted(map(sorted, wanted)) == sorted(region.members.tolist() for region in found)
        assert all((labels[region.members] == region.label).all() for region in found)
        assert [(-region.size, region.members[0]) for region in found] == sorted(
            (-region.size, region.members[0]) for region in found
        )
        scores = region_scores(labels, grid, key=KEY, permutations=2)
        sizes = list(map(len, wanted))
        assert scores.count.value == len(sizes) and scores.largest.value == max(sizes)
        assert scores.mean.value == pytest.approx(np.mean(sizes))
        assert scores.count.left_out == (labels < 0).sum()


@pytest.mark.parametrize("grid", GRIDS)
def test_the_null_is_that_of_relabelled_units(grid):
    labels = np.random.default_rng(3).integers(-1, 3, grid.units)
    found = region_scores(labels, grid, key=KEY, permutations=600)
    agree(found, by_hand(labels, grid, labels >= 0, 300))
    alive = (labels >= 0) | (np.arange(grid.units) % 2 == 0)
    agree(
        region_scores(labels, grid, alive=alive, key=KEY, permutations=600),
        by_hand(labels, grid, alive, 300),
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_the_null_of_a_groups_map_is_that_of_as_many_units_in_random_places(grid):
    active = np.random.default_rng(4).random((4, grid.units)) < np.array([[0.6], [0.3], [0.1], [0.0]])
    alive = active.any(0) | (np.arange(grid.units) % 2 == 0)
    found = group_region_scores(active, grid, alive=alive, key=KEY, permutations=600)
    for scores, here in zip(found, active, strict=True):
        labels = np.where(here, 0, -1)
        sizes = [len(region) for region in flood_fill(labels, grid)]
        assert scores.count.value == len(sizes) and scores.largest.value == max(sizes, default=0)
        agree(scores, by_hand(labels, grid, alive, 300))
        assert scores.count.side == "less" and scores.largest.side == scores.mean.side == "greater"
    again = group_region_scores(active, grid, alive=alive, key=KEY, permutations=600)
    np.testing.assert_array_equal(again[0].count.samples, found[0].count.samples)


def test_units_in_order_are_in_fewer_and_larger_regions_than_chance():
    rows, columns = np.indices((8, 8))
    labels = (2 * (rows // 4) + columns // 4).ravel()
    ordered = region_scores(labels, Grid((8, 8)), key=KEY)
    shuffled = region_scores(np.random.default_rng(0).permutation(labels), Grid((8, 8)), key=KEY)
    assert (
        ordered.count.value == 4 < ordered.count.low and ordered.largest.value == 16 > ordered.largest.high
    )
    assert max(ordered.count.p, ordered.largest.p, ordered.mean.p) < 0.002
    assert min(shuffled.count.p, shuffled.largest.p, shuffled.mean.p) > 0.01


def test_preferred_is_the_largest_t_above_the_threshold():
    t = np.array([[1.0, 6.0, np.nan, 0, -2, np.inf], [2.0, 5.5, np.nan, 0, -1, 3]])
    assert preferred(t).tolist() == [1, 0, -1, -1, 1, 0]
    assert preferred(t, threshold=5).tolist() == [-1, 0, -1, -1, -1, 0]
    assert preferred(t, threshold=6).tolist() == [-1, -1, -1, -1, -1, 0]
    one_class = [[part.members.tolist() for part in regions(t[:1], Grid((6,)), threshold=0)]]
    assert one_class == [
        [region.members.tolist() for region in label_regions([0, 0, -1, -1, -1, 0], Grid((6,)))]
    ]


def test_wrong_input_says_what_to_do():
    grid, active = Grid((2, 2)), np.ones((1, 4), bool)
    for call, words in (
        (lambda: region_scores([-1] * 4, grid, key=KEY), "None of the 4 units has a label"),
        (
            lambda: region_scores([0] * 4, grid, key=KEY, permutations=1),
            "permutations must be at least 2, got 1",
        ),
        (lambda: region_scores([0.5] * 4, grid, key=KEY), "labels must be integers"),
        (lambda: region_scores([0] * 3, grid, key=KEY), "3 units"),
        (lambda: label_regions([-2] * 4, grid), "labels must be integers .* from -1"),
        (lambda: group_region_scores([[0.5] * 4], grid, key=KEY), "active must be booleans"),
        (
            lambda: group_region_scores(active, grid, alive=active[0] * 1, key=KEY),
            "alive must be 4 booleans",
        ),
        (lambda: group_region_scores(active, grid, alive=~active[0], key=KEY), "Unit 0 .* must be alive"),
        (lambda: preferred([1.0, 2.0]), "selectivity must be"),
        (lambda: preferred([[1.0]], threshold=float("nan")), "threshold"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
