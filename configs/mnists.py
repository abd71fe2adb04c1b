"""MNISTS: MNIST, Fashion-MNIST and NotMNIST, a ten-way problem each.

  mtl-jax train --config=mnists --config.data.dir=DATA --workdir=runs/mnists

Where only one of a task's two files is there: --config.data.partial=True.
"""

from typing import Any

from ml_collections import ConfigDict

from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "mnists"
    config.data.partial = False  # split the one file there is where one is missing
    config.model.name = "lenet"
    return config
