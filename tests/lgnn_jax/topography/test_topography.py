import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from lgnn_jax import Grid, neighbours, topography
from lgnn_jax._grid import coordinates


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def neighbour_cosine(kernel, grid, **options):
    return topography.neighbour_cosine(topography.cosines(kernel), grid, **options)


def numbers(score):
    """All that a score says, to compare."""
    return score.summary()


def plain_neighbour_cosine(rows, grid):
    values = []
    for i, j in neighbours(grid):
        a, b = rows[i].astype(np.float64), rows[j].astype(np.float64)
        values.append(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
    return np.mean(values)


@pytest.mark.parametrize("shape, axis", [((8, 8), -1), ((16, 4), 0), ((5,), -1), ((2, 3, 4), -1)])
def test_the_value_is_the_mean_cosine_over_neighbours(shape, axis):
    grid = Grid(shape)
    kernel = noise(3, 3, 5, grid.units)
    kernel = np.moveaxis(kernel, -1, axis)
    rows = np.moveaxis(kernel, axis, 0).reshape(grid.units, -1)
    score = topography.neighbour_cosine(topography.cosines(kernel, axis), grid)
    assert score.value == pytest.approx(plain_neighbour_cosine(rows, grid), abs=1e-6)
    assert score.samples is score.mean is score.low is score.high is score.z is score.p is None


def test_the_null_is_what_explicit_relabelling_gives():
    grid, kernel = Grid((4, 4)), noise(3, 3, 2, 16)
    score = neighbour_cosine(kernel, grid, key=jax.random.key(1), permutations=4000)
    rows, draw = kernel.reshape(-1, 16).T, np.random.default_rng(5)
    null = [plain_neighbour_cosine(rows[draw.permutation(16)], grid) for _ in range(2000)]
    spread = np.std(null)
    assert score.mean == pytest.approx(np.mean(null), abs=0.15 * spread)
    assert score.low == pytest.approx(np.quantile(null, 0.025), abs=0.3 * spread)
    assert score.high == pytest.approx(np.quantile(null, 0.975), abs=0.3 * spread)
    assert score.z == pytest.approx((score.value - np.mean(null)) / spread, abs=0.3)


def test_a_planted_order_is_found_and_lost_by_shuffling():
    grid = Grid((8, 8))
    angle = np.add.outer(np.linspace(0, 3, 8), np.linspace(0, 1, 8)).ravel()
    kernel = np.stack([np.cos(angle), np.sin(angle)]) + 0.1 * noise(2, 64)
    found = neighbour_cosine(kernel, grid, key=jax.random.key(0))
    assert found.z > 10 and found.value > found.high and found.p == 1 / 1001
    shuffled = kernel[:, np.random.default_rng(0).permutation(64)]
    lost = neighbour_cosine(shuffled, grid, key=jax.random.key(0))
    assert abs(lost.z) < 4 and lost.mean == pytest.approx(found.mean, abs=0.02)


def test_scale_does_not_matter_not_even_a_tiny_one():
    grid, kernel = Grid((4, 4)), noise(3, 3, 2, 16)
    scale = 10.0 ** -np.arange(16) * 1e-10
    tiny = neighbour_cosine((kernel * scale).astype(np.float32), grid)
    assert tiny.value == pytest.approx(neighbour_cosine(kernel, grid).value, abs=1e-5)


def test_filters_that_are_exactly_zero_are_left_out():
    grid, kernel = Grid((3,)), np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    score = neighbour_cosine(kernel, grid)
    assert score.value == pytest.approx(0.5**0.5) and score.left_out == 1


@pytest.mark.parametrize(
    "kernel, words",
    [(np.zeros((2, 4)), "0 of 4 are"), (np.full((2, 4), np.nan), "NaN or infinite")]
    + [(np.full((2, 4), np.inf), "NaN or infinite"), (np.eye(5), "has 5 units")],
)
def test_what_cannot_be_measured_is_an_error(kernel, words):
    with pytest.raises(ValueError, match=words):
        neighbour_cosine(kernel, Grid((2, 2)), key=jax.random.key(0))


def test_a_null_needs_relabellings():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        neighbour_cosine(noise(2, 4), Grid((2, 2)), key=jax.random.key(0), permutations=1)


def test_the_key_decides_the_null_whichever_its_kind():
    grid, kernel = Grid((4, 4)), noise(3, 3, 2, 16)
    new = neighbour_cosine(kernel, grid, key=jax.random.key(3))
    old = neighbour_cosine(kernel, grid, key=jax.random.PRNGKey(3))
    other = neighbour_cosine(kernel, grid, key=jax.random.key(4))
    assert numbers(new) == numbers(old) != numbers(other)
    np.testing.assert_array_equal(new.samples, old.samples)


# All metrics with a null, on an array with the units on its last axis.


def codebook_error(kernel, grid, **null):
    samples = np.random.default_rng(7).standard_normal((500, kernel.shape[0])).astype(np.float32)
    return topography.topographic_error(kernel.T, samples, grid, **null)


def of_cosines(name, **options):
    """A metric of a kernel's cosines, which is given the kernel."""
    metric = getattr(topography, name)
    return lambda kernel, grid, **null: metric(topography.cosines(kernel), grid, **options, **null)


def of_correlations(name, **options):
    metric = getattr(topography, name)
    return lambda x, grid, **null: metric(topography.correlations(x), grid, **options, **null)


SCORES = {
    "neighbours": of_cosines("neighbour_cosine"),
    "diagonal": of_cosines("neighbour_cosine", pairs="diagonal"),
    "mantel": of_cosines("distance_correlation"),
    "mantel of responses": of_correlations("distance_correlation"),
    "moran": topography.morans_i,
    "moran, binary": lambda *args, **null: topography.morans_i(*args, transformation="b", **null),
    "trustworthiness": of_cosines("trustworthiness"),
    "dpq": of_cosines("distance_preservation_quality"),
    "dpq, best": of_cosines("distance_preservation_quality", ties="best"),
    "topographic error": codebook_error,
}
OF_SIMILARITY = {
    name: getattr(topography, name)
    for name in (
        "neighbour_cosine",
        "distance_correlation",
        "trustworthiness",
        "distance_preservation_quality",
        "correlation_by_distance",
    )
}
OF_UNITS = list(OF_SIMILARITY)[:4]  # Those that give a score.
every_score = pytest.mark.parametrize("metric", SCORES.values(), ids=SCORES)
# Where hundreds of scores are compared, by default a metric in one form.
ANOTHER_FORM = ("diagonal", "mantel of responses", "moran, binary", "dpq, best")
one_form = pytest.mark.parametrize(
    "metric",
    [
        pytest.param(score, marks=[pytest.mark.slow] * (name in ANOTHER_FORM))
        for name, score in SCORES.items()
    ],
    ids=SCORES,
)


def smooth_map(m, n, seed=0):
    """Filters of 6 weights that are smooth functions of the position, slightly noisy."""
    rows, columns = np.meshgrid(np.linspace(0, 1, m), np.linspace(0, 1, n), indexing="ij")
    waves = [rows, columns, rows * columns, np.cos(3 * rows), np.sin(3 * columns), rows - columns]
    kernel = np.stack([wave.ravel() - wave.mean() for wave in waves])
    return (kernel + 0.05 * noise(6, m * n, seed=seed)).astype(np.float32)


@one_form
def test_noise_stays_within_its_band_about_nineteen_times_in_twenty(metric):
    grid, outside = Grid((8, 8)), 0
    for seed in range(100):
        score = metric(noise(6, 64, seed=seed), grid, key=jax.random.key(seed), permutations=100)
        outside += not score.low <= score.value <= score.high
    assert 1 <= outside <= 12  # 5 % of 100 is 5; a binomial leaves these bounds once in 100.


@every_score
def test_a_smooth_map_is_far_outside_the_band_until_its_units_are_shuffled(metric):
    grid, kernel = Grid((8, 8)), smooth_map(8, 8)
    found = metric(kernel, grid, key=jax.random.key(0))
    assert abs(found.z) > 8 and not found.low <= found.value <= found.high and found.p == 1 / 1001
    assert (found.z > 0) == (metric is not codebook_error)
    shuffled = kernel[:, np.random.default_rng(0).permutation(64)]
    lost = metric(shuffled, grid, key=jax.random.key(0))
    assert abs(lost.z) < 4 and lost.mean == pytest.approx(found.mean, abs=0.05)


@every_score
def test_flips_and_turns_of_the_grid_change_nothing(metric):
    kernel = smooth_map(5, 4, seed=3)
    value = metric(kernel, Grid((5, 4))).value
    plane = kernel.reshape(6, 5, 4)
    for turned in (plane[:, ::-1], plane[:, :, ::-1], plane.transpose(0, 2, 1)):
        again = metric(turned.reshape(6, -1).copy(), Grid(turned.shape[1:]))
        assert again.value == pytest.approx(value, abs=2e-6)


@one_form
def test_the_null_is_the_metric_of_relabelled_units(metric):
    grid, kernel = Grid((4, 5)), noise(6, 20)
    score = metric(kernel, grid, key=jax.random.key(2), permutations=2000)
    draw = np.random.default_rng(1)
    count = 600 if metric is SCORES["dpq"] else 150  # Skewed, so its upper quantile scatters.
    null = np.array([metric(kernel[:, draw.permutation(20)], grid).value for _ in range(count)])
    assert score.mean == pytest.approx(null.mean(), abs=0.3 * null.std())
    assert score.high - score.low == pytest.approx(np.ptp(np.quantile(null, (0.025, 0.975))), rel=0.25)
    assert score.z == pytest.approx((score.value - null.mean()) / null.std(), abs=0.5)


@every_score
def test_what_the_null_cannot_be_drawn_from_is_an_error(metric):
    with pytest.raises(ValueError, match="at least 2, got 1"):
        metric(noise(6, 16), Grid((4, 4)), key=jax.random.key(0), permutations=1)
    with pytest.raises(ValueError, match="has 15 units, but a grid of 4x4 holds 16"):
        metric(noise(6, 15), Grid((4, 4)))
    with pytest.raises(ValueError, match="NaN or infini"):
        metric(np.full((6, 16), np.nan), Grid((4, 4)))
    with pytest.raises(ValueError, match="identical|constant"):
        metric(np.ones((6, 16)), Grid((4, 4)), key=jax.random.key(0))
    with pytest.raises(ValueError, match="no two|at least two|touch"):
        metric(noise(6, 1), Grid((1,)))


def test_two_units_leave_the_null_without_spread():
    kernel, key = noise(6, 2), jax.random.key(0)
    assert np.isfinite(neighbour_cosine(kernel, Grid((2,))).value)
    for metric in (neighbour_cosine, topography.morans_i, of_cosines("correlation_by_distance")):
        with pytest.raises(ValueError, match="the same value"):
            metric(kernel, Grid((2,)), key=key)


@pytest.mark.parametrize("metric", OF_SIMILARITY)
def test_a_common_offset_hides_no_identical_filters(metric):
    same = 5 + noise(40, 1) * np.linspace(1, 2, 16, dtype=np.float32)
    with pytest.raises(ValueError, match="identical up to their scale"):
        of_correlations(metric)(same, Grid((4, 4)))
    of_cosines(metric)(same, Grid((4, 4)))  # Directions differ by the offset.


def similarity_of(kernel, centre):
    return topography.correlations(kernel) if centre else topography.cosines(kernel)


def cosine_matrix(rows):
    return 1 - scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(rows.astype(float), "cosine"))


