"""The study on CIFAR-100: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  python -m experiments.sweep --config=configs/sweeps/cifar100.py \\
      --config.base.data.dir=DATA --workdir=studies/cifar100

For accelerators.
"""

from ml_collections import ConfigDict

from configs import cifar100
from configs.sweeps import default


def get_config() -> ConfigDict:
    return default.get_config(cifar100.get_config())
