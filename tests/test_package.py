import pathlib
import re
import subprocess
import sys

import lgnn_jax

ROOT = pathlib.Path(__file__).parent.parent


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
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
        "lgnn LGNNState decreasing_sigma Grid grid_shape Window HeatKernel smooth largest_sigma ConvLayout "
        "topography".split()
    )
    assert all(hasattr(lgnn_jax, name) for name in lgnn_jax.__all__)


def test_the_readmes_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        printed = python(block).stdout
    assert "conv/kernel" in printed and "8x8 on axis -1" in printed and "Score(value=" in printed


def test_what_the_readme_points_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    local = [link for link in links if not link.startswith("http")]
    assert local and all((ROOT / link).exists() for link in local), local