@pytest.mark.parametrize("shape", [(8, 8), (7, 3), (30,), (2, 3, 4)])
@pytest.mark.parametrize("centre", [False, True])
def test_distance_correlation_is_scipys_pearson_over_pairs(shape, centre):
    grid = Grid(shape)
    kernel = 1 + noise(20, grid.units)
    found = topography.distance_correlation(similarity_of(kernel, centre), grid)
    metric = "correlation" if centre else "cosine"
    similarity = 1 - scipy.spatial.distance.pdist(kernel.T.astype(float), metric)
    closeness = 1 / (1 + scipy.spatial.distance.pdist(coordinates(grid).astype(float)))
    assert found.value == pytest.approx(scipy.stats.pearsonr(similarity, closeness)[0], abs=2e-6)


def test_cosines_that_are_nearly_1_keep_their_digits():
    grid, errors = Grid((32, 16)), []
    closeness = 1 / (1 + scipy.spatial.distance.pdist(coordinates(grid).astype(float)))
    for seed in range(4):
        kernel = 30 + noise(50, 512, seed=seed)
        similarity = 1 - scipy.spatial.distance.pdist(kernel.T.astype(float), "cosine")
        expected = scipy.stats.pearsonr(similarity, closeness)[0]
        found = topography.distance_correlation(topography.cosines(kernel), grid)
        errors.append(abs(found.value - expected))
    assert max(errors) < 2e-5  # 6e-5 where the mean cosine stays in the float32 sums.


