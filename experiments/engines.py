"""Engines that train the trials of a study: this process, or a cluster."""

import ast
from collections.abc import Sequence
from typing import Any

from absl import flags

ENGINE = flags.DEFINE_enum(
    "engine",
    "local",
    ["local", "ray", "slurm"],
    "Who trains: this process, a Ray cluster, or jobs of SLURM.",
)
ADDRESS = flags.DEFINE_string(
    "address", None, "Of the Ray cluster (a workdir that all its machines see)."
)
SLURM = flags.DEFINE_list(
    "slurm",
    [],
    "What a job asks for, as submitit names it: timeout_min=60,slurm_partition=gpu.",
)


def chosen() -> Any:
    """Return the engine of the flags.

    Raises:
      InputError: it is not installed, or a flag is one of another engine.
    """
    from mtl_jax.studies import ray_engine, slurm_engine, trial
    from mtl_jax.types import InputError

    engine = ENGINE.value
    if ADDRESS.value and engine != "ray":
        raise InputError(f"--address={ADDRESS.value} needs --engine=ray.")
    if SLURM.value and engine != "slurm":
        raise InputError(f"--slurm={','.join(SLURM.value)} needs --engine=slurm.")
    if engine == "ray":
        return ray_engine.engine(ADDRESS.value)
    if engine == "slurm":
        return slurm_engine.engine(parameters(SLURM.value))
    return trial.local


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """Return names and values of ``NAME=VALUE``; what is no number stays a text.

    >>> parameters(["timeout_min=60", "slurm_partition=gpu"])
    {'timeout_min': 60, 'slurm_partition': 'gpu'}

    Raises:
      InputError: a word without a name or a value.
    """
    from mtl_jax.types import InputError

    made = {}
    for word in words:
        name, _, text = word.partition("=")
        if not name or not text:
            raise InputError(f"--slurm={word} is not NAME=VALUE; see --help.")
        try:
            made[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            made[name] = text
    return made
