"""Several processes that make the same runs together, each with devices of its own: who they are, what they share.

The first one decides, reads and writes; the others learn from it what it found. A single process is all of them.
"""

from __future__ import annotations

from typing import Any, TypeVar

import click
import jax
import numpy as np
from jax.experimental import multihost_utils

Tree = TypeVar("Tree")

AUTOMATIC = "auto"
# A host that says nothing for so long counts as lost, in seconds: JAX then ends the others.
_SILENCE = 60

_index, _count, _asked = 0, 1, 0


def join(coordinator: str | None, hosts: int | None, host: int | None) -> None:
    """Meets the other hosts; nothing happens without a coordinator.

    Args:
      coordinator: Address and port of the first host, or ``auto`` for what the cluster's own variables say
        (Slurm, Open MPI, Kubernetes, TPU).
      hosts: How many there are.
      host: Which of them this is, from 0.

    Raises:
      click.UsageError: If the arguments do not belong together, or the others are not met.
    """
    global _index, _count
    if coordinator is None:
        if hosts is not None or host is not None:
            raise click.UsageError("--hosts and --host need --coordinator ADDRESS:PORT, of the first host.")
        return
    explicit: dict[str, Any] = {}
    if coordinator != AUTOMATIC:
        if hosts is None or host is None:
            raise click.UsageError("--coordinator ADDRESS:PORT needs --hosts and --host beside it.")
        if not 0 <= host < hosts:
            raise click.UsageError(f"--host counts from 0 to --hosts less one: got {host} of {hosts}.")
        if not coordinator.rpartition(":")[2].isdigit() or ":" not in coordinator:
            raise click.UsageError(
                f"--coordinator is {AUTOMATIC!r} or ADDRESS:PORT of the first host, got {coordinator!r}."
            )
        explicit = {"coordinator_address": coordinator, "num_processes": hosts, "process_id": host}
    elif hosts is not None or host is not None:
        raise click.UsageError(
            "--coordinator auto takes --hosts and --host from the cluster; leave them out."
        )
    try:
        jax.distributed.initialize(**explicit, heartbeat_timeout_seconds=_SILENCE)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise click.UsageError(f"the hosts did not meet at {coordinator!r}: {reason}") from error
    _index, _count = jax.process_index(), jax.process_count()


def first() -> bool:
    """Whether this process is the one that decides, reads and writes."""
    return _index == 0


def several() -> bool:
    """Whether there are others."""
    return _count > 1


def name() -> str:
    """Which host this is, in words."""
    return f"host {_index} of {_count} (from 0)"


def shared(tree: Tree) -> Tree:
    """The first host's tree, bit for bit, on every host; theirs must have its shapes and types.

    Leaves are NumPy arrays or numbers; on a single host they come back as they are.
    """
    if not several():
        return tree
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    # Sums of floats, by which JAX shares them, do not keep the sign of zero.
    bits = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    received = multihost_utils.broadcast_one_to_all(bits, is_source=first())
    back = [
        np.asarray(new).view(old.dtype).reshape(old.shape)
        for new, old in zip(received, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, back)


def agreed(number: int) -> int:
    """The first host's whole number."""
    return int(shared(np.int64(number)))


def asked_to_stop() -> bool:
    """Whether SIGTERM has reached any host, and this is the step at which all are to stop.

    To be asked by every host after every step.
    """
    global _asked
    _asked += 1
    return several() and multihost_utils.reached_preemption_sync_point(_asked)
