"""The command: from a function that loads a network, and a folder of images, to the page."""

import importlib
import io
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from lgnn_jax import Grid, topography
from lgnn_jax.inspect import __main__ as command
from lgnn_jax.inspect import _folder as folder
from lgnn_jax.inspect._progress import Line
from tests.lgnn_jax.inspect.test_atlas import blocks

MODULE = """
import flax.linen as nn, jax, numpy as np
from lgnn_jax import inspect

NET = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(2)])

def load():
    return inspect.linen(NET, NET.init(jax.random.key(0), np.zeros((1, 8, 8, 3))), title="mine")

def two():
    return load(), load()

def run():
    steps = {}
    for epoch in (2, 10, 11):
        variables = NET.init(jax.random.key(epoch), np.zeros((1, 8, 8, 3)))
        steps[f"epoch {epoch}"] = inspect.linen(NET, variables)
    return steps

def none():
    return {}

def mixed():
    return {"epoch 1": load(), "epoch 2": 3}

def broken():
    raise KeyError("weights")

def other():
    return 3
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a module and images of two classes, of several sizes and kinds."""
    name = f"network_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    draw = np.random.default_rng(0)
    for label, animal in enumerate(("sea_gull", "cat")):
        (tmp_path / "images" / animal).mkdir(parents=True)
        for k in range(6):
            shape = (8 + 4 * label, 8 + k, 3)
            image = Image.fromarray(np.uint8(draw.integers(0, 128, shape) + 120 * label))
            image.convert("L" if k == 5 else "RGB").save(tmp_path / "images" / animal / f"{k}.png")
    (tmp_path / "images" / "cat" / ".hidden.png").write_text("no image")
    (tmp_path / "images" / "cat" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    return name


def test_one_command(place, tmp_path):
    (tmp_path / "groups.json").write_text(
        json.dumps({"fur": ["cat"], "bark": ["oak"], "wings": ["sea_gull"]})
    )
    options = "--size 8 --permutations 20 --no-arrange --superclasses groups.json --title Two"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lgnn_jax.inspect",
            f"{place}:two",
            "--images",
            "folder:images",
            *options.split(),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"atlas\.html: \d\.\d MB in \d+ s\n", done.stdout)
    about = blocks(tmp_path / "atlas.html")["atlas"]
    assert about["classes"] == ["cat", "sea gull"] and about["superclasses"] == ["fur", "wings"]
    assert about["title"] == "Two" and [net["title"] for net in about["networks"]] == ["mine 1", "mine 2"]
    assert dict(about["networks"][0]["facts"])["images"] == "12"


def test_networks_by_step_of_training_are_a_slider(place, tmp_path):
    given = f"{place}:run --images folder:images --size 8 --permutations 20 --no-arrange".split()
    assert command.main(given) == 0
    found = blocks(tmp_path / "atlas.html")
    assert found["atlas"]["steps"] == ["epoch 2", "epoch 10", "epoch 11"]
    networks = importlib.import_module(place).run()
    for at, (step, network) in zip(("-0", "-1", ""), networks.items(), strict=True):
        kernel = network.layers(np.zeros((1, 8, 8, 3), np.float32))[0].kernel
        wanted = topography.neighbour_cosine(topography.cosines(kernel), Grid((4, 2))).value
        shown = found[f"layer-0-0{at}"]["scores"]["weights: neighbour cosine"]["value"]
        assert shown == pytest.approx(wanted, abs=1e-5), step


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("{}:none --size 8", "A dict of networks must have one step of training or more, got none."),
        ("{}:mixed --size 8", "networks must be one or two of inspect.linen"),
        ("nothing", "Wanted PACKAGE.MODULE:LOAD such as mine.networks:load, got 'nothing'."),
        (
            "nowhere_at_all:load",
            "'nowhere_at_all:load' cannot be imported: No module named 'nowhere_at_all'.",
        ),
        ("{}:lod", "'{}:lod' cannot be loaded: module '{}' has no attribute 'lod'"),
        ("{}:broken", "'{}:broken' raised KeyError: 'weights' (--traceback shows where)"),
        ("{}:other --size 8", "networks must be one or two of inspect.linen"),
        ("{}:load", "Say by --size, such as 224, what to bring all images to."),
        ("{}:load --images images", "Images are given as folder:PATH or npz:FILE, got 'images'."),
        ("{}:load --images folder:none", "There is no folder 'none'."),
        ("{}:load --images npz:none.npz", "'none.npz' cannot be read as an npz file"),
        ("{}:load --images folder:images/cat", "holds no images. Wanted: a folder a class"),
        ("{}:load --out none/atlas.html", "'none' is no folder to write 'atlas.html' to"),
        ("{}:load --size 8 --most 1", "has fewer than two images"),
        ("{}:load --size 8 --superclasses groups.json", "No such file or directory: 'groups.json'"),
    ],
)
def test_an_error_is_one_line(place, capsys, arguments, message):
    given = arguments.replace("{}", place).split()
    given += [] if "--images" in given else ["--images", "folder:images"]
    assert command.main(given) == 2
    *before, said = capsys.readouterr().err.splitlines()  # Before it only how long it took.
    assert said.startswith("error: ") and all(" s   " in line for line in before)
    assert message.replace("{}", place) in said


