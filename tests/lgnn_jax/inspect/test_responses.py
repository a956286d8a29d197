import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from flax import nnx
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from experiments import nets
from lgnn_jax import Grid
from lgnn_jax.inspect import (
    Region,
    ablate,
    accumulate,
    class_maps,
    linear_probe,
    linen_ablated,
    linen_responses,
    nnx_responses,
    per_class_accuracy,
    plots,
    pool_blocks,
    regions,
)
from tests.experiments import shallow as few_layers

CLASSES, UNITS = 5, 12
SUPERCLASSES = np.array([0, 1, 0, 1, 1])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def maps(images=203, seed=0):
    """Maps (images, 4, 3, UNITS) far from zero, correlated over units and different by class, and labels."""
    labels = np.random.default_rng(seed).integers(0, CLASSES, images)
    mixed = noise(images, 4, 3, UNITS, seed=seed) @ noise(UNITS, UNITS, seed=9)
    return mixed + noise(CLASSES, UNITS, seed=8)[labels][:, None, None] + 100, labels


def identity(x):
    return {"maps": x}


def found(x, labels, **options):
    return accumulate(identity, x, labels, classes=CLASSES, **options)["maps"]


# Statistics.


@pytest.mark.parametrize("batch", [203, 64, 7, 1000])
def test_statistics_in_batches_are_those_of_everything_at_once(batch):
    x, labels = maps()
    out = found(x, labels, batch=batch)
    means = x.astype(np.float64).mean((1, 2))
    close = dict(rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.mean, means.mean(0), rtol=1e-7)
    np.testing.assert_allclose(out.variance, means.var(0, ddof=1), **close)
    np.testing.assert_allclose(out.covariance, np.cov(means.T), **close)
    np.testing.assert_allclose(out.correlation(), np.corrcoef(means.T), **close)
    by_class = [means[labels == c] for c in range(CLASSES)]
    np.testing.assert_allclose(out.class_means, [part.mean(0) for part in by_class], rtol=1e-6)
    np.testing.assert_array_equal(out.class_counts, [len(part) for part in by_class])
    best = np.argsort(-x.max((1, 2)), axis=0, kind="stable")[:9].T
    np.testing.assert_array_equal(out.top_images, best)
    np.testing.assert_array_equal(out.top_values, np.take_along_axis(x.max((1, 2)).T, best, 1))
    assert (out.units, out.count) == (UNITS, 203)


@pytest.mark.parametrize("superclass_of", [None, SUPERCLASSES])
def test_selectivity_is_welchs_t_of_a_class_against_the_rest(superclass_of):
    x, labels = maps()
    means = x.astype(np.float64).mean((1, 2))
    groups = labels if superclass_of is None else superclass_of[labels]
    expected = [
        scipy.stats.ttest_ind(means[groups == group], means[groups != group], equal_var=False).statistic
        for group in range(groups.max() + 1)
    ]
    out = found(x, labels, batch=50)
    np.testing.assert_allclose(out.selectivity(superclass_of), expected, rtol=1e-4, atol=1e-4)
    expected = np.stack([means[groups == group].mean(0) for group in range(groups.max() + 1)])
    laid_out = class_maps(out, Grid((4, 3)), superclass_of)
    np.testing.assert_allclose(laid_out, expected.reshape(-1, 4, 3), rtol=1e-6)


def test_reordered_statistics_are_those_of_reordered_responses():
    x, labels = maps()
    order = np.random.default_rng(3).permutation(UNITS)
    moved, wanted = found(x, labels).reordered(order), found(x[..., order], labels)
    for name in ("mean", "covariance", "class_means", "similarity", "top_images", "top_values"):
        np.testing.assert_allclose(getattr(moved, name), getattr(wanted, name), atol=1e-9, err_msg=name)
    np.testing.assert_allclose(moved.selectivity(), wanted.selectivity())
    for wrong in ([0] * UNITS, np.arange(UNITS - 1), np.arange(UNITS) + 0.5, np.eye(UNITS)):
        with pytest.raises(ValueError, match="must be a permutation of the 12 units of 'maps'"):
            found(x, labels).reordered(wrong)


