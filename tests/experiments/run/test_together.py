"""Runs that are made together are the runs that each would be alone."""

import contextlib
import functools
import json
import signal
import types

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import data as datasets
from experiments import sweep
from experiments.config import configure
from experiments.errors import FailedRun, Stopped
from experiments.methods import METHODS
from experiments.nets import fast_cpu
from experiments.run import make
from experiments.run.checkpoint import Checkpoints, tree_digest
from experiments.run.claim import claim
from experiments.run.make import run_together
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer, make_step, order
from experiments.run.together import Together, family
from experiments.run.weights import load_weights
from lgnn_jax import LGNNState
from tests.experiments import shallow as few_layers
from tests.experiments.conftest import few_digits

SMALL = {"width": 1 / 8, "batch": 16, "epochs": 1, "lr": 0.01}
FEW = {"width": 1 / 16, "batch": 64, "epochs": 2}  # Two steps an epoch.


@pytest.fixture(autouse=True, scope="module")
def shallow():
    with few_layers.networks():
        yield


@functools.cache
def placed(few=False):
    return PlacedData(few_digits(130) if few else datasets.load("digits"), jax.local_devices()[:1])


def runs(*variants, data=None, **options):
    data = data or datasets.load("digits")
    found = [
        configure(data, variant=name, seed=seed, **SMALL | options)[0] for seed, name in enumerate(variants)
    ]
    return found


@functools.cache
def stepped():
    """The program of three runs, and their states after 20 steps that were handed over at once."""
    program = Together(runs("baseline", "constant", "decreasing"), placed())
    states, drawn = program.start()
    batches = np.stack([order(c.seed, 0, 1433, 16)[:20] for c in program.configs], axis=1)
    sigmas = np.array([program._sigma(c, 0) for c in program.configs], np.float32)
    return program, batches, program._advance(states, placed().train, drawn, batches, sigmas)


@pytest.mark.parametrize("index", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_each_is_the_run_that_it_would_be_alone(index):
    program, batches, states = stepped()
    config = program.configs[index]
    alone = Together([config], placed())
    own, drawn = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in alone.start())
    tx = config.optimizer(alone.steps)  # Its own, without sigma as data; a baseline's smooths nothing.
    own = own._replace(opt_state=tx.init(own.params))
    step = jax.jit(make_step(alone._module, tx, padding="constant", flip=False, axis=None))
    for examples in batches[:, index]:
        own = step(own, placed().train, drawn, examples)
    found = jax.tree.map(lambda leaf: leaf[index], states)
    for name in ("params", "batch_stats"):
        ours, theirs = (jax.tree.leaves(getattr(state, name)) for state in (found, own))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    assert found.totals.loss == pytest.approx(float(own.totals.loss), rel=1e-5)
    assert int(found.totals.examples) == 320 and int(found.step) == 20


def test_they_differ_from_each_other():
    _, _, states = stepped()
    kernels = np.asarray(states.params["conv_1"]["kernel"])
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3 and np.abs(kernels[1] - kernels[2]).max() > 1e-3


def test_convolutions_that_are_mapped_are_products_on_every_backend():
    x, kernels = np.zeros((2, 3, 8, 8, 4), np.float32), np.zeros((2, 3, 3, 4, 8), np.float32)
    each = jax.vmap(fast_cpu.conv)
    for function, convolutions in ((each, 1), (fast_cpu.mapped(each), 0)):
        text = jax.jit(lambda *a, f=function: f(*a)).trace(x, kernels).lower(lowering_platforms=("cuda",))
        assert text.as_text().count("stablehlo.convolution") == convolutions
    draw = np.random.default_rng(0).standard_normal
    x, kernels = draw(x.shape).astype(np.float32), draw(kernels.shape).astype(np.float32)
    exact = [fast_cpu._by_convolution(a, k, stride=1) for a, k in zip(x, kernels, strict=True)]
    np.testing.assert_allclose(
        jax.vmap(functools.partial(fast_cpu._by_patches, stride=1))(x, kernels), exact, atol=1e-4
    )


@functools.cache
def pair():
    """The program of two runs that tests make whole."""
    return Together(runs("baseline", "constant", data=few_digits(130), **FEW), placed(few=True))


def quiet():
    return Reporter(1, 1, Console(quiet=True))


