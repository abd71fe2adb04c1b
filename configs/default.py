"""Defaults of an experiment: every field stands in ``mtl_jax/training/config.py``.

A setting's config starts from here and changes fields; the command line overrides
both: ``--config.steps=500 --config.seeds=0,1``.
"""

from ml_collections import ConfigDict

from mtl_jax.training import config


def get_config() -> ConfigDict:
    return config.default()
