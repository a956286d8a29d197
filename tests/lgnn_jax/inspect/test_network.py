"""Networks of all frameworks: activations beside an independent computation, and a page in one call."""

import re
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lgnn_jax import Grid, inspect
from lgnn_jax.inspect import atlas
from tests.lgnn_jax.inspect import public_networks as public
from tests.lgnn_jax.inspect.test_atlas import blocks, unpack

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (18, 8, 8, 3), np.uint8)
GREY = BYTES[..., :1]
LABELS = np.arange(18) % public.CLASSES
NAMES = ["red", "green", "blue"]
MEAN, STD = np.float32([[[[0.5, 0.4, 0.3]]]]), np.float32([[[[0.2, 0.25, 0.3]]]])


@pytest.fixture(autouse=True)
def ranks_as_others_have_them():
    with jax.numpy_rank_promotion("allow"):
        yield


def normalise(x):
    return (x - MEAN) / STD


def normalised(images):
    return (np.float32(images) / 255 - MEAN) / STD


class Case:
    """A network, the activations that it should give by layer, and the classes that it predicts."""

    def __init__(self, network, expected, logits=None, images=BYTES, left_out=None):
        self.network, self.expected, self.logits = network, expected, logits
        self.images, self.left_out = images, left_out or {}


def linen_mnist():
    net = public.LinenMNIST()
    x = np.float32(GREY) / 255
    params = public.drawn(net.init(jax.random.key(0), x))["params"]
    first = nn.Conv(8, (3, 3)).apply({"params": params["Conv_0"]}, x)
    second = nn.Conv(8, (3, 3)).apply(
        {"params": params["Conv_1"]}, nn.avg_pool(nn.relu(first), (2, 2), (2, 2))
    )
    expected = {"Conv_0": first, "Conv_1": second}
    return Case(inspect.linen(net, {"params": params}), expected, net.apply({"params": params}, x), GREY)


def nnx_mnist():
    model = public.NNXMNIST(nnx.Rngs(0))
    nnx.update(model, public.drawn(nnx.state(model)))
    model.eval()
    x = np.float32(GREY) / 255
    first = model.batch_norm1(model.conv1(x))
    pooled = nnx.avg_pool(nnx.relu(first), (2, 2), (2, 2))
    expected = {"conv1": first, "conv2": model.batch_norm2(model.conv2(pooled))}
    network = inspect.nnx(model, call=lambda model, x: model(x, nnx.Rngs(0)), title="MNIST")
    return Case(network, expected, model(x, nnx.Rngs(0)), GREY)


def resnet(seed=0):
    net, x = public.ResNet(), normalised(BYTES)
    variables = public.drawn(net.init(jax.random.key(0), x), seed)
    found, seen = net.apply(variables, x, False, capture_intermediates=True, mutable=["intermediates"])
    seen, expected = seen["intermediates"], {"conv_init": "bn_init"}
    for block in ("Block_0", "Block_1"):
        expected |= {f"{block}/Conv_{at}": f"{block}/BatchNorm_{at}" for at in (0, 1)}
    expected["Block_1/conv_proj"] = "Block_1/norm_proj"

    def of(path):
        tree = seen
        for part in path.split("/"):
            tree = tree[part]
        return tree["__call__"][0]

    network = inspect.linen(
        net,
        variables,
        preprocess=normalise,
        output=lambda x: x["logits"],
        grids={"Block_0/Conv_1": Grid((2, 4), wrap=True)},
        train=False,
    )
    return Case(network, {path: of(norm) for path, norm in expected.items()}, found["logits"])


def unet():
    model = public.UNet(nnx.Rngs(0))
    nnx.update(model, public.drawn(nnx.state(model)))
    x, t = normalised(BYTES), jnp.full(len(BYTES), 0.3)
    time = nnx.silu(model.time(t[:, None]))[:, None, None]
    enter = model.enter(x)
    a = nnx.silu(enter + 2 * time)
    down = model.norm(model.down(nnx.max_pool(a, (2, 2), (2, 2))))
    b = nnx.silu(down)
    middle = model.middle(b)
    up = model.up(nnx.silu(middle + b))
    leave = model.leave(jnp.concatenate([a, up], -1))
    expected = {"enter": enter, "down": down, "middle": middle, "up": up, "leave": leave}
    expected["last"] = model.last(nnx.silu(leave))
    network = inspect.nnx(
        model,
        preprocess=normalise,
        call=lambda model, images: model(images, jnp.full(len(images), 0.3), condition=2.0),
    )
    return Case(network, expected)


