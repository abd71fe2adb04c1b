"""The study on MNISTS: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

mtl-jax sweep --config=mnists --config.base.data.dir=DATA --workdir=studies/mnists
"""

from ml_collections import ConfigDict

from .. import mnists
from . import default


def get_config() -> ConfigDict:
    return default.get_config(mnists.get_config())