def test_accumulating_is_deterministic_and_keeps_small_spreads_beside_large_means():
    x, labels = maps()
    first, second = found(x, labels, batch=32), found(x, labels, batch=32)
    for field in ("class_sums", "class_squares", "products", "top_images"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    # Sums of squares without a shift would lose this spread in float64: (1e9)^2 eps is 222.
    steps = (np.float32(2**30) + 64 * np.arange(203) % 640).reshape(-1, 1).astype(np.float32)
    out = found(steps, labels, batch=32, top=1)
    np.testing.assert_allclose(out.variance, steps.astype(np.float64).var(0, ddof=1), rtol=1e-12)


def test_the_earlier_image_comes_first_among_equals_across_batches():
    x = np.array([1, 3, 2, 3, 3, 0], np.float32).reshape(-1, 1, 1, 1)
    out = accumulate(identity, x, [0] * 6, classes=1, batch=2, top=4)["maps"]
    assert out.top_images.tolist() == [[1, 3, 4, 2]] and out.top_values.tolist() == [[3, 3, 3, 2]]


def test_the_best_image_is_by_its_maximum_over_space_and_the_mean_by_its_mean():
    x = np.zeros((2, 2, 2, 1), np.float32)
    x[0, 1, 1], x[1] = 5, 2  # A peak, and a plain with the larger mean.
    out = accumulate(identity, x, [0, 0], classes=1, top=1)["maps"]
    assert out.top_images.tolist() == [[0]] and out.mean.tolist() == [1.625]


def test_responses_see_one_shape_and_never_more_than_a_batch():
    x, labels = maps()
    shapes, calls = set(), []

    def responses(images):
        shapes.add(images.shape)
        return {"maps": images}

    options = dict(classes=CLASSES, batch=50, progress=lambda *args: calls.append(args))
    accumulate(responses, x, labels, **options)
    assert shapes == {(50, 4, 3, UNITS)}
    assert calls == [(50, 203), (100, 203), (150, 203), (200, 203), (203, 203)]


def test_a_constant_unit_is_an_error_or_nan_but_never_zero():
    x, labels = maps()
    x[..., 3] = 0.1
    out = found(x, labels)
    assert out.constant.tolist() == [unit == 3 for unit in range(UNITS)]
    for metric in (out.correlation, out.selectivity):
        with pytest.raises(
            ValueError, match=r"1 of 12 units of 'maps' respond to all images alike \(unit 3"
        ):
            metric()
        values = metric(constant="nan")
        assert np.isnan(values[:, 3]).all() and np.isfinite(np.delete(np.delete(values, 3, 0), 3, 1)).all()
        with pytest.raises(ValueError, match="'raise' or 'nan', got 'zero'"):
            metric(constant="zero")
    for matrix, undefined in (
        (out.similarity, out.correlation(constant="nan")),
        (out.live_covariance, None),
    ):
        assert not matrix[3].any() and not matrix[:, 3].any()
        if undefined is not None:
            np.testing.assert_array_equal(matrix, np.nan_to_num(undefined))
    live = np.arange(UNITS) != 3
    np.testing.assert_array_equal(
        out.live_covariance[np.ix_(live, live)], out.covariance[np.ix_(live, live)]
    )
    x, labels = np.array([0, 0, 1, 1], np.float32)[:, None], [0, 0, 1, 1]
    apart = accumulate(identity, x, labels, classes=2, top=1)["maps"]
    assert apart.selectivity().tolist() == [[-np.inf], [np.inf]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_responses_that_are_not_finite_are_an_error_that_says_where(value):
    x, labels = maps()
    x[130, 2, 1, 4] = value
    with pytest.raises(ValueError, match="'maps' are NaN or infinite, first unit 4 to image 130"):
        found(x, labels, batch=50)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(labels=np.arange(20) % 6), "from 0 to 4, got values from 0 to 5"),
        (dict(labels=np.arange(20) % 5 - 1), "got values from -1 to 3"),
        (dict(labels=np.arange(20) % 3), r"no image of \[3, 4\]"),
        (dict(labels=np.zeros(20)), "must be integers"),
        (dict(labels=np.arange(19) % 5), "20 images and 19 labels"),
        (dict(classes=0), "classes must be a positive integer, got 0"),
        (dict(batch=1.5), "batch must be a positive integer, got 1.5"),
        (dict(top=0), "top must be a positive integer, got 0"),
        (dict(top=21), "top=21 need at least 21 images, got 20"),
        (dict(responses=lambda x: {}), "no layers"),
        (dict(responses=lambda x: {"conv": x[:3]}), r"arrays \(20, ..., units\) for 20 images; 'conv'"),
    ],
)
def test_bad_data_sets_are_refused(change, message):
    arguments = dict(
        responses=identity, images=noise(20, 2, 2, 3), labels=np.arange(20) % 5, classes=5, batch=64
    )
    with pytest.raises(ValueError, match=message):
        accumulate(**(arguments | change))


