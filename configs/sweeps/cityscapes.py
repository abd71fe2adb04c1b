"""The study on Cityscapes: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  mtl-jax sweep --config=cityscapes \\
      --config.base.data.dir=DATA --workdir=studies/cityscapes

For accelerators.
"""

from ml_collections import ConfigDict

from .. import cityscapes
from . import default


def get_config() -> ConfigDict:
    return default.get_config(cityscapes.get_config())
