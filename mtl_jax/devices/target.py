"""Devices that programs are compiled for: those at hand, or others by description.

Compilers for TPUs and GPUs run on any machine; what they compile is the program that
would run there.
"""

import os
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax

from mtl_jax.options import one_of
from mtl_jax.types import InputError


class Chip(NamedTuple):
    """Limits of a device, after its maker."""

    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes a second, from and to its memory."""
    flops: float
    """Operations a second of bfloat16 products."""
    flops_float32: float
    """The same of float32 products in JAX's default precision."""


class Target(NamedTuple):
    """Devices of one kind."""

    name: str
    platform: str
    """``cpu``, ``gpu`` or ``tpu``."""
    devices: tuple[Any, ...]
    chip: Chip | None = None
    """None where nobody says."""


H200 = Chip(141e9, 4.8e12, 989e12, 494e12)
CHIPS = {
    "v5e": Chip(16e9, 819e9, 197e12, 197e12),
    "v5p": Chip(95e9, 2.765e12, 459e12, 459e12),
    "v6e": Chip(32e9, 1.64e12, 918e12, 918e12),
    "h100": H200._replace(memory=80e9, bandwidth=3.35e12),
    "h200": H200,
}
"""By name. Cloud TPU's and NVIDIA's data sheets, without sparsity; a TPU multiplies
float32 in one pass of bfloat16 by default, a GPU as TF32."""
KINDS = {
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v6 lite": "v6e",
    "NVIDIA H100": "h100",
    "NVIDIA H200": "h200",
}
"""Names of `CHIPS` by how JAX's names of a device's kind begin."""
TPU_CLOCK = 1.5e9
"""Cycles a second of a v5e, as assumed."""
GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth:.0f} l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: {memory:.0f} shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability {{ major: 9 minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 2 }}
device_description_str: "NVIDIA {name}"
"""
"""A Hopper GPU as XLA describes it."""
FORMAT = "cpu, h100, h200, several as h200:8, v5e, or a topology of TPUs as v5e:2x2"


def here() -> Target:
    """Return the devices of this process."""
    devices = tuple(jax.devices())
    return Target(str(devices[0].device_kind), jax.default_backend(), devices)


def chip_of(kind: str) -> Chip | None:
    """Return the limits of a device at hand, by its kind; None where nobody says.

    >>> chip_of("NVIDIA H100 80GB HBM3").bandwidth, chip_of("cpu")
    (3350000000000.0, None)
    """
    names = (CHIPS[name] for begin, name in KINDS.items() if kind.startswith(begin))
    return next(names, None)


@cache
def make(name: str) -> Target:
    """Return devices by name, at hand or not: programs can be compiled for them.

    A call for TPUs is to come before anything else loads libtpu.

    >>> make("cpu").platform
    'cpu'

    Args:
      name: one of `CHIPS` or ``cpu``; of several GPUs with their number, ``h200:8``, of
        several TPUs with their topology, ``v5e:2x2``.

    Raises:
      InputError: an unknown name, or its compiler is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind == "cpu":
        return Target(name, "cpu", tuple(jax.devices("cpu")))
    one_of("target", kind, ("cpu", *CHIPS))
    platform, find = ("tpu", _tpus) if kind.startswith("v") else ("gpu", _gpus)
    return Target(name, platform, find(name, kind, shape), CHIPS[kind])


def _tpus(name: str, kind: str, shape: str) -> tuple[Any, ...]:
    if not find_spec("libtpu"):
        raise InputError(
            f"target {name} needs TPU's compiler; pip install 'mtl_jax[tpu-compile]'"
        )
    for variable, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(variable, value)
    shape = shape or "1x1"
    options: dict[str, Any] = {"topology_name": f"{kind}:{shape}"}
    if shape == "1x1":  # else a host has four
        options["chips_per_host_bounds"] = (1, 1, 1)
    return _topology(name, platform="tpu", **options)


def _gpus(name: str, kind: str, shape: str) -> tuple[Any, ...]:
    if not find_spec("jax_cuda13_plugin"):
        raise InputError(
            f"target {name} needs CUDA's compiler; pip install 'mtl_jax[gpu-compile]'"
        )
    count = shape or "1"
    if not (count.isdigit() and int(count)):
        raise InputError(f"target is {name!r}; write {FORMAT}.")
    description = GPU.format(name=kind.upper(), **CHIPS[kind]._asdict())
    return _topology(
        name,
        platform="cuda",
        topology_name="",
        target_config=description,
        topology=f"1x1x{count}",
    )


def _topology(name: str, **options: Any) -> tuple[Any, ...]:
    from jax.experimental import topologies

    try:
        return tuple(topologies.get_topology_desc(**options).devices)
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"target is {name!r}, which the compiler does not know ({error}); write "
            f"{FORMAT}."
        ) from error