def test_grids_superclasses_and_single_images_that_do_not_fit_are_refused():
    x, labels = maps()
    out = found(x, labels)
    with pytest.raises(ValueError, match="layer 'maps' has 12 units, but a grid of 4x4 holds 16"):
        class_maps(out, Grid((4, 4)))
    for wrong in ([0, 1], [0, 2, 0, 2, 2], [0.0, 1, 0, 1, 1]):
        with pytest.raises(ValueError, match="superclass_of must"):
            out.selectivity(wrong)
    with pytest.raises(
        ValueError, match="two images of a class and two of the others; class 0 has 203 of 203"
    ):
        out.selectivity([0] * CLASSES)
    single = accumulate(identity, x[:4], [0, 1, 1, 1], classes=2, top=1)["maps"]
    with pytest.raises(ValueError, match="class 0 has 1 of 4"):
        single.selectivity()


# Networks.


@pytest.fixture(scope="module", params=["vgg11", "wrn16-8"])
def network(request):
    """A network with weights and running statistics as no initialisation gives them, and images."""
    with few_layers.networks():
        module = nets.build(request.param, classes=7, width=1 / 16)
        images = noise(2, 32, 32, 3, seed=3)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
        variables = jax.tree.map(lambda leaf: 0.3 * noise(*leaf.shape) ** 2 + 0.1, shapes)
        yield request.param, module, variables, images


def test_linen_responses_are_what_the_network_computes(network):
    name, module, variables, images = network
    capture = dict(train=False, capture_intermediates=True, mutable=["intermediates"])
    _, state = jax.jit(lambda images: module.apply(variables, images, **capture))(images)
    inside = state["intermediates"]
    out = linen_responses(module, variables, train=False)(images)
    if name == "vgg11":
        expected = {f"conv_{i}": inside[f"bn_{i}"]["__call__"][0] for i in range(2)}
        assert list(out) == list(expected)
    else:
        assert len(out) == 10 and list(out)[-1] == "stem"
        block = inside["group_1_block_0"]
        expected = {
            "stem": inside["group_0_block_0"]["bn_0"]["__call__"][0],
            "group_1_block_0/conv_0": block["bn_1"]["__call__"][0],
            "group_1_block_0/conv_1": block["conv_1"]["__call__"][0],  # Added to the rest, not normalised.
            "group_1_block_0/shortcut": block["shortcut"]["__call__"][0],
        }
    for layer, array in expected.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(out[layer] / scale, array / scale, atol=1e-5)


def test_layers_are_chosen_by_path_and_unknown_ones_list_the_known(network):
    name, module, variables, images = network
    chosen = ["dense", "conv_1/kernel", "bn_1"] if name == "vgg11" else ["dense", "group_2_block_0"]
    out = jax.eval_shape(linen_responses(module, variables, chosen, train=False), images)
    assert set(out) == set(chosen) and out["dense"].shape == (2, 7)
    with pytest.raises(ValueError, match=r"Unknown layer 'conv_9'. Known: .*dense"):
        linen_responses(module, variables, ["conv_9"])
    with pytest.raises(ValueError, match="list of names"):
        linen_responses(module, variables, "dense")


def test_layers_run_twice_or_not_at_all_are_refused():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, often=True):
            conv = nn.Conv(3, (1, 1), name="conv")
            return conv(conv(x)) if often else x

    x = jnp.ones((1, 2, 2, 3))
    net = Twice()
    variables = net.init(jax.random.key(0), x)
    with pytest.raises(
        ValueError, match="'conv' must be run once and give one array, but it was run 2 times"
    ):
        linen_responses(net, variables)(x)
    with pytest.raises(ValueError, match="run 0 times"):
        linen_responses(net, variables, often=False)(x)
    with pytest.raises(ValueError, match="did not run 'conv'"):
        linen_ablated(net, variables, "conv", x, often=False)(jnp.ones(3))


class Small(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.second = nnx.Conv(4, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        x = self.dropout(nnx.relu(self.norm(self.first(x))))
        return self.dense(self.second(x).mean((1, 2)))


def test_nnx_responses_are_those_of_the_evaluated_network_which_stays_as_it_was():
    model, x = Small(nnx.Rngs(0)), noise(4, 6, 6, 3)
    model.norm.mean = nnx.BatchStat(jnp.arange(4.0))
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
    responses = nnx_responses(model, ["first", "second", "dense"])
    out = responses(x)
    assert list(out) == ["first", "second", "dense"] and list(nnx_responses(model)(x)) == list(out)[:2]
    assert not model.dropout.deterministic and not model.norm.use_running_average
    assert type(model.first) is nnx.Conv
    after = nnx.state(model, nnx.BatchStat)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, after))
    model.eval()
    normed = model.norm(model.first(x))
    np.testing.assert_allclose(out["first"], normed, atol=1e-5)
    np.testing.assert_allclose(out["second"], model.second(nnx.relu(normed)), atol=1e-5)
    np.testing.assert_allclose(out["dense"], model(x), atol=1e-5)
    own = nnx_responses(model, normalised=False)(x)
    np.testing.assert_allclose(own["first"], model.first(x), atol=1e-5)
    with pytest.raises(ValueError, match="Unknown layer 'conv'. Known: dense, first, norm, second"):
        nnx_responses(model, ["conv"])


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(16, (3, 3), strides=2, name="conv_0")(x)
        x = nn.relu(nn.BatchNorm(not train, name="bn")(x))
        x = nn.relu(nn.Conv(8, (3, 3), name="conv_1")(x))
        return nn.Dense(7, name="dense")(x.mean((1, 2)))


