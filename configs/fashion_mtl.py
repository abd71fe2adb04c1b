"""Fashion MTL: a half of Fashion-MNIST as the target, and three auxiliary tasks.

  mtl-jax train --config=fashion_mtl --config.data.dir=DATA --workdir=runs/fashion

fashion_2, the other half, should help fashion_1; noisy_fashion, whose labels are
permuted, should harm it; notmnist lies in between, and is left out where it is missing.
"""

from typing import Any

from ml_collections import ConfigDict

from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "fashion_mtl"
    config.data.noise = 1.0  # share of the labels of noisy_fashion that are permuted
    config.model.name = "lenet"
    return config
