"""NumPy's generators from JAX's keys."""

from __future__ import annotations

import jax
import numpy as np


def generator(key: jax.Array) -> np.random.Generator:
    """A NumPy generator that ``key`` decides, of the new kind (``jax.random.key``) or the old (``PRNGKey``).

    Example:
      >>> import jax
      >>> from lgnn_jax._random import generator
      >>> new, old = generator(jax.random.key(3)), generator(jax.random.PRNGKey(3))
      >>> new.random() == old.random()
      True
    """
    if not hasattr(key, "dtype"):
        raise TypeError(f"key must be a PRNG key, such as jax.random.key(0), got {key!r}.")
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = np.asarray(jax.random.key_data(key) if typed else key).ravel()
    return np.random.default_rng([int(word) for word in words])
