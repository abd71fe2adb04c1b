"""Checkpoints of all runs of an experiment, by Orbax, asynchronous and checked.

A checkpoint holds a checksum of all arrays, and the manifest of the records that there
were when it was saved. One that cannot be read back whole, be it truncated, damaged or
silently filled with zeros, is passed over for the one before it and set aside as
``STEP.damaged``: training from there on makes it again.

Of several processes the first one saves; all of them read, from a folder that they
share.
"""

import contextlib
import gc
import logging
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from mtl_jax.devices import multihost
from mtl_jax.storage import disk, manifest
from mtl_jax.storage.manifest import Parts
from mtl_jax.types import InputError, PyTree

FOLDER = "checkpoints"
_JSON = ocp.args.JsonRestore()
_failures: list[str] = []
"""Failures to read or write in this process."""


@contextlib.contextmanager
def open_manager(
    workdir: Path, keep_last: int, keep_steps: Sequence[int] = ()
) -> Iterator[ocp.CheckpointManager]:
    """Open a workdir's checkpoints to save and restore them, as a context.

    Args:
      workdir: an existing folder.
      keep_last: how many of the newest are kept.
      keep_steps: steps whose checkpoints are kept for good.

    Raises:
      InputError: ``keep_last`` is not positive, or a checkpoint cannot be written.
    """
    if keep_last < 1:
        raise InputError(f"checkpoint.keep_last is {keep_last}; keep at least 1.")
    folder = (workdir / FOLDER).absolute()
    kept = [managers.LatestN(keep_last), managers.CustomSteps(list(keep_steps))]
    options = ocp.CheckpointManagerOptions(
        preservation_policy=managers.AnyPreservationPolicy(kept),
        cleanup_tmp_directories=multihost.is_primary(),
        read_only=not multihost.is_primary(),
    )
    if multihost.is_multihost():  # Orbax would wait for all of them
        process = jax.process_index()
        options.multiprocessing_options = ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}
        )
        options.create = False
        if multihost.is_primary():
            folder.mkdir(exist_ok=True)
        multihost.max_over_hosts(0)  # it is there
    with _hushed():
        manager = ocp.CheckpointManager(folder, options=options)
        try:
            yield manager
            finish(manager)
        finally:
            with contextlib.suppress(Exception):  # a save that failed was told already
                manager.close()


@multihost.on_primary_host
def save(manager: ocp.CheckpointManager, step: int, state: PyTree) -> None:
    """Save in the background what the state is now; a step saved already is kept.

    Raises:
      InputError: this or the previous checkpoint cannot be written.
    """
    if step in manager.all_steps():
        return
    finish(manager)
    state = jax.device_get(state)
    known = manifest.read(_folder(manager).parent)
    about: dict[str, Any] = {"crc32": checksum(state)}
    if known:
        about["records"] = manifest.listed(known.parts)
    with _writing(manager):
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                checksum=ocp.args.JsonSave(disk.sealed(about)),
            ),
        )


def finish(manager: ocp.CheckpointManager) -> None:
    """Wait for the save under way.

    Raises:
      InputError: it cannot be written.
    """
    with _writing(manager):
        manager.wait_until_finished()
        saved = manager.all_steps()
        if saved and multihost.is_primary():
            manifest.note_checkpoint(_folder(manager).parent, max(saved))


def restore(
    manager: ocp.CheckpointManager, template: PyTree, say: Callable[[str], None]
) -> tuple[int, PyTree] | None:
    """Read the newest sound checkpoint as (step, state), or None where there is none.

    Args:
      manager: of the workdir.
      template: a state of the same structure, shapes and dtypes.
      say: told about every checkpoint that is passed over.

    Raises:
      InputError: there are checkpoints, and none can be read.
    """
    sound = _newest(manager, template, say) if multihost.is_primary() else None
    step = multihost.max_over_hosts(sound[0] if sound else -1)
    if step < 0:
        return None
    return sound or (step, _read(manager, step, template))


