import functools
import importlib.util
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from experiments import cli, nets
from experiments import config as configs
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import noise, peer_nets, profile, timing, train
from experiments.config import configure
from experiments.run.augment import PAD

TINY = ["--width", "0.0625", "--batch", "8", "--inference-batch", "8", "--repeats", "2"]
BF16 = pytest.param(
    "bf16",
    marks=pytest.mark.skipif("bf16" not in configs.PRECISIONS, reason="configurations have float32 alone"),
)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def without_torch(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))


def tables(monkeypatch, capsys, *options):
    """Rows of the tables, header first, and what was said."""
    monkeypatch.setattr(sys, "argv", ["benchmark", "train", "--nets", "vgg11", *TINY, *options])
    cli.start(benchmark.main)
    out, err = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if "|" in line]
    return [row for row in rows if not row[0].startswith("---")], err


def test_without_pytorch_ours_alone_is_measured_and_a_profile_says_where_the_time_goes(
    shallow, without_torch, monkeypatch, capsys
):
    rows, err = tables(monkeypatch, capsys, "--precisions", "float32", "--profile")
    assert "pip install torch" in err
    for header, row in (rows[:2], rows[2:4]):
        cells = dict(zip(header, row, strict=True))
        assert cells["net"] == "vgg11" and cells["repeats"] == "2"
        assert all(float(cells[name].split()[0]) > 0 for name in ("baseline", "LGNN", "LGNN / baseline"))
        assert cells["PyTorch"] == cells["baseline / PyTorch"] == cells["PyTorch's setting"] == "-"

    shares = dict(zip(rows[4], rows[5], strict=True))
    assert sum(float(shares[name][:-1]) for name in profile.GROUPS) == pytest.approx(100, abs=0.5)
    assert float(shares["matrix products"][:-1]) > 0 and float(shares["optimizer, lgnn"][:-1]) > 0


def test_a_trace_is_read_where_warnings_are_errors(tmp_path):
    """jaxlib 0.12 aborted the process, at the first statistics that are read in it."""
    program = """
import pathlib, sys, warnings, jax, jax.numpy as jnp
from experiments.benchmark import profile
x = jnp.ones((64, 64))
compiled = jax.jit(lambda x: jnp.sin(x @ x)).lower(x).compile()
with jax.profiler.trace(sys.argv[1]):
    compiled(x).block_until_ready()
warnings.simplefilter("error")
places = dict(profile._INSTRUCTION.findall(compiled.as_text()))
assert profile._spent(pathlib.Path(sys.argv[1]), places)[profile.OTHER] > 0
"""
    root = pathlib.Path(__file__).parents[3]
    command = [sys.executable, "-c", program, tmp_path]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("precision", ["float32", BF16])
def test_pytorch_is_measured_beside(precision, shallow, torch, monkeypatch, capsys):
    rows, _ = tables(monkeypatch, capsys, "--precisions", precision)
    for header, row in (rows[:2], rows[2:4]):
        cells = dict(zip(header, row, strict=True))
        assert cells["precision"] == precision
        assert all(float(cells[name].split()[0]) > 0 for name in ("PyTorch", "baseline / PyTorch"))
        assert cells["PyTorch's setting"] in ("channels-last", "contiguous")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--nets", "vgg12"], "Unknown net 'vgg12'. Known: vgg11"),
        (["--precisions", "float64"], "Unknown precision 'float64'. Known: float32"),
        (["--repeats", "1"], "repeats"),
        (["--precisions", "float32", "--width", "0.001"], "layers of 1 filter"),
    ],
)
def test_wrong_options_are_one_line(options, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "train", *options])
    with pytest.raises(SystemExit) as stopped:
        cli.start(benchmark.main)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_ratios_are_of_the_same_turn():
    seconds = {("float32", "baseline"): [1.0, 2.0, 4.0], ("float32", "LGNN"): [2.0, 4.0, 8.0]}
    compiling = dict.fromkeys(seconds, 1.25)
    row = train._row(train.Timed(8, seconds, compiling, {}, 0.125), "float32")
    assert row[:3] == ["4.0 (3.0-6.0)", "2.0 (1.5-3.0)", "0.500 (0.500-0.500)"]
    assert row[3:] == ["-", "-", "1.2, 1.2", "-", "3", "12%"]


