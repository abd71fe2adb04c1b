"""Engines that train the trials of a study: this process, or a Ray cluster."""

from typing import Any

from absl import flags

ENGINE = flags.DEFINE_enum(
    "engine", "local", ["local", "ray"], "Who trains: this process, or a Ray cluster."
)
ADDRESS = flags.DEFINE_string(
    "address", None, "Of the Ray cluster (a workdir that all its machines see)."
)


def chosen() -> Any:
    """Return the engine of the flags.

    Raises:
      InputError: it is not installed, or an address without Ray.
    """
    from mtl_jax.studies import ray_engine, trial
    from mtl_jax.types import InputError

    if ENGINE.value == "ray":
        return ray_engine.engine(ADDRESS.value)
    if ADDRESS.value:
        raise InputError(f"--address={ADDRESS.value} needs --engine=ray.")
    return trial.local
