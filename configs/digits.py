"""Digits: real handwritten digits that ship with scikit-learn; runs anywhere."""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "digits"
    config.data.tasks = 3
    config.data.relation = "same"  # same | transformed | conflicting
    config.model.name = "mlp"
    config.batch_size = 32
    config.steps = 600
    return config
