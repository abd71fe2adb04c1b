"""Forms of a computation, chosen for the devices where a configuration leaves them."""

from typing import Any

import jax
import numpy as np

from mtl_jax.devices import axis_map, flops
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.models import conv
from mtl_jax.options import one_of
from mtl_jax.training.maps import Maps, named_maps
from mtl_jax.training.setting import Setting
from mtl_jax.types import Config, ModelState, Params

FILLED = {"tpu": 5e9, "gpu": 2e10}
"""Operations of a step that keep a device busy: more runs at once gain nothing.

On a v5e a LeNet's step of 128 images, 0.85e9, takes 90 us in stacks of up to 6 and 150
us in one of 54; a GPU starts 77 kernels for it, 150 us, in which it could do 2e10.
Compiled programs of large stacks are worse than in proportion, too: kernels that differ
from run to run turn convolutions into grouped ones.
"""
BACKWARD = 2 / 3
"""Share of the backward pass in a step's operations."""


def settle(config: Config, platform: str) -> Config:
    """Return a configuration with the forms that suit a platform where it says auto.

    The map over runs is left to `maps`, which knows the model.

    Args:
      config: the configuration; it stays as it is.
      platform: ``cpu``, ``gpu`` or ``tpu``.

    Raises:
      InputError: an unknown form.
    """
    settled = config.copy_and_resolve_references()
    for field in ("run_map", "task_map"):
        one_of(field, settled[field], ("auto", *axis_map.AXIS_MAPS))
    if settled.task_map == "auto":
        settled.task_map = "sequential" if platform == "cpu" else "vmap"
    for options in settled.model.values():
        if getattr(options, "conv", None) == "auto":
            options.conv = conv.form_for(platform)
    return settled


def maps(config: Config, setting: Setting, platform: str) -> Maps:
    """Return what a device does together.

    On a CPU runs go one after another. Elsewhere they go in waves, and tasks of one
    input are pulled back in chunks, each of as many as fill a device.

    Args:
      config: settled.
      setting: of all runs.
      platform: as in `settle`.
    """
    named = config.run_map != "auto"
    if platform == "cpu":
        runs = named_maps(config).runs if named else _one_by_one
        return Maps(runs)
    work = _work(setting, config.batch_size // config.grad_accumulation)

    def fill(work: float) -> int:
        return max(1, int(FILLED[platform] / (work + 1)))

    def waves(tasks: int) -> AxisMap:
        return axis_map.Waves(fill(work * tasks))

    runs = named_maps(config).runs if named else waves
    return Maps(runs, fill(work * BACKWARD), is_joined=platform == "gpu")


def _one_by_one(tasks: int) -> AxisMap:
    del tasks
    return axis_map.sequential


def _work(setting: Setting, batch_size: int) -> int:
    """Operations of a step of one task, forward and backward."""

    def of_first(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)

    params, state = jax.eval_shape(setting.init, jax.random.key(0), np.zeros(1, int))
    heads, heads_state = jax.tree.map(of_first, (params.heads, state.heads))
    trunk_state = state.trunk
    if not setting.data.one_input:
        trunk_state = jax.tree.map(of_first, trunk_state)
    x = setting.sample.update(shape=(batch_size, *setting.sample.shape[1:]))
    of_task = Params(params.shared, heads), ModelState(trunk_state, heads_state)
    return 3 * flops.count(jax.make_jaxpr(setting.predict)(*of_task, x))