@pytest.mark.slow
def test_folders_are_those_of_runs(tmp_path):
    configs = pair().configs
    folders = run_together(pair(), tmp_path, quiet())
    for config, folder in zip(configs, folders, strict=True):
        summary = json.loads((folder / "summary.json").read_text())
        _, line = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
        assert folder.name == config.name and summary["config"] == json.loads(json.dumps(config.flat()))
        assert summary["test_accuracy"] == line["test_accuracy"] and summary["together"] == 2
        assert line["sigma"] == (0.5 if config.method.name == "constant" else 0)
        assert line["step"] == 4 and summary["test_examples"] == 60
        assert (folder / "weights").is_dir() and not (folder / "checkpoints").exists()
    with pytest.raises(ValueError, match="is finished in .*; leave it out"):
        run_together(pair(), tmp_path, quiet())
    assert len((folders[0] / "metrics.jsonl").read_text().splitlines()) == 2


def digest(config, trained, *_):
    """A summary without what it measures, which is tested above and takes longest."""
    return {"params_digest": tree_digest(trained["params"])}


class Interrupted(Exception):
    """As if the process had been killed."""


def interrupted(monkeypatch, out, saves):
    """Kills a process after some checkpoints, of which there is one a step; the steps of which each run has one."""
    save, count = Checkpoints.save, iter(range(saves))

    def once(self, *arguments):
        if next(count, None) is None:
            raise Interrupted
        save(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "due", lambda self, ahead=0.0: True)
        patch.setattr(Checkpoints, "save", once)
        with pytest.raises(Interrupted):
            run_together(pair(), out, quiet())
    return [
        sorted(int(path.name) for path in (out / config.name / "checkpoints").iterdir())
        for config in pair().configs
    ]


@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_they_go_on_from_the_newest_step_that_all_have(monkeypatch, tmp_path, alone):
    """Together, or one of them alone: a checkpoint is that of a run, whoever wrote it."""
    configs = pair().configs
    monkeypatch.setattr(make, "summarise", digest)
    # Each has saved steps 1 to 3, one into the second epoch, and the first alone step 4.
    left = interrupted(monkeypatch, tmp_path / "cut", 2 * 3 + 1)
    assert left == [[3, 4], [2, 3]]
    whole = run_together(pair(), tmp_path / "whole", quiet())
    said, report = [], quiet()
    report.resume = lambda name, done, steps: said.append((done, steps))
    if alone:
        make.run(Trainer(configs[1], placed(few=True)), configs[1].seed, tmp_path / "cut", report)
        assert said == [(3, 4)]
    else:
        run_together(pair(), tmp_path / "cut", report)
        assert said == [(6, 8)]
    for folder in whole[alone:]:
        found = load_weights(tmp_path / "cut" / folder.name)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(load_weights(folder)), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-4 if alone else 0)
        lines = (tmp_path / "cut" / folder.name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_one_whose_loss_is_not_finite_has_no_summary_and_the_other_goes_on(monkeypatch, tmp_path):
    """All of whose losses are not end at once, as one alone does."""
    start, configs, spoilt = Together.start, pair().configs, [1]

    def started(self, begun=None):
        states, drawn = start(self)
        params = jax.tree.map(lambda leaf: leaf.at[np.array(spoilt)].set(np.nan), states.params)
        return states._replace(params=self.placed.spread(params)), drawn

    monkeypatch.setattr(Together, "start", started)
    monkeypatch.setattr(make, "summarise", digest)
    why = "{}: the loss is not finite at step 0 .epoch 1.. Try a smaller learning rate or weight decay."
    with pytest.raises(FailedRun, match=f"^{why.format(configs[1].name)}$"):
        run_together(pair(), tmp_path / "one", quiet())
    found = [tmp_path / "one" / config.name for config in configs]
    assert [(folder / "summary.json").exists() for folder in found] == [True, False]
    assert all(len((folder / "metrics.jsonl").read_text().splitlines()) == 2 for folder in found)
    spoilt.append(0)
    with pytest.raises(FailedRun, match=" ".join(why.format(config.name) for config in configs)):
        run_together(pair(), tmp_path / "both", quiet())
    assert not any(path.read_text() for path in tmp_path.glob("both/*/metrics.jsonl"))


def test_a_signal_saves_all_and_ends_them(monkeypatch, tmp_path):
    received = types.SimpleNamespace(received=signal.SIGTERM)
    monkeypatch.setattr(make, "StopSignals", lambda *_: contextlib.nullcontext(received))
    with pytest.raises(Stopped, match="2 runs: stopped by SIGTERM, the states of step 1 are saved"):
        run_together(pair(), tmp_path, quiet())
    assert len(list(tmp_path.glob("*/checkpoints/1"))) == 2


@pytest.mark.slow
def test_several_devices_take_several_runs():
    """Two devices make the steps of four runs that one makes of three; a device alone maps nothing."""
    program, batches, expected = stepped()
    configs = [*program.configs, program.configs[0].having(seed=3)]
    for devices in (2, 4):
        several = Together(configs, PlacedData(datasets.load("digits"), jax.local_devices()[:devices]))
        states, drawn = several.start()
        own = np.concatenate([batches, order(3, 0, 1433, 16)[:20][:, None]], axis=1)
        sigmas = np.array([several._sigma(c, 0) for c in configs], np.float32)
        found = several._advance(states, several.placed.train, drawn, own, sigmas)
        for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True):
            assert len(a.sharding.device_set) == devices
            np.testing.assert_allclose(a[:3], b, atol=1e-4)
        right, losses = several.evaluate(found)
        np.testing.assert_allclose(losses[:3], program.evaluate(expected)[1], rtol=1e-4)
        assert right.shape == (4, 364)


