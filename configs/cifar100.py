"""CIFAR-100 as ten tasks of ten classes, on a ResNet-18 with a stem for small images.

  mtl-jax train --config=cifar100 --config.data.dir=DATA --workdir=runs/cifar100

For accelerators. The 20 superclasses of Rosenbaum et al. (2018) as tasks:
--config.data.grouping=coarse. Where examples are missing: --config.data.partial=True.
"""

from typing import Any

from ml_collections import ConfigDict

from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "cifar100"
    config.data.grouping = "labels"  # labels | random | superclasses | coarse
    config.data.grouping_seed = 0  # of random
    config.data.partial = False  # take what is there where examples are missing
    config.model.name = "resnet"
    config.model.resnet.widths = (64, 128, 256, 512)
    config.model.resnet.blocks = (2, 2, 2, 2)
    return config
