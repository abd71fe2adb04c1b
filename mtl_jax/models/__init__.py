"""Trunks by name, in linen; see `trunk.Trunk`."""

from collections.abc import Callable
from typing import Any

from mtl_jax.models import huggingface
from mtl_jax.models.adapted import as_trunk
from mtl_jax.models.cgc import cgc
from mtl_jax.models.cnn import cnn
from mtl_jax.models.cross_stitch import cross_stitch
from mtl_jax.models.deeplab import deeplab
from mtl_jax.models.dselect_k import dselect_k
from mtl_jax.models.lenet import lenet
from mtl_jax.models.mlp import mlp
from mtl_jax.models.mmoe import mmoe
from mtl_jax.models.mtan import mtan
from mtl_jax.models.palora import palora
from mtl_jax.models.ple import ple
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
    # tasks share some of it
    "mmoe": mmoe,
    "dselect_k": dselect_k,
    "cgc": cgc,
    "ple": ple,
    "cross_stitch": cross_stitch,
    "mtan": mtan,
    # a preference over tasks chooses among its parameters
    "palora": palora,
}
"""Factories of all trunks by name."""

NESTED = ("encoder",)
"""Options whose value is another trunk, or its name."""

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
      **chosen: options of the trunk's factory. Where one is a trunk, such as an
        expert, its name stands for it with its own defaults, and any model that
        `adapted.as_trunk` takes will do.

    Raises:
      InputError: unknown trunk or option, a value out of its range, or weights that
        should bring options along and do not.
    """
    known = options(name)
    check_options(name, chosen, known)
    for option in NESTED:
        if option in known:
            value = {**known, **chosen}[option]
            chosen[option] = make(value) if isinstance(value, str) else as_trunk(value)
    if weights and name in CHECKPOINTS:
        chosen |= CHECKPOINTS[name](weights)
    return TRUNKS[name](**chosen)
