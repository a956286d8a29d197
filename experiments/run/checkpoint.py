"""Checkpoints of a run that is not finished: written while it goes on, checked when they are read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.config import Run
from experiments.errors import FailedRun
from experiments.machine import hosts

_FOLDER, _SET_ASIDE = "checkpoints", "unusable_checkpoints"
_MARGIN = 2.0  # A save may take so many times as long as the last one.
_KEPT = 2  # So that there is one before the newest.
# The first host alone writes, and so waits for nobody.
BY_FIRST_HOST = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})


class Saved(NamedTuple):
    """A state read back, as NumPy arrays, and the seconds that it had taken until then."""

    state: Any
    seconds: float


def tree_digest(tree: Any) -> str:
    """SHA-256 of all arrays of a tree: names, shapes, types and bytes, by name."""
    found = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
    for name, leaf in sorted((name, np.asarray(leaf)) for name, leaf in named):
        found.update(f"{name} {leaf.shape} {leaf.dtype}\n".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def remove(folder: pathlib.Path) -> None:
    """Removes the checkpoints of a finished run."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)


class Checkpoints:
    """The checkpoints in a run's folder; a context manager that ends when the last one is written.

    A save goes on in the background. The next one is due so early that a kill at any moment, also in the midst
    of a save, costs no more than ``interval`` seconds of work. Only the first host has any.
    """

    def __init__(self, folder: pathlib.Path, config: Run, interval: float, say: Callable[[str], None]):
        self._folder, self._config, self._interval, self._say = folder, config, interval, say
        self._manager = None
        # When the last save began, and how long one takes; until one is timed it is done early.
        self._begun, self._took = time.monotonic(), interval / 4
        self._newest: int | None = None  # The step of the last one on disk.
        self._saving: int | None = None  # The step of one that may not be there yet.
        if hosts.first():
            path = (folder / _FOLDER).resolve()
            path.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=_KEPT,
                create=False,
                cleanup_tmp_directories=True,
                multiprocessing_options=BY_FIRST_HOST,
            )
            self._manager = ocp.CheckpointManager(path, options=options)

    def __enter__(self) -> Self:
        """The checkpoints themselves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for a save in progress."""
        if self._manager is None:
            return
        try:
            self._finish()
        except FailedRun:
            if kind is None:
                raise
        finally:
            with contextlib.suppress(Exception):  # What went wrong has been said.
                self._manager.close()

    def newest(self, like: Any, until: int | None = None) -> Saved | None:
        """The newest checkpoint that is whole and of this run; None if there is none.

        One that is not is named and set aside.

        Args:
          like: A state with the names, shapes and types that are wanted.
          until: The step beyond which checkpoints are of no use, and removed; None for none.
        """
        if self._manager is None:
            return None
        for step in sorted(self._manager.all_steps(), reverse=True):
            if until is not None and step > until:
                self._manager.delete(step)
                continue
            try:
                saved = self._read(step, like)
            except Exception as error:  # Orbax and TensorStore raise whatever their parts do.
                self._set_aside(step, error)
            else:
                self._newest = step
                return saved
        return None

    def _read(self, step: int, like: Any) -> Saved:
        about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        if about["config"] != _plain(self._config):
            raise ValueError("it is of another run")
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        state = self._manager.restore(step, args=wanted)["state"]
        if jax.tree.map(_form, state) != jax.tree.map(_form, like):
            raise ValueError("its arrays have other shapes or types")
        if tree_digest(state) != about["digest"]:
            raise ValueError("its numbers are not those that were written")
        return Saved(state, about["seconds"])

    def _set_aside(self, step: int, error: Exception) -> None:
        """Moves a checkpoint out of the way of those to come: Orbax would not write another of its step."""
        target = self._folder / _SET_ASIDE / str(step)
        self._say(
            f"{self._config.name}: the checkpoint of step {step} cannot be used ({reason(error)}); "
            f"it is set aside as {target}, and the one before it is tried"
        )
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        (self._folder / _FOLDER / str(step)).rename(target)
        self._manager.reload()

    def due(self, ahead: float = 0.0) -> bool:
        """Whether it is time for a save, or will be in ``ahead`` seconds in which there can be none.

        Raises:
          FailedRun: If the last one could not be written.
        """
        if self._manager is None:
            return False
        if self._saving is not None:
            if self._manager.is_saving_in_progress():
                return False
            self._finish()
            self._took = time.monotonic() - self._begun
        return time.monotonic() - self._begun + ahead >= self._interval - _MARGIN * self._took

    def save(self, step: int, state: Any, seconds: float) -> None:
        """Begins to write the state after ``step`` steps, and returns when it is copied.

        Args:
          step: Number of steps that are done.
          state: Arrays, on devices or not; those of one device are written.
          seconds: What the run has taken until now.

        Raises:
          FailedRun: If the one before could not be written.
        """
        if self._manager is None:
            return
        self._finish()
        if step == self._newest:
            return
        self._begun, self._saving = time.monotonic(), step
        copied = jax.tree.map(lambda leaf: np.array(leaf), state)  # The next step reuses its memory.
        about = {"config": _plain(self._config), "digest": tree_digest(copied), "seconds": seconds}
        items = ocp.args.Composite(state=ocp.args.StandardSave(copied), about=ocp.args.JsonSave(about))
        try:
            if not self._manager.save(step, args=items):
                raise OSError("there is one of this or a later step")
        except Exception as error:
            raise self._failure(error) from error

    def finish(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          FailedRun: If it could not be written.
        """
        if self._manager is not None:
            self._finish()

    def _finish(self) -> None:
        if self._saving is None:
            return
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._failure(error) from error
        self._newest, self._saving = self._saving, None

    def _failure(self, error: Exception) -> FailedRun:
        step, self._saving = self._saving, None
        kept = "there is none before it" if self._newest is None else f"that of step {self._newest} is kept"
        return FailedRun(
            f"{self._config.name}: the checkpoint of step {step} could not be written, {kept} "
            f"({reason(error)}). Is there room on the disk? The same command goes on from what is kept."
        )


def _form(leaf: Any) -> str:
    """Shape and type of an array."""
    return f"{leaf.dtype}{leaf.shape}"


def _plain(config: Run) -> dict[str, Any]:
    """What decides a run's result, as JSON gives it back."""
    return json.loads(json.dumps(config.identity()))


def reason(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
