import contextlib
import gc
import json
import shutil
import subprocess
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from experiments import data as datasets
from experiments import errors
from experiments.config import configure
from experiments.run import checkpoint
from experiments.run.checkpoint import Checkpoints, tree_digest
from tests.experiments.conftest import SMALL

# When a write fails, Orbax leaves tasks of a closed event loop behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def own_garbage():
    """What a test leaves behind is collected before the next one."""
    yield
    gc.collect()


class State(NamedTuple):
    step: Any
    params: Any


def state(step, size=1000):
    draw = np.random.default_rng(step).standard_normal(size)
    return State(
        np.array(step, np.int32),
        {"a": draw.astype(np.float32), "b": (np.zeros((2, 3), np.int32), np.array(-0.0, np.float32))},
    )


@pytest.fixture(scope="module")
def config():
    return configure(datasets.load("digits"), **SMALL)[0]


@pytest.fixture(scope="module")
def once(tmp_path_factory, config):
    """A folder with the checkpoints of steps 3 and 5."""
    folder = tmp_path_factory.mktemp("written")
    with Checkpoints(folder, config, 60, pytest.fail) as checkpoints:
        for step in (1, 3, 5):
            checkpoints.save(step, state(step), step * 10.0)
    return folder


@pytest.fixture
def written(once, tmp_path):
    """A copy of it."""
    return shutil.copytree(once, tmp_path, dirs_exist_ok=True)


def newest(folder, config, like=None):
    """What is read back, and what is said about it."""
    said = []
    with Checkpoints(folder, config, 60, said.append) as checkpoints:
        return checkpoints.newest(state(0) if like is None else like), said


def test_the_newest_state_comes_back_bit_for_bit(written, config):
    saved, said = newest(written, config)
    assert tree_digest(saved.state) == tree_digest(state(5)) and saved.seconds == 50 and not said
    assert type(saved.state) is State and saved.state.step == 5
    assert len(list((written / "checkpoints").iterdir())) == 2  # The oldest is gone.


def test_arrays_of_eight_devices_are_written_once(tmp_path, config):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    placed = jax.device_put(state(7), everywhere)
    with Checkpoints(tmp_path, config, 60, pytest.fail) as checkpoints:
        checkpoints.save(7, placed, 0.0)
        jax.tree.map(lambda leaf: leaf.delete(), placed)  # As a step does that reuses its memory.
    assert tree_digest(newest(tmp_path, config)[0].state) == tree_digest(jax.device_get(state(7)))


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder):
    file = largest(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(folder):
    file = largest(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def lose_metadata(folder):
    (folder / "about" / "metadata").unlink()


def other_run(folder):
    path = folder / "about" / "metadata"
    about = json.loads(path.read_text())
    about["config"]["seed"] = 99
    path.write_text(json.dumps(about))


def other_numbers(folder):
    """A state that Orbax reads without complaint, but not the one that was written."""
    shutil.rmtree(folder / "state")
    shutil.copytree(folder.parent / "3" / "state", folder / "state")


@pytest.mark.parametrize("damage", [truncate, flip, empty, lose_metadata, other_run, other_numbers])
def test_what_cannot_be_used_is_named_and_the_one_before_it_is_taken(written, config, damage):
    damage(written / "checkpoints" / "5")
    saved, said = newest(written, config)
    assert tree_digest(saved.state) == tree_digest(state(3))
    assert len(said) == 1 and "step 5 cannot be used" in said[0] and "unusable_checkpoints/5" in said[0]
    assert (written / "unusable_checkpoints" / "5").exists()
    with Checkpoints(written, config, 60, pytest.fail) as checkpoints:  # Its step can be written again.
        checkpoints.save(5, state(5), 0.0)
    assert newest(written, config)[0].state.step == 5


def test_a_state_of_another_network_is_not_taken(written, config):
    saved, said = newest(written, config, state(0, size=999))
    assert saved is None and len(said) == 2


def test_what_a_killed_process_left_of_a_save_is_no_checkpoint(written, config):
    source = written / "checkpoints" / "5"
    source.rename(written / "checkpoints" / "5.orbax-checkpoint-tmp")
    saved, said = newest(written, config)
    assert saved.state.step == 3 and not said


def test_saves_are_due_in_time(tmp_path, config, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    with Checkpoints(tmp_path, config, 100.0, pytest.fail) as checkpoints:

        def due_at():
            while not checkpoints.due():
                now[0] += 1
            return now[0]

        assert due_at() == 50  # Nobody knows yet how long a save takes.
        checkpoints.save(1, state(1), 0.0)
        checkpoints._manager.wait_until_finished()
        now[0] += 10  # It took so long, and the next one may take twice as long.
        assert not checkpoints.due()
        assert not checkpoints.due(ahead=69) and checkpoints.due(ahead=70)  # A test is coming.
        assert due_at() == 50 + 80


@contextlib.contextmanager
def small_disk(folder):
    """A file system of half a megabyte."""
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_keeps_the_last_state(tmp_path, config):
    with small_disk(tmp_path / "disk") as disk:
        with Checkpoints(disk, config, 60, pytest.fail) as checkpoints:
            checkpoints.save(1, state(1, 1000), 0.0)
        with (
            pytest.raises(
                errors.FailedRun, match=r"step 2 could not be written, that of step 1 is kept .*room"
            ),
            Checkpoints(disk, config, 60, pytest.fail) as checkpoints,
        ):
            assert checkpoints.newest(state(0)).state.step == 1
            checkpoints.save(2, state(2, 1_000_000), 0.0)
            checkpoints.finish()
        saved, said = newest(disk, config)
        assert tree_digest(saved.state) == tree_digest(state(1)) and not said


def test_a_failure_in_the_background_is_told_at_the_next_step(tmp_path, config):
    with (
        small_disk(tmp_path / "disk") as disk,
        pytest.raises(errors.FailedRun, match="there is none before it"),
    ):
        with Checkpoints(disk, config, 60, pytest.fail) as checkpoints:
            checkpoints.save(1, state(1, 1_000_000), 0.0)
            while True:
                checkpoints.due()
