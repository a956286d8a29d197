"""Losses against dense float64 references, the package that TopoLoss comes from, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import Grid, losses, topography
from tests.lgnn_jax import reference
from tests.lgnn_jax.test_modes import enable_x64

GRIDS = [Grid((5, 3)), Grid((4, 6), wrap=True), Grid((7, 1)), Grid((2, 3, 5), wrap=True), Grid((9,))]


def named(grid):
    return f"{grid.size}{' torus' * grid.wrap}"


every_grid = pytest.mark.parametrize("grid", GRIDS, ids=named)

# What topoloss 0.0.2 with PyTorch 2.13.0 gives for a torch.nn.Conv2d of normal weights, those of its sheet's width:
# the loss of get_cortical_sheet_conv, the gradient's norm, and of the gradient [0, 0, 0, 0], [1, 2, 3, units // 2]
# and [2, 1, 2, -1] in HWIO.
PACKAGE = [
    ((8, 8), 3.0, 0.9303201, 0.02981882, (-0.00068756, -9.6465e-05, 0.00047899)),
    ((8, 16), 3.0, 0.9453703, 0.02109891, (-0.00027122, -0.00029804, 0.0003482)),
    ((16, 16), 3.0, 0.892809, 0.01453671, (-9.7172e-05, -8.2302e-05, 0.00023635)),
    ((16, 32), 3.0, 0.9104759, 0.01007036, (-4.2149e-05, -7.3586e-05, 1.8199e-05)),
    ((16, 32), (1.6, 3.7), 0.816754, 0.009521163, (4.7613e-06, -2.8249e-05, -2.5657e-05)),
    ((4, 4), 2.0, 0.5549343, 0.03907561, (-0.002371, -0.00084487, -0.0018879)),
    ((4, 4), 3.0, 0.936232, 0.05575832, (-0.00022191, -0.001323, -0.0035093)),
    ((4, 8), 3.0, 0.9584222, 0.04184588, (0.00084813, 0.0010637, -0.00062792)),
    ((10, 16), 2.0, 0.5385493, 0.01243205, (-0.00014207, -9.9777e-05, -1.6775e-05)),
    ((10, 16), 3.0, 0.9223613, 0.01819445, (0.00012307, 8.4773e-05, -0.00013151)),
    ((10, 16), (1.6, 3.7), 0.7984689, 0.01696216, (-0.00016799, 0.00015038, 5.1601e-05)),
    ((16, 20), 3.0, 0.9200978, 0.01242045, (2.901e-05, -9.1003e-05, 3.3941e-06)),
    ((20, 32), 3.0, 0.9338444, 0.009139193, (-4.0743e-05, -9.2584e-06, -6.1947e-05)),
]
# A square sheet and an oblong one, sides that the factor divides and does not, and two factors.
QUICK = [((4, 4), 2.0), ((8, 16), 3.0), ((10, 16), 3.0), ((10, 16), (1.6, 3.7))]


def kernel(units, *, seed=None, weights=(3, 3, 4)):
    draw = np.random.default_rng(units if seed is None else seed)
    return draw.standard_normal((*weights, units), dtype=np.float32)


def rows(kernel):
    return np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]).T


def responses(grid, images=12, seed=0, space=(2, 3)):
    """Of units that have something to do with their neighbours."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((images, *space, grid.units))
    return x + np.roll(x, 1, -1) + 3


# A loss of every kind, as a function of one array, and an array for it.
LOSSES = {
    "topoloss": (lambda x, grid: losses.topoloss(x, grid, factor=2), lambda grid: kernel(grid.units)),
    "weight_similarity_loss": (losses.weight_similarity_loss, lambda grid: kernel(grid.units)),
    "response_loss": (losses.response_loss, responses),
}
every_loss = pytest.mark.parametrize("loss", LOSSES)


