"""How a layer's units respond to images: statistics over a whole data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lgnn_jax._grid import Grid, check_grid
from lgnn_jax.inspect._checks import permutation
from lgnn_jax.topography import participation_ratio

_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # Relative; a spread below it is none.


@dataclasses.dataclass(frozen=True, eq=False)
class ResponseStatistics:
    """What one layer's units did on a data set; made by :func:`accumulate`.

    A unit's response to an image is the mean of its map over space; for ``top_images`` it is the maximum.
    Sums are of responses less ``shift``, in float64, so that large means do not eat small spreads.

    Args:
      layer: The layer's name, for error messages.
      class_counts: Images of each class, integers ``(classes,)``, all at least 1.
      shift: The responses to the first image, ``(units,)``.
      class_sums: Sums over each class's images, ``(classes, units)``.
      class_squares: Sums of squares likewise.
      products: Sums over all images of products of two units' responses, ``(units, units)``.
      top_images: Indices of the images that activate each unit most, best first, the earlier first among
        equals, ``(units, top)``.
      top_values: The maxima over space there, ``(units, top)``.
    """

    layer: str
    class_counts: np.ndarray
    shift: np.ndarray
    class_sums: np.ndarray
    class_squares: np.ndarray
    products: np.ndarray
    top_images: np.ndarray
    top_values: np.ndarray

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.shift)

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.class_counts.sum())

    @property
    def mean(self) -> np.ndarray:
        """Mean responses, ``(units,)``."""
        return self.shift + self.class_sums.sum(0) / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariances of the units' responses, ``(units, units)``."""
        sums = self.class_sums.sum(0)
        return (self.products - np.outer(sums, sums) / self.count) / (self.count - 1)

    @property
    def variance(self) -> np.ndarray:
        """Unbiased variances of the responses, ``(units,)``."""
        return np.maximum(np.diagonal(self.covariance), 0)

    @property
    def constant(self) -> np.ndarray:
        """Which units respond to every image alike, to float32's precision, booleans ``(units,)``."""
        return self.variance <= (_ROUNDING * np.abs(self.mean)) ** 2

    @property
    def class_means(self) -> np.ndarray:
        """Mean responses to each class, ``(classes, units)``."""
        return self.grouped_means()

    def grouped_means(self, superclass_of: Any = None) -> np.ndarray:
        """Mean responses to each class or superclass, ``(classes or superclasses, units)``.

        Args:
          superclass_of: The superclass of each class, integers ``(classes,)`` from 0 without a gap; None
            for the classes themselves.
        """
        counts, sums, _ = self._grouped(superclass_of)
        return self.shift + sums / counts[:, None]

    def correlation(self, *, constant: str = "raise") -> np.ndarray:
        """Pearson correlations of the units' responses over images, in [-1, 1], ``(units, units)``.

        Args:
          constant: ``raise`` where a unit is constant, or ``nan`` to put NaN in its row and column.

        Raises:
          ValueError: If a unit is constant (with ``raise``).
        """
        dead = self._constant_units(constant)
        return np.where(dead[:, None] | dead, np.nan, self.similarity)

    def reordered(self, order: Any) -> ResponseStatistics:
        """The statistics of the same units in another order.

        Args:
          order: A permutation ``(units,)``: ``order[p]`` is the unit that comes to place ``p``, as of
            :func:`lgnn_jax.arrange`.

        Raises:
          ValueError: If it is no permutation of the units.

        Example:
          >>> import numpy as np
          >>> from lgnn_jax.inspect import accumulate
          >>> images = np.arange(6.0).reshape(2, 1, 1, 3)
          >>> found = accumulate(lambda x: {"input": x}, images, [0, 1], classes=2, top=1)
          >>> found["input"].reordered([2, 0, 1]).mean.tolist()
          [3.5, 1.5, 2.5]
        """
        order = permutation(order, self.units, self.layer)
        return dataclasses.replace(
            self,
            shift=self.shift[order],
            class_sums=self.class_sums[:, order],
            class_squares=self.class_squares[:, order],
            products=self.products[np.ix_(order, order)],
            top_images=self.top_images[order],
            top_values=self.top_values[order],
        )

    @property
    def similarity(self) -> np.ndarray:
        """The correlations as metrics take them: with 0 in the row and column of a constant unit."""
        varies = ~self.constant
        std = np.where(varies, np.sqrt(self.variance), 1)
        correlation = np.clip(self.live_covariance / np.outer(std, std), -1, 1)
        np.fill_diagonal(correlation, varies)
        return correlation

    @property
    def live_covariance(self) -> np.ndarray:
        """The covariances with exactly 0 in the row and column of a constant unit."""
        return self.covariance * np.outer(~self.constant, ~self.constant)

    @property
    def effective_dimension(self) -> float:
        """Participation ratio of the responses' PCA, as :func:`lgnn_jax.topography.effective_dimension`."""
        if self.constant.all():
            raise ValueError(
                f"No unit of {self.layer!r} varies over the images, so they have no dimension."
            )
        return participation_ratio(self.live_covariance)

    def selectivity(self, superclass_of: Any = None, *, constant: str = "raise") -> np.ndarray:
        """Welch's t of every class against the rest: ``(m_c - m_r) / sqrt(v_c / n_c + v_r / n_r)``.

        Args:
          superclass_of: As for :meth:`grouped_means`.
          constant: ``raise`` where a unit is constant, or ``nan`` to put NaN in its column.

        Returns:
          Floats ``(classes or superclasses, units)``, positive where a class activates a unit more than the
          others do; infinite where the means differ and nothing varies beside it.

        Raises:
          ValueError: If a unit is constant (with ``raise``), or a class or the rest has a single image.
        """
        dead = self._constant_units(constant)
        counts, sums, squares = self._grouped(superclass_of)
        few = np.flatnonzero((counts < 2) | (self.count - counts < 2))
        if len(few):
            raise ValueError(
                f"t of {self.layer!r} needs two images of a class and two of the others; class "
                f"{few[0]} has {counts[few[0]]} of {self.count}."
            )
        mean, error = _mean_and_error(counts, sums, squares)
        rest, rest_error = _mean_and_error(
            self.count - counts, sums.sum(0) - sums, squares.sum(0) - squares
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (mean - rest) / np.sqrt(error + rest_error)
        return np.where(dead, np.nan, np.where(mean == rest, 0.0, t))

    def _constant_units(self, policy: str) -> np.ndarray:
        if policy not in ("raise", "nan"):
            raise ValueError(f"constant must be 'raise' or 'nan', got {policy!r}.")
        dead = self.constant
        if policy == "raise" and dead.any():
            raise ValueError(
                f"{dead.sum()} of {self.units} units of {self.layer!r} respond to all images alike (unit "
                f"{np.flatnonzero(dead)[0]}, for one), where this is not defined. Pass constant='nan' to "
                "have NaN there."
            )
        return dead

    def _grouped(self, superclass_of: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts, sums and sums of squares by class or superclass."""
        if superclass_of is None:
            return self.class_counts, self.class_sums, self.class_squares
        given, classes = np.asarray(superclass_of), len(self.class_counts)
        if given.shape != (classes,) or not np.issubdtype(given.dtype, np.integer):
            raise ValueError(
                f"superclass_of must hold an integer for each of {classes} classes, got shape "
                f"{given.shape} of {given.dtype}."
            )
        names = np.unique(given)
        if not np.array_equal(names, np.arange(len(names))):
            raise ValueError(f"superclass_of must number superclasses from 0 without a gap, got {names}.")
        member = (names[:, None] == given).astype(np.int64)
        return member @ self.class_counts, member @ self.class_sums, member @ self.class_squares


def _mean_and_error(
    counts: np.ndarray, sums: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means by group and their squared standard errors."""
    n = counts[:, None]
    return sums / n, np.maximum(squares - sums * sums / n, 0) / (n - 1) / n


def class_maps(statistics: ResponseStatistics, grid: Grid, superclass_of: Any = None) -> np.ndarray:
    """Mean responses to each class, laid out on the grid.

    Args:
      statistics: A layer's.
      grid: The layer's grid.
      superclass_of: The superclass of each class, integers ``(classes,)`` from 0; None for classes.

    Returns:
      Floats ``(classes or superclasses, *grid.shape)``.

    Raises:
      ValueError: If the grid does not hold the layer's units.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import accumulate, class_maps
      >>> images = np.arange(8.0).reshape(2, 1, 1, 4)
      >>> found = accumulate(lambda x: {"input": x}, images, [0, 1], classes=2, top=1)
      >>> class_maps(found["input"], Grid((2, 2))).tolist()
      [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]

    Source:
      Tan, Khan, Guan, IJCNN 2020, Figure 3.
    """
    check_grid(grid, statistics.units, f"layer {statistics.layer!r}")
    return statistics.grouped_means(superclass_of).reshape(-1, *grid.shape)
