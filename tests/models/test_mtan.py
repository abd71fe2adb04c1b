"""MTAN: attention by hand on the maps of its trunk, and its trunk."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.types import InputError
from tests.models.architectures import (
    copy_of,
    dense,
    leaf,
    predicted,
    setting,
    start,
)

EPSILON = 1e-5
TWO_STAGES = (("widths", (2, 3)), ("blocks", (2, 2)))


def conv_norm(x, params):
    """A convolution with zeros at its border, and a norm of mean 0 and variance 1."""
    kernel = leaf(params, "kernel")
    k = kernel.shape[0]
    x = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
    rows, columns = (side - k + 1 for side in x.shape[1:3])
    y = sum(
        x[:, i : i + rows, j : j + columns] @ kernel[i, j]
        for i in range(k)
        for j in range(k)
    )
    scale, bias = (leaf(params, "norm", name) for name in ("scale", "bias"))
    return y / np.sqrt(1 + EPSILON) * scale + bias


def block(x, params):
    y = np.maximum(conv_norm(x, params["ConvNorm_0"]), 0)
    y = conv_norm(y, params["ConvNorm_1"])
    return np.maximum(conv_norm(x, params["ConvNorm_2"]) + y, 0)


def masked(seen, behind, head, number):
    inner = np.maximum(conv_norm(seen, head[f"inner_{number}"]), 0)
    return behind / (1 + np.exp(-conv_norm(inner, head[f"mask_{number}"])))


def test_attention_is_that_of_the_equations():
    made, (params, state) = (
        made_of("mtan", options=TWO_STAGES) for made_of in (setting, start)
    )
    features = jax.jit(partial(made._features, train=False))
    for t, (x, _, head, outputs) in enumerate(predicted("mtan", options=TWO_STAGES)):
        batch = x.reshape(len(x), *made.data.x.shape[1:]).astype(np.float32)
        trunk = copy_of(state.trunk, t)
        stages = features(params.shared, trunk, batch)[0]
        (u, p), (v, q) = (map(np.float64, stage) for stage in stages)
        kept = block(masked(u, p, head, 0), head["block_1"])
        n, height, width, channels = kept.shape
        kept = kept.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
        kept = masked(np.concatenate([v, kept], axis=-1), q, head, 1)
        expected = dense(kept.mean(axis=(1, 2)), head["head"])
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_its_trunk_is_a_resnet():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    resnet, mtan = (
        models.make(name, **dict(TWO_STAGES)) for name in ("resnet", "mtan")
    )

    @jax.jit
    def both(x):
        variables = resnet.init(jax.random.key(0), x, False)
        stages: Any = mtan.apply(variables, x, False)
        last = stages[-1]
        return resnet.apply(variables, x, False), last.behind.mean(axis=(1, 2))

    np.testing.assert_allclose(*both(x), rtol=1e-6)


def test_stages_of_one_block_are_refused():
    with pytest.raises(
        InputError, match="mtan blocks .1, 2.*give every stage at least"
    ):
        models.make("mtan", widths=(4, 6), blocks=(1, 2))
