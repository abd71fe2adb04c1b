"""Study of the tasks of a folder, one file a task; see `mtl_jax.data.folder`.

mtl-jax sweep --config=folder --config.base.data.dir=DIR --workdir=studies/mine
"""

from ml_collections import ConfigDict

from .. import folder
from . import default


def get_config() -> ConfigDict:
    return default.get_config(folder.get_config())