def mobilenet():
    eqx = pytest.importorskip("equinox")
    model, state = public.equinox_mobilenet(jax.random.key(0))
    arrays, rest = eqx.partition((model, state), eqx.is_inexact_array)
    as_trained, state = eqx.combine(public.drawn(arrays), rest)
    model = eqx.nn.inference_mode(as_trained)
    expected = {}

    def keep(path, x):
        expected.setdefault(path, []).append(np.moveaxis(np.asarray(x), 0, -1))
        return x

    for image in np.moveaxis(normalised(BYTES), -1, 1):
        x = jax.nn.relu6(keep("stem", model.stem(image)))
        for at, block in enumerate(model.blocks):
            y = keep(f"blocks/{at}/expand", block.norm(block.expand(x), state)[0])
            y = keep(f"blocks/{at}/depthwise", block.depthwise(jax.nn.relu6(y)))
            x = x + keep(f"blocks/{at}/project", block.project(jax.nn.relu6(y)))
        expected.setdefault("logits", []).append(np.asarray(model.head(x.mean((1, 2)))))
    expected = {path: np.stack(values) for path, values in expected.items()}
    return Case(inspect.equinox(as_trained, state, preprocess=normalise), expected, expected.pop("logits"))


def convnext():
    eqx = pytest.importorskip("equinox")
    model = public.equinox_convnext(jax.random.key(0))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    model = eqx.combine(public.drawn(arrays), rest)
    stem, depthwise, logits = [], [], []
    for image in np.moveaxis(normalised(BYTES), -1, 1):
        x = model.groups(model.stem(image))
        stem.append(np.moveaxis(np.asarray(x), 0, -1))
        depthwise.append(np.moveaxis(np.asarray(model.depthwise(x)), 0, -1))
        logits.append(model(image, key=jax.random.key(0)))
    network = inspect.equinox(
        model, preprocess=normalise, call=lambda model, image: model(image, key=jax.random.key(0))
    )
    expected = {"stem": np.stack(stem), "depthwise": np.stack(depthwise)}
    return Case(network, expected, np.stack(logits), left_out={"shared": "it was run 2 times"})


def haiku_resnet():
    pytest.importorskip("haiku")
    net, x = public.haiku_resnet(), normalised(BYTES)
    params, state = net.init(jax.random.key(0), x, True)
    params, state = public.drawn(params), public.drawn(state, 1)
    state = {
        k: {n: jnp.abs(v) + 0.5 if k.endswith("var_ema") and n != "counter" else v for n, v in m.items()}
        for k, m in state.items()
    }
    expected = {}

    def both(x, block, conv, norm, stride):
        """A convolution and its normalisation, from the numbers alone."""
        x = jax.lax.conv_general_dilated(
            x,
            params[block + conv]["w"],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        mean, var = (state[f"{block}{norm}/~/{kind}_ema"]["average"] for kind in ("mean", "var"))
        own = params[block + norm]
        expected[block + conv] = (x - mean) / jnp.sqrt(var + 1e-5) * own["scale"] + own["offset"]
        return expected[block + conv]

    root = "res_net/~/"
    x = jax.nn.relu(both(x, root, "initial_conv", "initial_batchnorm", 1))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for group, stride in enumerate((1, 2, 1, 1)):
        block = f"{root}block_group_{group}/~/block_0/~/"
        short = x if group == 0 else both(x, block, "shortcut_conv", "shortcut_batchnorm", stride)
        y = jax.nn.relu(both(x, block, "conv_0", "batchnorm_0", stride))
        x = jax.nn.relu(both(y, block, "conv_1", "batchnorm_1", 1) + short)
    head = params[root + "logits"]
    network = inspect.haiku(net, params, state, preprocess=normalise, is_training=False)
    return Case(network, expected, x.mean((1, 2)) @ head["w"] + head["b"])


def of_function():
    """Channels first, as networks that were carried over from PyTorch have it."""
    draw = np.random.default_rng(3)
    params = {"a": draw.standard_normal((8, 3)), "b": draw.standard_normal((8, 8))}
    params = {name: np.float32(x)[:, :, None, None] for name, x in params.items()}

    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )

    def apply(params, images):
        a = conv(images, params["a"])
        b = conv(jax.nn.relu(a), params["b"])
        return {"b": b, "a": a, "scale": jnp.ones(8), "logits": b.mean((2, 3))[:, :3]}

    network = inspect.function(
        apply,
        params,
        kernels=params,
        axis=0,
        output=lambda found: found["logits"],
        preprocess=normalise,
        channels_first=True,
    )
    a = np.einsum("nhwi,oi->nhwo", normalised(BYTES), params["a"][..., 0, 0])
    b = np.einsum("nhwi,oi->nhwo", np.maximum(a, 0), params["b"][..., 0, 0])
    logits = b.mean((1, 2))[:, :3]
    expected = {"b": b, "a": a, "logits": logits}
    return Case(network, expected, logits, left_out={"scale": "it has shape (8,), not (batch, ..., units)"})


