"""The digits experiment shrunk to a second, and four ways to run it.

In this process (`run`), through the real command (`command`), and through the entry
point in a process forked from one that has imported everything (`fork`): what starts
in 20 ms can be started, and killed, often.
"""

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
import pandas as pd
import pytest

from configs import digits
from mtl_jax.storage import checkpoint, records
from mtl_jax.training.loop import Outcome
from mtl_jax.training.loop import run as run_experiment
from mtl_jax.types import Config

ROOT = Path(__file__).parent.parent
CHANGES = {
    "steps": 12,
    "seeds": (0, 1),
    "model.mlp.widths": (16,),
    "batch_size": 16,
    "probe_size": 48,
    "eval_batch_size": 64,
    "trajectory.dense": 2,
    "trajectory.count": 3,
    "checkpoint.every": 5,
    "steps_per_dispatch": 5,
    "factors.names": (),
}
"""What makes configs/digits.py small. Looked at after 0, 1, 2, 5 and 12 steps."""


class Run(NamedTuple):
    """A run in this process."""

    outcome: Outcome
    records: pd.DataFrame
    said: list[str]
    path: Path


def config(changes: Mapping[str, Any]) -> Config:
    """The small config with fields changed by their dotted names."""
    found: Any = digits.get_config()
    found.update_from_flattened_dict({**CHANGES, **changes})
    return found


def run(path: Path, **changes: Any) -> Run:
    """Run the small experiment here; ``__`` in a name stands for a dot."""
    said: list[str] = []
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    outcome = run_experiment(config(changes), path, said.append)
    return Run(outcome, records.read(path), said, path)


def arguments(workdir: Path, **changes: Any) -> list[str]:
    """Arguments of the entry point for the small experiment."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    fields = {**CHANGES, **changes}.items()
    return [
        f"--config={ROOT / 'configs' / 'digits.py'}",
        f"--workdir={workdir}",
        "--noreport",
        *(f"--config.{name}={value}" for name, value in fields),
    ]


def command(arguments: list[str]) -> list[str]:
    """The real command."""
    return [sys.executable, "-m", "experiments.train", *arguments]


class Stopped:
    """Hears a signal at the first boundary."""

    number = 15

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def sorted_records(path: Path) -> Any:
    """Records in an order that does not depend on when they were written."""
    df = records.read(path)
    return df.sort_values([*df.columns[:12]]).reset_index(drop=True)


@contextlib.contextmanager
def compiled_once(folder: Path) -> Iterator[None]:
    """Keep programs in a folder, for this process and those that it starts.

    Types are promoted as users' JAX does it: optax's Adam does not run under the
    strict rule of conftest.py.
    """
    strict = jax.config.values["jax_numpy_dtype_promotion"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        _read_environment()
        # Not its context manager: the threads that compile would not see that.
        jax.config.update("jax_numpy_dtype_promotion", "standard")
        yield
    jax.config.update("jax_numpy_dtype_promotion", strict)
    _read_environment()


def _read_environment() -> None:
    """JAX looks at these variables when it is imported, which it was."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    seconds = os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float(seconds))


def fork(
    arguments: list[str], log: Path, free: int | None = None, command: str = "train"
) -> Any:
    """Start an entry point in a forked process; ``log`` gets ``out`` and ``err``.

    Args:
      arguments: of the command.
      log: a folder.
      free: bytes that the disk pretends to have.
      command: name of the entry point.
    """
    log.mkdir(parents=True, exist_ok=True)
    process = server().Process(
        target=_entry_point, args=(arguments, log, dict(os.environ), free, command)
    )
    process.start()
    return process


def server() -> Any:
    """Return the context of processes that are forked with everything imported."""
    context = multiprocessing.get_context("forkserver")
    modules = [
        "experiments.entry",
        "ml_collections.config_flags",
        "mtl_jax.studies.study",
        "mtl_jax.report.terminal_table",
        "sklearn.datasets",
    ]
    context.set_forkserver_preload([*modules, "pytest", "configs.digits"])
    return context


def _entry_point(
    arguments: list[str], log: Path, env: dict, free: int | None, command: str
) -> None:
    """What `python -m experiments.train` does, with its output in files."""
    import gc
    import importlib
    import shutil

    gc.freeze()  # what is imported: no collector walks it
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(log / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    os.environ.update(env)
    _read_environment()
    if "JAX_NUM_CPU_DEVICES" in env:
        jax.config.update("jax_num_cpu_devices", int(env["JAX_NUM_CPU_DEVICES"]))
    if free is not None:
        usage = shutil.disk_usage(log)._replace(free=free)
        shutil.disk_usage = lambda _: usage
    sys.argv = [command, *arguments]
    from experiments import entry

    module = importlib.import_module(f"experiments.{command}")
    entry.main(getattr(module, command), str(module.__doc__))


def checkpoint_of(workdir: Path, step: int | None = None) -> tuple[Any, int]:
    """State and stored checksum of a checkpoint (the newest), as Orbax reads it."""
    with ocp.CheckpointManager((workdir / checkpoint.FOLDER).absolute()) as manager:
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(), checksum=ocp.args.JsonRestore()
        )
        found = manager.restore(step, args=items)
    return found["state"], found["checksum"]["crc32"]


def sessions(workdir: Path) -> list[dict[str, Any]]:
    """What ``run.json`` says of the processes that worked here."""
    return json.loads((workdir / "run.json").read_text())["sessions"]