class Outer(nn.Module):
    net: nn.Module
    traced: object

    def __call__(self, x):
        self.traced()
        return self.net(x, train=False)


def small():
    """A small network, its variables unlike any initialisation, and images."""
    images = noise(10, 6, 6, 3)
    variables = Net().init(jax.random.key(0), images, train=False)
    params = jax.tree.map(lambda leaf: leaf + 0.5 * noise(*leaf.shape), variables["params"])
    stats = jax.tree.map(lambda leaf: leaf + 0.3 * noise(*leaf.shape) ** 2, variables["batch_stats"])
    variables = {"params": params, "batch_stats": stats}
    scores = Net().apply(variables, images, train=False)
    params["dense"]["bias"] -= scores.mean(0)  # So that images get different classes.
    return Net(), variables, images


def test_a_convolutions_own_output_its_kernels_name_and_statistics_of_a_network():
    module, variables, images = small()
    responses = linen_responses(module, variables, ["conv_0/kernel", "bn", "conv_1"], train=False)
    own = linen_responses(module, variables, normalised=False, train=False)(images)
    out, labels = responses(images), np.arange(10) % 2
    assert list(out) == ["conv_0/kernel", "bn", "conv_1"]
    np.testing.assert_array_equal(out["conv_0/kernel"], out["bn"])
    params, stats = variables["params"], variables["batch_stats"]["bn"]
    conv = nn.Conv(16, (3, 3), strides=2).apply({"params": params["conv_0"]}, images)
    np.testing.assert_allclose(own["conv_0"], conv, atol=1e-5)
    normed = (conv - stats["mean"][None, None, None]) / np.sqrt(stats["var"] + 1e-5)[None, None, None]
    normed = normed * params["bn"]["scale"][None, None, None] + params["bn"]["bias"][None, None, None]
    np.testing.assert_allclose(out["bn"], normed, atol=1e-4)
    statistics = accumulate(responses, images, labels, classes=2, batch=4, top=3)
    assert list(statistics) == list(out)
    for layer, found in statistics.items():
        means = np.asarray(out[layer], np.float64).mean((1, 2))
        np.testing.assert_allclose(found.mean, means.mean(0), rtol=1e-4, atol=1e-5)


# Regions.


def test_planted_regions_are_found_in_responses():
    grid, labels = Grid((6, 5)), np.arange(200) % 3
    planted = {0: [0, 1, 5, 6], 1: [17, 18, 22], 2: [5, 6, 10]}  # Classes 0 and 2 share units 5 and 6.
    x = noise(200, 2, 2, 30)
    for label, members in planted.items():
        x[np.ix_(np.flatnonzero(labels == label), [0, 1], [0, 1], members)] += 4
    out = accumulate(identity, x, labels, classes=3, batch=64)["maps"]
    regular = regions(out.selectivity(), grid, threshold=8)
    assert [(r.label, r.members.tolist()) for r in regular] == [(k, planted[k]) for k in range(3)]
    assert [r.shared for r in regular] == [{2: 2}, {}, {0: 2}] and [r.size for r in regular] == [4, 3, 3]
    best = out.top_images[18]
    assert (labels[best] == 1).all()


@pytest.mark.parametrize("shape", [(9, 7), (40,), (4, 5, 3)])
@pytest.mark.parametrize("wrap", [False, True])
def test_regions_are_scipys_connected_components(shape, wrap):
    grid = Grid(shape, wrap)
    t = noise(6, grid.units)
    out = regions(t, grid, threshold=0.2)
    for label in range(6):
        active = (t[label] > 0.2).reshape(shape)
        # On a torus, of three copies in every direction the middle one.
        tiled = np.tile(active, (3,) * len(shape)) if wrap else active
        components, _ = scipy.ndimage.label(tiled)
        middle = tuple(slice(size, 2 * size) for size in shape) if wrap else ...
        ours = np.zeros(grid.units, int)
        for index, region in enumerate((r for r in out if r.label == label), start=1):
            ours[region.members] = index
            expected = {k: int((t[k, region.members] > 0.2).sum()) for k in range(6) if k != label}
            assert region.shared == {k: count for k, count in expected.items() if count}
        np.testing.assert_array_equal(ours > 0, active.ravel())
        theirs = components[middle].ravel()
        if not wrap:
            pairs = {(a, b) for a, b in zip(ours, theirs, strict=True)}
            assert len(pairs) == len(set(ours)) == len(set(theirs))
        else:  # Copies of one region may differ in number; joining them gives ours.
            assert torus_components(active) == {tuple(r.members) for r in out if r.label == label}
    order = [(r.label, -r.size, r.members[0]) for r in out]
    assert order == sorted(order) and len(order) > 10