def test_an_option_that_is_none(place, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([f"{place}:load", "--images", "folder:images", "--size", "large"])
    assert "wanted pixels such as 224 or 224x160 (height x width), got 'large'" in capsys.readouterr().err


def test_images_of_a_folder(place):
    found = folder.read("folder:images", size=(8, 6))
    assert found.class_names == ["cat", "sea_gull"] and found.labels.tolist() == [0] * 6 + [1] * 6
    assert found.images.shape == (12, 8, 6, 3) and found.images.dtype == np.uint8
    # The first of the gulls is 8x8, so it is cut in the middle alone.
    original = np.asarray(Image.open("images/sea_gull/0.png"))
    np.testing.assert_array_equal(found.images[6], original[:, 1:7])
    assert found.images[:6].mean() > 150 > 100 > found.images[6:].mean()  # The cats are the lighter ones.
    grey = folder.read("folder:images", size=(8, 6), channels=1, most=2)
    assert grey.images.shape == (4, 8, 6, 1) and grey.labels.tolist() == [0, 0, 1, 1]


def test_images_of_a_file(tmp_path):
    draw = np.random.default_rng(0)
    images, labels = draw.random((8, 4, 4)), np.arange(8) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=["a", "b"])
    found = folder.read(f"npz:{tmp_path}/a.npz")
    np.testing.assert_array_equal(found.images[..., 0], np.rint(images * 255))
    assert found.class_names == ["a", "b"] and found.labels.tolist() == labels.tolist()
    assert folder.read(f"npz:{tmp_path}/a.npz", size=(8, 8), most=3).images.shape == (6, 8, 8, 1)
    for arrays, message in [
        ({"images": images}, "must hold images and labels, got images"),
        ({"images": 300 * images, "labels": labels}, "must be bytes or floats in"),
        ({"images": images, "labels": labels[1:]}, "an integer from 0 for each of 8 images"),
        ({"images": images, "labels": labels, "class_names": ["a"]}, "names 1 classes, and labels go to 1"),
    ]:
        np.savez(tmp_path / "b.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            folder.read(f"npz:{tmp_path}/b.npz")


def test_a_line_tells_of_long_work_alone():
    stream = io.StringIO()
    with Line(stream, patience=60) as line:
        line("arranging", 1, 4)
    assert not stream.getvalue()
    with Line(stream, patience=0, every=0.01) as line:
        line("arranging", 1, 4)
        for _ in range(500):
            if "arranging" in stream.getvalue():
                break
            time.sleep(0.01)
    assert re.search(r"^ +\d+ s   25%  arranging$", stream.getvalue(), re.M)
