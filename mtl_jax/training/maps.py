"""Maps over runs and tasks, as a configuration names them."""

from collections.abc import Callable
from typing import NamedTuple

from mtl_jax.devices import axis_map
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.types import Config


class Maps(NamedTuple):
    """Maps of an experiment: runs and tasks that a device takes together."""

    runs: Callable[[int], AxisMap]
    """``tasks -> map over the runs of as many``."""
    chunk: int | None = None
    """As `UpdateRule.chunk`."""
    is_joined: bool = False
    """As `UpdateRule.is_joined`, where the optimizer allows it."""


def named_maps(config: Config) -> Maps:
    """Return the map over runs that a configuration names, however many their tasks."""
    named = axis_map.make(config.run_map)
    return Maps(lambda tasks: named)  # noqa: ARG005
