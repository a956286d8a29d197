"""A layer's organised features under another classifier: linear probes, pooled over the grid or not."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from lgnn_jax._grid import Grid, as_shape, check_grid
from lgnn_jax.inspect._checks import check_labels, positive

_ITERATIONS, _TOLERANCE = 1000, 1e-4


class Probe(NamedTuple):
    """A linear probe: logits are ``((x - mean) / std) @ weights + bias``.

    ``converged`` says whether the largest gradient fell below 1e-4. Features that are constant on the
    training images are counted in ``constant`` and have weight 0.
    """

    accuracy: float  # On the test images, in [0, 1].
    train_accuracy: float
    predictions: np.ndarray  # Of the test images, (images,).
    mean: np.ndarray  # (features,)
    std: np.ndarray  # (features,)
    weights: np.ndarray  # (features, classes)
    bias: np.ndarray  # (classes,)
    constant: int
    iterations: int
    converged: bool


def pool_blocks(features: jax.typing.ArrayLike, grid: Grid, size: Sequence[int]) -> np.ndarray:
    """Means of the features over blocks of the grid.

    Args:
      features: ``(images, units)``.
      grid: The layer's grid.
      size: Sides of a block, one for every grid dimension, such as ``(4, 4)``; they must divide the grid's.

    Returns:
      Floats ``(images, blocks)``, blocks in row-major order.

    Raises:
      ValueError: If the grid does not fit, or the blocks do not fill it.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import pool_blocks
      >>> pool_blocks(np.arange(8.0)[None], Grid((2, 4)), (2, 2)).tolist()
      [[2.5, 4.5]]
    """
    x, size = np.asarray(features, np.float64), as_shape(size)
    if x.ndim != 2:
        raise ValueError(f"features must be (images, units), got shape {x.shape}.")
    check_grid(grid, x.shape[1], "features")
    if len(size) != len(grid.shape) or any(
        side % block for side, block in zip(grid.shape, size, strict=True)
    ):
        raise ValueError(
            f"Blocks of {size} do not fill a grid of {grid.shape}; each side must divide its own."
        )
    shape = [part for side, block in zip(grid.shape, size, strict=True) for part in (side // block, block)]
    within = tuple(range(2, len(shape) + 1, 2))
    return x.reshape(len(x), *shape).mean(within).reshape(len(x), grid.units // math.prod(size))


def linear_probe(
    features_train: jax.typing.ArrayLike,
    labels_train: jax.typing.ArrayLike,
    features_test: jax.typing.ArrayLike,
    labels_test: jax.typing.ArrayLike,
    *,
    classes: int,
    l2: float = 1e-3,
    pool: tuple[Grid, Sequence[int]] | None = None,
) -> Probe:
    """Multinomial logistic regression on frozen features: how well they tell classes apart.

    It minimises ``mean(cross_entropy) + l2 / 2 * sum(weights**2)`` by L-BFGS, on features shifted and
    scaled to mean 0 and std 1 on the training images. Whether pooling by the grid keeps more than
    any pooling would is seen by comparison with the same columns in a random order.

    Args:
      features_train: ``(images, units)``, such as the spatial means of a layer.
      labels_train: Integers ``(images,)`` from 0 to ``classes - 1``; every class has an image.
      features_test: ``(images, units)``.
      labels_test: Integers ``(images,)``.
      classes: Number of classes, at least 2.
      l2: Weight of the penalty, positive; scikit-learn's ``C`` is ``1 / (l2 * images)``.
      pool: A grid and the sides of blocks, as for :func:`pool_blocks`, to pool the features by region
        first; None for all features.

    Returns:
      A :class:`Probe`.

    Raises:
      ValueError: If shapes do not fit, values are NaN or infinite, labels out of range, a class has no
        training image, or no feature varies.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect import linear_probe
      >>> x = np.array([[-2.0, 0.1], [-1.0, 0.0], [1.0, 0.1], [2.0, 0.0]])
      >>> linear_probe(x, [0, 0, 1, 1], [[-3.0, 0.0], [3.0, 0.0]], [0, 1], classes=2).accuracy
      1.0
    """
    classes = positive("classes", classes)
    if classes < 2 or not l2 > 0 or not math.isfinite(l2):
        raise ValueError(f"classes must be at least 2 and l2 positive, got {classes} and {l2}.")
    train, train_labels = _checked(features_train, labels_train, classes, "train", pool, every=True)
    test, test_labels = _checked(features_test, labels_test, classes, "test", pool, every=False)
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"There are {train.shape[1]} features to train with and {test.shape[1]} to test.")
    mean, std = train.mean(0), train.std(0)
    varies = std > 1e-6 * np.abs(mean)
    if not varies.any():
        raise ValueError(f"None of the {train.shape[1]} features varies over the training images.")
    std = np.where(varies, std, 1)

    def scaled(x):
        # JAX's own float, which optax's line search keeps its numbers in: float32, or float64 where that is on.
        return np.where(varies, (x - mean) / std, 0).astype(jnp.result_type(float))

    (weights, bias), iterations, gradient = jax.device_get(
        _fit(scaled(train), train_labels.astype(np.int32), jnp.asarray(l2, float), classes)
    )
    predictions, trained = ((scaled(x) @ weights + bias).argmax(1) for x in (test, train))
    return Probe(
        float((predictions == test_labels).mean()),
        float((trained == train_labels).mean()),
        predictions,
        mean,
        std,
        weights,
        bias,
        int((~varies).sum()),
        int(iterations),
        bool(gradient < _TOLERANCE),
    )


def _checked(features: Any, labels: Any, classes: int, name: str, pool: Any, *, every: bool):
    """Features as float64 ``(images, features)``, pooled, and labels."""
    x, y = np.asarray(features, np.float64), check_labels(labels, classes, f"labels_{name}", every=every)
    if x.ndim != 2 or len(x) != len(y) or not np.isfinite(x).all():
        raise ValueError(
            f"features_{name} must be finite numbers ({len(y)}, units), got shape {x.shape}"
            + (" with NaN or infinities." if not np.isfinite(x).all() else ".")
        )
    return (x if pool is None else pool_blocks(x, *pool)), y


@functools.partial(jax.jit, static_argnums=3)
def _fit(x: jax.Array, labels: jax.Array, l2: jax.Array, classes: int):
    """Weights and bias, the number of iterations, and the largest gradient at the end."""

    def loss(params):
        weights, bias = params
        scores = jnp.matmul(x, weights, precision=lax.Precision.HIGHEST) + bias[None]
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return losses.mean() + l2 / 2 * jnp.sum(weights**2)

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry):
        params, state, count, _ = carry
        value, grads = value_and_grad(params, state=state)
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes integers of 32 and of 64 bits.
            updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        largest = jnp.max(jnp.array([jnp.abs(leaf).max() for leaf in grads]))
        return optax.apply_updates(params, updates), state, count + 1, largest

    params = jnp.zeros((x.shape[1], classes), x.dtype), jnp.zeros(classes, x.dtype)
    start = params, optimizer.init(params), jnp.int32(0), jnp.asarray(jnp.inf, x.dtype)
    params, _, count, largest = lax.while_loop(
        lambda carry: (carry[2] < _ITERATIONS) & (carry[3] >= _TOLERANCE), step, start
    )
    return params, count, largest