CASES = {
    case.__name__: case
    for case in (linen_mnist, nnx_mnist, resnet, unet, mobilenet, convnext, haiku_resnet, of_function)
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    with jax.numpy_rank_promotion("allow"):
        return CASES[request.param]()


def quiet(case):
    """Warnings are errors, and one is expected where a layer is left out."""
    if case.left_out:
        return pytest.warns(UserWarning, match="Layers left out.*" + re.escape(next(iter(case.left_out))))
    return warnings.catch_warnings()


def test_activations_are_those_of_an_independent_computation(case):
    network, images = case.network, case.images
    assert [layer.path for layer in network.layers(images)] == list(case.expected)  # As they are run.
    assert network.left_out(images) == case.left_out
    with quiet(case):
        found = network.activations()(images)
    assert list(found) == list(case.expected)
    for path, expected in case.expected.items():
        np.testing.assert_allclose(found[path], expected, rtol=1e-4, atol=1e-4, err_msg=path)
    in_unit_range = network.activations()(np.float32(images) / 255)
    for path in found:
        np.testing.assert_allclose(in_unit_range[path], found[path], rtol=1e-4, atol=1e-4)
    last = list(case.expected)[-1]
    np.testing.assert_allclose(network.activations([last])(images)[last], found[last], rtol=1e-4, atol=1e-4)
    for layer in network.layers(images):
        units = case.expected[layer.path].shape[-1]
        assert layer.grid.units == units
        assert layer.kernel is None or layer.kernel.shape[layer.axis] == units


def test_one_call_writes_the_page(case, tmp_path):
    page = tmp_path / "atlas.html"
    case.network._warned = False
    with quiet(case):
        atlas.write(
            page,
            case.network,
            case.images,
            LABELS,
            class_names=NAMES,
            arranged=False,
            permutations=20,
            batch=7,
        )
    found = blocks(page)
    (about,) = found["atlas"]["networks"]
    assert [layer["name"] for layer in found["atlas"]["layers"]] == list(case.expected)
    if case.logits is None:
        assert about["class_accuracy"] is None
        assert dict(about["facts"])["accuracy"] == "not known: the network gives no logits"
    else:
        right = np.asarray(case.logits).argmax(-1) == LABELS
        expected = [right[LABELS == k].mean() for k in range(3)]
        np.testing.assert_allclose(about["class_accuracy"], expected, atol=1e-4)
        assert dict(about["facts"])["accuracy"] == f"{right.mean():.1%} of these images"
    for at, expected in enumerate(case.expected.values()):
        means = unpack(found[f"layer-0-{at}"]["means"])[-1]
        step = found[f"layer-0-{at}"]["means"]["scale"]
        over_space = np.asarray(expected, np.float64).mean(tuple(range(1, expected.ndim - 1))).mean(0)
        np.testing.assert_allclose(means, over_space, atol=step + 1e-3 * np.abs(over_space).max())
    assert ("layers left out" in dict(about["facts"])) == bool(case.left_out)


def test_what_is_left_out_is_told_once_where_it_is_asked_for(tmp_path):
    network = of_function().network
    options = dict(class_names=NAMES, arranged=False, permutations=20)
    with pytest.warns(UserWarning, match=r"'scale' \(it has shape \(8,\)") as told:
        atlas.write(tmp_path / "atlas.html", network, BYTES, LABELS, **options)
    assert len(told) == 1 and told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.activations()(BYTES)
    network = of_function().network
    with pytest.warns(UserWarning, match="'scale'") as told:
        network.activations()(BYTES)
    assert told[0].filename == __file__
    with pytest.raises(ValueError, match="'scale' must be run once and give one array, but it has shape"):
        network.activations(["scale"])(BYTES)
    with pytest.raises(
        ValueError, match="'c' must be run once .* but apply returned 'b', 'a', 'scale', 'logits' alone"
    ):
        network.activations(["c"])(BYTES)


def test_kernels_of_all_frameworks_are_the_layers_own(case):
    """Cosines on the page are of filters, whatever their axis."""
    for layer in case.network.layers(case.images):
        if layer.kernel is not None:
            assert layer.kernel.ndim == 4 and layer.axis in (-1, 0, -2)
    if case.expected.keys() == {"conv1", "conv2"}:
        assert layer.axis == -1


def test_what_was_computed_elsewhere(tmp_path):
    """Activations as a network of PyTorch's gives them, channels first, and OIHW weights."""
    known = of_function()
    a, b = (np.moveaxis(known.expected[name], -1, 1) for name in ("a", "b"))
    kernels = {"layer1.conv": known.network.layers(BYTES)[1].kernel}
    given = {"layer1.conv": a, "layer2": b, "pooled": b.mean((2, 3))}
    network = inspect.arrays(
        given, kernels=kernels, axis=0, logits=known.logits, channels_first=True, title="torch"
    )
    page = tmp_path / "atlas.html"
    atlas.write(page, network, BYTES, LABELS, class_names=NAMES, permutations=20, batch=5)
    found = blocks(page)
    assert [layer["name"] for layer in found["atlas"]["layers"]] == ["layer1.conv", "layer2", "pooled"]
    assert found["layer-0-0"]["cosines"] is not None and found["layer-0-1"]["cosines"] is None
    fit = int(re.search(r"and (\d+) others", dict(found["atlas"]["networks"][0]["facts"])["images"])[1])
    assert fit == 9
    # The same images are shown, by the same numbers, as of the network that can run.
    runs = tmp_path / "runs.html"
    with pytest.warns(UserWarning, match="left out"):
        atlas.write(runs, known.network, BYTES, LABELS, class_names=NAMES, permutations=20, batch=5)
    other = blocks(runs)
    np.testing.assert_allclose(
        unpack(found["layer-0-0"]["means"]),
        unpack(other["layer-0-1"]["means"]),
        atol=2 * other["layer-0-1"]["means"]["scale"],
    )
    with pytest.raises(ValueError, match="computed elsewhere, so it runs on no image"):
        atlas.write(
            page, network, BYTES, LABELS, class_names=NAMES, visualise=inspect.SMALL, arranged=False
        )
    with pytest.raises(ValueError, match="'torch' has activations on 18 images, but there are 17"):
        atlas.write(page, network, BYTES[1:], LABELS[1:], class_names=NAMES)


# What is asked for and cannot be.


def small(**options):
    net = nn.Sequential([nn.Conv(6, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(3)])
    variables = public.drawn(net.init(jax.random.key(0), np.zeros((1, 8, 8, 3))))
    return inspect.linen(net, variables, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layers": ["layers_7"]}, "Unknown layer 'layers_7'. Known: layers_0, layers_3."),
        ({"layers": "layers_0"}, "layers must be a list of names, got the text 'layers_0'"),
    ],
)
def test_layers_that_are_not_there(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"grids": {"layers_3": (3, 1)}}, "grids name 'layers_3', which is no layer. Layers: layers_0."),
        ({"grids": {"layers_0": (4, 2)}}, "layer 'layers_0' has 6 units"),
        ({"output": lambda x: {"a": x}}, "output must give logits (batch, classes), got dict"),
        ({"output": lambda x: x[:, :, None]}, "got an array of shape (2, 3, 1)"),
    ],
)
def test_what_does_not_fit_the_network(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**options).layers(BYTES)


