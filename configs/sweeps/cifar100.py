"""The study on CIFAR-100: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  mtl-jax sweep --config=cifar100 --config.base.data.dir=DATA --workdir=studies/cifar100

For accelerators.
"""

from ml_collections import ConfigDict

from .. import cifar100
from . import default


def get_config() -> ConfigDict:
    return default.get_config(cifar100.get_config())
