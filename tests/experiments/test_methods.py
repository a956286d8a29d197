"""What a method can add: to the loss, between epochs, to the log; and nothing where it adds nothing."""

import dataclasses
import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import data as datasets
from experiments import fields, methods, nets
from experiments.config import Run, configure, foresee, known_settings
from experiments.methods import Constant
from experiments.methods.base import Method
from experiments.nets import activations, vgg, wrn
from experiments.run import running, step
from experiments.run.alone import Alone
from experiments.run.augment import crop_and_flip, example_keys, normalise
from experiments.run.checkpoint import Saved
from experiments.run.step import Images, Totals, TrainState, keys, make_step
from experiments.run.together import family
from lgnn_jax import Grid
from tests.experiments.conftest import few_digits
from tests.experiments.run.test_step import pictures
from tests.lgnn_jax import reference


@dataclasses.dataclass(frozen=True)
class Sparse(Method):
    """Small weights and few activations."""

    name = "sparse"
    about = "for this test"
    strength: float = fields.setting("How much.", 0.5)
    sigma: float = fields.setting("Of no neighbourhood.", 9.0)

    def loss(self, run):
        assert run.net.name == "vgg11"

        def term(params, seen):
            kernel, active = params["conv"]["kernel"], seen["conv/kernel"]
            return self.strength * jnp.square(kernel).sum() + 2 * active.mean()

        return term

    def between(self, run, state, epoch, training):
        assert training == "images"
        return state._replace(params=jax.tree.map(lambda leaf: leaf * 2 + epoch, state.params))

    def logged(self, run, step, steps_per_epoch):
        return {"strength": self.strength}


class Tiny(nn.Module):
    """A convolution with normalisation and ReLU, and a dense layer."""

    @nn.compact
    def __call__(self, x, *, train, examples=None):
        x = nets.layers.Conv(4, stride=4, name="conv")(x)
        x = nn.relu(nets.layers.batch_norm(train, None, jnp.float32, "bn")(x))
        activations.show(self, x, "conv")
        return nn.Dense(3, name="dense")(x.mean((1, 2)))


