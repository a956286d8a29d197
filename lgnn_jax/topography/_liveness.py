"""Guards: a collapsed or dead layer scores as perfect topography, and these say that it is one."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._dtypes import at_least_float32
from lgnn_jax._moved import moved
from lgnn_jax.topography._similarity import centred, check_finite, filters


class DeadShare(NamedTuple):
    """Share of dead filters, and how many are exactly zero or nearly so; see :func:`dead_share`."""

    value: float
    zero: int
    nearly_zero: int


_CENTRE = "Of responses, dead_units(correlations(responses)) counts the units that never change."


@moved(grid="Write dead_share(kernel, axis=-1).", centre=_CENTRE)
def dead_share(kernel: Any, axis: int = -1, *, threshold: float = 1e-3) -> DeadShare:
    """Share of filters with ``|w_i| == 0`` or ``|w_i| < threshold * median |w|``.

    ``|w|`` is the L2 norm and the median runs over all filters. Where more than half of them have died, the
    median has died too: then only zeros are found, or filters far below the dead.

    Args:
      kernel: Weights, in a box of Flax's or not.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.
      threshold: Share of the median below which a filter counts as nearly zero, between 0 and 1.

    Returns:
      A :class:`DeadShare`: the share of both kinds together, and the number of each. It does not depend
      on where filters sit, so it has no permutation null.

    Raises:
      ValueError: If the kernel has no such axis, no filters, or holds NaN or infinities; if ``threshold`` is
        not between 0 and 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> topography.dead_share(jnp.array([[1.0, 2.0, 0.0, 1e-6]]))
      DeadShare(value=0.5, zero=1, nearly_zero=1)
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a share of the median, between 0 and 1, got {threshold!r}.")
    check_finite(kernel, "kernel holds")
    size = np.linalg.norm(np.asarray(filters(kernel, axis), np.float64), axis=1)
    if not size.size:
        raise ValueError("kernel has no filters, of which none can be dead.")
    zero, dead = int((size == 0).sum()), int(nearly_zero(size, threshold).sum())
    return DeadShare(dead / size.size, zero, dead - zero)


def nearly_zero(sizes: np.ndarray, threshold: float = 1e-3) -> np.ndarray:
    """Which of some filters' L2 norms are those of dead filters: 0, or less than a share of the median.

    This is the one rule: :func:`dead_share`, magnitudes and the atlas follow it.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.topography._liveness import nearly_zero
      >>> nearly_zero(np.array([1.0, 2.0, 0.0, 1e-6])).tolist()
      [False, False, True, True]
    """
    return (sizes == 0) | (sizes < threshold * np.median(sizes))


def effective_dimension(responses: Any) -> float:
    """Participation ratio of the responses' PCA: ``sum(lambda)**2 / sum(lambda**2)``.

    ``lambda`` are the eigenvalues of the units' covariance. Identical units have 1; units that vary
    independently and equally have as many as there are units.

    Args:
      responses: ``(images, units)``, at least two images.

    Returns:
      A number between 1 and ``min(images - 1, units)``. It does not depend on where units sit, so it has no
      permutation null.

    Raises:
      ValueError: If the responses are not ``(images, units)`` of two images or more, hold NaN or
        infinities, or no unit varies.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> topography.effective_dimension(jnp.array([[1.0, 1.0], [-1.0, -1.0], [2.0, 2.0]]))
      1.0

    Source:
      Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", 2017.
    """
    shape = np.shape(responses)
    if len(shape) != 2 or shape[0] < 2 or not shape[1]:
        raise ValueError(f"responses must be (images, units), two images or more, got {shape}.")
    check_finite(responses, "responses hold")
    rows = at_least_float32(jnp.asarray(responses)).T
    total, squares = (float(number) for number in jax.device_get(_moments(rows)))
    return _ratio(total, squares)


@jax.jit
def _moments(rows: jax.Array):
    """The sums of the covariance's eigenvalues and of their squares, both scaled."""
    rows = centred(rows)
    largest = jnp.abs(rows).max()
    rows = rows / jnp.where(largest > 0, largest, 1)
    rows = (
        rows if rows.shape[0] <= rows.shape[1] else rows.T
    )  # The smaller of two with the same eigenvalues.
    gram = jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)
    total = jnp.trace(gram)
    gram = gram / jnp.where(total > 0, total, 1)
    return jnp.trace(gram), (gram * gram).sum()


def participation_ratio(covariance: np.typing.ArrayLike) -> float:
    """The :func:`effective_dimension` of responses by their covariance, accumulated over batches of images.

    Args:
      covariance: Of the units' responses, ``(units, units)``; one of another scale serves as well.

    Raises:
      ValueError: If the covariance is not square and finite, or no unit varies.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import topography
      >>> topography.participation_ratio(np.diag([2.0, 2.0, 0.0]))
      2.0
    """
    matrix = np.asarray(covariance, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"covariance must be (units, units), got shape {matrix.shape}.")
    check_finite(matrix, "covariance holds")
    return _ratio(float(np.trace(matrix)), float((matrix**2).sum()))


def _ratio(total: float, squares: float) -> float:
    if not total > 0:
        raise ValueError(
            "No unit's responses vary over the images, so they have no dimension: wanted at least one "
            "that does."
        )
    return total**2 / squares