@pytest.mark.parametrize("pairs", ["neighbours", "diagonal", "all"])
@pytest.mark.parametrize("centre", [False, True])
def test_the_mean_runs_over_the_pairs_asked_for(pairs, centre):
    grid, kernel = Grid((5, 4)), 1 + noise(20, 20)
    found = topography.neighbour_cosine(similarity_of(kernel, centre), grid, pairs=pairs)
    rows = kernel.T - kernel.T.mean(1, keepdims=True) if centre else kernel.T
    step = np.abs(np.diff(coordinates(grid)[np.stack(np.triu_indices(20, 1), 1)], axis=1))[:, 0]
    chosen = {"neighbours": step.sum(1) == 1, "diagonal": (step == 1).all(1), "all": step.sum(1) > 0}[pairs]
    expected = cosine_matrix(rows)[np.triu_indices(20, 1)][chosen].mean()
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_all_pairs_are_their_own_null():
    found = neighbour_cosine(noise(6, 16), Grid((4, 4)), pairs="all", key=jax.random.key(0))
    assert found.mean == found.low == found.high == pytest.approx(found.value, abs=1e-12)
    assert found.z == 0 and found.p == 1 and found.samples.shape == (1000,)
    with pytest.raises(ValueError, match="'some'"):
        neighbour_cosine(noise(6, 16), Grid((4, 4)), pairs="some")


