"""Weights that a run keeps of epochs before its end."""

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.config import configure
from experiments.run import make
from experiments.run.alone import Alone
from experiments.run.checkpoint import Checkpoints, tree_digest
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer
from experiments.run.weights import kept_epochs, load_weights
from tests.experiments.conftest import few_digits


class Interrupted(Exception):
    """As if the process had been killed."""


def states(trainer, epochs):
    """Parameters and running statistics after every epoch, stepped by hand."""
    program = Alone(trainer, trainer.config)
    state, drawn = program.start()
    for epoch in range(epochs + 1):
        (found,) = program.apart(state)
        yield {"params": found.params, "batch_stats": found.batch_stats}
        if epoch < epochs:
            *_, (_, state) = program.epoch(state, drawn, epoch)


def test_epochs_that_are_asked_for_are_kept_also_by_a_run_that_was_killed(single, monkeypatch, tmp_path):
    """It is killed in the step after epoch 2, of which it has a checkpoint; 10 comes after 2."""
    config, _ = configure(few_digits(130), variant="constant", width=1 / 16, batch=64, epochs=11)
    trainer, report = Trainer(config, PlacedData(few_digits(130))), Reporter(1, 1, Console(quiet=True))
    monkeypatch.setattr(
        make, "summarise", lambda _, trained, *__: {"params_digest": tree_digest(trained["params"])}
    )
    save = Checkpoints.save

    def once(self, step, *arguments):
        if step > 2 * trainer.steps_per_epoch:
            raise Interrupted
        save(self, step, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Checkpoints, "due", lambda self, ahead=0.0: True)
        patch.setattr(Checkpoints, "save", once)
        make.run(trainer, 0, tmp_path, report, keep=(0, 2, 10, 11, 50))
    folder = tmp_path / config.name
    assert kept_epochs(folder) == [0, 2]
    assert make.run(trainer, 0, tmp_path, report, keep=(2, 10)) == folder
    assert kept_epochs(folder) == [0, 2, 10]
    wanted = list(states(trainer, 11))
    for epoch in (0, 2, 10, None):
        found = load_weights(folder, epoch=epoch)
        for a, b in zip(
            jax.tree.leaves(found), jax.tree.leaves(wanted[11 if epoch is None else epoch]), strict=True
        ):
            np.testing.assert_array_equal(a, b)
