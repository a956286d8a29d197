"""Parameters after three steps of every net, variant and precision, of a small width.

Means, norms and a few entries are compared up to rounding, which is small beside what a step changes.
"""

import functools
import hashlib

import jax
import numpy as np
import pytest

from experiments.config import configure
from experiments.data import Dataset
from experiments.run.step import PlacedData, Trainer, order
from tests.pins_experiments import golden

STEPS, BATCH = 3, 32
WIDTHS = {"vgg11": 1 / 16, "vgg19": 1 / 16, "wrn16-8": 1 / 10, "wrn28-10": 1 / 10}


# Adapters.


@functools.cache
def images():
    """As many images as a batch has, so that every step is an epoch: blobs, and noise that no library decides."""
    count = BATCH + 8
    noise = np.frombuffer(hashlib.shake_256(b"images").digest(count * 3072), np.uint8) // 2
    labels = np.arange(count, dtype=np.int32) % 4
    places = np.arange(32)[None, :] // 8 == labels[:, None]
    pictures = noise.reshape(count, 32, 32, 3) + 100 * places[:, :, None, None].astype(np.uint8)
    return Dataset(
        "blobs", pictures[:BATCH], labels[:BATCH], pictures[BATCH:], labels[BATCH:], tuple("abcd")
    )


@functools.cache
def trained(net, variant, precision):
    """Trees before and after the steps, test loss, and which test images are right."""
    given = {"net": net, "variant": variant, "precision": precision, "width": WIDTHS[net], "batch": BATCH}
    # A small rate, which does not change how steps differ, but keeps rounding from growing.
    config, _ = configure(images(), epochs=4, lr=0.002, sync_bn=True, **given)
    trainer = Trainer(config, PlacedData(images()))
    state, keys = trainer.start(0)
    before = jax.device_get((state.params, state.batch_stats))
    for epoch in range(STEPS):
        (examples,) = order(0, epoch, BATCH, BATCH)
        state = trainer.step(state, keys, examples)
    correct, loss = trainer.evaluate(state)
    after = jax.device_get((state.params, state.batch_stats))
    return before, after, float(state.totals.loss), loss, correct


# Pins.

QUICK = ("vgg11", "constant", "float32")
KINDS = [
    (variant, precision)
    for variant in ("baseline", "constant", "decreasing")
    for precision in ("float32", "bf16")
]
CASES = [
    pytest.param(*case, id=" ".join(case), marks=[pytest.mark.slow] * (case != QUICK))
    for case in (
        # Of the largest net one kind, which takes as long as all of the smallest.
        (net, *kind)
        for net in WIDTHS
        for kind in (KINDS[:1] if net == "wrn28-10" else KINDS)
    )
]
# Of what the steps have changed, root mean square.
TOLERANCE = {"float32": 0.002, "bf16": 0.1}


def statistics(before, after):
    """Of every leaf: its shape, mean, norm, and of what the steps changed root mean square and three entries."""
    found = {}
    for kind, first, last in zip(("params", "batch_stats"), before, after, strict=True):
        for name, start in golden.leaves(first).items():
            end = golden.leaves(last)[name]
            change = end - start
            values = [golden.digits(value, 8) for value in (end.mean(), np.linalg.norm(end))]
            values.append(golden.digits(np.sqrt(np.square(change).mean())))
            entries = change.ravel()[[0, end.size // 3, end.size - 1]]
            found[f"{kind}/{name}"] = [list(end.shape), *values, *map(golden.digits, entries)]
    return found


@pytest.mark.parametrize("net, variant, precision", CASES)
def test_parameters_after_three_steps(net, variant, precision):
    before, after, train_loss, test_loss, correct = trained(net, variant, precision)
    found = statistics(before, after)
    found["loss"] = [golden.digits(train_loss), golden.digits(test_loss), int(correct.sum())]
    wanted = golden.wanted(f"steps-{net}.json", f"{variant} {precision}", found)
    close, most = TOLERANCE[precision], {}
    assert sorted(found) == sorted(wanted)
    for name, ours in found.items():
        if name == "loss":
            assert ours[:2] == pytest.approx(wanted[name][:2], rel=close)
            continue
        shape, change, *values = wanted[name]
        assert ours[0] == shape, name
        scale = np.array([1, 1, np.sqrt(np.prod(shape)), 1, 1, 1]) * max(change, 1e-6)
        most[name] = (np.abs(np.array(ours[1:]) - np.array([change, *values])) / scale).max()
    worst = max(most, key=most.get)
    assert most[worst] < close, f"{worst} is off by {most[worst]:.2g} of what the steps changed"
