"""The compiled step: augmentation, loss, gradients, optimizer; one function, replicated by an argument."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import nets
from experiments.config import Run
from experiments.data import Dataset
from experiments.data.dataset import SIZE
from experiments.methods.base import Loss
from experiments.nets import activations
from experiments.run.augment import crop_and_flip, example_keys, normalise

AXIS = "batch"
_FAR = np.iinfo(np.int32).max


class Images(NamedTuple):
    """A split on the devices."""

    images: (
        jax.Array
    )  # uint8 (examples, 32 * 32 * 3): of rows, a compiler gathers some; other forms it relays out
    labels: jax.Array  # int32 (examples,)
    mean: jax.Array  # float32 (3,), of the training split
    deviation: jax.Array  # float32 (3,)

    def normalised(self, examples: jax.Array) -> jax.Array:
        """The images with these indices ``(batch,)``, normalised, float32 ``(batch, 32, 32, 3)``."""
        images = self.images[examples].reshape(-1, SIZE, SIZE, 3)
        return normalise(images, self.mean, self.deviation)


class Totals(NamedTuple):
    """Sums over the steps since the last reading."""

    loss: jax.Array
    correct: jax.Array
    examples: jax.Array
    first_bad_step: jax.Array  # The first step with a non-finite loss, or the largest int32.

    @classmethod
    def zero(cls) -> Totals:
        """Nothing counted yet."""
        return cls(
            *(jnp.asarray(value) for value in (np.float32(0), np.int32(0), np.int32(0), np.int32(_FAR)))
        )


class TrainState(NamedTuple):
    """What a step changes."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    totals: Totals

    @classmethod
    def new(cls, params: Any, batch_stats: Any, tx: optax.GradientTransformation) -> TrainState:
        """Before the first step."""
        return cls(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params), Totals.zero())


class Keys(NamedTuple):
    """What a run draws its randomness from."""

    init: jax.Array
    augment: jax.Array
    dropout: jax.Array


def keys(seed: int) -> Keys:
    """A run's keys."""
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def order(seed: int, epoch: int, examples: int, batch: int) -> np.ndarray:
    """The examples of an epoch, step by step ``(steps, batch)``; the remainder is another one each epoch."""
    steps = examples // batch
    shuffled = np.random.default_rng([seed, epoch]).permutation(examples)
    return shuffled[: steps * batch].reshape(steps, batch).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def initial_variables(module: nn.Module, key: jax.Array) -> Any:
    """A new network's parameters and running statistics, as one compiled program for every optimizer."""
    return module.init(key, jnp.zeros((1, 32, 32, 3)), train=False)


