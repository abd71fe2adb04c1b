"""CIFAR-100's 20 superclasses as tasks, on a ResNet-18 with a stem for small images.

  mtl-jax train --config=cifar100 --config.data.dir=DATA --workdir=runs/cifar100

For accelerators. Ten tasks of ten classes, in label order:
--config.data.grouping=labels. Where examples are missing: --config.data.partial=True.
"""

from typing import Any

from ml_collections import ConfigDict

from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "cifar100"
    config.data.grouping = "coarse"  # coarse | labels | random | superclasses
    config.data.grouping_seed = 0  # of random
    config.data.partial = False  # take what is there where examples are missing
    config.model.name = "resnet"
    config.model.resnet.widths = (64, 128, 256, 512)
    config.model.resnet.blocks = (2, 2, 2, 2)
    return config