def test_a_line_has_no_diagonal_neighbours():
    with pytest.raises(ValueError, match="no two diagonally neighbouring"):
        neighbour_cosine(noise(6, 16), Grid((16,)), pairs="diagonal")


by_distance = of_cosines("correlation_by_distance")


@pytest.mark.parametrize("width", [1.0, 0.5, 2.5])
def test_bins_hold_mean_error_and_count_of_their_pairs(width):
    grid, kernel = Grid((6, 5)), noise(20, 30)
    kernel[:, 7] = 0
    curve = by_distance(kernel, grid, width=width)
    bins = {}
    for i in range(30):
        for j in range(i):
            if 7 not in (i, j):
                distance = np.linalg.norm(coordinates(grid)[i] - coordinates(grid)[j])
                cosine = 1 - scipy.spatial.distance.cosine(
                    kernel[:, i].astype(float), kernel[:, j].astype(float)
                )
                bins.setdefault(int(distance / width + 0.5), []).append((distance, cosine))
    expected = [np.array(bins[index]) for index in sorted(bins)]
    np.testing.assert_array_equal(curve.pairs, [len(bin) for bin in expected])
    np.testing.assert_allclose(curve.distance, [bin[:, 0].mean() for bin in expected], atol=1e-6)
    np.testing.assert_allclose(curve.mean, [bin[:, 1].mean() for bin in expected], atol=1e-6)
    errors = [scipy.stats.sem(bin[:, 1]) if len(bin) > 1 else np.nan for bin in expected]
    np.testing.assert_allclose(curve.error, errors, atol=1e-6)
    assert curve.left_out == 1
    assert curve.samples is curve.null_mean is curve.null_low is curve.null_high is None


