"""Trunks by name: their options, and the defaults of these."""

import inspect
from typing import Any

import pytest

from configs import default
from mtl_jax import models
from mtl_jax.types import InputError


@pytest.mark.parametrize("name", models.TRUNKS)
def test_fields_of_a_trunk_are_the_options_of_its_factory(name):
    options = models.options(name)
    assert inspect.Parameter.empty not in options.values()
    config: Any = default.get_config()
    assert config.model[name].to_dict() == options


def test_an_unknown_trunk_has_no_options():
    with pytest.raises(
        InputError, match="model 'clap' is not one of: cnn, deeplab, lenet, mlp"
    ):
        models.options("clap")
