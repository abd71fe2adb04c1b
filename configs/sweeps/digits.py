"""The study on digits: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

mtl-jax sweep --config=digits --workdir=studies/digits
"""

from ml_collections import ConfigDict

from .. import digits
from . import default


def get_config() -> ConfigDict:
    return default.get_config(digits.get_config())