class Program:
    """A program that compiles nothing; ``made`` says of which seeds it was, on how many devices."""

    def __init__(self, configs, placed):
        self.configs, self.devices = configs, len(placed.devices)

    def of(self, configs):
        found = Program.__new__(Program)
        found.configs, found.devices = configs, self.devices
        return found

    @property
    def made(self):
        return self.devices, [config.seed for config in self.configs]


def test_a_sweep_makes_them_in_groups_that_one_program_can_make(monkeypatch, tmp_path):
    configs = runs("baseline", "arranged", "constant", "decreasing", "constant", "constant", **FEW)
    made = []
    monkeypatch.setattr(sweep, "Together", Program)
    monkeypatch.setattr(sweep, "Trainer", lambda config, placed: types.SimpleNamespace(config=config))
    monkeypatch.setattr(sweep, "run_together", lambda program, *_, **__: made.append(program.made))
    monkeypatch.setattr(sweep, "run", lambda trainer, seed, *_, **__: made.append(seed))
    finished = tmp_path / configs[4].name
    finished.mkdir()
    (finished / "summary.json").touch()
    sweep.make(configs, datasets.load("digits"), tmp_path, lambda: None, together=2)
    assert made == [1, (2, [0, 2]), 4, (2, [3, 5])]
    made.clear()
    sweep.make(configs, datasets.load("digits"), tmp_path, lambda: None)
    assert made == [0, 1, 2, 3, 4, 5]  # On a CPU, by default.


def test_runs_that_another_process_makes_come_last_and_alone(monkeypatch, tmp_path):
    configs = runs("baseline", "constant", **FEW)
    made = []
    monkeypatch.setattr(sweep, "Trainer", lambda config, placed: types.SimpleNamespace(config=config))
    monkeypatch.setattr(
        sweep, "run", lambda trainer, seed, *_, wait, keep, **__: made.append((seed, wait, keep))
    )
    with claim(tmp_path / configs[1].name, wait=False, say=print):
        sweep.make(configs, datasets.load("digits"), tmp_path, lambda: None, together=2, keep=(0, 1))
    assert made == [(0, True, (0, 1)), (1, True, (0, 1))]


def test_what_cannot_be_made_together_is_refused():
    first, second = runs("baseline", "constant")
    with pytest.raises(ValueError, match="differ in seed, variant and sigma alone"):
        Together([first, second.having(lr=0.2)], placed())
    with pytest.raises(ValueError, match="2 runs do not divide over 8 devices; give as many"):
        Together([first, second], PlacedData(datasets.load("digits")))
    assert family(first) == family(second.having(sigma=0.3))
    made = {name for name, method in METHODS.items() if method.sigma_alone}
    assert made == {"baseline", "constant", "decreasing"}


@pytest.mark.parametrize("smooth", ["before", "after"])
def test_states_are_those_of_runs_alone(smooth):
    """Wherever the smoothing stands in the chain."""
    configs = [config.having(optimizer="adamw", smooth=smooth) for config in runs("baseline", "constant")]
    program = Together(configs, placed())
    states, _ = program.start()
    apart = program.apart(states)
    for config, state in zip(configs, apart, strict=True):
        alone = config.optimizer(program.steps).init(state.params)
        assert jax.tree.structure(state.opt_state) == jax.tree.structure(alone)
    jax.tree.map(np.testing.assert_array_equal, program.joined(apart), states)
    later = [state._replace(step=np.int32(5)) for state in apart]  # A baseline's own state has no count.
    counts = jax.tree.leaves(program.joined(later).opt_state, is_leaf=_smoothing)
    assert [leaf.count.tolist() for leaf in counts if _smoothing(leaf)] == [[5, 5]]


def _smoothing(node):
    return isinstance(node, LGNNState)
