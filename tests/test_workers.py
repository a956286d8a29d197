"""The options of pytest in pyproject.toml, in a run of its own."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def test_a_worker_that_dies_ends_the_run(tmp_path):
    """It was replaced, and the new one waited for ever, as there were files left."""
    (tmp_path / "test_dies.py").write_text(
        "import os\ndef test_dies(): os.abort()\ndef test_after(): pass\n"
    )
    for name in "abcdefgh":
        (tmp_path / f"test_{name}.py").write_text("def test_one(): pass\ndef test_two(): pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml"]
    done = subprocess.run(
        [*command, "-n", "2", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "crashed while running" in done.stdout and "test_dies.py::test_dies" in done.stdout