def torus_components(active):
    """Scipy's components, joined wherever opposite borders touch."""
    components, count = scipy.ndimage.label(active)
    parent = np.arange(count + 1)
    for _ in range(count):
        for axis in range(active.ndim):
            first, last = components.take(0, axis).ravel(), components.take(-1, axis).ravel()
            for a, b in zip(first, last, strict=True):
                if a and b:
                    parent[parent == max(parent[a], parent[b])] = min(parent[a], parent[b])
    joined = parent[components].ravel()
    return {tuple(np.flatnonzero(joined == name)) for name in set(joined[joined > 0])}


def test_constant_units_belong_to_no_region_and_other_nans_are_refused():
    t = np.ones((2, 4))
    t[:, 1] = np.nan
    assert [r.members.tolist() for r in regions(t, Grid((4,)), threshold=0)] == [[2, 3], [0]] * 2
    t[0, 2] = np.nan
    with pytest.raises(ValueError, match="NaN for some classes of unit 2"):
        regions(t, Grid((4,)), threshold=0)
    with pytest.raises(ValueError, match="selectivity has 4 units, but a grid of 5 holds 5"):
        regions(t, Grid((5,)), threshold=0)
    assert regions(t[:, :1], Grid((1,)), threshold=9) == []
    with pytest.raises(TypeError, match=r"no argument wrap any more.*Grid\(shape, wrap=True\)"):
        regions(t, Grid((4,)), threshold=0, wrap=True)
    with pytest.raises(ValueError, match="threshold a number"):
        regions(t, Grid((4,)), threshold=float("nan"))


def test_accuracy_per_class():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    expected = [(predictions[labels == c] == c).mean() for c in range(4)]
    np.testing.assert_array_equal(per_class_accuracy(predictions, labels, 4), expected)
    with pytest.raises(ValueError, match=r"no image of \[4\]"):
        per_class_accuracy(predictions, labels, 5)
    with pytest.raises(ValueError, match="predictions must be from 0 to 3, got values from 1 to 4"):
        per_class_accuracy(predictions + 1, labels, 4)
    with pytest.raises(ValueError, match="99 predictions and 100 labels"):
        per_class_accuracy(predictions[1:], labels, 4)


# Silencing.


def by_hand(variables, images, unit):
    """Scores with a unit of conv_0 silenced, by parameters that make its normalised output zero."""
    norm = {name: leaf.at[unit].set(0) for name, leaf in variables["params"]["bn"].items()}
    params = {**variables["params"], "bn": norm}
    return Net().apply({**variables, "params": params}, images, train=False).argmax(-1)


def test_the_silencer_zeroes_units_and_compiles_once():
    module, variables, images = small()
    nested, traces = {name: {"net": tree} for name, tree in variables.items()}, []
    predict = linen_ablated(Outer(module, lambda: traces.append(1)), nested, "net/conv_0", images, batch=4)
    plain = module.apply(variables, images, train=False).argmax(-1)
    np.testing.assert_array_equal(predict(np.ones(16)), plain)
    changed = 0
    for unit in range(16):
        mask = np.ones(16)
        mask[unit] = 0
        expected = by_hand(variables, images, unit)
        np.testing.assert_array_equal(predict(mask), expected)
        changed += (expected != plain).sum()
    assert changed > 5 and len(traces) == 1
    with pytest.raises(ValueError, match=r"'net/conv_0' gives .* to which a mask \(15,\) does not fit"):
        predict(np.ones(15))
    with pytest.raises(ValueError, match="Logits of images 0 to 3 are NaN or infinite"):
        predict(np.full(16, np.nan))
    with pytest.raises(ValueError, match="Unknown layer 'conv_0'. Known: net, net/bn, net/conv_0"):
        linen_ablated(module, nested, "conv_0", images)


