import sys

import numpy as np
import pytest

from experiments import cli
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import filter as smoothing
from lgnn_jax import Grid, smooth

GRIDS = [Grid((4, 2)), Grid((3, 3))]


def gradients():
    draw = np.random.default_rng(0).standard_normal
    return [draw((3, 3, 2, 8)).astype(np.float32), draw((1, 1, 5, 9)).astype(np.float32)]


def test_the_literal_form_does_what_smooth_does():
    for gradient, grid in zip(gradients(), GRIDS, strict=True):
        np.testing.assert_allclose(
            smoothing.depthwise(gradient, grid), smooth(gradient, grid, 0.5), atol=1e-6
        )


@pytest.mark.parametrize("depthwise", [False, True])
def test_so_does_pytorch(depthwise):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    found = smoothing.in_pytorch(gradients(), GRIDS, depthwise=depthwise)()
    for result, gradient, grid in zip(found, gradients(), GRIDS, strict=True):
        expected = smooth(gradient, grid, 0.5)
        np.testing.assert_allclose(result.numpy().transpose(2, 3, 1, 0), expected, atol=1e-6)


def test_every_kernel_of_a_network_is_measured():
    shapes = [leaf.shape for leaf in smoothing.kernels("vgg11")]
    assert sum(int(np.prod(shape)) for shape in shapes if len(shape) == 4) == 9_217_728


@pytest.mark.parametrize(
    "options, words",
    [
        (["--nets", "vgg12"], "Unknown net 'vgg12'. Known: vgg11"),
        (["--batches", "many"], "numbers such as 32,128"),
        (["--repeats", "1"], "repeats"),
    ],
)
def test_wrong_options_are_one_line(options, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "filter", *options])
    with pytest.raises(SystemExit) as stopped:
        cli.start(benchmark.main)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_has_a_row_a_net(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["benchmark", "filter", "--nets", "vgg11", "--repeats", "3", "--no-steps"]
    )
    cli.start(benchmark.main)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| vgg11"))
    assert row.count("|") == 12 and "largest layer 9.4 MB" in row
