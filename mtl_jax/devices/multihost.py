"""Processes of one job, on one host or several, each with devices of its own.

All of them run the same program on the same data and reach the same points; the first
writes. A process alone is the first, and nothing here costs it anything.
"""

import functools
import os
from collections.abc import Callable
from typing import ParamSpec

import jax
import jax.extend.backend
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from mtl_jax.devices import address
from mtl_jax.types import InputError, PyTree

Arguments = ParamSpec("Arguments")
PATIENCE = 300.0
"""Seconds that a process waits for the first one, as JAX does."""


def join(coordinator: str | None, count: int | None, number: int | None) -> None:
    """Join a job of several processes; None is what JAX finds out by itself.

    A job that meets on loopback listens nowhere else, for what is exchanged there is
    neither signed nor encrypted.

    Args:
      coordinator: ``HOST:PORT`` of the first process.
      count: number of processes.
      number: of this one, from 0.

    Raises:
      InputError: a value is none, JAX does not find out what is missing, or the first
        process does not answer.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    meeting = address.parse("coordinator", coordinator) if coordinator else None
    if count is not None and count < 1:
        raise InputError(f"process_count is {count}; it must be at least 1.")
    if number is not None and not 0 <= number < (count or number + 1):
        raise InputError(
            f"process_id is {number} of process_count {count}; number the processes "
            f"from 0."
        )
    # JAX would end this process where it does not reach the first one.
    if meeting and number and not address.answers(meeting, PATIENCE):
        raise InputError(
            f"no first process answers at coordinator {coordinator} within "
            f"{PATIENCE:.0f} s; start the one of process_id 0, or mend the address."
        )
    inside = meeting is not None and address.is_loopback(meeting.host)
    told = "JAX_COORDINATOR_BIND_ADDRESS" in os.environ
    # `signals.StopSignal` hears signals; the service would take SIGTERM from it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            number,
            coordinator_bind_address=coordinator if inside and not told else None,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"this process cannot join the others: {' '.join(str(error).split())} Give "
            f"--coordinator=HOST:PORT (the port free), --process_count and "
            f"--process_id."
        ) from error
    if inside:
        _collect_inside()


def _collect_inside() -> None:
    """Let collectives listen on loopback; by default it is where the host's name leads.

    JAX has no option for it, hence its inner functions.
    """
    from jax._src import distributed, xla_bridge
    from jaxlib import _jax  # type: ignore[attr-defined]

    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")  # of GPUs
    if jax.config.values["jax_cpu_collectives_implementation"] == "gloo":
        collectives = _jax.make_gloo_tcp_collectives(
            distributed_client=distributed.global_state.client,
            hostname=address.LOOPBACK,
        )
        make_client = functools.partial(
            xla_bridge.make_cpu_client, collectives=collectives
        )
        jax.extend.backend.register_backend_factory(
            "cpu", make_client, priority=0, fail_quietly=False
        )


def is_primary() -> bool:
    """Return whether this is the process that writes."""
    return jax.process_index() == 0


def is_multihost() -> bool:
    """Return whether there are other processes."""
    return jax.process_count() > 1


def on_primary_host(f: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Make a function that does nothing but in the first process."""

    @functools.wraps(f)
    def guarded(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        if is_primary():
            f(*args, **options)

    return guarded


def max_over_hosts(number: int) -> int:
    """Return the largest of the processes' numbers; waits for all of them."""
    if not is_multihost():
        return number
    with jax.transfer_guard("allow"):
        return int(multihost_utils.process_allgather(np.int32(number)).max())


def agree(number: int) -> bool:
    """Return whether all processes bring the same number; waits for all of them."""
    return max_over_hosts(number) == -max_over_hosts(-number)


def put(tree: PyTree, sharding: Sharding) -> PyTree:
    """Put what all processes hold on the devices of all."""
    if not is_multihost():
        return jax.device_put(tree, sharding)

    def put_one(leaf: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    with jax.transfer_guard("allow"):
        return jax.tree.map(put_one, jax.device_get(tree))


def get(tree: PyTree) -> PyTree:
    """Fetch what the devices of all processes hold, to all processes."""
    if not is_multihost():
        return jax.device_get(tree)

    leaves, treedef = jax.tree.flatten(tree)
    far = [i for i, leaf in enumerate(leaves) if _is_far(leaf)]
    places = [NamedSharding(leaves[i].sharding.mesh, P()) for i in far]
    near = jax.jit(_same, out_shardings=places)([leaves[i] for i in far])
    for i, leaf in zip(far, near, strict=True):
        leaves[i] = leaf.addressable_data(0)
    return jax.tree.unflatten(treedef, jax.device_get(leaves))


def _is_far(leaf: PyTree) -> bool:
    """Tell whether part of an array is on devices of other processes only."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _same(leaves: list[jax.Array]) -> list[jax.Array]:
    return leaves