def test_silencing_a_layer_silences_its_own_output_too():
    module, variables, images = small()
    params = {**variables["params"], "conv_1": jax.tree.map(jnp.zeros_like, variables["params"]["conv_1"])}
    expected = module.apply({**variables, "params": params}, images, train=False).argmax(-1)
    predict = linen_ablated(module, variables, "conv_1", images, train=False)
    np.testing.assert_array_equal(predict(np.zeros(8)), expected)


def planted_predict(mask):
    """Units 4k to 4k + 3 see class k; a class is found as long as two of its units are left."""
    labels = np.arange(60) % 6
    left = np.asarray(mask).reshape(6, 4).sum(1)
    return np.where(left[labels] >= 2, labels, (labels + 1) % 6)


def test_silencing_a_planted_region_stands_out_from_random_units():
    labels, options = np.arange(60) % 6, dict(units=24, classes=6, repetitions=200)
    effect = ablate(planted_predict, labels, [8, 9, 10, 11], key=jax.random.key(0), **options)
    assert effect.accuracy.tolist() == [1] * 6 and effect.change.tolist() == [0, 0, -1, 0, 0, 0]
    # Three or four of the four units hit by chance: (4 * 20 + 1) / comb(24, 4).
    np.testing.assert_allclose(effect.random_mean, -81 / 10626, atol=0.02)
    assert (effect.random_low == 0).all() and (effect.random_high == 0).all()
    again = ablate(planted_predict, labels, [8, 9, 10, 11], key=jax.random.key(0), **options)
    other = ablate(planted_predict, labels, [8, 9, 10, 11], key=jax.random.key(1), **options)
    np.testing.assert_array_equal(effect.random_mean, again.random_mean)
    assert (effect.random_mean != other.random_mean).any()


def test_random_bands_are_quantiles_over_as_many_random_units():
    sizes, calls = [], []

    def predict(mask):
        sizes.append(int(24 - np.sum(mask)))
        return planted_predict(mask)

    labels = np.arange(60) % 6
    effect = ablate(
        predict,
        labels,
        range(12),
        units=24,
        classes=6,
        key=jax.random.key(0),
        repetitions=50,
        progress=lambda *numbers: calls.append(numbers),
    )
    assert sizes == [0] + [12] * 51 and calls == [(done, 52) for done in range(1, 53)]
    assert (effect.random_low == -1).all() and (effect.random_high == 0).all()
    assert (effect.random_mean < 0).all() and (effect.random_mean > -1).all()


@pytest.mark.parametrize("members", [[], [24], [-1], [1, 1], [0.5]])
def test_members_must_be_units_of_the_layer(members):
    with pytest.raises(ValueError, match="distinct indices from 0 to 23"):
        ablate(planted_predict, np.arange(60) % 6, members, units=24, classes=6, key=jax.random.key(0))


# Probes.


def test_the_probe_is_scikit_learns_logistic_regression():
    centres, labels = noise(4, 10, seed=1), np.arange(300) % 4
    x = (centres[labels] + 1.5 * noise(300, 10)) * np.arange(1, 11) + 5
    train, test = slice(0, 200), slice(200, 300)
    out = linear_probe(x[train], labels[train], x[test], labels[test], classes=4, l2=0.01)
    scaled = (x - x[train].mean(0)) / x[train].std(0)
    reference = LogisticRegression(C=1 / (0.01 * 200), tol=1e-8, max_iter=1000)
    reference.fit(scaled[train], labels[train])
    assert out.converged and out.constant == 0
    np.testing.assert_array_equal(out.predictions, reference.predict(scaled[test]))
    assert out.accuracy == reference.score(scaled[test], labels[test])
    assert out.train_accuracy == reference.score(scaled[train], labels[train])
    np.testing.assert_allclose(out.weights.T, reference.coef_, atol=0.02)
    again = linear_probe(x[train], labels[train], x[test], labels[test], classes=4, l2=0.01)
    np.testing.assert_array_equal(out.weights, again.weights)


