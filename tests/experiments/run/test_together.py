"""Runs that are made together are the runs that each would be alone."""

import functools
import json

import jax
import numpy as np
import pytest

from experiments import data as datasets
from experiments.config import configure
from experiments.nets import fast_cpu
from experiments.run.step import PlacedData, make_step, order
from experiments.run.together import Together, family, run_together
from tests.experiments import shallow as few_layers

SMALL = {"width": 1 / 4, "batch": 16, "epochs": 1}


@pytest.fixture(autouse=True, scope="module")
def shallow():
    with few_layers.networks():
        yield


@functools.cache
def placed():
    return PlacedData(datasets.load("digits"), jax.local_devices()[:1])


def runs(*variants, **options):
    data = datasets.load("digits")
    found = [
        configure(data, variant=name, seed=seed, **SMALL | options)[0] for seed, name in enumerate(variants)
    ]
    return found


@functools.cache
def stepped():
    """The program of three runs, and their states after three steps that were handed over at once."""
    program = Together(runs("baseline", "constant", "decreasing"), placed())
    states, drawn = program.start()
    batches = np.stack([order(c.seed, 0, 1433, 16)[:3] for c in program.configs], axis=1)
    sigmas = np.array([program._sigma(c, 0) for c in program.configs], np.float32)
    return program, batches, program._advance(states, placed().train, drawn, batches, sigmas)


@pytest.mark.parametrize("index", [0, 1, 2])
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
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert found.totals.loss == pytest.approx(float(own.totals.loss), rel=1e-5)
    assert int(found.totals.examples) == 48 and int(found.step) == 3


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


def test_folders_are_those_of_runs(tmp_path):
    said, configs = [], runs("constant", batch=128)
    (folder,) = run_together(Together(configs, placed()), tmp_path, said.append)
    summary = json.loads((folder / "summary.json").read_text())
    (line,) = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    assert folder.name == configs[0].name and summary["config"] == json.loads(json.dumps(configs[0].flat()))
    assert summary["test_accuracy"] == line["test_accuracy"] and line["sigma"] == 0.5
    assert line["step"] == 11 and summary["test_examples"] == 364 and said
    assert (folder / "weights").is_dir()
    with pytest.raises(ValueError, match="is finished in .*; leave it out"):
        run_together(Together(configs, placed()), tmp_path, said.append)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


def test_what_cannot_be_made_together_is_refused():
    first, second = runs("baseline", "constant")
    with pytest.raises(ValueError, match="differ in seed, variant and sigma alone"):
        Together([first, second.having(lr=0.2)], placed())
    with pytest.raises(ValueError, match="on one device; there are 8"):
        Together([first], PlacedData(datasets.load("digits")))
    assert family(first) == family(second.having(sigma=0.3))
