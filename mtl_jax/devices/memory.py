"""Memory of devices: an experiment that does not fit is refused before it runs."""

import os
from typing import Any

import jax

from mtl_jax.devices.target import Target
from mtl_jax.types import InputError, PyTree

REMEDY = (
    "fewer seeds, learning_rates or variants at once, a smaller batch_size, "
    "eval_batch_size or chunk, grad_accumulation, data.stream=always, "
    "run_map=sequential, smto.path=gramian, the model's remat, a smaller batch_size of "
    "factors or other factors.names"
)


def size(tree: PyTree) -> int:
    """Return the bytes of all leaves, arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def capacity(target: Target | None = None) -> int:
    """Return the bytes of a device, at hand if no other; CPU devices share a machine.

    Args:
      target: devices.
    """
    if target and target.chip:
        return int(target.chip.memory)
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total // jax.local_device_count()


def temporaries(program: Any) -> int:
    """Return the bytes of a compiled program's temporaries on a device."""
    analysis = program.memory_analysis()
    return int(analysis.temp_size_in_bytes) if analysis else 0


def check(parts: dict[str, int]) -> None:
    """Raise an `InputError` where the parts of a device's memory exceed it.

    Args:
      parts: bytes on a device, by what they hold.
    """
    needed, limit = sum(parts.values()), capacity()
    if needed <= limit:
        return
    words = ", ".join(f"{what} {_text(part)}" for what, part in parts.items())
    raise InputError(
        f"this run needs about {_text(needed)} on every device ({words}), and a device "
        f"has {_text(limit)}. Less: {REMEDY}; more: other devices."
    )


def _text(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"