def test_pooling_over_the_grid_keeps_planted_regions_that_a_random_order_loses():
    grid, labels = Grid((8, 8)), np.arange(400) % 4
    blocks = np.zeros((4, 8, 8), np.float32)
    for label in range(4):
        blocks[label, label // 2 * 4 : label // 2 * 4 + 4, label % 2 * 4 : label % 2 * 4 + 4] = 1
    x = 0.8 * blocks.reshape(4, 64)[labels] + noise(400, 64)
    half, other = slice(0, 200), slice(200, 400)
    shuffled = x[:, np.random.default_rng(0).permutation(64)]
    pooled, lost = (
        linear_probe(
            y[half], labels[half], y[other], labels[other], classes=4, pool=(grid, (4, 4))
        ).accuracy
        for y in (x, shuffled)
    )
    assert pooled > 0.95 and lost < 0.7
    np.testing.assert_allclose(
        pool_blocks(x, grid, (4, 4))[:, 1], x.reshape(-1, 8, 8)[:, :4, 4:].mean((1, 2)), atol=1e-6
    )
    assert pool_blocks(x, Grid((4, 4, 4)), (2, 4, 1)).shape == (400, 8)


def test_constant_features_are_left_out_and_counted():
    x, labels = noise(40, 3), np.arange(40) % 2
    x[:, 0] += 3 * labels
    with_dead = np.concatenate([x, np.full((40, 1), 0.1, np.float32)], 1)
    plain = linear_probe(x, labels, x, labels, classes=2)
    out = linear_probe(with_dead, labels, with_dead, labels, classes=2)
    assert out.constant == 1 and not out.weights[3].any()
    np.testing.assert_allclose(out.weights[:3], plain.weights, atol=1e-3)
    with pytest.raises(ValueError, match="None of the 1 features varies"):
        linear_probe(with_dead[:, 3:], labels, with_dead[:, 3:], labels, classes=2)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(labels_train=np.zeros(20, int)), r"labels_train of 2 classes have no image of \[1\]"),
        (dict(labels_test=np.full(20, 2)), "labels_test must be from 0 to 1"),
        (dict(features_train=np.full((20, 8), np.nan)), r"features_train .* with NaN"),
        (dict(features_train=noise(19, 8)), r"finite numbers \(20, units\), got shape \(19, 8\)"),
        (dict(features_test=noise(20, 7)), "8 features to train with and 7 to test"),
        (dict(l2=0), "l2 positive, got 2 and 0"),
        (dict(classes=1), "classes must be at least 2"),
        (dict(pool=(Grid((3, 3)), (1, 1))), "features has 8 units, but a grid of 3x3 holds 9"),
        (dict(pool=(Grid((4, 2)), (3, 2))), r"Blocks of \(3, 2\) do not fill a grid of \(4, 2\)"),
    ],
)
def test_bad_probes_are_refused(change, message):
    labels = np.arange(20) % 2
    arguments = dict(
        features_train=noise(20, 8), labels_train=labels, features_test=noise(20, 8), labels_test=labels
    )
    with pytest.raises(ValueError, match=message):
        linear_probe(**(arguments | dict(classes=2) | change))


# Figures.


def test_class_maps_draw_the_chosen_classes_with_their_regions():
    arrays = {"baseline": noise(4, 3, 2), "LGNN": np.abs(noise(4, 3, 2, seed=1))}
    marked = {"LGNN": [Region(3, np.array([0, 1]), {}), Region(0, np.array([5]), {})]}
    figure, drawn = plots.class_maps(arrays, {"pine": 3, "palm": 1}, regions=marked)
    panels = figure.axes[:4]
    assert [panel.get_title() for panel in panels] == ["pine", "palm", "", ""]
    assert [panel.images[0].get_cmap().name for panel in panels] == ["RdBu_r"] * 2 + ["viridis"] * 2
    np.testing.assert_array_equal(panels[2].images[0].get_array(), arrays["LGNN"][3])
    np.testing.assert_array_equal(drawn["LGNN"], arrays["LGNN"][[3, 1]])
    outlined = {tuple(map(tuple, line.get_xydata())) for line in panels[2].lines}
    assert len(outlined) == 6 and {y for line in outlined for _, y in line} == {-0.5, 0.5}
    assert not any(len(panels[index].lines) for index in (0, 1, 3))
    own = Figure()
    panels = own.subplots(2, 1)
    figure, _ = plots.class_maps(arrays, {"pine": 3}, axes=panels[:, None])
    assert figure is own and len(panels[1].images) == 1
    with pytest.raises(ValueError, match=r"axes must be \(2, 1\)"):
        plots.class_maps(arrays, {"pine": 3}, axes=panels)
    with pytest.raises(ValueError, match=r"'baseline' must be \(classes, m, n\) with classes \[4\]"):
        plots.class_maps(arrays, {"pine": 4})
    with pytest.raises(ValueError, match="NaN everywhere"):
        plots.class_maps({"LGNN": np.full((1, 2, 2), np.nan)}, {"pine": 0})


def test_names_that_would_cover_each_other_give_way():
    columns = np.eye(2)[np.tile([0, 1], 32)].T  # Regions a unit wide, and names of about two units.
    figure, _ = plots.preferred_classes({"a": {"b": columns}}, {"b": Grid((8, 8))}, ["x" * 12, "y" * 12])
    at = sorted(text.get_position()[0] for text in figure.axes[0].texts)
    assert len(at) >= 3 and np.diff(at).min() > 1.5


