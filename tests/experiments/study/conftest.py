"""What tests of studies share."""

import shutil

import pytest

from experiments.run import results


@pytest.fixture
def out(finished, tmp_path, monkeypatch):
    """A folder with the finished runs, and nothing published."""
    monkeypatch.setattr(results, "PUBLISHED", tmp_path / "results")
    shutil.copytree(finished[0], tmp_path / "runs")
    return tmp_path / "runs"
