"""The study on GLUE: 9 learning rates x 6 batch sizes, 3 seeds of the choice.

  mtl-jax sweep --config=glue \\
      --config.base.data.dir=DATA --config.base.model.weights=ROBERTA \\
      --workdir=studies/glue

For accelerators. Learning rates that suit fine-tuning:
--config.grid.learning_rates=1e-5,2e-5,3e-5,5e-5
"""

from ml_collections import ConfigDict

from .. import glue
from . import default


def get_config() -> ConfigDict:
    return default.get_config(glue.get_config())
