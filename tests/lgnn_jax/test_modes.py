"""Every public function under the settings of JAX that a user may have switched on, against the ordinary ones."""

import contextlib
import dataclasses
import functools
import itertools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lgnn_jax import (
    ConvLayout,
    Grid,
    HeatKernel,
    Window,
    arrange,
    decreasing_sigma,
    fitted_score,
    grid_shape,
    inspect,
    largest_sigma,
    lgnn,
    losses,
    smooth,
    som,
    topography,
)
from lgnn_jax import _smoothing as smoothing
from lgnn_jax.inspect import atlas, plots

GRID, TORUS, WIDE = Grid((3, 2)), Grid((3, 2), wrap=True), Window(5)
DRAW = np.random.default_rng(0)
IMAGES = DRAW.random((8, 4, 4, 3), dtype=np.float32)
LABELS = np.arange(8) % 2
KERNEL = DRAW.standard_normal((3, 3, 3, 6)).astype(np.float32)
UNITS = DRAW.standard_normal((8, 6)).astype(np.float32)  # Responses to the images.
DEAD = KERNEL * np.array([1, 1, 1, 0, 1, 1], np.float32)
NULL = dict(permutations=20)
STILL = dataclasses.replace(inspect.SMALL, steps=1, scales=(0.9, 1.0))

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
MODES = {
    "x64": (lambda: enable_x64(True),),
    "strict promotion": (lambda: jax.numpy_dtype_promotion("strict"),),
    "no jit": (jax.disable_jit,),
    "debug NaNs": (lambda: jax.debug_nans(True),),
}
TOGETHER = "x64, strict promotion, debug NaNs"
MODES[TOGETHER] = sum((MODES[n] for n in MODES if n != "no jit"), ())
# By default what can be on at once is; each by itself, slow, tells which of them fails.


def key():
    return jax.random.key(3)


def dead_cosines():
    return topography.cosines(DEAD)


def objective(order):
    """What an order is judged by here; equally good ones differ by a reflection."""
    matrix = np.asarray(dead_cosines())[order][:, order]
    return [order[-1:], topography.neighbour_cosine(matrix, GRID).value]


def linear(images):
    return {"conv": jnp.tensordot(jnp.asarray(images), KERNEL[0, 0], 1, precision="highest")}


@functools.cache
def linen():
    nn = pytest.importorskip("flax.linen", reason="Flax is not installed")
    norm = nn.BatchNorm(use_running_average=True)
    net = nn.Sequential([nn.Conv(6, (3, 3)), norm, nn.relu, lambda x: x.mean((1, 2)), nn.Dense(2)])
    variables = jax.tree.map(np.asarray, net.init(jax.random.key(0), IMAGES))
    return net, variables


def nnx():
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    return inspect.nnx_responses(nnx.Conv(3, 6, (3, 3), rngs=nnx.Rngs(0)), [""])(IMAGES)


