import os
import pathlib
import re
import subprocess
import sys

import pytest

import lgnn_jax

ROOT = pathlib.Path(__file__).parents[2]


def python(code, folder=ROOT):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_the_library_imports_jax_and_optax_alone():
    extras = (
        "flax",
        "matplotlib",
        "orbax",
        "tensorflow_datasets",
        "click",
        "rich",
        "scipy",
        "PIL",
        "sklearn",
    )
    code = (
        f"import sys, jax, optax; before = set(sys.modules); import lgnn_jax; print([m for m in {extras} "
    )
    assert python(code + "if m in set(sys.modules) - before])").stdout.strip() == "[]"


def test_the_public_names_are_the_contract():
    assert sorted(lgnn_jax.__all__) == sorted(
        "lgnn LGNNState decreasing_sigma Grid grid_shape neighbours distances Window HeatKernel smooth "
        "largest_sigma Layer ConvLayout topography arrange fitted_score reorder ties Ties som losses".split()
    )
    assert all(hasattr(lgnn_jax, name) for name in lgnn_jax.__all__)


def test_inspect_has_every_name_in_one_place():
    from lgnn_jax import inspect

    names = """
        linen_responses nnx_responses linen_ablated accumulate Responses ResponseStatistics class_maps
        visualise SMALL LUCID Setting FeatureVisualisation mean_activations share_beyond Beyond
        concept Concept RegionScores region_scores group_region_scores label_regions preferred
        regions Region per_class_accuracy ablate Ablation linear_probe Probe pool_blocks
        Network Layer linen nnx equinox haiku function arrays arrange measure
        tiles cosine_maps cosine_by_offset gram_maps magnitudes Magnitudes atlas plots
    """
    assert sorted(inspect.__all__) == sorted(names.split())
    assert all(hasattr(inspect, name) for name in inspect.__all__)
    assert (
        callable(inspect.regions) and callable(inspect.atlas.write) and callable(inspect.plots.class_maps)
    )


@pytest.mark.parametrize("missing", ["matplotlib", "PIL"])
def test_inspect_without_its_extra_says_what_to_install(missing):
    code = f"import sys, lgnn_jax; sys.modules[{missing!r}] = None; import lgnn_jax.inspect"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    said = f'lgnn_jax.inspect needs {missing}, which its extra brings: pip install "lgnn_jax[inspect]"'
    assert failed.stderr.splitlines()[-1] == f"ImportError: {said}"
    assert "During handling" not in failed.stderr


def test_the_readmes_examples_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    # Each by itself, in a process that they share.
    printed = python(f"for block in {blocks}: exec(block, {{'__name__': '__main__'}})", tmp_path).stdout
    assert "conv/kernel" in printed and "8x8 on axis -1" in printed
    assert (tmp_path / "atlas.html").read_text("utf-8").startswith("<!doctype html>")


def test_what_the_readme_points_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    local = [link for link in links if not link.startswith("http")]
    assert local and all((ROOT / link).exists() for link in local), local


def test_the_version_is_the_same_everywhere():
    citation, changes = ((ROOT / file).read_text() for file in ("CITATION.cff", "CHANGELOG.md"))
    assert f"\nversion: {lgnn_jax.__version__}\n" in citation
    assert re.findall(r"^## (\d\S*)", changes, re.MULTILINE)[0] == lgnn_jax.__version__
