"""What the flat form compiles to on one CPU device: no copies and no transposes, and as few loops as it had."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from tests.golden import Golden
from tests.lgnn_jax.pins.compiled import PROGRAMS

kept = Golden(__file__, "compiled")


@pytest.fixture(scope="module")
def found():
    """Of a process of its own, which has one device and compiles as users' do."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.lgnn_jax.pins.compiled"],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
        env=environment | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("program", PROGRAMS)
def test_instructions_are_as_many_as_they_were(found, program):
    case = f"{program}, jax {jax.__version__}"
    if not kept.knows(case):
        pytest.skip(f"Programs differ by jax's version, and of {jax.__version__} none was counted.")
    kept.check(case, found[program])


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name.startswith("flat")] + ["chain"])
def test_the_flat_form_moves_nothing(found, program):
    moved = {kind: found[program][kind] for kind in ("copy", "transpose", "gather", "custom-call")}
    assert not any(moved.values()), moved
    assert found[program]["dot"] == ("7 taps" in program)  # Of the grid's rows.
