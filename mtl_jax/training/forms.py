"""Forms of a computation, chosen for the devices where a configuration leaves them."""

from mtl_jax.devices import axis_map
from mtl_jax.models import conv
from mtl_jax.options import one_of
from mtl_jax.types import Config

MAPS = "run_map", "task_map"


def settle(config: Config, platform: str) -> Config:
    """Return a configuration with the forms that suit a platform where it says auto.

    Args:
      config: the configuration; it stays as it is.
      platform: ``cpu``, ``gpu`` or ``tpu``.

    Raises:
      InputError: an unknown form.
    """
    settled = config.copy_and_resolve_references()
    for field in MAPS:
        one_of(field, settled[field], ("auto", *axis_map.AXIS_MAPS))
        if settled[field] == "auto":
            settled[field] = "sequential" if platform == "cpu" else "vmap"
    for options in settled.model.values():
        if getattr(options, "conv", None) == "auto":
            options.conv = conv.form_for(platform)
    return settled