def test_every_bin_has_its_band():
    grid, key = Grid((8, 8)), jax.random.key(0)
    draws = [by_distance(noise(6, 64, seed=n), grid, key=key) for n in range(40)]
    outside = [~((d.null_low <= d.mean) & (d.mean <= d.null_high)) for d in draws]
    assert 0.02 < np.mean(outside) < 0.09
    curve = by_distance(smooth_map(8, 8), grid, key=key)
    assert curve.mean[0] > curve.null_high[0] + 0.3 and curve.mean[6] < curve.null_low[6] - 0.1
    kernel, relabel = noise(6, 64), np.random.default_rng(3)
    null = np.stack([by_distance(kernel[:, relabel.permutation(64)], grid).mean for _ in range(150)])
    found = by_distance(kernel, grid, key=key)
    np.testing.assert_array_less(np.abs(found.null_mean - null.mean(0)), 0.3 * null.std(0))
    np.testing.assert_array_less(
        np.abs(found.null_high - np.quantile(null, 0.975, axis=0)), 0.7 * null.std(0)
    )


def test_bins_have_a_width():
    for width in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="width must be a positive"):
            by_distance(noise(6, 16), Grid((4, 4)), width=width)


@pytest.mark.parametrize("metric", OF_UNITS)
def test_dead_units_are_left_out_as_if_they_were_not_there(metric):
    metric = of_correlations(metric)
    responses = noise(50, 20) + 3
    responses[:, [4, 11]] = 0.1  # Its mean in float32 is not 0.1.
    found = metric(responses, Grid((20,)), key=jax.random.key(0))
    assert found.left_out == 2 and np.isfinite(found.samples).all()
    responses[:, [4, 11]] = 7
    assert numbers(metric(responses, Grid((20,)), key=jax.random.key(0))) == numbers(found)
    edge = noise(50, 20) + 3
    edge[:, 18:] = 0
    without = metric(edge[:, :18], Grid((18,)), key=jax.random.key(0))
    again = metric(edge, Grid((20,)), key=jax.random.key(0))
    assert again.value == pytest.approx(without.value, abs=1e-5)
    np.testing.assert_allclose(again.samples, without.samples, atol=1e-5)  # The same live units and null.


def plain_moran(x, shape, transformation):
    position = np.indices(shape).reshape(len(shape), -1).T
    weights = (np.abs(position[:, None] - position[None]).max(-1) == 1).astype(float)
    if transformation == "r":
        weights /= weights.sum(1, keepdims=True)
    x = x.astype(float) - x.astype(float).mean()
    return x.size / weights.sum() * (x @ weights @ x) / (x @ x)


@pytest.mark.parametrize("transformation", ["r", "b"])
@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (30,), (2, 3, 4)])
def test_morans_i_is_its_formula(shape, transformation):
    grid = Grid(shape)
    maps = 100 + 1e-2 * noise(2, 3, grid.units)
    expected = np.mean([plain_moran(x, shape, transformation) for x in maps.reshape(6, -1)])
    found = topography.morans_i(maps, grid, transformation=transformation)
    assert found.value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("transformation", ["r", "b"])
