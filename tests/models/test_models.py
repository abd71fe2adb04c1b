"""Trunks by name: their options, and the defaults of these."""

import inspect
from typing import Any

import jax
import numpy as np
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


@pytest.mark.parametrize("make", [models.cnn, models.lenet])
def test_examples_are_seen_apart(make):
    """And nothing is kept: a batch is what its halves are."""
    x = np.random.default_rng(0).normal(size=(4, 28, 28, 1)).astype(np.float32)
    trunk = make(conv="lax")
    assert trunk.is_apart
    variables = trunk.init(jax.random.key(0), x, False)
    assert set(variables) == {"params"}
    whole = trunk.apply(variables, x, True)
    halves = [trunk.apply(variables, half, True) for half in (x[:2], x[2:])]
    np.testing.assert_allclose(whole, np.concatenate(halves), rtol=1e-5, atol=1e-6)
