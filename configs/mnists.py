"""MNISTS: MNIST, Fashion-MNIST and NotMNIST, a ten-way problem each."""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "mnists"
    config.data.partial = False  # split the one file there is where one is missing
    return config
