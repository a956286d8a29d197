"""The registry: every metric by name, fed by what it says it takes."""

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, topography

GRID = Grid((4, 4))
RESPONSES = np.random.default_rng(1).standard_normal((40, 16))
KERNEL = np.random.default_rng(0).standard_normal((3, 3, 2, 16))
GIVEN = {
    ("weights", "kernel"): KERNEL,
    ("weights", "similarity"): topography.cosines(KERNEL),
    ("responses", "similarity"): topography.correlations(RESPONSES),
    ("responses", "covariance"): np.cov(RESPONSES.T),
    ("responses", "class means"): RESPONSES[:5],
    ("responses", "selectivity"): RESPONSES[5:10],
    ("responses", "superclass selectivity"): RESPONSES[10:12],
}
NAMES = {  # As published: tables, JSON files and the atlas call them so.
    "weights: neighbour cosine",
    "weights: diagonal cosine",
    "weights: distance correlation",
    "weights: trustworthiness",
    "weights: distance preservation quality",
    "responses: neighbour correlation",
    "responses: distance correlation",
    "responses: distance preservation quality",
    "responses: Moran's I of class means",
    "responses: Moran's I of selectivity",
    "responses: Moran's I of superclass selectivity",
    "weights: dead filters",
    "responses: constant units",
    "responses: effective dimension",
    "weights: correlation by distance",
}


def test_names_stay_and_say_what_they_are_of():
    assert set(topography.METRICS) == NAMES
    for name, metric in topography.METRICS.items():
        assert name.startswith(f"{metric.of}: ") and metric.meaning.endswith(".")
    with pytest.raises(TypeError):
        topography.METRICS["weights: mine"] = None


@pytest.mark.parametrize("name", topography.METRICS)
def test_every_metric_is_fed_by_what_it_takes(name):
    metric = topography.METRICS[name]
    found = metric(GIVEN[metric.of, metric.takes], GRID, key=jax.random.key(0), permutations=20)
    if metric.kind == "scalar":
        assert np.isfinite(found).all()
    else:
        kinds = {"score": topography.Score, "curve": topography.DistanceCurve}
        assert isinstance(found, kinds[metric.kind]) and len(found.samples) == 20
        assert metric(GIVEN[metric.of, metric.takes], GRID).samples is None


@pytest.mark.parametrize(
    "name, expected",
    [
        (
            "weights: diagonal cosine",
            lambda: topography.neighbour_cosine(topography.cosines(KERNEL), GRID, pairs="diagonal").value,
        ),
        ("responses: effective dimension", lambda: topography.effective_dimension(RESPONSES)),
        ("responses: constant units", lambda: 0),
        ("weights: dead filters", lambda: (0, 0, 0)),
    ],
)
def test_a_name_is_the_function_it_says(name, expected):
    metric = topography.METRICS[name]
    found = metric(GIVEN[metric.of, metric.takes], GRID)
    assert getattr(found, "value", found) == pytest.approx(np.ravel(expected())[0], rel=1e-5)
