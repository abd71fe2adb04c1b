"""Costs of an experiment on a device, as its compiled programs tell them."""

from typing import NamedTuple

from mtl_jax.devices import memory
from mtl_jax.devices.target import Target


class Cost(NamedTuple):
    """Costs of a program on one device; all but memory is of its unit."""

    name: str
    unit: str
    times: int
    compilation: float
    """Seconds, on this machine."""
    arguments: int
    """Bytes."""
    temporaries: int
    """Bytes; None of what follows is known where they exceed the device."""
    error: str
    """Reason why it cannot be compiled; empty where it was."""
    flops: int
    """Operations of products that the program asks for."""
    bytes: int
    """Read and written by kernels."""
    kernels: int
    products: int
    """Kernels that multiply or convolve."""
    rearranged: int
    """Bytes of copies and transposes."""
    cycles: int
    """Cycles that a TPU's compiler expects; 0 elsewhere."""
    product_cycles: int
    """Cycles of products among them."""
    collectives: dict[str, int]
    """Bytes by kind of collective."""
    host: int
    """Kernels that talk to the host."""
    bounds: dict[str, float]
    """Least seconds by what takes them: arithmetic, memory, launches, cycles."""

    @property
    def seconds(self) -> float:
        """Return the least time of a unit; 0 where nobody knows the device."""
        return max(self.bounds.values(), default=0.0)

    @property
    def bound(self) -> str:
        """Return what that time goes into."""
        return max(self.bounds, key=self.bounds.__getitem__, default="")  # type: ignore[arg-type]


class Preview(NamedTuple):
    """Costs of an experiment on one of its devices."""

    target: Target
    held: dict[str, int]
    """Bytes that lie there all the time, by what they hold."""
    steps: int
    points: int
    costs: list[Cost]

    @property
    def temporaries(self) -> int:
        """Return the bytes of the program that takes most of them."""
        used = [cost.temporaries for cost in self.costs if cost.times]
        return max(used, default=0)

    @property
    def needed(self) -> int:
        """Return the bytes that it needs."""
        return sum(self.held.values()) + self.temporaries

    @property
    def capacity(self) -> int:
        """Return the bytes that a device has."""
        return memory.capacity(self.target)

    @property
    def seconds(self) -> float:
        """Return the least time of all programs; 0 where nobody knows the device."""
        return sum(cost.seconds * cost.times for cost in self.costs)
