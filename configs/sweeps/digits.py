"""The study on digits: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

python -m experiments.sweep --config=configs/sweeps/digits.py --workdir=studies/digits
"""

from ml_collections import ConfigDict

from configs import digits
from configs.sweeps import default


def get_config() -> ConfigDict:
    return default.get_config(digits.get_config())
