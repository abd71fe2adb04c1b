"""Trunks by name, in linen; see `trunk.Trunk`."""

from collections.abc import Callable
from typing import Any

from mtl_jax.models import huggingface
from mtl_jax.models.cnn import cnn
from mtl_jax.models.deeplab import deeplab
from mtl_jax.models.lenet import lenet
from mtl_jax.models.mlp import mlp
from mtl_jax.models.resnet import resnet
from mtl_jax.models.roberta import roberta
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_options, defaults

TRUNKS: dict[str, Callable[..., Trunk]] = {
    "cnn": cnn,
    "deeplab": deeplab,
    "lenet": lenet,
    "mlp": mlp,
    "resnet": resnet,
    "roberta": roberta,
}
"""Factories of all trunks by name."""

CHECKPOINTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "roberta": huggingface.options,
}
"""Readers of the options that the weights of a trunk bring along, by its name."""


def options(name: str) -> dict[str, Any]:
    """Return the options of a trunk and their defaults.

    >>> options("mlp")
    {'widths': (128, 128)}

    Raises:
      InputError: unknown trunk.
    """
    return defaults("model", name, TRUNKS)


def make(name: str, weights: str = "", /, **chosen: Any) -> Trunk:
    """Make a trunk by name.

    >>> import jax, jax.numpy as jnp
    >>> trunk = make("mlp", widths=(16,))
    >>> variables = trunk.init(jax.random.key(0), jnp.ones((1, 3)), train=False)
    >>> trunk.apply(variables, jnp.ones((4, 3)), train=False).shape
    (4, 16)

    Args:
      name: one of `TRUNKS`.
      weights: path of the weights that the trunk is to start from, if any. Where they
        bring options along, as roberta's sizes and epsilon, these replace the given
        ones; the arrays themselves are read by `weights.load`.
      **chosen: options of the trunk's factory.

    Raises:
      InputError: unknown trunk or option, a value out of its range, or weights that
        should bring options along and do not.
    """
    check_options(name, chosen, options(name))
    if weights and name in CHECKPOINTS:
        chosen |= CHECKPOINTS[name](weights)
    return TRUNKS[name](**chosen)