def test_morans_i_is_esdas(transformation):
    esda = pytest.importorskip("esda", reason="esda brings 250 MB of geography; pip install esda libpysal")
    import libpysal

    x = noise(30)
    expected = esda.Moran(
        x, libpysal.weights.lat2W(6, 5, rook=False), transformation=transformation, permutations=999
    )
    found = topography.morans_i(
        x, Grid((6, 5)), transformation=transformation, key=jax.random.key(0), permutations=4000
    )
    assert found.value == pytest.approx(expected.I, abs=1e-6)
    assert found.null_mean == pytest.approx(expected.EI, abs=0.01)
    deviation = (found.value - found.null_mean) / found.z
    assert deviation == pytest.approx(expected.seI_rand, rel=0.05)


def test_the_null_of_noise_is_as_wide_as_known():
    for shape, band in (((8, 8), 0.13), ((16, 16), 0.065), ((16, 32), 0.046)):
        score = topography.morans_i(noise(1, shape[0] * shape[1]), Grid(shape), key=jax.random.key(0))
        assert score.high == pytest.approx(band, rel=0.15)
        assert score.mean == pytest.approx(-1 / (shape[0] * shape[1] - 1), abs=0.01)


def test_constant_maps_are_left_out_and_counted():
    maps, grid = noise(4, 16), Grid((4, 4))
    with_constant = np.concatenate([maps, np.full((2, 16), 0.1, np.float32)])
    found = topography.morans_i(with_constant, grid)
    assert found.left_out == 2
    assert found.value == pytest.approx(topography.morans_i(maps, grid).value, abs=1e-6)
    with pytest.raises(ValueError, match="All 3 maps are constant"):
        topography.morans_i(np.full((3, 16), 0.1), grid)
    with pytest.raises(ValueError, match="maps of shape .4, 15. has 15 units"):
        topography.morans_i(maps[:, 1:], grid)
    with pytest.raises(ValueError, match="'row'"):
        topography.morans_i(maps, grid, transformation="row")


@pytest.mark.parametrize(
    "curve, expected", [([0.25, 0.75, 1.0], 0.75), ([0, 1], 1), ([2, 1], 0), ([0.5, 1, 0.8], 0.5)]
)
def test_smoothness(curve, expected):
    assert topography.smoothness(curve) == expected


@pytest.mark.parametrize(
    "curve, words",
    [([1.0], "at least two"), ([[1.0, 2.0]], r"shape \(1, 2\)"), ([0.1, np.nan], "NaN")]
    + [([0.0, 0.0], "not all 0"), ([-0.5, 0.5], "none negative")],
)
def test_a_curve_without_smoothness_is_an_error(curve, words):
    with pytest.raises(ValueError, match=words):
        topography.smoothness(curve)


@pytest.mark.parametrize("images, units", [(200, 10), (10, 200), (30, 30)])
@pytest.mark.parametrize("scale", [1e-25, 1, 1e25])
def test_the_effective_dimension_is_that_of_a_pca(images, units, scale):
    responses = 5 + noise(images, units) * np.linspace(0.1, 2, units, dtype=np.float32)
    values = np.linalg.eigvalsh(np.cov(responses.T.astype(float)))
    found = topography.effective_dimension((responses * scale).astype(np.float32))
    assert found == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-3)


def test_identical_units_have_one_dimension_and_independent_ones_all():
    same = np.repeat(noise(50, 1), 20, axis=1)
    assert topography.effective_dimension(same) == pytest.approx(1, abs=1e-5)
    basis = np.linalg.qr(np.concatenate([np.ones((64, 1)), noise(64, 20)], axis=1))[0][:, 1:]
    assert topography.effective_dimension(basis) == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(
    "responses, words",
    [(np.full((9, 4), 0.1), "vary"), (np.full((9, 4), np.nan), "NaN"), (np.ones((1, 4)), "two images")]
    + [(np.ones(4), "images, units"), (np.ones((4, 0)), "images, units")],
)
def test_what_has_no_dimension_is_an_error(responses, words):
    with pytest.raises(ValueError, match=words):
        topography.effective_dimension(responses)