@pytest.mark.parametrize(
    "shape, factor, value, norm, entries",
    [
        pytest.param(*row, id=f"{row[0]} by {row[1]}", marks=[pytest.mark.slow] * (row[:2] not in QUICK))
        for row in PACKAGE
    ],
)
def test_topoloss_is_the_packages_in_value_and_gradient(shape, factor, value, norm, entries):
    grid = Grid(shape)
    of = kernel(grid.units)
    found, grad = jax.value_and_grad(lambda x: losses.topoloss(x, grid, factor=factor))(of)
    np.testing.assert_allclose(found, value, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(grad, np.float64)), norm, rtol=1e-5)
    picked = [grad[0, 0, 0, 0], grad[1, 2, 3, grid.units // 2], grad[2, 1, 2, -1]]
    np.testing.assert_allclose(picked, entries, rtol=1e-4, atol=1e-4 * norm)


@pytest.mark.parametrize(
    "factor", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 2.6, 5]
)
@every_grid
def test_topoloss_is_that_of_lines_sampled_down_and_up(grid, factor):
    of = kernel(grid.units)
    wanted = reference.topoloss(rows(of), grid, [factor] * len(grid.shape))
    np.testing.assert_allclose(losses.topoloss(of, grid, factor=factor), wanted, atol=2e-6)


def test_topoloss_takes_a_factor_for_every_dimension():
    of, grid = kernel(24), Grid((6, 4))
    found = losses.topoloss(of, grid, factor=(3, 1.5))
    np.testing.assert_allclose(found, reference.topoloss(rows(of), grid, (3, 1.5)), atol=2e-6)
    assert abs(found - losses.topoloss(of, grid, factor=(1.5, 3))) > 1e-3


def test_a_torus_has_no_place_of_its_own():
    of, torus = kernel(48), Grid((8, 6), wrap=True)
    moved = np.roll(of.reshape(-1, 8, 6), (2, -4), (1, 2)).reshape(of.shape)
    for grid, same in ((torus, True), (Grid((8, 6)), False)):
        apart = losses.topoloss(of, grid, factor=2) - losses.topoloss(moved, grid, factor=2)
        assert (abs(apart) < 1e-6) == same


@every_grid
def test_weight_similarity_is_that_of_all_pairs_one_step_apart(grid):
    of = kernel(grid.units)
    found = losses.weight_similarity_loss(of, grid)
    np.testing.assert_allclose(found, reference.weight_similarity_loss(rows(of), grid), atol=2e-6)
    score = topography.neighbour_cosine(topography.cosines(of), grid)
    np.testing.assert_allclose(1 - found, score.value, atol=2e-6)


@every_grid
def test_the_response_loss_is_that_of_all_pairs(grid):
    of = responses(grid)
    samples = of.reshape(-1, grid.units)
    wanted = reference.response_loss(samples, grid)
    for each in (of, samples):  # Positions are samples.
        np.testing.assert_allclose(losses.response_loss(jnp.asarray(each), grid), wanted, atol=2e-5)


def test_units_are_drawn_by_the_key():
    grid = Grid((5, 1))
    of = responses(grid)
    wanted = []
    for left_out in range(5):
        samples = of.reshape(-1, 5).copy()
        samples[:, left_out] = 1  # A constant unit is left out.
        wanted.append(reference.response_loss(samples, grid))
    draw = jax.jit(lambda key: losses.response_loss(of, grid, key=key, most=4))
    found = [float(draw(jax.random.key(seed))) for seed in range(20)]
    apart = np.abs(np.subtract.outer(found, wanted))
    assert apart.min(1).max() < 2e-5 and len(set(apart.argmin(1))) == 5
    assert losses.response_loss(of, grid, most=None) == losses.response_loss(of, grid)


@every_loss
@pytest.mark.parametrize(
    "grid", [*GRIDS[:2], *(pytest.param(grid, marks=pytest.mark.slow) for grid in GRIDS[2:])], ids=named
)
def test_gradients_are_finite_differences(loss, grid):
    f, of = LOSSES[loss]
    with enable_x64(True):
        x = np.asarray(of(grid), np.float64)
        grad = jax.jit(jax.grad(lambda x: f(x, grid)))(x)
        value = jax.jit(lambda x: f(x, grid))
        assert grad.dtype == jnp.float64
        for seed in range(3):
            step = np.random.default_rng(seed).standard_normal(x.shape) * 1e-5
            slope = float(value(x + step) - value(x - step)) / 2
            np.testing.assert_allclose(slope, np.vdot(grad, step), rtol=1e-5, atol=1e-13)


@every_loss
def test_bfloat16_is_added_up_in_float32(loss):
    f, of = LOSSES[loss]
    grid = Grid((8, 8), wrap=True)
    x = jnp.asarray(of(grid), jnp.bfloat16)
    value, grad = jax.jit(jax.value_and_grad(lambda x: f(x, grid)))(x)
    wanted, exact = jax.value_and_grad(lambda x: f(x, grid))(x.astype(jnp.float32))
    assert value.dtype == jnp.float32 and grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, wanted, atol=1e-6)
    np.testing.assert_allclose(grad.astype(jnp.float32), exact, rtol=2**-7, atol=1e-7)


@pytest.mark.parametrize("loss", ["topoloss", "weight_similarity_loss"])
def test_zero_filters_have_a_cosine_of_zero_and_finite_gradients(loss):
    f, of = LOSSES[loss]
    grid = Grid((4, 3))
    x = of(grid)
    x[..., [0, 5, 6]] = 0
    value, grad = jax.value_and_grad(lambda x: f(x, grid))(x)
    wanted = {
        "topoloss": lambda: reference.topoloss(rows(x), grid, (2, 2)),
        "weight_similarity_loss": lambda: reference.weight_similarity_loss(rows(x), grid),
    }[loss]()
    np.testing.assert_allclose(value, wanted, atol=2e-6)
    grads = np.asarray(grad).reshape(-1, 12)
    assert np.isfinite(grads).all() and np.abs(grads[:, [0, 5, 6]]).max() <= np.abs(grads).max() < 0.1
    assert grads[:, [0, 5, 6]].any() == (
        loss == "topoloss"
    )  # There, others' blurred sheet has a part of it.
    nothing, grad = jax.value_and_grad(lambda x: f(x, grid))(jnp.zeros_like(x))
    assert nothing == 1 and not grad.any()


