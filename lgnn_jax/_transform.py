"""The gradient transformation: smooths every laid-out leaf of the updates along its grid."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lgnn_jax._layout import ConvLayout, Layer, Layout, lay_out
from lgnn_jax._neighbourhood import HeatKernel, Window, check_sigma
from lgnn_jax._smoothing import smooth
from lgnn_jax._tree import named_leaves


class LGNNState(NamedTuple):
    """State of :func:`lgnn`: the number of updates so far, whether or not sigma is a schedule."""

    count: jax.Array  # type: ignore[assignment]  # shape=(), dtype=jnp.int32; hides tuple.count


def lgnn(
    sigma: optax.ScalarOrSchedule = 0.5,
    *,
    layout: Layout | Sequence[Layer] = ConvLayout(),
    window: Window | HeatKernel = Window(),
) -> optax.GradientTransformationExtraArgs:
    """Low-pass filters convolution gradients over a grid of filters; chained before an optimizer.

    Every kernel's filters are laid out on a small grid, and their gradients ``g`` are replaced by
    ``sum_j eta[i, j] g[j]``, where ``eta`` is the Gaussian neighbourhood function of a self-organising map
    (:func:`smooth`). Filters that are neighbours on the grid come out alike, and the network and its
    inference stay as they are. Leaves without a grid pass through untouched.

    It belongs first in the chain, on the raw gradient and before weight decay and momentum. The operator
    is positive definite up to :func:`largest_sigma`, so the smoothed gradient is a descent direction.
    Under data parallelism put it after the gradients are averaged; it holds no collectives itself. Keep it
    outside ``optax.flatten``, which makes one vector of the tree: there are no kernels left to smooth.

    What arrives at ``update`` must be the gradient of the parameters. Passed ``params``, as every chain with
    weight decay is, ``update`` refuses a leaf of another shape, such as per-example gradients. Within
    ``jax.shard_map`` a parameter that varies over the mesh may be a part of its layer, whose grid the part
    does not tell: then it wants layers that were chosen outside, of the whole parameters. Not noticed are
    wrong shapes and shards without ``params``, and shards within ``jax.pmap`` or with ``check_vma=False``. The
    state holds a count and nothing of this, so that checkpoints stay as they are.

    Args:
      sigma: Width of the neighbourhood in grid steps, at least 0 (0 is the identity); or a schedule from
        the number of updates so far to a width, such as :func:`decreasing_sigma`. Values of schedules,
        traced values and ``jax.Array`` are not checked.
      layout: Which leaf gets which grid: a :class:`ConvLayout`, any object with a method
        ``layers(tree)``, or a ready tuple of :class:`Layer`.
      window: Taps and normalisation of the neighbourhood.

    Returns:
      An ``optax.GradientTransformationExtraArgs`` whose state is an :class:`LGNNState`.

    Raises:
      ValueError: From the factory, if a Python or NumPy ``sigma`` is negative, not finite or above
        :func:`largest_sigma`; from ``init`` and ``update``, if a grid does not hold a leaf's filters; from
        ``update``, if a leaf does not have the shape of its parameter, or the parameter is a shard.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from lgnn_jax import lgnn
      >>> tx = optax.chain(lgnn(0.5), optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))
      >>> params = {"kernel": jnp.zeros((3, 3, 3, 64)), "bias": jnp.zeros(64)}
      >>> grads = {"kernel": jnp.zeros((3, 3, 3, 64)).at[..., 0].set(1.0), "bias": jnp.ones(64)}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> first = updates["kernel"][0, 0, 0, :3]  # Of the eight filters of the grid's first row.
      >>> [round(float(value), 4) for value in first]
      [-0.0798, -0.0095, -0.0]

    Source:
      Tan, Khan, Guan, "Locality Guided Neural Networks for Explainable Artificial Intelligence",
      IJCNN 2020, equation 3 and Algorithm 1.
    """
    check_sigma(0.0 if callable(sigma) else sigma, window)

    def init_fn(params):
        lay_out(layout, params)  # Shapes that do not fit are refused before the first step.
        if isinstance(layout, ConvLayout):
            layout.warn_if_nothing(params)
        return LGNNState(count=jnp.zeros([], jnp.int32))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        if params is not None:
            _check_shapes(params, updates)
        layers = lay_out(layout, updates)
        if params is not None and not isinstance(layout, (tuple, list)):  # Layers chosen from what arrived.
            _check_whole(params, layers)
        width = jnp.asarray(sigma(state.count)) if callable(sigma) else sigma
        leaves, structure = jax.tree.flatten(updates)
        smoothed = [
            leaf if layer is None else smooth(leaf, layer.grid, width, window, axis=layer.axis)
            for leaf, layer in zip(leaves, layers, strict=True)
        ]
        return structure.unflatten(smoothed), LGNNState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _check_shapes(params: Any, updates: Any) -> None:
    """Raises ``ValueError`` for a leaf that does not have the shape of its parameter; others are passed over."""
    known = dict(named_leaves(params))
    for name, leaf in named_leaves(updates):
        wanted, got = np.shape(known.get(name, leaf)), np.shape(leaf)
        if got != wanted:
            raise ValueError(
                f"The update of {name!r} has shape {got}, but the parameter has {wanted}. Give the gradient of "
                "the mean over examples, not one an example, of the parameters that init saw."
            )


def _check_whole(params: Any, layers: Sequence[Layer | None]) -> None:
    """Raises ``ValueError`` if the parameter of a layer may be a shard, which does not tell the layer's grid."""
    known = dict(named_leaves(params))
    for layer in filter(None, layers):
        mesh_axes = _mesh_axes(known[layer.path]) if layer.path in known else ()
        if mesh_axes:
            raise ValueError(
                f"{layer.path!r} of shape {np.shape(known[layer.path])} varies over the mesh axes "
                f"{', '.join(sorted(map(str, mesh_axes)))}, so it may be a shard, which does not tell the grid of "
                "its whole layer. Choose the layers outside of shard_map, "
                "lgnn(layout=ConvLayout().layers(params)), with the filters' axis whole on every device."
            )


