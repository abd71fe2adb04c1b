"""Trials spread over the machines of a Ray cluster.

A trial is a Ray task. If its worker or machine dies, Ray gives it to another, which
goes on from the trial's last checkpoint: the folder must be on a file system that all
machines see, by the same path. Where the cluster has GPUs, a trial gets one.
"""

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from mtl_jax.console.signals import StopSignal
from mtl_jax.devices import address
from mtl_jax.studies import trial
from mtl_jax.studies.trial import Engine, Say, Trial
from mtl_jax.types import InputError

POLL = 1.0
"""Seconds between looks at the stop signal."""
TRIES = 4
"""Workers that may die of one trial before it is given up."""
ANSWER = 5.0
"""Seconds that a cluster may take to accept a connection."""
HERE = ("", "local")
"""Addresses of a cluster of one's own."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's word for a cluster of one machine, which listens on loopback only."""
NO_ENDLESS_TRIES = {"RAY_task_oom_retries": str(TRIES - 1)}
"""Tries after a worker was killed as memory ran out; Ray's default has no end."""


def engine(cluster: str | None = None) -> Engine:
    """Make an engine of a cluster.

    Args:
      cluster: its address, as ``ray.init`` takes it; None: that of $RAY_ADDRESS, or
        a cluster of one's own on this machine, which no other one can reach.

    Raises:
      InputError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("Ray is not installed; pip install 'mtl_jax[ray]'.")
    return partial(_run, cluster or os.environ.get("RAY_ADDRESS", ""))


def _run(cluster: str, trials: Sequence[Trial], folder: Path, say: Say) -> int | None:
    """An `Engine` on the cluster at an address."""
    todo = [planned for planned in trials if trial.seconds(planned, folder) is None]
    if not todo:
        return None
    with _connected(cluster):
        import ray

        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        # Of workers that died only: an error of our own would happen again.
        worker = ray.remote(max_retries=TRIES - 1, num_cpus=1, num_gpus=gpus)
        finish = worker(_finish)
        done, signal = len(trials) - len(todo), None
        left = {finish.remote(planned, folder.absolute()): planned for planned in todo}
        try:
            with StopSignal() as stop:
                while left and not stop.number:
                    ready, _ = ray.wait(list(left), timeout=POLL)
                    for task in ready:
                        finished = left.pop(task)
                        signal = _result(task, finished) or signal
                        done += 1
                        say(
                            f"{folder.name} {done} of {len(trials)}: {finished.name} "
                            f"is finished"
                        )
                return stop.number or signal
        finally:
            for task in left:  # each saves what it has, as after a signal
                ray.cancel(task)
            if left:
                ray.wait(list(left), num_returns=len(left), timeout=60)


@contextlib.contextmanager
def _connected(cluster: str) -> Iterator[None]:
    """Connect to a cluster, or start one that ends with the context."""
    alone = cluster in HERE
    with _environment({**NO_ENDLESS_TRIES, **(ALONE if alone else {})}):
        import ray

        if alone:
            _init(address="local", include_dashboard=False)
        else:
            _join(cluster)
    try:
        if alone and ray.util.get_node_ip_address() != address.LOOPBACK:
            raise InputError(
                f"a Ray cluster of one's own would listen at "
                f"{ray.util.get_node_ip_address()}, as Ray was imported before; set "
                f"{'='.join(*ALONE.items())} before that, or give an address."
            )
        yield
    finally:
        ray.shutdown()


def _join(cluster: str) -> None:
    """Connect to a cluster that is there."""
    # Where nobody is, Ray would end this process instead of raising an error.
    has_port = "://" not in cluster and cluster != "auto"
    if has_port and not address.answers(address.parse("address", cluster), ANSWER):
        raise _no_answer(cluster, f"no connection within {ANSWER:g} s")
    try:
        _init(address=cluster)
    except (ConnectionError, ValueError) as error:
        raise _no_answer(cluster, str(error).splitlines()[0]) from error


def _no_answer(cluster: str, why: str) -> InputError:
    return InputError(
        f"no Ray cluster answers at {cluster}: {why}; start one (ray start --head), or "
        f"leave the address out for one of its own."
    )


def _init(**options: Any) -> None:
    import ray

    cache = jax.config.values["jax_compilation_cache_dir"]
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {}
    with warnings.catch_warnings():
        # Ray starts its services by os.fork, of which JAX warns; they use no JAX.
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        ray.init(
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables that Ray reads when it is imported and when it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _finish(planned: Trial, folder: Path) -> int | None:
    """Finish a trial in a worker, a process of its own."""
    return trial.finish(planned, folder, lambda _: None)


def _result(task: Any, trained: Trial) -> int | None:
    """Return what a task returned; raise its error as if it had happened here."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from error
        raise
    except RayError as error:
        raise InputError(
            f"trial {trained.name} is given up after {TRIES} tries: its worker died "
            f"({type(error).__name__}). Look at the memory of its machine and at the "
            f"logs of Ray's latest session; the same command goes on from the last "
            f"checkpoint."
        ) from error
