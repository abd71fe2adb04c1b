"""Trials spread over the machines of a Ray cluster.

A trial is a Ray task. If its worker or machine dies, Ray gives it to another, which
goes on from the trial's last checkpoint: the folder must be on a file system that all
machines see, by the same path. Where the cluster has GPUs, a trial gets one.
"""

import importlib.util
import logging
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from mtl_jax import trial
from mtl_jax.stop import StopSignal
from mtl_jax.trial import Engine, Say, Trial
from mtl_jax.types import InputError

POLL = 1.0
"""Seconds between looks at the stop signal."""


def engine(address: str | None = None) -> Engine:
    """Make an engine of a cluster.

    Args:
      address: of the cluster, as ``ray.init`` takes it; None: one of its own on this
        machine (or that of $RAY_ADDRESS).

    Raises:
      InputError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("Ray is not installed; pip install 'mtl_jax[ray]'.")
    return partial(_run, address)


def _run(
    address: str | None, trials: Sequence[Trial], folder: Path, say: Say
) -> int | None:
    """An `Engine` on the cluster at an address."""
    import ray

    todo = [one for one in trials if trial.seconds(one, folder) is None]
    if not todo:
        return None
    _connect(address)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    # System failures only: an error of our own would happen again.
    finish = ray.remote(max_retries=-1, num_cpus=1, num_gpus=gpus)(_finish)
    done, signal = len(trials) - len(todo), None
    try:
        with StopSignal() as stop:
            left = {finish.remote(one, folder.absolute()): one for one in todo}
            while left and not stop.number:
                ready, _ = ray.wait(list(left), timeout=POLL)
                for task in ready:
                    signal = _result(task) or signal
                    done += 1
                    say(
                        f"{folder.name} {done} of {len(trials)}: {left.pop(task).name} "
                        f"is finished"
                    )
            for task in left:  # each saves what it has, as after a signal
                ray.cancel(task)
            if left:
                ray.wait(list(left), num_returns=len(left), timeout=60)
            return stop.number or signal
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    import ray

    cache = jax.config.values["jax_compilation_cache_dir"]
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {}
    try:
        with warnings.catch_warnings():
            # Ray starts its services by os.fork, of which JAX warns; they use no JAX.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(
                address=address,
                runtime_env={"env_vars": environment},
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except ConnectionError as error:
        raise InputError(
            f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}; start "
            f"one (ray start --head), or leave the address out for one of its own."
        ) from error


def _finish(one: Trial, folder: Path) -> int | None:
    """What a worker does; in a process of its own."""
    return trial.finish(one, folder, lambda _: None)


def _result(task: Any) -> int | None:
    """What a task returned; its error as if it had happened here."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from error
        raise
