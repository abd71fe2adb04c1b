"""CelebA: 40 binary attributes of one image of a face, on a ResNet-18.

  mtl-jax train --config=celeba --config.data.dir=DATA --workdir=runs/celeba

For accelerators. The first start decodes all images, once: a minute on 2 CPU cores and
2.5 GB of cache. A few attributes only: --config.data.attributes=Male,Smiling.
Scored by F1, as in the paper, and by accuracy. Published, with Adam at 1e-3 and batches
of 128: accuracy .909 (Kurin et al. 2022).
"""

from typing import Any

from ml_collections import ConfigDict

from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "celeba"
    config.data.attributes = ()  # names of those that are tasks; empty: all 40
    config.data.size = 64  # pixels of a side
    config.model.name = "resnet"
    config.model.resnet.widths = (64, 128, 256, 512)
    config.model.resnet.blocks = (2, 2, 2, 2)
    config.model.resnet.pool = 4  # 2x2 windows of the last maps, as Kurin et al.
    return config
