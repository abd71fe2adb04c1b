"""The study on CelebA: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  python -m experiments.sweep --config=configs/sweeps/celeba.py \\
      --config.base.data.dir=DATA --workdir=studies/celeba

For accelerators.
"""

from ml_collections import ConfigDict

from configs import celeba
from configs.sweeps import default


def get_config() -> ConfigDict:
    return default.get_config(celeba.get_config())