def by_hand(params, x, labels, strength):
    """The loss with the term of :class:`Sparse`, of :class:`Tiny` written out."""
    maps = jax.lax.conv_general_dilated(
        x, params["conv"]["kernel"], (4, 4), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean, variance = maps.mean((0, 1, 2), keepdims=True), maps.var((0, 1, 2), keepdims=True)
    scale, bias = (params["bn"][name].reshape(1, 1, 1, -1) for name in ("scale", "bias"))
    active = jnp.maximum((maps - mean) / jnp.sqrt(variance + 1e-5) * scale + bias, 0)
    logits = active.mean((1, 2)) @ params["dense"]["kernel"] + params["dense"]["bias"].reshape(1, -1)
    picked = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
    entropy = (jax.scipy.special.logsumexp(logits, axis=1) - picked).mean()
    term = strength * (params["conv"]["kernel"] ** 2).sum() + 2 * active.mean()
    return entropy + term, entropy


def after_a_step(term):
    """Parameters before and after a step of plain SGD with rate 1, the totals, images as they are read, labels."""
    draw = np.random.default_rng(1)
    images = jnp.asarray(draw.integers(0, 256, (8, 32, 32, 3)), jnp.uint8)
    data = Images(
        images, jnp.asarray(draw.integers(0, 3, 8), jnp.int32), jnp.full(3, 0.5), jnp.full(3, 0.3)
    )
    module, tx, drawn = Tiny(), optax.sgd(1.0), keys(0)
    variables = jax.jit(lambda: module.init(drawn.init, jnp.zeros((1, 32, 32, 3)), train=False))()
    assert set(variables) == {"params", "batch_stats"}
    params, stats = variables["params"], variables["batch_stats"]
    state = TrainState(jnp.int32(0), params, stats, tx.init(params), Totals.zero())
    examples = jnp.arange(8)
    made = make_step(module, tx, padding="constant", flip=True, axis=None, term=term)
    after = jax.jit(made)(state, data, drawn, examples)

    @jax.jit
    def read(images):
        draws = example_keys(jax.random.fold_in(drawn.augment, 0), examples)
        x = normalise(images, data.mean, data.deviation)
        return crop_and_flip(x, draws, padding="constant", flip=True)

    return params, after.params, after.totals, read(images), data.labels


@pytest.fixture
def sparse(monkeypatch):
    """A run of a method that this test brings along."""
    monkeypatch.setitem(methods.METHODS, "sparse", Sparse)
    return foresee("digits", variant="sparse")[0]


def test_a_term_of_the_loss_has_the_value_and_the_gradient_by_hand(sparse):
    before, after, totals, x, labels = after_a_step(sparse.method.loss(sparse))
    wanted, entropy = jax.jit(jax.grad(by_hand, has_aux=True))(before, x, labels, 0.5)
    for path, grad in jax.tree_util.tree_leaves_with_path(wanted):
        old, new = (tree[path[0].key][path[1].key] for tree in (before, after))
        np.testing.assert_allclose(old - new, grad, rtol=2e-4, atol=2e-6, err_msg=str(path))
    assert float(totals.loss) / 8 == pytest.approx(float(entropy), rel=1e-5)  # The cross-entropy alone.


def test_a_term_that_is_not_finite_is_seen_at_its_own_step():
    *_, totals, _, _ = after_a_step(lambda params, seen: jnp.float32(np.nan) * params["bn"]["bias"].sum())
    assert np.isfinite(totals.loss) and int(totals.first_bad_step) == 0


def traced(monkeypatch, show, term=None):
    """A step of VGG-11 and its start, traced."""
    monkeypatch.setattr(vgg, "show", show)
    module, tx, drawn = nets.build("vgg11", 4, 1 / 16), optax.sgd(1.0), keys(0)
    image = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: module.init(drawn.init, image, train=False))
    assert set(variables) == {"params", "batch_stats"}
    params, stats = variables["params"], variables["batch_stats"]
    state = TrainState(jnp.int32(0), params, stats, jax.eval_shape(tx.init, params), Totals.zero())
    data = Images(jnp.zeros((8, 32, 32, 3), jnp.uint8), jnp.zeros(8, jnp.int32), jnp.ones(3), jnp.ones(3))
    made = make_step(module, tx, padding="constant", flip=True, axis=None, term=term)
    return jax.jit(made).lower(state, data, drawn, jnp.arange(8)).as_text()


@pytest.mark.slow
def test_without_a_term_the_program_is_that_of_a_network_that_shows_nothing(monkeypatch):
    plain = traced(monkeypatch, lambda *_: None)
    assert traced(monkeypatch, activations.show) == plain
    assert traced(monkeypatch, activations.show, lambda _, seen: seen["conv_0/kernel"].mean()) != plain


@pytest.mark.parametrize("net, width", [("vgg11", 1 / 16), ("wrn16-8", 1 / 32)])
def test_activations_are_what_comes_after_normalisation_and_relu(net, width, depth):
    """Of a WRN, whose sums are normalised by the next block, those of all convolutions in the sum."""
    module, images = nets.build(net, 4, width), jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = jax.jit(lambda: module.init(jax.random.key(0), images, train=False))()

    @functools.partial(jax.jit, static_argnums=0)
    def run(capture):
        of = {"train": False, "capture_intermediates": capture, "mutable": ["intermediates"]}
        return module.apply(variables, images, **of)[1]["intermediates"]

    found = activations.shown(run(False))
    norms = {
        "/".join(key.key for key in path[:-2]): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            run(lambda module, _: isinstance(module, nn.BatchNorm))
        )
        if isinstance(path[-1], jax.tree_util.SequenceKey)
    }
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    kernels = {
        jax.tree_util.keystr(path, simple=True, separator="/") for path, leaf in leaves if leaf.ndim == 4
    }
    assert set(found) == kernels
    in_a_group, _ = wrn.SIZES["wrn16-8"]
    blocks = [f"group_{group}_block_{block}" for group in range(3) for block in range(in_a_group)]
    following = dict(zip(["stem", *blocks], [*(f"{block}/bn_0" for block in blocks), "bn"], strict=True))
    for path, values in found.items():
        layer = path.removesuffix("/kernel")
        place = layer.rpartition("/")[0] or layer
        if layer.startswith("conv"):
            norm = f"bn_{layer.removeprefix('conv_')}"
        else:
            norm = f"{place}/bn_1" if layer.endswith("/conv_0") else following[place]
        np.testing.assert_array_equal(values, np.maximum(norms[norm], 0), err_msg=path)


