"""Optax's generic tests pass on ours, each suite in a process of its own (conformance.py)."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from tests.lgnn_jax import conformance
from tests.lgnn_jax.reference import apply, dense

ROOT = pathlib.Path(__file__).parents[2]
WRONG = "float32_sgd"
# What every version of the suites holds, and what our cases are mostly for.
CONVERGES = {"contrib": "test_optimizers", "alias": "test_optimization"}
EVERYWHERE = {"test_preserve_dtype", "test_state_shape_dtype_shard_stability", "test_gradient_accumulation"}


def run(suite, *cases):
    """What ``conformance.main`` prints in a fresh interpreter, on one device and with JAX's own defaults."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    command = [sys.executable, "-m", "tests.lgnn_jax.conformance", suite, *cases]
    environment = clean | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@functools.cache
def usual(suite):
    return run(suite, "scheduled", "float32")


# Both hold what is tested everywhere, and that it converges.
suites = pytest.mark.parametrize("suite", ["contrib", "alias"])


def outcomes_of(result):
    """``(method, dtype or None, rest of the name, outcome, reason)`` of every test."""
    if "missing" in result:
        pytest.skip(result["missing"])
    assert result["devices"] == 1
    found = []
    for name, (outcome, reason) in result["outcomes"].items():
        method = re.match(r"(test_\w*?)_?\d* ?\(", name).group(1)
        dtype = re.search(r"\bdtype=\D*?(\w*float\d+|complex\d+)", name)
        found.append((method, dtype and dtype.group(1), name, outcome, reason))
    return found


def check_all_pass(suite, found, factories):
    ours = [each for each in found if WRONG not in each[2]]
    wrong = {name: reason for *_, name, outcome, reason in ours if outcome == "failed"}
    assert not wrong, "\n\n".join(f"{name}\n{reason}" for name, reason in wrong.items())
    # Older versions also map over devices, of which there is one; nothing else may be left out.
    assert {r for *_, o, r in ours if o == "skipped" and "Only 1 device is available" not in r} == set()
    for part in factories:
        passed = {method for method, _, name, outcome, _ in ours if part in name and outcome == "passed"}
        assert passed >= EVERYWHERE | {CONVERGES[suite]}, part


@pytest.mark.slow
@suites
def test_optaxs_own_tests_pass(suite):
    found = outcomes_of(usual(suite))
    check_all_pass(suite, found, ["'lgnn_sgd'", "decreasing_sigma"])


@pytest.mark.slow
@suites
def test_they_fail_on_what_is_wrong_and_on_nothing_else(suite):
    found = outcomes_of(usual(suite))
    failed = {(method, dtype) for method, dtype, _, outcome, _ in found if outcome == "failed"}
    assert failed == {
        ("test_preserve_dtype", "bfloat16"),
        ("test_state_shape_dtype_shard_stability", "bfloat16"),
        ("test_state_shape_dtype_shard_stability", "float16"),
    }
    assert all(WRONG in name for *_, name, outcome, _ in found if outcome == "failed")
    assert [outcome for method, *_, name, outcome, _ in found if WRONG in name].count("passed") >= 10


@pytest.mark.slow
@pytest.mark.parametrize("suite", conformance.SUITES)
def test_they_pass_with_other_optimizers_and_windows(suite):
    found = outcomes_of(run(suite, "sgd", "adamw", "heat", "wide"))
    check_all_pass(suite, found, ["'lgnn_sgd'", "'lgnn_adamw'", "'heat_sgd'", "'wide_sgd'"])


@pytest.mark.parametrize("shape", [(2,), (3,), (2, 2), (2, 3), (2, 5, 2)])
def test_what_they_test_does_smooth(shape):
    """On the shapes of their parameters; a layout that chose none would pass all of them as well."""
    gradient = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    for case, sigma in (("sgd", 0.5), ("scheduled", 0.8), ("float32", 0.5)):
        chosen = conformance.CASES[case]
        tx = conformance.FACTORIES[chosen["opt_name"]](**chosen["opt_kwargs"])
        updates, _ = tx.update(gradient, tx.init(gradient), gradient)
        expected = -1e-3 * apply(dense(shape[-1:], sigma), gradient, len(shape) - 1)
        np.testing.assert_allclose(updates, expected, atol=1e-8)
    complex_and_scalar = {"complex": gradient + 1j, "scalar": jnp.float32(1)}
    assert conformance.LastAxis().layers(complex_and_scalar) == ()


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "does not ship"),
        ("TABLE = ()\nalias = 0\n", "has no class Suite"),
        ("import no_such_module\nclass Suite: pass\n", "does not import.*no_such_module"),
        ("from optax import no_such_name as alias\nclass Suite: pass\n", "does not import.*no_such_name"),
        ("import optax as alias\nclass Suite: pass\n", "has no TABLE$"),
        ("TABLE = ()\nclass Suite: pass\n", "has no alias$"),
    ],
)
def test_what_an_optax_does_not_have_is_named(monkeypatch, tmp_path, text, words):
    if text is not None:
        (tmp_path / "their_test.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(conformance.SUITES, "their", ("their_test", "Suite", ("TABLE",), {}))
    with pytest.raises(conformance.Missing, match=words):
        conformance.load("their", ["sgd"])
