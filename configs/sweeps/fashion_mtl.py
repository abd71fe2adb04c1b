"""The study on Fashion MTL: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  mtl-jax sweep --config=fashion_mtl \\
      --config.base.data.dir=DATA --workdir=studies/fashion_mtl
"""

from ml_collections import ConfigDict

from .. import fashion_mtl
from . import default


def get_config() -> ConfigDict:
    return default.get_config(fashion_mtl.get_config())
