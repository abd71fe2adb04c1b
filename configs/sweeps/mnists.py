"""The study on MNISTS: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  python -m experiments.sweep --config=configs/sweeps/mnists.py \\
      --config.base.data.dir=DATA --workdir=studies/mnists
"""

from ml_collections import ConfigDict

from configs import mnists
from configs.sweeps import default


def get_config() -> ConfigDict:
    return default.get_config(mnists.get_config())
