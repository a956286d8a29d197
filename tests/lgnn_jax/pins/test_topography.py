"""Every metric on fixed inputs: values, nulls, what is left out, and the words of every error."""

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, topography
from tests.golden import Golden, message

PERMUTATIONS = 100

# Calls into the library. An array has its units on ``axis``; ``centre`` is for responses.


def metric(name, array, shape, axis=-1, *, key=3, permutations=PERMUTATIONS, centre=False, **options):
    if name == "morans_i":
        given = np.moveaxis(array, axis, -1)
    else:
        given = topography.correlations(array) if centre else topography.cosines(array, axis)
    return of_similarity(name, given, shape, key=key, permutations=permutations, **options)


def dead_share(array, axis=-1, **options):
    return topography.dead_share(array, axis, **options)


def topographic_error(codebook, samples, shape, axis=0, *, key=3, permutations=PERMUTATIONS):
    key = None if key is None else jax.random.key(key)
    units_first = np.moveaxis(codebook, axis, 0)
    return topography.topographic_error(
        units_first, samples, Grid(shape), key=key, permutations=permutations
    )


def quantisation_error(codebook, samples, axis=0):
    return topography.quantisation_error(np.moveaxis(codebook, axis, 0), samples)


def of_similarity(name, similarity, shape, *, key=3, permutations=PERMUTATIONS, **options):
    """A metric of a matrix of similarities."""
    key = None if key is None else jax.random.key(key)
    return getattr(topography, name)(similarity, Grid(shape), key=key, permutations=permutations, **options)


def fields(result):
    """A result as a dict of numbers and arrays."""
    if hasattr(result, "summary"):
        return {name: value for name, value in result.summary().items() if name != "p"}
    return result._asdict() if hasattr(result, "_asdict") else {"value": result}


# Inputs.


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ordered(shape, lead, seed=0):
    """Filters that turn slowly over the grid, with noise, the units on the last axis."""
    places = np.indices(shape).reshape(len(shape), -1)
    waves = draw(int(np.prod(lead)), len(shape), seed=seed) @ (places / 3)
    noise = 0.3 * draw(*lead, places.shape[1], seed=seed + 1)
    return (np.cos(waves).reshape(*lead, -1) + noise).astype(np.float32)


def changed(array, change):
    array = array.copy()
    change(array)
    return array


def dead(array):
    array[..., 5] = 0
    array[..., 11] = 0
    array[..., 1] *= 1e-5


def constant(array):
    array[..., 5] = 1.5
    array[..., 11] = 0


def identical(array):
    array[..., 7] = array[..., 6]
    array[..., 8] = 2 * array[..., 6]


