"""Dtypes to compute in."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def at_least_float32(x: Any) -> Any:
    """An array as it is if it is floating of 32 bits or more, else in float32.

    So does ``x.astype(jnp.promote_types(x.dtype, jnp.float32))``, but not with
    ``jax_numpy_dtype_promotion=strict``.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax._dtypes import at_least_float32
      >>> [at_least_float32(jnp.ones(2, dtype)).dtype.name for dtype in (jnp.bfloat16, jnp.int32)]
      ['float32', 'float32']
    """
    wide = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits >= 32
    return x if wide else x.astype(jnp.float32)
