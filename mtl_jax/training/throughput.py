"""Throughput of a process that trains: its rates, and its share of the devices."""

from collections.abc import Sequence
from typing import NamedTuple

from mtl_jax.devices.target import Target, chip_of
from mtl_jax.training.compile import Programs


class Throughput(NamedTuple):
    """Rates of a process, of all variants together, by the wall time of training."""

    steps: float
    """Updates of runs a second."""
    examples: float
    """Examples a second, of all tasks of all runs."""
    flops: float
    """Operations a second of products on each device."""
    peak_share: float | None
    """Share of what the device could do of them; None where nobody says."""


def throughput(
    programs: Sequence[Programs],
    steps: int,
    seconds: float,
    *,
    batch_size: int,
    compute: str,
    target: Target,
) -> Throughput:
    """Return the rates of training.

    Args:
      programs: of all variants.
      steps: that every run made.
      seconds: that they took.
      batch_size: examples of a task in a step.
      compute: type of the passes, ``float32`` or ``bfloat16``.
      target: devices.
    """
    each = [program.train_program for program in programs]
    rate = steps / seconds if seconds else 0.0
    flops = rate * sum(program.flops for program in each)
    chip = target.chip or chip_of(target.name)
    peak = chip and (chip.flops if compute == "bfloat16" else chip.flops_float32)
    return Throughput(
        steps=rate * sum(len(program.variant.seeds) for program in each),
        examples=rate * batch_size * sum(p.variant.task_ids.size for p in each),
        flops=flops,
        peak_share=flops / peak if peak else None,
    )
