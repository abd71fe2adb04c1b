"""The study on CelebA: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  mtl-jax sweep --config=celeba --config.base.data.dir=DATA --workdir=studies/celeba

For accelerators.
"""

from typing import Any

from ml_collections import ConfigDict

from .. import celeba
from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config(celeba.get_config())
    config.select.by = "f1"
    return config