def _mesh_axes(x: Any) -> frozenset[Any]:
    """The axes of a mesh over which a value within ``shard_map`` varies; none elsewhere."""
    kind = jax.typeof(x)
    if hasattr(kind, "mat"):  # JAX 0.10 and newer.
        return kind.mat.varying
    return getattr(kind, "vma", frozenset())


def decreasing_sigma(
    initial: float, epochs: int, steps_per_epoch: int, *, window: Window | HeatKernel = Window()
) -> optax.Schedule:
    """A neighbourhood that narrows epoch by epoch: ``initial * (1 - epoch / epochs)``.

    ``epoch = count // steps_per_epoch`` counts from 0, so the first epoch uses ``initial`` and the last
    ``initial / epochs``; from ``epochs`` on it is 0, the identity.

    Args:
      initial: Width in the first epoch, in grid steps, at least 0.
      epochs: Epochs of the whole run, positive.
      steps_per_epoch: Updates per epoch, positive.
      window: The window the schedule is meant for; ``initial`` is checked against it, because
        :func:`lgnn` cannot look into a schedule.

    Returns:
      A schedule from an update count to a width.

    Raises:
      ValueError: If ``initial`` is negative, not finite or above ``largest_sigma(window)``, or a count
        is not a positive integer.

    Example:
      >>> from lgnn_jax import decreasing_sigma
      >>> schedule = decreasing_sigma(0.5, epochs=100, steps_per_epoch=390)
      >>> [round(float(schedule(epoch * 390)), 3) for epoch in (0, 1, 50, 99, 100)]
      [0.5, 0.495, 0.25, 0.005, 0.0]

    Source:
      Tan, Khan, Guan, IJCNN 2020, equation 4.
    """
    check_sigma(initial, window)
    for name, count in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        legal = not isinstance(count, bool) and hasattr(count, "__index__")
        if not legal or not 1 <= operator.index(count) < 2**31:
            raise ValueError(f"{name} must be a positive integer below 2**31, got {count!r}.")

    def schedule(count):
        epoch = jnp.clip(jnp.asarray(count) // steps_per_epoch, 0, epochs)
        return initial * (1.0 - epoch / epochs)

    return schedule
