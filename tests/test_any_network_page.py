"""What docs/any_network.md says works: every block runs, and the networks that they make can be looked at."""

import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from lgnn_jax.inspect import atlas
from tests.lgnn_jax.inspect.test_atlas import blocks

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "any_network.md"
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
FIRST, CALL, *OTHERS = [code for code in CODE if not code.startswith("# mine.py")]
OPTIONAL = ("equinox", "haiku", "torchvision", "orbax.checkpoint", "safetensors")


@pytest.fixture(scope="module")
def first():
    """What the first block defines."""
    found = {"__name__": "page"}
    with jax.numpy_rank_promotion("allow"):
        exec(compile(FIRST, str(PAGE), "exec"), found)
    return found


@pytest.fixture(autouse=True)
def as_users_have_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with jax.numpy_rank_promotion("allow"):
        yield


def run(code, found):
    for name in OPTIONAL:
        if re.search(rf"^(import|from) (.*, )?{name}\b", code, re.MULTILINE):
            pytest.importorskip(name, reason=f"{name} is not installed")
    exec(compile(code, str(PAGE), "exec"), found)
    return found


def test_the_one_call(first, tmp_path):
    run(CALL, dict(first))
    found = blocks(tmp_path / "atlas.html")
    (about,) = found["atlas"]["networks"]
    assert about["title"] == "digits" and np.mean(about["class_accuracy"]) > 0.8
    assert [layer["name"] for layer in found["atlas"]["layers"]] == ["conv1", "conv2"]
    block = found["layer-0-1"]
    arranged = block["arranged_scores"]["responses: neighbour correlation"]
    assert arranged["value"] > arranged["null_high"]


@pytest.mark.parametrize("at", range(len(OTHERS)))
def test_a_network_of_the_page_can_be_looked_at(first, at, tmp_path):
    found, code = dict(first), OTHERS[at]
    exec("import flax.linen as nn", found)
    network = run(code, found)["network"]
    images, labels = first["images"][first["test"]], first["labels"][first["test"]]
    assert network.left_out(images) == {}
    few = np.concatenate([np.flatnonzero(labels == k)[:3] for k in range(10)])
    if "torchvision" not in code:
        for name, maps in network.activations()(images[few]).items():
            assert maps.shape[0] == 30 and maps.shape[-1] in (1, 16, 32), name
    else:
        few = np.arange(len(images))
    page, names = tmp_path / "atlas.html", "0123456789"
    atlas.write(page, network, images[few], labels[few], class_names=names, arranged=False, permutations=20)
    accuracy = blocks(page)["atlas"]["networks"][0]["class_accuracy"]
    assert (accuracy is None) == (
        "Denoiser" in code or "torchvision" in code
    )  # ImageNet's classes are others.


def test_weights_are_those_of_the_files(first, tmp_path):
    found = dict(first)
    exec("import flax.linen as nn", found)
    orbax, safetensors = (code for code in OTHERS if "weights" in code and "def load" in code)
    network = run(orbax, found)["network"]
    model, images = found["model"], found["images"][:4]
    model.eval()
    expected = model.norm1(model.conv1(found["preprocess"](np.float32(images) / 255)))
    np.testing.assert_allclose(network.activations()(images)["conv1"], expected, atol=1e-4)
    network = run(safetensors, found)["network"]
    tensors = found["load_file"]("weights.safetensors")
    x = np.pad(found["preprocess"](np.float32(images) / 255), ((0, 0), (1, 1), (1, 1), (0, 0)))[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    expected = np.einsum("nyxhw,ohw->nyxo", windows, tensors["conv.weight"][:, 0]) + tensors["conv.bias"]
    np.testing.assert_allclose(network.activations()(images)["conv"], expected, atol=1e-4)


def test_checkpoints_come_in_the_order_of_training(first):
    (code,) = (code for code in OTHERS if "CheckpointManager" in code)
    found = run(code, dict(first))
    assert list(found["earlier"]) == ["step 1", "step 2"] and found["at"] == "step 10"


def test_the_command(tmp_path):
    from PIL import Image

    (mine,) = (code for code in CODE if code.startswith("# mine.py"))
    (command,) = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "mine.py").write_text(mine)
    draw = np.random.default_rng(0)
    for animal in ("cat", "dog"):
        (tmp_path / "photos" / animal).mkdir(parents=True)
        for k in range(6):
            image = draw.integers(0, 256, (40, 50 + k, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "photos" / animal / f"{k}.png")
    words = command.split()
    done = subprocess.run(
        [sys.executable, *words[1:], "--permutations", "20"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert blocks(tmp_path / "atlas.html")["atlas"]["classes"] == ["cat", "dog"]


def test_what_the_page_points_to_is_there():
    for link in re.findall(r"\]\(([^)#]+)", PAGE.read_text()):
        assert (PAGE.parent / link).exists(), link