def test_a_trainer_adds_the_term_of_its_method(sparse, monkeypatch):
    terms = []
    monkeypatch.setattr(step, "make_step", lambda *_, term, **__: terms.append(term) or (lambda: None))
    placed = types.SimpleNamespace(train_examples=64, classes=4)
    for run in (sparse, foresee("digits")[0]):
        step.Trainer(run, placed)
    assert terms[0] is not None and terms[1] is None


class Counting:
    """A trainer whose every step adds one to the only parameter."""

    steps_per_epoch = 2
    placed = types.SimpleNamespace(train_examples=64, train="images", replicate=lambda tree: tree)

    def start(self, seed, begun=None):
        return TrainState(np.int32(0), {"w": np.float64(0)}, {}, (), Totals.zero()), None

    def step(self, state, keys, examples):
        params = jax.tree.map(lambda leaf: leaf + 1, state.params)
        seen = state.totals._replace(examples=state.totals.examples + 32)
        return state._replace(step=state.step + 1, params=params, totals=seen)

    def evaluate(self, state):
        return np.ones(1, bool), 0.0


class Silent:
    """A report, checkpoints and signals of which nothing comes; ``saved`` is what there is to go on from."""

    received = None

    def __init__(self, saved=None):
        self.saved = saved

    def newest(self, like, until):
        return self.saved

    def due(self, ahead):
        return False

    def __getattr__(self, name):
        return lambda *_: None


def test_what_is_done_between_epochs_is_done_once_wherever_a_run_goes_on(sparse):
    config = sparse.having(epochs=3)
    wanted, states = ((0 + 2) * 2 + 1 + 2) * 2 + 2 + 2, []

    class Keeping(Counting):
        def step(self, state, keys, examples):
            states.append(super().step(state, keys, examples))
            return states[-1]

    for saved in (None, *range(6)):
        before = Silent(None if saved is None else Saved(states[saved], 0.0))
        trainer = Counting() if states else Keeping()
        made = running.Running(Alone(trainer, config), [before], before, before)
        for epoch in range(made.epochs_logged, 3):
            (line,) = made.epoch(epoch)
            assert line["strength"] == 0.5 and "sigma" not in line
        assert made.states.params["w"] == wanted
    assert len(states) == 6


def test_options_of_a_method_are_in_the_name_of_its_runs_alone(sparse):
    assert sparse.flat()["strength"] == 0.5 and "window" not in sparse.flat()
    assert sparse.having(strength=1.0).name != sparse.name and "-sparse-s0-" in sparse.name
    assert Run.of(sparse.flat()) == sparse
    plain, notes = foresee("digits", strength=3.0)
    assert plain == foresee("digits")[0] and notes == ("constant has no strength; it changes nothing",)
    assert not foresee("digits", variant="baseline", sigma=0.4)[1]


def test_settings_have_flat_names_of_their_own():
    """Parts would take each other's values; methods share a name where the option is the same."""
    run, _ = foresee("digits")
    parts = [run.net, run.data, run.recipe]
    for method in methods.METHODS.values():
        keys = [key for part in (*parts, method) for key in fields.by_key(part)]
        assert len(set(keys)) == len(keys) and not {"variant", "seed"} & set(keys)
        for key, field in fields.by_key(method).items():
            other = known_settings()[key]
            assert (field.default, field.metadata) == (other.default, other.metadata)


def test_a_constant_neighbourhood_is_said_as_it_is_stored():
    config, _ = configure(pictures(), batch=16, sigma=0.3, width=0.0625)
    assert config.method == Constant(sigma=0.3) and config.flat()["variant"] == "constant"


@pytest.fixture
def arranged(shallow):
    """A short run that puts its units in order at every epoch, with its trainer."""
    data = few_digits(200)
    config, _ = configure(data, variant="arranged", width=1 / 16, epochs=3, batch=64, lr=0.01)
    return config, step.Trainer(config, step.PlacedData(data, jax.devices()[:1]))