def balanced(images, units):
    """Signs, as many of each in every unit: cosines and means without rounding, so that ties are exact."""
    half = np.repeat(np.array([-1, 1], np.float32), images // 2)
    return np.random.default_rng(2).permuted(np.tile(half, (units, 1)), axis=1).T


PLANE = ordered((6, 4), (3, 3, 5))
RESPONSES = ordered((6, 4), (40,), seed=4)
INPUTS = {  # Array, grid, axis, options.
    "noise on a plane": (draw(3, 3, 5, 24), (6, 4), -1, {}),
    "plane": (PLANE, (6, 4), -1, {}),
    "plane, units first": (np.moveaxis(PLANE, -1, 0), (6, 4), 0, {}),
    "plane, third axis": (np.moveaxis(PLANE, -1, 2), (6, 4), -2, {}),
    "line": (ordered((16,), (1, 1, 9)), (16,), -1, {}),
    "column": (ordered((11, 1), (3, 3, 2)), (11, 1), -1, {}),
    "three dimensions": (ordered((2, 3, 4), (3, 3, 4)), (2, 3, 4), -1, {}),
    "float16": (PLANE.astype(np.float16), (6, 4), -1, {}),
    "tiny": ((PLANE * 1e-22).astype(np.float32), (6, 4), -1, {}),
    "dead": (changed(PLANE, dead), (6, 4), -1, {}),
    "constant without centring": (changed(RESPONSES, constant), (6, 4), -1, {}),
    "identical": (changed(PLANE, identical), (6, 4), -1, {}),
    "tied": (np.sign(draw(2, 2, 4, 24, seed=2)), (6, 4), -1, {}),
    "responses": (RESPONSES, (6, 4), -1, {"centre": True}),
    "responses, constant": (changed(RESPONSES, constant), (6, 4), -1, {"centre": True}),
    "responses, identical": (changed(RESPONSES, identical), (6, 4), -1, {"centre": True}),
    "responses, tied": (balanced(16, 24), (6, 4), -1, {"centre": True}),
}
METRICS = {
    "neighbour cosine": ("neighbour_cosine", {}),
    "diagonal cosine": ("neighbour_cosine", {"pairs": "diagonal"}),
    "cosine of all pairs": ("neighbour_cosine", {"pairs": "all"}),
    "distance correlation": ("distance_correlation", {}),
    "trustworthiness of 5": ("trustworthiness", {}),
    "correlation by distance": ("correlation_by_distance", {}),
}
ON_A_PLANE = METRICS | {
    "trustworthiness of 3": ("trustworthiness", {"neighbours": 3}),
    "correlation by distance, wide bins": ("correlation_by_distance", {"width": 1.5}),
}
MAPS = {
    "class means": (ordered((6, 4), (6,), seed=6), (6, 4), -1),
    "one map": (ordered((6, 4), (1,), seed=6)[0], (6, 4), -1),
    "units first": (ordered((16,), (5,), seed=6).T, (16,), 0),
    "three dimensions": (ordered((2, 3, 4), (5,), seed=6), (2, 3, 4), -1),
    "constant maps": (
        np.concatenate([ordered((6, 4), (4,)), np.full((2, 24), 3.0, np.float32)]),
        (6, 4),
        -1,
    ),
    "tied": (np.round(ordered((6, 4), (6,), seed=8)), (6, 4), -1),
    "noise": (draw(6, 24, seed=9), (6, 4), -1),
}
CODEBOOKS = {
    "plane": (ordered((6, 4), (3,), seed=10).T, (6, 4), 0),
    "line, units last": (ordered((16,), (3,), seed=10), (16,), -1),
    "three dimensions": (ordered((3, 2, 4), (3,), seed=10).T, (3, 2, 4), 0),
    "identical": (changed(ordered((6, 4), (3,), seed=10), identical).T, (6, 4), 0),
}
SAMPLES = draw(60, 3, seed=11)


def similarity():
    """Correlations of responses, with a dead unit."""
    found = np.corrcoef(RESPONSES.T)
    found[3] = found[:, 3] = 0
    return found


def cases():
    for name, (array, shape, axis, options) in INPUTS.items():
        for title, (call, extra) in (ON_A_PLANE if name == "plane" else METRICS).items():
            if title == "diagonal cosine" and sum(length > 1 for length in shape) < 2:
                continue  # A line has no diagonals.
            yield (
                f"{title}: {name}",
                lambda a=(call, array, shape, axis), o=options | extra: metric(*a, **o),
            )
        for threshold in () if options else (1e-3, 0.9):  # Of weights.
            options_of = {"threshold": threshold}
            yield (
                f"dead share below {threshold}: {name}",
                lambda a=(array, axis), o=options_of: dead_share(*a, **o),
            )
    for title, (call, extra) in ON_A_PLANE.items():
        yield f"{title}: no null", lambda c=call, o=extra: metric(c, PLANE, (6, 4), key=None, **o)
        yield f"{title}: other key", lambda c=call, o=extra: metric(c, PLANE, (6, 4), key=4, **o)
        yield f"{title}: of similarity", lambda c=call, o=extra: of_similarity(c, similarity(), (6, 4), **o)
    for name, given in MAPS.items():
        for kind in "rb":
            yield (
                f"Moran's I, {kind}: {name}",
                lambda g=given, k=kind: metric("morans_i", *g, transformation=k),
            )
    yield "Moran's I: no null", lambda: metric("morans_i", *MAPS["class means"], key=None)
    for name, (codebook, shape, axis) in CODEBOOKS.items():
        given = codebook, SAMPLES, shape, axis
        yield f"topographic error: {name}", lambda g=given: topographic_error(*g)
        yield f"quantisation error: {name}", lambda g=(codebook, SAMPLES, axis): quantisation_error(*g)
    yield (
        "topographic error: no null",
        lambda: topographic_error(CODEBOOKS["plane"][0], SAMPLES, (6, 4), key=None),
    )
    for name in ("responses", "responses, constant", "responses, tied"):
        yield (
            f"effective dimension: {name}",
            lambda a=INPUTS[name][0]: topography.effective_dimension(a),
        )
    yield "smoothness", lambda: topography.smoothness([0.3, 0.2, 0.9, 1.2])


CASES = dict(cases())
values = Golden(__file__, "topography", loose={"z": 1e-3})


def param(case):
    """With every grid new programs are compiled, so a grid more is for the slow run."""
    return pytest.param(case, marks=pytest.mark.slow if case.endswith(": column") else ())


@pytest.mark.parametrize("case", [param(case) for case in CASES])
def test_values(case):
    values.check(case, fields(CASES[case]()))


def test_no_value_is_pinned_in_vain():
    values.check_cases(CASES)


# Errors.


def bad(name, array, shape=(6, 4), axis=-1, **options):
    return lambda: metric(name, array, shape, axis, **options)


NAN = changed(PLANE, lambda x: x.__setitem__((0, 0, 0, 3), np.nan))
NAN_RESPONSES = changed(RESPONSES, lambda x: x.__setitem__((0, 3), np.inf))
ONE_ALIVE = changed(PLANE, lambda x: x.__setitem__((..., slice(1, None)), 0))
ALIKE = np.repeat(PLANE[..., :1], 24, -1)
FAR = changed(PLANE, lambda x: x.__setitem__((..., slice(1, 23)), 0))  # The two corners alone.
THREE = np.eye(3, dtype=np.float32)  # All cosines are the same.
PRESENT = np.array([[1, 0, 1, 0], [0, 1, 1, 0]], np.float32)
OF_COSINES = {"neighbour_cosine", "distance_correlation", "trustworthiness", "correlation_by_distance"}
WITH_NULL = OF_COSINES | {"morans_i"}


def errors():
    for name in sorted(WITH_NULL):
        yield f"{name}: one permutation", bad(name, PLANE, permutations=1)
        yield f"{name}: other units", bad(name, PLANE, (5, 4))
        if name != "morans_i":
            yield f"{name}: no such axis", bad(name, PLANE, axis=4)
        yield f"{name}: not finite", bad(name, NAN)
    for name in sorted(OF_COSINES):
        yield f"{name}: one live filter", bad(name, ONE_ALIVE)
        yield f"{name}: alike", bad(name, ALIKE)
        yield f"{name}: alike responses", bad(name, ALIKE[0, 0], centre=True)
        yield f"{name}: one varying unit", bad(name, ONE_ALIVE[0, 0], centre=True)
        yield f"{name}: centred weights", bad(name, PLANE, centre=True)
        yield f"{name}: responses not finite", bad(name, NAN_RESPONSES, centre=True)
    yield "neighbour_cosine: unknown pairs", bad("neighbour_cosine", PLANE, pairs="queen")
    yield "neighbour_cosine: no live neighbours", bad("neighbour_cosine", FAR)
    yield "neighbour_cosine: no live neighbours, centred", bad("neighbour_cosine", FAR[0, 0], centre=True)
    yield "neighbour_cosine: no diagonal", bad("neighbour_cosine", PLANE, (24,), pairs="diagonal")
    yield (
        "neighbour_cosine: null without spread",
        bad("neighbour_cosine", PRESENT[:, :3], (3, 1), permutations=2),
    )
    yield "neighbour_cosine: two units", bad("neighbour_cosine", PRESENT[:, :2], (2,))
    yield "distance_correlation: same cosines", bad("distance_correlation", THREE, (3,))
    yield "distance_correlation: same distances", bad("distance_correlation", draw(5, 2), (2, 1))
    yield "trustworthiness: no neighbours", bad("trustworthiness", PLANE, neighbours=0)
    yield "trustworthiness: too many neighbours", bad("trustworthiness", PLANE, neighbours=12)
    yield "trustworthiness: null without spread", bad("trustworthiness", THREE, (3,), neighbours=1)
    for width in (0.0, float("nan")):
        yield f"correlation_by_distance: width {width}", bad("correlation_by_distance", PLANE, width=width)
    yield (
        "correlation_by_distance: null without spread",
        bad("correlation_by_distance", PRESENT[:, :2], (2,)),
    )
    yield "morans_i: unknown transformation", bad("morans_i", PLANE, transformation="c")
    yield "morans_i: one unit", bad("morans_i", draw(3, 1), (1,))
    yield "morans_i: constant maps", bad("morans_i", np.ones((3, 24), np.float32))
    yield "morans_i: null without spread", bad("morans_i", draw(3, 2), (2,))
    codebook = CODEBOOKS["plane"][0]
    for title, call in (("quantisation", quantisation_error), ("topographic", topographic_error)):
        grid = [(6, 4)] if call is topographic_error else []
        yield f"{title} error: samples of other length", lambda c=call, g=grid: c(codebook, draw(60, 4), *g)
        yield f"{title} error: no samples", lambda c=call, g=grid: c(codebook, draw(0, 3), *g)
        yield f"{title} error: not finite", lambda c=call, g=grid: c(codebook * np.nan, SAMPLES, *g)
        yield f"{title} error: identical units", lambda c=call, g=grid: c(0 * codebook, SAMPLES, *g)
    yield "quantisation error: one unit", lambda: quantisation_error(codebook[:1], SAMPLES)
    yield "topographic error: other units", lambda: topographic_error(codebook, SAMPLES, (5, 4))
    yield "topographic error: all touch", lambda: topographic_error(codebook[:4], SAMPLES, (2, 2))
    yield (
        "topographic error: one permutation",
        lambda: topographic_error(codebook, SAMPLES, (6, 4), permutations=1),
    )
    yield "dead_share: threshold", lambda: dead_share(PLANE, threshold=1.5)
    yield "dead_share: not finite", lambda: dead_share(NAN)
    yield "effective_dimension: shape", lambda: topography.effective_dimension(PLANE)
    yield "effective_dimension: one image", lambda: topography.effective_dimension(RESPONSES[:1])
    yield "effective_dimension: not finite", lambda: topography.effective_dimension(NAN_RESPONSES)
    yield "effective_dimension: constant", lambda: topography.effective_dimension(np.ones((4, 3)))
    yield "smoothness: shape", lambda: topography.smoothness([[1.0, 2.0]])
    yield "smoothness: one bin", lambda: topography.smoothness([1.0])
    yield "smoothness: not finite", lambda: topography.smoothness([1.0, np.nan])
    yield "smoothness: negative", lambda: topography.smoothness([1.0, -0.5])
    yield "smoothness: zeros", lambda: topography.smoothness([0.0, 0.0])
    matrix = np.eye(24)
    for title, given in {
        "shape": matrix[:5],
        "one unit": matrix[:1, :1],
        "not finite": matrix * np.nan,
        "not symmetric": matrix + np.eye(24, k=1) / 2,
        "diagonal": 2 * matrix,
        "no cosines": np.where(matrix == 1, 1, -0.5),
    }.items():
        yield (
            f"similarity: {title}",
            lambda g=given: of_similarity("neighbour_cosine", g, (len(g),)),
        )


ERRORS = dict(errors())
messages = Golden(__file__, "topography_errors")


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    messages.check(case, message(ERRORS[case]))


def test_no_error_is_pinned_in_vain():
    messages.check_cases(ERRORS)
