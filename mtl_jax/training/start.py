"""The start of a process's work on an experiment, and how its end is known."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from mtl_jax.devices import memory, multihost
from mtl_jax.devices.axis_map import sequential
from mtl_jax.storage import checkpoint, provenance, records, workdir
from mtl_jax.training.compile import ChunkReport, blank_states, init_states
from mtl_jax.training.resolve import Experiment
from mtl_jax.training.step import TrainState
from mtl_jax.training.variants import Variant
from mtl_jax.types import Config, InputError


def free(config: Config) -> tuple[str, ...]:
    """Return the fields that may change when a run goes on; of `workdir.check`.

    A run may be prolonged, or end earlier, where its learning rate does not go by its
    length.
    """
    is_constant = config.optimizer.schedule == "constant"
    return (*workdir.FREE, *(workdir.LENGTH * is_constant))


def kept(made: Experiment, folder: Path) -> list[int]:
    """Return the steps whose checkpoints stay, beside the last ones.

    Of a run that is prolonged also the points that it had before.
    """
    if not made.config.checkpoint.keep_points:
        return []
    return sorted({*made.points.tolist(), *records.steps(folder)})


def start(
    made: Experiment, folder: Path, saved: Any, say: Callable[[str], None]
) -> tuple[int, list[TrainState]]:
    """Return step and states to start from: of the newest checkpoint, or the seeds.

    Args:
      made: the experiment.
      folder: claimed.
      saved: Orbax's manager of its checkpoints.
      say: told, in a sentence, what a person should know.

    Raises:
      InputError: there is no space, or checkpoints and records do not agree.
    """
    config = made.config

    def states_by(make: Callable) -> list[TrainState]:
        return [make(made.setting, variant) for variant in made.variants]

    # To draw states is to compile: of a run that goes on shapes are enough.
    drawn = None if saved.all_steps() else states_by(init_states)
    states = drawn or states_by(blank_states)
    size = memory.size(states)
    kept = config.checkpoint.keep_last + 1
    if config.checkpoint.keep_points:
        kept += len(made.points)
    workdir.check_space(folder, kept * size + 2**24)
    restored = checkpoint.restore(saved, states, say)
    _reconcile(folder, saved, restored[0] if restored else -1, say)
    if not restored:
        return 0, drawn or states_by(init_states)
    if restored[0] > config.steps:
        raise InputError(
            f"{folder} is at step {restored[0]}, and steps is {config.steps}; choose "
            f"at least that, or another --workdir."
        )
    if not is_finished(made, *restored):
        say(f"going on from step {restored[0]} of {config.steps} in {folder}")
        if moved := _moved(folder, made.variants):
            say(moved)
    return restored


def is_finished(
    made: Experiment, step: int, runs: Sequence[TrainState | ChunkReport]
) -> bool:
    """Tell whether the steps are made, or all losses that count are low enough.

    Args:
      made: the experiment.
      step: that was made last.
      runs: of every variant, on the host; of what a checkpoint holds, so that a
        finished experiment is known as such.
    """
    config = made.config
    if step == config.steps or not config.stop_loss or step not in made.points:
        return step == config.steps
    return all(
        of_variant.lowest_loss[of_variant.diverged < 0, : variant.measured].max(
            initial=0.0
        )
        <= config.stop_loss
        for variant, of_variant in zip(made.variants, runs, strict=True)
    )


@multihost.on_primary_host
def _reconcile(folder: Path, saved, step: int, say: Callable[[str], None]) -> None:
    """Check the records that belong to a checkpoint, and drop those after it."""
    parts = checkpoint.parts(saved, step) if step >= 0 else None
    records.reconcile(folder, step, parts, say)


def _moved(folder: Path, variants: Sequence[Variant]) -> str:
    """Say what other devices than before mean for the numbers; empty for the same."""
    now = [str(device.device_kind) for device in jax.devices()]
    *_, last = [{}, *provenance.sessions(folder)]
    before = last.get("devices", [])
    if before in ([], now):  # it does not say, or they are the same
        return ""
    apart = all(variant.run_map is sequential for variant in variants)
    kept = apart and set(now) == set(before)
    what = "factors" if kept else "all numbers, as training amplifies it,"
    return (
        f"{folder} was on {_counted(before)} and goes on with {_counted(now)}: "
        f"rounding may make {what} other than the former would have found"
    )


def _counted(devices: list[str]) -> str:
    return " and ".join(f"{n} x {kind}" for kind, n in Counter(devices).items())
