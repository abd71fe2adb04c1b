"""Trunks by name, in linen; see `trunk.Trunk`."""

import inspect
from collections.abc import Callable
from typing import Any

from mtl_jax.models.cnn import cnn
from mtl_jax.models.deeplab import deeplab
from mtl_jax.models.mlp import mlp
from mtl_jax.models.resnet import resnet
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import InputError

TRUNKS: dict[str, Callable[..., Trunk]] = {
    "cnn": cnn,
    "deeplab": deeplab,
    "mlp": mlp,
    "resnet": resnet,
}
"""Every trunk by its name."""


def make(name: str, **options: Any) -> Trunk:
    """Make a trunk by name; options are those of its factory.

    Raises:
      InputError: unknown trunk or option, or a value out of its range.
    """
    if name not in TRUNKS:
        raise InputError(f"model {name!r} is not one of: {', '.join(TRUNKS)}.")
    known = inspect.signature(TRUNKS[name]).parameters
    for option in options:
        if option not in known:
            raise InputError(
                f"{name} has no option {option!r}; it has: {', '.join(known)}."
            )
    return TRUNKS[name](**options)