def test_an_order_leaves_the_function_and_moves_momentum_with_its_weights(arranged):
    config, trainer = arranged
    state, drawn = trainer.start(0)
    for examples in np.arange(3 * 64).reshape(3, 64):
        state = trainer.step(state, drawn, examples.astype(np.int32))
    before = jax.device_get(state)
    after = jax.device_get(config.method.between(config, state, 1, trainer.placed.train))
    assert not np.array_equal(before.params["conv_1"]["kernel"], after.params["conv_1"]["kernel"])
    for old, new in zip(
        trainer.evaluate(state), trainer.evaluate(trainer.placed.replicate(after)), strict=True
    ):
        np.testing.assert_allclose(old, new, rtol=1e-4)
    columns = (
        before.params["conv_1"]["kernel"].reshape(-1, 4),
        after.params["conv_1"]["kernel"].reshape(-1, 4),
    )
    norms = [np.linalg.norm(each, axis=0) for each in columns]
    order = [int(np.abs(norms[0] - norm).argmin()) for norm in norms[1]]
    assert sorted(order) == [0, 1, 2, 3] != order
    for find in (
        lambda state: state.batch_stats["bn_1"]["mean"],
        lambda state: optax.tree_utils.tree_get(state.opt_state, "trace")["bn_1"]["scale"],
    ):
        assert np.ptp(find(before)) > 0
        np.testing.assert_array_equal(find(after), find(before)[order])
    config = config.having(arrange_every=2)
    assert config.method.between(config, state, 1, None) is state


def test_a_run_whose_units_are_moved_goes_on_bit_for_bit(arranged):
    config, trainer = arranged
    states = []

    class Keeping:
        placed, steps_per_epoch, start = trainer.placed, trainer.steps_per_epoch, trainer.start
        evaluate = staticmethod(lambda state: (np.ones(1, bool), 0.0))

        def step(self, state, drawn, examples):
            made = trainer.step(state, drawn, examples)
            states.append(jax.device_get(made))
            return made

    def end(saved):
        before = Silent(None if saved is None else Saved(saved, 0.0))
        made = running.Running(Alone(Keeping(), config), [before], before, before)
        for epoch in range(made.epochs_logged, 3):
            made.epoch(epoch)
        return jax.device_get(made.states)

    whole = end(None)
    kept, steps = list(states), trainer.steps_per_epoch
    for at in (steps + 1, 2 * steps):  # Within an epoch, and at the end of one.
        jax.tree.map(np.testing.assert_array_equal, end(kept[at - 1]), whole)


def test_what_arranged_is_told_is_checked_and_said_in_the_log():
    run, _ = foresee(
        "digits", variant="arranged", neighbourhood="heat", sigma=1.0, sigma_end=0.15, epochs=5
    )
    widths = [run.method.logged(run, 10 * epoch + 3, 10)["sigma"] for epoch in range(5)]
    np.testing.assert_allclose(widths, 0.15 ** (np.arange(5) / 4), rtol=1e-6)
    assert "arrange_by" not in foresee("digits")[0].flat()
    for wrong, message in (
        ({"arrange_by": "names"}, "Unknown arrange_by 'names'. Known: weights, responses, both"),
        ({"arrange_every": 0}, "at least 1 epoch, got 0"),
        ({"neighbourhood": "cone"}, "Unknown neighbourhood 'cone'. Known: window, heat"),
        ({"sigma": 1.0}, "indefinite"),
        ({"sigma_end": 1.0}, "indefinite"),
        ({"sigma": 0.0, "sigma_end": 0.3}, "needs a positive sigma"),
    ):
        with pytest.raises(ValueError, match=message):
            foresee("digits", variant="arranged", **wrong)
    with pytest.raises(ValueError, match="'arranged' cannot be made together"):
        family(run)


