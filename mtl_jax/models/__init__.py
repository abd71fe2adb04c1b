"""Trunks by name, in linen; see `trunk.Trunk`."""

import inspect
from collections.abc import Callable
from typing import Any

from mtl_jax.models import huggingface
from mtl_jax.models.cnn import cnn
from mtl_jax.models.deeplab import deeplab
from mtl_jax.models.mlp import mlp
from mtl_jax.models.resnet import resnet
from mtl_jax.models.roberta import roberta
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import one_of

TRUNKS: dict[str, Callable[..., Trunk]] = {
    "cnn": cnn,
    "deeplab": deeplab,
    "mlp": mlp,
    "resnet": resnet,
    "roberta": roberta,
}
"""Every trunk by its name."""

CHECKPOINTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "roberta": huggingface.options,
}
"""Readers of the options that the weights of a trunk bring along, by its name."""


def make(name: str, weights: str = "", /, **options: Any) -> Trunk:
    """Make a trunk by name.

    Args:
      name: one of `TRUNKS`.
      weights: path of the weights that the trunk is to start from, if any. Where they
        bring options along, as roberta's sizes and epsilon, these replace the given
        ones; the arrays themselves are read by `weights.load`.
      **options: those of the trunk's factory.

    Raises:
      InputError: unknown trunk or option, a value out of its range, or weights that
        should bring options along and do not.
    """
    known = inspect.signature(TRUNKS[one_of("model", name, TRUNKS)]).parameters
    for option in options:
        one_of(f"option of {name}", option, known)
    own = CHECKPOINTS[name](weights) if weights and name in CHECKPOINTS else {}
    return TRUNKS[name](**{**options, **own})
