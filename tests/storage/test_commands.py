"""Configurations that a command is given: renamed fields are named."""

import pytest
from ml_collections import ConfigDict

from mtl_jax.storage import commands
from mtl_jax.types import InputError


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("train", {"setting": "digits", "chunk": 5}, "^chunk .* steps_per_dispatch"),
        ("sweep", {"grid": {}, "base": {"compute": ""}}, "base.compute_dtype now"),
    ],
)
def test_fields_by_the_names_of_before(name, config, message):
    with pytest.raises(InputError, match=message):
        commands.check_config(name, ConfigDict(config))