def test_preferred_classes_are_the_largest_t_and_their_regions_are_named_and_counted():
    grid = Grid((4, 3))
    t = noise(3, 12) / 10
    t[0, [0, 1, 3, 4]] = 9  # A square of the first class, and one unit of it elsewhere.
    t[0, 11], t[2, 8], t[1, 8] = 9, np.inf, 4
    t[:, 6], t[:, 7] = np.nan, 0
    arrays = {"net": {"as trained": t, "moved": t[:, ::-1]}, "other": {"as trained": t, "moved": t}}
    figure, shown = plots.preferred_classes(
        arrays, {"as trained": grid, "moved": grid}, ["cat", "dog", "eel"], named=4
    )
    found = shown["net"]["as trained"]
    expected = np.where(np.isnan(t).all(0), -1, np.nan_to_num(t, nan=-1).argmax(0))
    expected[7] = -1
    np.testing.assert_array_equal(found, expected.reshape(4, 3))
    np.testing.assert_array_equal(shown["net"]["moved"].ravel(), expected[::-1])
    assert found.ravel()[8] == 2 and found[0, 0] == found[1, 1] == found[3, 2] == 0
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == ["as trained", "moved", "", ""]
    assert [panel.get_ylabel() for panel in panels] == ["net", "", "other", ""]
    regions_of = sum(scipy.ndimage.label(found == label)[1] for label in range(3))
    assert panels[0].get_xlabel().startswith(f"{regions_of} regions, largest ")
    names = {text.get_text(): text.get_position() for text in panels[0].texts}
    assert names["cat"][0] in (0, 1) and names["cat"][1] in (0, 1)
    pixels = np.asarray(panels[0].images[0].get_array())
    np.testing.assert_allclose(pixels[3, 2], 0.5 + pixels[0, 0] / 2)  # Alone, so paler.
    assert (pixels[0, 0] == pixels[1, 1]).all() and (pixels[2, 0] == pixels[2, 1]).all()
    assert [text.get_text() for text in figure.legends[0].texts] == ["none", "cat", "dog", "eel"]
    assert len({tuple(pixels[place]) for place in ((0, 0), (2, 2), (2, 0))}) == 3
    own = Figure()
    assert plots.preferred_classes({"a": {"b": t}}, {"b": grid}, "xyz", axes=own.subplots())[0] is own
    assert not own.legends
    for wrong, message in (
        (({"a": {"b": t}}, {"b": grid}, "xy"), "2 named classes, got shape"),
        (({"a": {"b": t[:, 1:]}}, {"b": grid}, "xyz"), "11 units"),
        (({"a": {"b": t}}, {"b": Grid((12,))}, "xyz"), "two dimensions"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.preferred_classes(*wrong)


def test_top_images_lie_at_the_units_place():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), np.uint8)
    top = np.random.default_rng(1).permuted(np.tile(np.arange(20), (6, 1)), axis=1)[:, :10]
    figure, tiles = plots.top_images(images, top, Grid((3, 2)), [3, 4])
    assert list(tiles) == [3, 4] and tiles[4].shape == (12, 15, 3)
    np.testing.assert_array_equal(tiles[4][4:8, 10:15], images[top[4, 5]] / 255)
    canvas = figure.axes[0].images[0].get_array()
    assert canvas.shape == (2 * 12 + 2, 2 * 15 + 2, 3)  # Rows 1 and 2 of the grid, both columns.
    np.testing.assert_array_equal(canvas[:12, 17:], tiles[3])
    np.testing.assert_array_equal(canvas[14:, :15], tiles[4])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "2"]
    own = Figure()
    assert plots.top_images(images[..., :1] / 255, top, Grid((3, 2)), axes=own.subplots())[0] is own
    for wrong in (
        dict(units=[6]),
        dict(images=images[:5]),
        dict(images=images * 2.0),
        dict(grid=Grid((2, 2))),
    ):
        arguments = dict(images=images, top=top, grid=Grid((3, 2)), units=[0, 1]) | wrong
        with pytest.raises(ValueError, match="must be"):
            plots.top_images(**arguments)


def test_the_effective_dimension_is_that_of_the_responses():
    x = np.random.default_rng(0).standard_normal((40, 5)) * (1, 2, 3, 4, 5)
    found = accumulate(lambda images: {"layer": images}, x, np.arange(40) % 2, classes=2)["layer"]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert found.effective_dimension == pytest.approx(expected, rel=1e-5)
    still = accumulate(lambda images: {"layer": 0 * images + 1}, x, np.arange(40) % 2, classes=2)["layer"]
    with pytest.raises(ValueError, match="No unit of 'layer' varies"):
        _ = still.effective_dimension