def test_repeats_end_in_time(monkeypatch):
    clock = iter(np.arange(1000.0))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    calls = {"one": lambda: None, "two": lambda: None}

    def repeats(**options):
        return len(timing.interleaved(calls, 20, **options)["two"])

    assert repeats() == 20 and repeats(seconds=0) == 2
    assert repeats(seconds=30) < 10


@pytest.mark.parametrize("warm", [False, True])
def test_a_turn_goes_before_what_is_timed(warm, monkeypatch):
    seen = []
    clock = iter(np.arange(1000.0))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: seen.append("clock") or float(next(clock)))
    monkeypatch.setattr(timing.jax, "default_backend", lambda: "cpu")
    forms = {name: functools.partial(seen.append, name) for name in ("one", "two")}
    times = timing.interleaved(forms, 3, warm=warm)
    assert {name: len(values) for name, values in times.items()} == {"one": 3, "two": 3}
    if not warm:
        assert seen[:6] == ["clock", "one", "clock"] + ["clock", "two", "clock"]
        del seen[:6]
    assert seen[:3] == ["one", "two", "clock"] and len(set(seen[2:])) == 3 and seen.count("one") == 4


def test_other_programs_are_those_that_this_one_is_not(monkeypatch):
    clocks = {"perf_counter": iter([10.0, 20.0]), "process_time": iter([3.0, 9.0])}
    for name, values in clocks.items():
        monkeypatch.setattr(timing.time, name, lambda values=values: next(values))
    ticks = iter(["cpu  700 0 300 9 9 0 0 0 0 0", "cpu  1300 200 400 9 9 0 50 50 0 0"])
    monkeypatch.setattr(timing.pathlib.Path, "read_text", lambda path: f"{next(ticks)}\ncpu0 1 1 1")
    monkeypatch.setattr(timing.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 2)
    assert timing.Others().share() == pytest.approx((20 - 9 - (10 - 3)) / (2 * 10))


def test_where_linux_does_not_tell_nobody_knows(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(timing.pathlib.Path, "read_text", missing)
    assert timing.Others().share() is None


@pytest.mark.parametrize(
    "instruction, place, group",
    [
        ("ynn_fusion.3", "jit(_fun)/jvp(VGG)/conv_0/cond/branch_0_fun/dot_general", profile.PRODUCTS),
        ("dot.2", "jit(_fun)/transpose(jvp(VGG))/conv_0/cond/branch_0_fun/transpose", profile.PRODUCTS),
        ("fusion.1", "jit(_fun)/jvp(WideResNet)/stem/conv_general_dilated", profile.PRODUCTS),
        ("concatenate.3", "jit(_fun)/jvp(VGG)/conv_0/cond/branch_0_fun/concatenate", profile.COPIES),
        ("convert.3", "jit(_fun)/jvp(VGG)/conv_0/convert_element_type", profile.COPIES),
        ("ynn_fusion.7", "jit(_fun)/transpose(jvp(VGG))/bn_1/reduce_sum", profile.NORM),
        ("fusion.2", "jit(_fun)/jvp(WideResNet)/group_0_block_0/Dropout_0/select_n", profile.NORM),
        ("lt", "jit(_fun)/jvp(WideResNet)/block/Dropout_0/while/cond/lt", profile.NORM),
        ("slice_maximum_fusion", "jit(_fun)/jvp(VGG)/cond/branch_0_fun/max", profile.POOL),
        ("fusion", "jit(_fun)/augmentation/select_n", profile.AUGMENTATION),
        ("fusion", "jit(_fun)/optimizer/add", profile.OPTIMIZER),
        ("all-reduce", "jit(_fun)/psum", profile.OTHER),
    ],
)
def test_instructions_have_groups(instruction, place, group):
    assert profile.group(instruction, place) == group


def network(net):
    """A tiny network of ours with running statistics of its own, and its configuration and data."""
    data = noise.pictures(8, 8)
    config, _ = configure(data, net=net, variant="baseline", batch=8, width=0.125, flip=True)
    module = nets.build(net, data.classes, config.net.width)
    if net.startswith("wrn"):
        module = module.clone(dropout=0.0)
    draw = np.random.default_rng(1)
    x = draw.standard_normal((8, 32, 32, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), x)

    def drawn(leaf):
        if len(leaf.shape) == 1:  # Scales, biases, means and variances.
            return draw.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1])
        return (draw.standard_normal(leaf.shape) * (2 / fan_in) ** 0.5).astype(np.float32)

    return module, jax.tree.map(drawn, shapes), x, data, config


