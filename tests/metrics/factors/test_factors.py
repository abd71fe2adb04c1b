"""Factors by name: their options, and the defaults of these."""

import inspect
from typing import Any

import pytest
from ml_collections import ConfigDict

from configs import default
from mtl_jax.metrics import factors
from mtl_jax.types import InputError


@pytest.mark.parametrize("name", factors.FACTORS)
def test_fields_of_a_factor_are_the_options_of_its_factory(name):
    options = factors.options(name)
    assert inspect.Parameter.empty not in options.values()
    config: Any = default.get_config()
    assert config.factors[name].to_dict() == options


def test_a_factor_without_fields_is_made_with_the_defaults():
    task, run = factors.make(ConfigDict({"names": tuple(factors.FACTORS)}))
    assert [*task, *run] == list(factors.FACTORS)


def test_an_unknown_factor_has_no_options():
    with pytest.raises(InputError, match="factor 'sharp' is not one of: sharpness_and"):
        factors.options("sharp")
