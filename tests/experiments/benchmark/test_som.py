import importlib.util
import sys

import numpy as np
import pytest

from experiments import cli
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import som
from lgnn_jax import Grid
from tests.lgnn_jax import reference

GRID = Grid((12, 4))  # Both warn where sigma is longer than the diagonal.


def case(kind, passes):
    data = np.random.default_rng(0).random((60, 3), dtype=np.float32)
    return som.Case(kind, data, GRID, data[:48], passes, 0)


@pytest.mark.parametrize("name", ["lgnn_jax", "minisom"])
def test_the_batch_maps_are_the_same(name):
    if name != "lgnn_jax":
        pytest.importorskip(name, reason=f"{name} is not installed")
    asked = case("batch", 4)
    found = som.MAPS[name](asked)()
    expected = reference.som_batch(asked.data, 4, asked.start, GRID, som.SIGMA, som.RATES["batch"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", som.RATES)
@pytest.mark.parametrize("name", ["minisom", "torchsom"])
def test_the_others_train(name, kind):
    pytest.importorskip(name, reason=f"{name} is not installed")
    weights = som.MAPS[name](case(kind, 2))()
    assert weights.shape == (48, 3) and np.isfinite(weights).all()


def test_who_is_not_installed_has_no_rows(monkeypatch, capsys):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("minisom", "torchsom") else name
    )
    options = ["--data", "colours", "--passes", "1", "--seeds", "2", "--shape", "12", "4"]
    monkeypatch.setattr(sys, "argv", ["benchmark", "som", *options])
    cli.start(benchmark.main)
    told = capsys.readouterr()
    rows = [line for line in told.out.splitlines() if line.startswith("| colours")]
    assert len(rows) == 2 and all("| lgnn_jax |" in row and "1.0 (1.0-1.0)" in row for row in rows)
    assert "minisom is not installed; it has no rows (pip install minisom)" in told.err


def test_wrong_options_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "som", "--data", "faces"])
    with pytest.raises(SystemExit) as stopped:
        cli.start(benchmark.main)
    assert stopped.value.code == 2 and "Unknown data set 'faces'. Known: digits" in capsys.readouterr().err