_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def with_weights(net, variables):
    """``net`` with the weights and running statistics of the same network of ours."""
    import torch

    def entries(tree, path=""):
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from entries(value, f"{path}{name}.")
            else:
                value = np.asarray(value)
                yield path + _NAMES.get(name, name), value.transpose(*{4: (3, 2, 0, 1)}.get(value.ndim, ()))

    state = net.state_dict()
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    found = dict(entries(variables["params"])) | dict(entries(variables["batch_stats"]))
    loaded = {name: torch.tensor(value) for name, value in found.items()}
    net.load_state_dict(loaded | {name: state[name] for name in counters})
    return net


def in_pytorch(torch, x):
    return torch.tensor(x.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "net",
    ["vgg11", "wrn16-8", *(pytest.param(net, marks=pytest.mark.slow) for net in ("vgg19", "wrn28-10"))],
)
def test_networks_in_pytorch_are_ours(net, torch):
    module, variables, x, data, config = network(net)
    expected = np.asarray(jax.jit(lambda v: module.apply(v, x, train=False))(variables))
    theirs = with_weights(peer_nets.build(net, data.classes, config.net.width), variables).eval()
    with torch.no_grad():
        scores = theirs(in_pytorch(torch, x)).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())
    counted = sum(parameter.numel() for parameter in theirs.parameters())
    assert counted == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("net", ["vgg11", "wrn16-8"])
def test_so_is_a_step(net, torch):
    module, variables, x, data, config = network(net)
    labels = data.train_labels
    tx = config.optimizer(1)

    @jax.jit
    def step(params):
        def loss_of(params):
            variables_ = {"params": params, "batch_stats": variables["batch_stats"]}
            scores, _ = module.apply(variables_, x, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, _ = tx.update(grads, tx.init(params), params)
        return loss, optax.apply_updates(params, updates)

    loss, params = step(variables["params"])
    trainer = peer_nets.Trainer(config, data, peer_nets.Setting(channels_last=True))
    for part in trainer.net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    with_weights(trainer.net, variables)
    found = trainer.update(in_pytorch(torch, x), torch.tensor(labels).long())
    assert float(found) == pytest.approx(float(loss), rel=1e-4)
    expected = with_weights(
        peer_nets.build(net, data.classes, config.net.width), {**variables, "params": params}
    )
    for theirs, ours in zip(trainer.net.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(theirs.detach().numpy(), ours.detach().numpy(), atol=2e-4)


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_so_is_augmentation(padding, torch):
    x = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    top, left, mirrored = np.array([0, 3, 8]), np.array([5, 8, 0]), np.array([False, True, True])
    draws = (torch.tensor(value) for value in (top, left, mirrored))
    found = peer_nets.crop_and_flip(in_pytorch(torch, x), *draws, padding=padding)
    padded = np.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode=padding)
    for picture, wide, row, column, flip in zip(
        found.numpy().transpose(0, 2, 3, 1), padded, top, left, mirrored, strict=True
    ):
        crop = wide[row : row + 32, column : column + 32]
        np.testing.assert_array_equal(picture, crop[:, ::-1] if flip else crop)


def test_pytorch_counts_and_evaluates(torch):
    _, variables, _, data, config = network("vgg11")
    trainer = peer_nets.Trainer(config, data, peer_nets.Setting(channels_last=False))
    with_weights(trainer.net, variables)
    ours = noise.Training(data, net="vgg11", variant="baseline", width=0.125)
    state = ours.state._replace(**ours.trainer.placed.replicate(variables))
    expected, expected_loss = ours.trainer.evaluate(state)
    correct, loss = trainer.evaluate()
    np.testing.assert_array_equal(correct, expected)
    assert loss == pytest.approx(expected_loss, rel=1e-3)
    before = float(trainer.loss)
    jax.block_until_ready(trainer.repeat_step())
    assert before == 0 and float(trainer.loss) > 0 and 0 <= float(trainer.correct) <= 8


def test_torch_compile_may_fail(torch, monkeypatch, capsys):
    def refuse(net):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda net: lambda x: refuse(net))
    _, _, _, data, config = network("vgg11")
    peer = train.Peer("cpu", torch.__version__, compiled=True)
    calls = peer.calls(config, data, lambda theirs: theirs.repeat_step)
    assert list(calls) == ["channels-last", "contiguous"]
    assert "torch.compile does not work here (RuntimeError)" in capsys.readouterr().err
