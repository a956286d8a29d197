"""The wide stage of ``arrange`` against all permutations."""

import itertools

import numpy as np

from lgnn_jax import Grid, _assign, arrange, distances

GRID = Grid((2, 3))


def similarity(units, seed=0):
    return np.corrcoef(np.random.default_rng(seed).standard_normal((units, 9))).astype(np.float32)


def test_an_assignment_is_the_best_of_all_under_the_tangent(monkeypatch):
    monkeypatch.setattr(_assign, "_ASSIGNMENTS", 1)
    values = similarity(6) - np.eye(6, dtype=np.float32)
    values[4] = values[:, 4] = 0  # Dead, and at the end.
    start = np.array([3, 0, 5, 1, 2, 4])
    (found,) = _assign.assign(values, np.arange(6) != 4, start[None], GRID)
    tangent = np.exp(-(distances(GRID) ** 2) / 2) @ values[start]  # By position and unit.
    live = itertools.permutations([0, 1, 2, 3, 5])
    best = max(live, key=lambda order: sum(tangent[place, unit] for place, unit in enumerate(order)))
    assert found.tolist() == [*best, 4]


def test_assignments_of_a_planted_order_raise_the_objective_from_any_start():
    grid = Grid((8, 4))
    draw = np.random.default_rng(1)
    near = np.exp(-(distances(grid) ** 2) / 2)
    planted = np.corrcoef(near @ draw.standard_normal((32, 20)))
    shuffled = draw.permutation(32)
    values = (planted[shuffled][:, shuffled] - np.eye(32)).astype(np.float32)
    starts = np.stack([draw.permutation(32) for _ in range(3)])
    for start, order in zip(starts, _assign.assign(values, np.ones(32, bool), starts, grid), strict=True):
        before, after = ((values[each][:, each] * near).sum() for each in (start, order))
        assert sorted(order) == list(range(32))
        assert after > 0.75 * ((planted - np.eye(32)) * near).sum() > before


def test_arrange_begins_with_assignments(monkeypatch):
    seen = []
    real = _assign.assign
    monkeypatch.setattr(
        "lgnn_jax._arrange.assign", lambda *given, grid: seen.append(grid) or real(*given, grid)
    )
    arrange(similarity(6), GRID)
    assert seen == [GRID]