def rivals(**settings):
    """Terms of the loss of methods that are nothing else, with parameters and activations for them."""
    of, draw = {"width": 1 / 16, "grids": ((4, (4, 1)),), **settings}, np.random.default_rng(0)
    run, _ = foresee("digits", **of)
    module = nets.build("vgg11", 10, 1 / 16)
    params = jax.jit(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)["params"]
    )()
    shapes = {f"conv_{index}/kernel": (6, size, size, 4) for index, size in ((0, 4), (1, 2))}
    seen = {path: jnp.asarray(draw.standard_normal(shape), jnp.float32) for path, shape in shapes.items()}
    return run, params, seen


def by_layers(variant, params, seen):
    """What the two layers, on grids of 4x1, lose."""
    grid, found = Grid((4, 1)), []
    for layer in ("conv_0", "conv_1"):
        filters = np.asarray(params[layer]["kernel"], np.float64).reshape(-1, 4).T
        if variant == "topoloss":
            found.append(reference.topoloss(filters, grid, (4, 1)))
        elif variant == "tdann":
            samples = np.asarray(seen[f"{layer}/kernel"], np.float64).reshape(-1, 4)
            found.append(reference.response_loss(samples, grid))
        else:
            found.append(reference.weight_similarity_loss(filters, grid))
    return found


@pytest.mark.parametrize(
    "variant, settings, how",
    [
        ("topoloss", {"tau": 3.0, "topo_factor": 9.0}, np.mean),  # A sheet has no 9 to a side.
        ("tdann", {"response_strength": 3.0}, np.sum),
        ("weight_similarity", {"weight_strength": 3.0}, np.mean),
    ],
)
def test_a_rival_adds_what_the_layers_lose(variant, settings, how, shallow):
    run, params, seen = rivals(variant=variant, **settings)
    term = jax.jit(run.method.loss(run))
    value = term(params, seen)
    np.testing.assert_allclose(value, 3 * how(by_layers(variant, params, seen)), rtol=1e-5)
    assert run.method.logged(run, 0, 1) == {next(iter(settings)): 3.0}
    assert {key: run.flat()[key] for key in settings} == settings and "sigma" not in run.flat()
    grads = jax.grad(term, argnums=(0, 1))(params, seen)
    touched = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, grad in jax.tree_util.tree_leaves_with_path(grads)
        if np.abs(grad).max() > 1e-4
    }
    of = 1 if variant == "tdann" else 0
    assert touched == {f"{of}/conv_0/kernel", f"{of}/conv_1/kernel"}


@pytest.mark.parametrize(
    "variant, strength",
    [
        ("topoloss", "tau"),
        pytest.param("tdann", "response_strength", marks=pytest.mark.slow),
        pytest.param("weight_similarity", "weight_strength", marks=pytest.mark.slow),
    ],
)
def test_a_rival_lowers_its_own_loss_in_training(variant, strength, shallow):
    data = datasets.load("digits")
    config, _ = configure(data, variant=variant, width=1 / 4, batch=128, lr=0.01, **{strength: 30.0})
    trainer = step.Trainer(config, step.PlacedData(data, jax.devices()[:1]))
    state, drawn = trainer.start(0)
    module = nets.build("vgg11", 10, 1 / 4)

    @jax.jit
    def lost(state):
        images = trainer.placed.train.normalised(jnp.arange(256))
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        _, changed = module.apply(
            variables,
            images,
            train=True,
            mutable=["intermediates", "batch_stats"],
            rngs={"dropout": drawn.dropout},
        )
        return config.method.loss(config)(state.params, activations.shown(changed["intermediates"]))

    before = lost(state)
    for examples in np.arange(8 * 128).reshape(8, 128):
        state = trainer.step(state, drawn, examples.astype(np.int32))
    assert np.isfinite(before) and lost(state) < 0.9 * before
    assert int(state.totals.first_bad_step) > 8


@pytest.mark.parametrize(
    "variant, setting, values",
    [
        ("topoloss", "tau", (-1.0, np.inf, np.nan)),
        ("topoloss", "topo_factor", (0.5, np.inf, np.nan)),
        ("tdann", "response_strength", (-1.0, np.inf, np.nan)),
        ("weight_similarity", "weight_strength", (-1.0, np.inf, np.nan)),
    ],
)
def test_what_a_rival_is_told_is_checked(variant, setting, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{setting} must be at least . and finite, got {value:g}"):
            foresee("digits", variant=variant, **{setting: value})