def test_dead_filters_are_zero_or_under_a_thousandth_of_the_median():
    sizes = np.array([1, 1, 2, 0, 1e-4, 0.9e-3, 1.1e-3, 1, 1, 1, 99, 1], np.float32)
    kernel = np.ones((3, 3, 2, 12), np.float32) * sizes
    assert topography.dead_share(kernel) == (3 / 12, 1, 2)
    assert topography.dead_share(kernel, threshold=0) == (1 / 12, 1, 0)
    assert topography.dead_share(np.zeros((3, 12))) == (1, 12, 0)
    assert topography.dead_share(np.moveaxis(kernel, -1, 0), 0) == (3 / 12, 1, 2)
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        topography.dead_share(kernel, threshold=2)
    with pytest.raises(ValueError, match="NaN"):
        topography.dead_share(np.full((3, 8), np.inf))
    with pytest.raises(ValueError, match="no filters"):
        topography.dead_share(np.ones((3, 0)))


def test_the_dimension_of_a_covariance_is_that_of_the_responses():
    responses = noise(50, 12) * np.linspace(0.1, 2, 12, dtype=np.float32)
    found = topography.participation_ratio(np.cov(responses.T))
    assert found == pytest.approx(topography.effective_dimension(responses), rel=1e-5)
    for matrix, words in (
        (np.ones((2, 3)), "units, units"),
        (np.eye(2) * np.nan, "NaN"),
        (0 * np.eye(2), "vary"),
    ):
        with pytest.raises(ValueError, match=words):
            topography.participation_ratio(matrix)


trustworthiness = of_cosines("trustworthiness")


def test_trustworthiness_is_scikit_learns_where_the_grid_has_no_ties():
    sklearn = pytest.importorskip("sklearn.manifold", reason="the reference for trustworthiness")
    for count in (12, 40):
        kernel, line = noise(6, count), np.arange(count)[:, None]
        found = trustworthiness(kernel, Grid((count,)), neighbours=2).value
        expected = sklearn.trustworthiness(kernel.T, line, n_neighbors=2, metric="cosine")
        assert found == pytest.approx(expected, abs=1e-6)


def test_trustworthiness_is_the_mean_of_scikit_learns_over_ways_to_break_ties():
    sklearn = pytest.importorskip("sklearn.manifold", reason="the reference for trustworthiness")
    grid, kernel, draw = Grid((6, 5)), smooth_map(6, 5), np.random.default_rng(0)
    nudged = [coordinates(grid) + 1e-4 * draw.standard_normal((30, 2)) for _ in range(100)]
    for k in (1, 5, 8):
        expected = [
            sklearn.trustworthiness(kernel.T, place, n_neighbors=k, metric="cosine") for place in nudged
        ]
        found = trustworthiness(kernel, grid, neighbours=k).value
        assert found == pytest.approx(np.mean(expected), abs=4 * np.std(expected) / 10)


def test_equal_cosines_share_their_mean_rank():
    kernel = np.array([[1, 0, 1, 1, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0, 1, 1]], np.float32)
    apart, penalty = kernel[0][:, None] != kernel[0], 0
    line = [(i, i + 1) for i in range(7)]
    for i, j in [*line, *(pair[::-1] for pair in line), (0, 2), (7, 5)]:
        penalty += max(0, scipy.stats.rankdata(np.delete(apart[i], i))[j - (j > i)] - 2)
    found = trustworthiness(kernel, Grid((8,)), neighbours=2).value
    assert found == pytest.approx(1 - 2 / (8 * 2 * (16 - 6 - 1)) * penalty, abs=1e-6)


@pytest.mark.parametrize("neighbours", [0, 8, 20])
def test_trustworthiness_looks_at_less_than_half(neighbours):
    with pytest.raises(ValueError, match=f"half of the 16 live units, got {neighbours}"):
        trustworthiness(noise(6, 16), Grid((4, 4)), neighbours=neighbours)