def alone(call):
    """In the form for a single CPU device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)
        smoothing._smooth.clear_cache()
        try:
            return call()
        finally:
            smoothing._smooth.clear_cache()


def updated(sigma, **options):
    """What two steps make of a gradient."""
    tx = optax.chain(lgnn(sigma, **options), optax.sgd(0.1, momentum=0.9))
    params = {"conv": {"kernel": jnp.asarray(KERNEL), "bias": jnp.ones(6, jnp.float32)}}
    state = tx.init(params)
    for _ in range(2):
        updates, state = jax.jit(tx.update)(params, state, params)
    return updates, state


def statistics():
    return inspect.accumulate(linear, IMAGES, LABELS, classes=2, batch=3, top=2)["conv"]


def visualised():
    return inspect.visualise(linear, "conv", key=key(), setting=STILL, shape=(4, 4, 3))


@functools.cache
def made():
    """Statistics and a visualisation, for the functions that take them."""
    return statistics(), visualised()


def page():
    shown = atlas.layer("conv", KERNEL, GRID, made()[0], visualisation=made()[1])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "atlas.html"
        atlas.write_page(
            path, [atlas.Shown("a", [shown])], images=IMAGES, class_names=["x", "y"], threshold=0.5
        )
        assert path.stat().st_size > 10_000
    return [shown.cosines, shown.images, shown.selectivity]


def drawn(pair):
    return pair[1]


# A call of every public function, by its name.
CALLS = {
    "smooth": lambda: [smooth(KERNEL, GRID, 0.5), smooth(UNITS.T, TORUS, 1.0, WIDE, axis=0)],
    "smooth, heat": lambda: smooth(KERNEL, GRID, jnp.float32(2), HeatKernel()),
    "smooth, bf16": lambda: smooth(jnp.asarray(KERNEL, jnp.bfloat16), GRID, np.float64(0.5)),
    "smooth, one device": lambda: alone(
        lambda: [smooth(KERNEL, GRID, 0.5), smooth(UNITS, TORUS, np.float32(1), WIDE)]
    ),
    "lgnn": lambda: updated(0.5),
    "lgnn, decreasing_sigma": lambda: updated(decreasing_sigma(0.5, 3, 1)),
    "decreasing_sigma": lambda: [decreasing_sigma(0.5, 3, 2)(n) for n in (0, np.int32(3), jnp.int32(5))],
    "grids": lambda: [grid_shape(6), largest_sigma(WIDE), ConvLayout().describe({"kernel": KERNEL})],
    "neighbour_cosine": lambda: topography.neighbour_cosine(dead_cosines(), GRID, key=key(), **NULL),
    "neighbour_cosine, all": lambda: topography.neighbour_cosine(
        topography.cosines(KERNEL), GRID, pairs="all", key=key(), **NULL
    ),
    "neighbour_cosine, responses": lambda: topography.neighbour_cosine(
        topography.correlations(UNITS), GRID
    ),
    "distance_correlation": lambda: topography.distance_correlation(
        dead_cosines(), GRID, key=key(), **NULL
    ),
    "correlation_by_distance": lambda: topography.correlation_by_distance(
        dead_cosines(), GRID, key=key(), **NULL
    ),
    "trustworthiness": lambda: topography.trustworthiness(
        dead_cosines(), GRID, neighbours=2, key=key(), **NULL
    ),
    "morans_i": lambda: topography.morans_i(UNITS, GRID, key=key(), **NULL),
    "quantisation_error": lambda: topography.quantisation_error(UNITS.T, UNITS.T[:4] + 1),
    "topographic_error": lambda: topography.topographic_error(
        UNITS.T, UNITS.T + 1, GRID, key=key(), **NULL
    ),
    "som": lambda: [
        som.fit(UNITS, GRID, steps=1),
        som.fit(UNITS, TORUS, key=key(), batch=False, steps=1, start="samples"),
        som.assign(UNITS, UNITS[:3]),
        som.u_matrix(UNITS.T, TORUS),
    ],
    "losses": lambda: [
        jax.value_and_grad(losses.topoloss)(DEAD, TORUS),
        jax.value_and_grad(losses.weight_similarity_loss)(DEAD, TORUS),
        jax.value_and_grad(losses.response_loss)(UNITS, GRID),
        losses.response_loss(UNITS, TORUS, key=key(), most=4),
    ],
    "arrange": lambda: [
        objective(arrange(dead_cosines(), grid, key=k, start=s))
        for grid, k, s in ((TORUS, None, None), (GRID, None, np.arange(6)))
    ],
    "fitted_score": lambda: fitted_score(UNITS, GRID, key=key(), permutations=2),
    "dead_share": lambda: topography.dead_share(DEAD),
    "effective_dimension": lambda: topography.effective_dimension(UNITS),
    "smoothness": lambda: topography.smoothness(np.arange(3.0)),
    "filters": lambda: topography.filters(KERNEL),
    "distance_preservation_quality": lambda: topography.distance_preservation_quality(
        dead_cosines(), TORUS, key=key(), **NULL
    ),
    "dead_units": lambda: topography.dead_units(topography.correlations(UNITS)),
    "participation_ratio": lambda: topography.participation_ratio(np.cov(UNITS.T)),
    "linen_responses": lambda: inspect.linen_responses(*linen())(IMAGES),
    "nnx_responses": nnx,
    "linen_ablated": lambda: inspect.linen_ablated(*linen(), "layers_0", IMAGES, batch=5)(np.ones(6)),
    "accumulate": lambda: dataclasses.astuple(statistics())[1:],
    "class_maps": lambda: inspect.class_maps(made()[0], GRID),
    "visualise": lambda: dataclasses.astuple(visualised())[1:],
    "visualise, linen": lambda: dataclasses.astuple(
        inspect.visualise(
            inspect.linen_responses(*linen()),
            "layers_0",
            [1, 4],
            key=key(),
            setting=STILL,
            shape=(4, 4, 3),
            images=IMAGES,
        )
    )[1:],
    "mean_activations": lambda: inspect.mean_activations(linear, "conv", IMAGES, batch=3),
    "share_beyond": lambda: inspect.share_beyond(made()[1], linear, IMAGES),
    "linear_probe": lambda: inspect.linear_probe(
        UNITS, LABELS, UNITS, LABELS, classes=2, l2=10.0, pool=(GRID, (1, 2))
    )[:7],
    "regions": lambda: [
        part.members for part in inspect.regions(made()[0].selectivity(), GRID, threshold=0)
    ],
    "ablate": lambda: inspect.ablate(
        lambda mask: (mask[LABELS] == 0).astype(int),
        LABELS,
        [1],
        units=6,
        classes=2,
        key=key(),
        repetitions=3,
    ),
    "inspect.filters": lambda: [
        inspect.tiles(KERNEL, GRID),
        inspect.cosine_maps(topography.cosines(KERNEL), GRID, [1]),
        inspect.cosine_by_offset(topography.cosines(KERNEL), GRID, 1),
        inspect.gram_maps(KERNEL, GRID, [1]),
        inspect.magnitudes(KERNEL),
    ],
    "atlas": page,
    "plots": lambda: [
        drawn(plots.class_maps({"a": inspect.class_maps(made()[0], GRID)}, {"x": 1})),
        drawn(plots.preferred_classes({"a": {"b": made()[0].selectivity()}}, {"b": GRID}, "xy")),
        drawn(plots.filter_images(made()[1].images, GRID)),
        drawn(plots.top_images(IMAGES, made()[0].top_images, GRID)),
        drawn(plots.first_layer({"a": KERNEL}, GRID)),
        drawn(plots.offset_maps({"a": {"conv": KERNEL}}, {"conv": GRID}, 1)),
        drawn(plots.correlation_maps({"a": KERNEL}, GRID, [0])),
        drawn(plots.similarity_maps({"a": KERNEL}, GRID, [0])),
    ],
}


def called(name):
    """What a call gives, with a score or a curve as its numbers."""
    found = CALLS[name]()
    if isinstance(found, (topography.Score, topography.DistanceCurve)):
        return found.summary()
    return found


@functools.cache
def ordinary(name):
    return called(name)


# Without jit they take minutes in all.
OP_BY_OP = ("fitted_score", "arrange", "visualise", "losses", "linear_probe", "som")
# And of functions that are alike, and of a function's calls in several forms, one does.
SECOND = (
    "smooth, heat",
    "smooth, bf16",
    "lgnn, decreasing_sigma",
    "neighbour_cosine, all",
    "neighbour_cosine, responses",
    "linen_ablated",
    "nnx_responses",
    "quantisation_error",
    "correlation_by_distance",
    "distance_correlation",
)


def cases():
    """Every call in every mode; what takes half a minute is slow."""
    for name, mode in itertools.product(CALLS, MODES):
        slow = mode not in (TOGETHER, "no jit")
        slow |= mode == "no jit" and (name.split(",")[0] in OP_BY_OP or name in SECOND)
        yield pytest.param(name, mode, marks=[pytest.mark.slow] * slow, id=f"{name}-{mode}")


@pytest.mark.parametrize("name, mode", list(cases()))
def test_it_works_in_every_mode(name, mode):
    expected = ordinary(name)
    with contextlib.ExitStack() as stack:
        for setting in MODES[mode]:
            stack.enter_context(setting())
        found = called(name)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            if isinstance(other, str):
                assert one == other
            else:
                one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
