"""Tasks of your own in a folder, one .npz, .parquet or .arrow file a task, on an MLP.

  mtl-jax train --config=folder --config.data.dir=DIR --workdir=runs/mine

See mtl_jax/data/folder.py for what a file holds.
"""

from typing import Any

from ml_collections import ConfigDict

from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "folder"
    config.batch_size = 32
    config.model.name = "mlp"
    config.variants = ("single", "multi", "multi-pcgrad")
    return config