def minisom(weights, samples):
    """``quantization_error`` and ``topographic_error`` of MiniSom, ``weights`` being ``(m, n, d)``."""
    m, n, d = weights.shape
    distance = np.linalg.norm(samples[:, None] - weights.reshape(1, m * n, d), axis=-1)
    closest = np.argsort(distance, axis=1)[:, :2]
    place = np.stack(np.unravel_index(closest, (m, n)), axis=-1)
    step = np.linalg.norm(place[:, 1] - place[:, 0], axis=-1)
    return distance.min(axis=1).mean(), (step > 1.42).mean()


@pytest.mark.parametrize("offset", [0, 100])
def test_the_errors_of_a_map_are_minisoms(offset):
    weights = noise(6, 5, 3).astype(np.float64) + offset
    samples = noise(400, 3, seed=1).astype(np.float64) + offset
    error, share = minisom(weights, samples)
    grid, codebook = Grid((6, 5)), weights.reshape(30, 3)
    assert topography.quantisation_error(codebook, samples) == pytest.approx(error, rel=1e-5)
    assert topography.topographic_error(codebook, samples, grid).value == pytest.approx(share, abs=1e-6)
    assert topography.quantisation_error(codebook, codebook) == pytest.approx(0, abs=1e-4)


def on_a_square(codebook, samples):
    return topography.topographic_error(codebook, samples, Grid((3, 3)))


@pytest.mark.parametrize("metric", [topography.quantisation_error, on_a_square])
def test_samples_and_codebook_must_fit(metric):
    codebook, samples = noise(9, 3), noise(20, 3)
    with pytest.raises(ValueError, match=r"samples must be \(n, 3\).*got \(20, 2\)"):
        metric(codebook, samples[:, :2])
    with pytest.raises(ValueError, match="samples must be"):
        metric(codebook, samples[:0])
    with pytest.raises(ValueError, match=r"codebook must be \(units, d\), got shape \(9, 1, 3\)"):
        metric(codebook[:, None], samples)
    with pytest.raises(ValueError, match="samples hold NaN or infini"):
        metric(codebook, samples * np.nan)
    with pytest.raises(ValueError, match="codebook holds NaN or infini"):
        metric(codebook * np.nan, samples)
    with pytest.raises(ValueError, match="All 9 units of the codebook are identical"):
        metric(np.ones((9, 3)), samples)
    with pytest.raises(ValueError, match="codebook has 8 units, but a grid of 3x3 holds 9"):
        on_a_square(codebook[1:], samples)


def test_a_grid_whose_units_all_touch_has_no_topographic_error():
    with pytest.raises(ValueError, match="All units of a grid of 2x2 touch"):
        topography.topographic_error(noise(4, 3), noise(20, 3), Grid((2, 2)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, np.int32])
def test_short_types_are_widened(dtype):
    kernel = jnp.asarray(4 * noise(6, 16)).astype(dtype)
    wide = np.asarray(kernel.astype(jnp.float32))
    for metric in (of_cosines("distance_correlation"), topography.morans_i, trustworthiness):
        assert metric(kernel, Grid((4, 4))).value == pytest.approx(
            metric(wide, Grid((4, 4))).value, abs=1e-6
        )
    assert topography.effective_dimension(kernel) == pytest.approx(topography.effective_dimension(wide))


def test_identical_filters_score_nowhere():
    for kernel in (np.ones((3, 3, 2, 16)), noise(6, 1) * np.linspace(1e-8, 1, 16)):
        with pytest.raises(ValueError, match="16 live units of similarity are identical up to their scale"):
            neighbour_cosine(kernel, Grid((4, 4)))


def test_orthogonal_filters_have_no_null():
    basis = np.eye(16, dtype=np.float32)
    assert neighbour_cosine(basis, Grid((4, 4))).value == 0
    with pytest.raises(ValueError, match="the same value"):
        neighbour_cosine(basis, Grid((4, 4)), key=jax.random.key(0))
    for metric in ("distance_correlation", "distance_preservation_quality"):
        with pytest.raises(ValueError, match="cosines between the 16 live units are all the same"):
            of_cosines(metric)(basis, Grid((4, 4)))