@every_loss
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_how_large_values_are_does_not_matter(loss, scale):
    f, of = LOSSES[loss]
    grid = Grid((4, 3))
    x = np.asarray(of(grid), np.float32)
    value, grad = jax.value_and_grad(lambda x: f(x, grid))(x * np.float32(scale))
    np.testing.assert_allclose(value, f(x, grid), atol=2e-6)
    assert np.isfinite(grad).all() and grad.any()


@pytest.mark.parametrize("level", [0.0, 7.3])
def test_units_that_never_change_are_left_out(level):
    grid = Grid((4, 3))
    x = np.asarray(responses(grid), np.float32)
    x[..., [0, 5, 6]] = level
    value, grad = jax.value_and_grad(losses.response_loss)(x, grid)
    wanted = reference.response_loss(x.astype(np.float64).reshape(-1, 12), grid)
    np.testing.assert_allclose(value, wanted, atol=2e-5)
    grads = np.asarray(grad).reshape(-1, 12)
    assert np.isfinite(grads).all() and not grads[:, [0, 5, 6]].any() and grads[:, 1].any()


def test_what_has_no_correlation_loses_a_half():
    x, few = np.asarray(responses(Grid((4, 3))), np.float32), np.zeros((12, 12), np.float32)
    few[0, :2] = 1
    for name, of, grid in (
        ("all dead", np.ones_like(x), Grid((4, 3))),
        ("one pair", few, Grid((4, 3))),
        ("all alike", x[..., :1] * np.arange(1, 13, dtype=np.float32), Grid((4, 3))),
        ("all as near", x[..., :3], Grid((3,), wrap=True)),
    ):
        value, grad = jax.value_and_grad(losses.response_loss)(of, grid)
        assert value == 0.5 and not grad.any(), name


@every_loss
def test_what_is_not_finite_is_seen(loss):
    f, of = LOSSES[loss]
    x = of(Grid((4, 3)))
    x[0, 0, 0, 3] = np.nan
    assert np.isnan(f(x, Grid((4, 3))))


@pytest.mark.parametrize("loss", ["topoloss", "weight_similarity_loss"])
def test_filters_lie_along_any_axis(loss):
    f = getattr(losses, loss)
    x, grid = kernel(12), Grid((4, 3))
    np.testing.assert_allclose(f(np.moveaxis(x, -1, 0), grid, axis=0), f(x, grid), atol=1e-6)


def test_alike_filters_lose_nothing():
    x, grid = np.ones((5, 12), np.float32), Grid((4, 3))
    np.testing.assert_allclose(
        [f(x, grid) for f in (losses.topoloss, losses.weight_similarity_loss)], 0, atol=1e-6
    )


WRONG = {
    "another grid": (lambda: losses.topoloss(kernel(12), Grid((5, 2))), "12 units on axis -1, .* holds 10"),
    "a bias": (lambda: losses.topoloss(np.ones(12), Grid((4, 3))), "A bias has none"),
    "no axis": (lambda: losses.weight_similarity_loss(kernel(12), Grid((4, 3)), axis=4), "no axis 4"),
    "no grid": (lambda: losses.weight_similarity_loss(kernel(12), (4, 3)), "must be a Grid"),
    "below 1": (lambda: losses.topoloss(kernel(12), Grid((4, 3)), factor=0.5), "from 1 to 4.*got 0.5"),
    "too coarse": (lambda: losses.topoloss(kernel(12), Grid((4, 3)), factor=5), "from 1 to 4.*got 5"),
    "no number": (lambda: losses.topoloss(kernel(12), Grid((4, 3)), factor=None), "from 1 to 4.*got None"),
    "nan": (lambda: losses.topoloss(kernel(12), Grid((4, 3)), factor=np.nan), "from 1 to 4.*got nan"),
    "three": (lambda: losses.topoloss(kernel(12), Grid((4, 3)), factor=(1, 2, 3)), "or 2 of them"),
    "one unit": (lambda: losses.weight_similarity_loss(kernel(1), Grid((1,))), "no neighbours"),
    "one dimension": (lambda: losses.response_loss(np.ones(12), Grid((4, 3))), r"got shape \(12,\)"),
    "other units": (lambda: losses.response_loss(np.ones((5, 12)), Grid((4, 2))), "12 units, .* holds 8"),
    "a sample": (lambda: losses.response_loss(np.ones((1, 12)), Grid((4, 3))), "at least 2 samples"),
    "no key": (lambda: losses.response_loss(np.ones((5, 600)), Grid((600,))), "500 of 600 .* needs a key"),
    "most": (
        lambda: losses.response_loss(np.ones((5, 12)), Grid((4, 3)), most=1),
        "at least 2 units, got 1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    call, message = WRONG[case]
    with pytest.raises((ValueError, TypeError), match=message):
        call()