def _newest(
    manager: ocp.CheckpointManager, template: PyTree, say: Callable[[str], None]
) -> tuple[int, PyTree] | None:
    steps = sorted(manager.all_steps(), reverse=True)
    known = manifest.read(_folder(manager).parent)
    if known and steps and known.checkpoint not in [-1, *steps]:
        say(f"checkpoint {known.checkpoint} is missing; the one before it is taken")
    for step in steps:
        state = read(manager, step, template, say)
        if state is not None:
            _set_aside(manager, steps[: steps.index(step)])
            return step, state
    if steps:
        raise InputError(
            f"none of the checkpoints {steps} in {manager.directory} can be read by "
            f"this configuration; choose another workdir, or delete that folder and "
            f"the records beside it to start again."
        )
    return None


def _set_aside(manager: ocp.CheckpointManager, steps: Sequence[int]) -> None:
    """Make room for checkpoints that will be saved again; delete nothing."""
    for step in steps:
        aside = _folder(manager) / f"{step}.damaged"
        shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
        (_folder(manager) / str(step)).rename(aside)
    if steps:
        manager.reload()


def read(
    manager: ocp.CheckpointManager,
    step: int,
    template: PyTree,
    say: Callable[[str], None],
) -> PyTree | None:
    """State of one checkpoint, or None where it is damaged; arguments as `restore`."""
    template = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda: template)
    )
    try:
        return _read(manager, step, template)
    except Exception as error:  # whatever a damaged file makes Orbax raise
        _failures.append(_reason(error))
        say(f"checkpoint {step} is damaged and passed over: {_failures[-1]}")
        return None


def parts(manager: ocp.CheckpointManager, step: int) -> Parts | None:
    """Return the parts of the records that a sound checkpoint names.

    None if it was saved by a version that named none.
    """
    about = manager.restore(step, args=ocp.args.Composite(checksum=_JSON))["checksum"]
    return manifest.parts(about["records"]) if "records" in about else None


def _folder(manager: ocp.CheckpointManager) -> Path:
    return Path(manager.directory)


def checksum(state: PyTree) -> int:
    """Compute the CRC-32 of all arrays in the order of the tree."""
    crc = 0
    for leaf in jax.tree.leaves(state):
        crc = zlib.crc32(np.ascontiguousarray(leaf).data, crc)
    return crc


@contextlib.contextmanager
def _writing(manager: ocp.CheckpointManager) -> Iterator[None]:
    """Say in one message that a checkpoint cannot be written."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a full disk, to tensorstore
        raise InputError(
            f"cannot write to {manager.directory}: {_reason(error)}; free space or "
            f"mend the folder and give the same command again: it goes on from its "
            f"last checkpoint."
        ) from error


def _reason(error: Exception) -> str:
    """Both ends of what an error says: tensorstore's long ones end in the cause."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-100:]}"


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep off the screen what Orbax leaves behind when a read or a write fails.

    Its other reads and writes then end in a closed event loop, each with a traceback of
    its own, some of them long after: once something failed, hook and filter stay.
    """
    hook, log = sys.unraisablehook, logging.getLogger("asyncio")

    def unless_closed(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    if not _failures:  # otherwise they are there
        sys.unraisablehook = unless_closed
        log.addFilter(_is_not_of_orbax)
    try:
        yield
    except BaseException as error:
        _failures.append(str(error))
        raise
    finally:
        if _failures:
            gc.collect()  # what failed complains when it is collected
        else:
            sys.unraisablehook = hook
            log.removeFilter(_is_not_of_orbax)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.getMessage()


def _read(manager: ocp.CheckpointManager, step: int, template: PyTree) -> Any:
    stored = manager.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(template),
            checksum=_JSON,
        ),
    )
    if jax.tree.map(np.shape, stored["state"]) != jax.tree.map(np.shape, template):
        raise ValueError("its arrays have other shapes than this configuration's")
    if checksum(stored["state"]) != disk.opened(stored["checksum"])["crc32"]:
        raise ValueError("its checksum is wrong")
    return stored["state"]