def make_step(
    module: nn.Module,
    tx: optax.GradientTransformation,
    *,
    padding: str,
    flip: bool,
    axis: str | None = AXIS,
    term: Loss | None = None,
) -> Callable[[TrainState, Images, Keys, jax.Array], TrainState]:
    """A training step of one replica on ``examples``, its share ``(share,)`` of the batch's indices.

    Gradients and running statistics are averaged over ``axis``; None is the view of the whole batch. ``term`` is
    added to the cross-entropy, which alone counts in the totals. Activations are kept for it, and only if it is
    there.
    """
    collections = ["batch_stats"] if term is None else ["batch_stats", "intermediates"]

    def average(tree):
        return tree if axis is None else jax.lax.pmean(tree, axis)

    def total(value):
        return value if axis is None else jax.lax.psum(value, axis)

    def step(state: TrainState, data: Images, keys: Keys, examples: jax.Array) -> TrainState:
        with jax.named_scope("augmentation"):  # Names for profiles, as below.
            draw = example_keys(jax.random.fold_in(keys.augment, state.step), examples)
            x = data.normalised(examples)
            x = crop_and_flip(x, draw, padding=padding, flip=flip)
        labels = data.labels[examples]

        def loss_of(params):
            logits, changed = module.apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                train=True,
                examples=examples,
                mutable=collections,
                rngs={"dropout": jax.random.fold_in(keys.dropout, state.step)},
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            loss = minimised = losses.mean()
            if term is not None:
                minimised = loss + term(params, activations.shown(changed["intermediates"]))
            return minimised, (loss, logits, changed["batch_stats"])

        (minimised, (loss, logits, batch_stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.params
        )
        minimised, grads, batch_stats = average((minimised, grads, batch_stats))
        if axis is not None and jax.lax.axis_size(axis) > 1:
            # Before any update: fused with the backward pass, one would wait for an all-reduce of its own.
            minimised, grads, batch_stats = jax.lax.optimization_barrier((minimised, grads, batch_stats))
        loss = minimised if term is None else average(loss)
        with jax.named_scope("optimizer"):
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        bad = jnp.where(jnp.isfinite(minimised), _FAR, state.step)
        totals = Totals(
            state.totals.loss + loss * total(len(examples)),
            state.totals.correct + total((logits.argmax(-1) == labels).sum(dtype=jnp.int32)),
            state.totals.examples + total(len(examples)),
            jnp.minimum(state.totals.first_bad_step, bad),
        )
        return TrainState(state.step + 1, params, batch_stats, opt_state, totals)

    return step


def classified(
    module: nn.Module, params: Any, batch_stats: Any, data: Images, examples: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Which of the examples with these indices a network classifies correctly, and their losses."""
    variables = {"params": params, "batch_stats": batch_stats}
    logits = module.apply(variables, data.normalised(examples), train=False)
    labels = data.labels[examples]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return logits.argmax(-1) == labels, losses


@functools.lru_cache(maxsize=8)
def replicated_evaluation(module: nn.Module) -> Callable[..., Any]:
    """The program that says which examples a network classifies correctly, and their losses.

    It maps ``(params, batch_stats, data, examples)``, with indices ``(devices, share)``, each host its own, to
    three arrays ``(all devices, share)``, alike on every host: the indices, whether correct, and losses.
    """

    def evaluate(params, batch_stats, data: Images, examples: jax.Array):
        found = classified(module, params, batch_stats, data, examples)
        return jax.lax.all_gather((examples, *found), AXIS)

    return jax.pmap(evaluate, AXIS, in_axes=(None, None, None, 0), out_axes=None)


class PlacedData:
    """A data set on some devices of this process, or on all of them, placed there once.

    ``check_tested`` is that of the set, for what makes whole runs.
    """

    def __init__(self, data: Dataset, devices: Sequence[jax.Device] | None = None):
        self.devices = tuple(jax.local_devices() if devices is None else devices)
        self._mesh = Mesh(np.array(self.devices), (AXIS,))
        mean, deviation = data.statistics()
        statistics = (np.float32(mean), np.float32(deviation))
        self.classes, self.superclass_of = data.classes, data.superclasses[1]
        self.check_tested = data.check_tested
        self.train_examples, self.test_examples = len(data.train_labels), len(data.test_labels)
        train, test = (images.reshape(len(images), -1) for images in (data.train_images, data.test_images))
        self.train = self.replicate(Images(train, data.train_labels, *statistics))
        self.test = self.replicate(Images(test, data.test_labels, *statistics))

    def replicate(self, tree: Any) -> Any:
        """The tree on every device."""
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def spread(self, tree: Any) -> Any:
        """The tree with the leading axis of every leaf divided over the devices."""
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec(AXIS)))

    def over_devices(self, function: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
        """``function`` on every device, of its part of arguments with an axis of 0 and of the others whole."""
        if len(self.devices) == 1:
            return function
        parts = tuple(PartitionSpec() if axis is None else PartitionSpec(AXIS) for axis in axes)
        return jax.shard_map(
            function, mesh=self._mesh, in_specs=parts, out_specs=PartitionSpec(AXIS), check_vma=False
        )

    def split(self, examples: np.ndarray) -> jax.Array:
        """This process's part of indices ``(batch,)`` as ``(devices, share)``, each share on its device."""
        shares = examples.reshape(jax.process_count(), len(self.devices), -1)[jax.process_index()]
        return jax.device_put(shares, NamedSharding(self._mesh, PartitionSpec(AXIS)))


class Trainer:
    """The compiled programs of a configuration, whatever its seed, on all devices of all processes."""

    def __init__(self, config: Run, placed: PlacedData):
        self.config, self.placed = config, placed
        self.steps_per_epoch = placed.train_examples // config.recipe.batch
        self.tx = config.optimizer(self.steps_per_epoch)
        # The same network twice: batch statistics can be shared only where there are replicas.
        build = functools.partial(
            nets.build, config.net.name, placed.classes, config.net.width, dtype=config.net.dtype
        )
        self._module, replicated = build(), build(bn_axis=AXIS if config.net.sync_bn else None)
        padding = nets.NETS[config.net.name].padding
        term = config.method.loss(config)
        step = make_step(replicated, self.tx, padding=padding, flip=config.recipe.flip, term=term)
        self._step = jax.pmap(
            step,
            AXIS,
            in_axes=(None, None, None, 0),
            out_axes=None,
            donate_argnums=0,
        )

    def start(self, seed: int, begun: Mapping[str, Any] | None = None) -> tuple[TrainState, Keys]:
        """A new run's state and keys, on every device; ``begun`` are its first variables where not drawn."""
        drawn = keys(seed)
        variables = begun or initial_variables(self._module, drawn.init)
        params = self.config.method.start(self.config, variables["params"])
        state = TrainState.new(params, variables["batch_stats"], self.tx)
        return self.placed.replicate(state), self.placed.replicate(drawn)

    def step(self, state: TrainState, keys: Keys, examples: np.ndarray) -> TrainState:
        """One step on a batch of training examples ``(batch,)``; ``state`` is used up."""
        return self._step(state, self.placed.train, keys, self.placed.split(examples))

    def program(self, state: TrainState, keys: Keys, examples: np.ndarray) -> str:
        """The text of the compiled :meth:`step`, in which every instruction has its place in the source."""
        shares = self.placed.split(examples)
        return self._step.lower(state, self.placed.train, keys, shares).compile().as_text()

    def evaluate(self, state: TrainState, batch: int = 500) -> tuple[np.ndarray, float]:
        """Which test pictures are classified correctly ``(test,)``, and the mean loss.

        The last batch is filled up with the first picture.
        """
        count, devices = self.placed.test_examples, jax.device_count()
        size = -(-min(batch, count) // devices) * devices
        evaluate = replicated_evaluation(self._module)
        correct, losses = np.zeros(count, bool), np.zeros(count, np.float32)
        for start in range(0, count, size):
            examples = np.arange(start, start + size, dtype=np.int32)
            examples[examples >= count] = 0
            shares = self.placed.split(examples)
            where, right, loss = evaluate(state.params, state.batch_stats, self.placed.test, shares)
            correct[np.asarray(where)], losses[np.asarray(where)] = np.asarray(right), np.asarray(loss)
        return correct, float(losses.mean())