@pytest.mark.parametrize(
    "images, message",
    [
        (
            BYTES[..., 0],
            "images must be (images, height, width, channels), got shape (8, 8) of an image. Grey ones are "
            "images[..., None].",
        ),
        (BYTES[0, 0], "got shape (3,) of an image."),
        (
            np.float32(BYTES),
            "images must be bytes or floats in [0, 1], as they are shown, got float32 with values",
        ),
        (BYTES.astype(int), "got int64 with values from"),
    ],
)
def test_images_that_are_not_as_they_are_shown(images, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        atlas.write("atlas.html", small(), images, LABELS[: len(images)], class_names=NAMES)


def test_dense_layers_by_name():
    (layer,) = small(layers=["layers_3/kernel"]).layers(BYTES)
    assert layer.grid.shape == (3, 1) and layer.kernel.shape == (6, 3)


def test_haiku_without_its_state():
    pytest.importorskip("haiku")
    with pytest.raises(ValueError, match=re.escape("needs its state: haiku(transformed, params, state)")):
        inspect.haiku(public.haiku_resnet(), {})


def test_haiku_with_and_without_a_key():
    hk = pytest.importorskip("haiku")

    def forward(x):
        return hk.dropout(hk.next_rng_key(), 0.0, hk.Conv2D(4, 3)(x)) if keyed else hk.Conv2D(4, 3)(x)

    for keyed in (True, False):
        net = hk.transform(forward)
        params = net.init(jax.random.key(0), np.float32(BYTES[:1]))
        net = net if keyed else hk.without_apply_rng(net)
        found = inspect.haiku(net, params, rng=jax.random.key(1) if keyed else None).activations()(BYTES)[
            "conv2_d"
        ]
        expected = jax.lax.conv_general_dilated(
            np.float32(BYTES) / 255,
            params["conv2_d"]["w"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        np.testing.assert_allclose(found, expected + params["conv2_d"]["b"], atol=1e-5)


def test_linen_that_needs_more_than_images():
    class Timed(nn.Module):
        @nn.compact
        def __call__(self, x, t):
            return nn.Conv(4, (1, 1))(x * t[:, None, None, None])

    x = np.float32(BYTES) / 255
    params = Timed().init(jax.random.key(0), x, np.ones(len(x)))
    call = inspect.linen(
        Timed(), params, call=lambda apply, x: apply(x, t=jnp.arange(len(x)))
    ).activations()
    own = params["params"]["Conv_0"]
    expected = np.einsum("nhwi,io->nhwo", x * np.arange(len(x))[:, None, None, None], own["kernel"][0, 0])
    np.testing.assert_allclose(call(BYTES)["Conv_0"], expected, atol=1e-4)


def test_an_equinox_network_of_transforms_and_loops():
    """Its modules run within jit, remat, vmap and scan, as the marks of all frameworks do."""
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        plain: eqx.nn.Conv2d
        jitted: eqx.nn.Conv2d
        kept: eqx.nn.Conv2d
        mapped: eqx.nn.Conv1d
        looped: eqx.nn.Conv2d
        idle: eqx.nn.Conv2d

        def __call__(self, x):
            x = eqx.filter_jit(self.jitted)(self.plain(x))
            x = eqx.filter_checkpoint(self.kept)(x)
            return jax.lax.scan(lambda x, _: (self.looped(x), None), x, None, length=2)[0]

    keys = jax.random.split(jax.random.key(0), 6)
    convs = [eqx.nn.Conv2d(3, 3, 3, padding=1, key=key) for key in keys]
    model = Net(convs[0], convs[1], convs[2], eqx.nn.Conv1d(3, 3, 3, key=keys[3]), convs[4], convs[5])
    network = inspect.equinox(model)
    assert network.left_out(BYTES) == {"looped": "it runs within scan", "idle": "it was run 0 times"}
    with pytest.warns(UserWarning, match="'looped' .it runs within scan."):
        found = network.activations()(BYTES)
    x = jnp.moveaxis(jnp.float32(BYTES) / 255, -1, 1)
    for name in ("plain", "jitted", "kept"):
        x = jax.vmap(getattr(model, name))(x)
        np.testing.assert_allclose(found[name], jnp.moveaxis(x, 1, -1), atol=1e-5)


def test_an_equinox_normalisation_of_ones_own_has_its_units_first():
    eqx = pytest.importorskip("equinox")

    class Affine(eqx.Module):
        weight: jax.Array

        def __call__(self, x, *, key=None):
            return x * self.weight[:, None, None]

    conv, norm = eqx.nn.Conv2d(3, 4, 1, key=jax.random.key(0)), Affine(jnp.arange(1.0, 5))
    found = inspect.equinox(eqx.nn.Sequential([conv, norm])).activations()(BYTES)["layers/0"]
    x = jax.vmap(lambda x: norm(conv(x)))(jnp.moveaxis(jnp.float32(BYTES) / 255, -1, 1))
    np.testing.assert_allclose(found, jnp.moveaxis(x, 1, -1), atol=1e-5)


def test_the_model_stays_as_it_was():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Sequential([eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0)), eqx.nn.Dropout(0.5)])
    kinds = [type(layer) for layer in model.layers]
    inspect.equinox(model).activations()(BYTES)
    assert [type(layer) for layer in model.layers] == kinds and not model.layers[1].inference
