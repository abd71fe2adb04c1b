"""Cross-stitch networks against their equation, by hand, and stages of encoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mtl_jax import models
from tests.models.architectures import (
    CNN,
    MLP,
    SIDE,
    T,
    copy_of,
    dense,
    leaf,
    mlp,
    predicted,
    setting,
)


def test_outputs_are_those_of_the_equation():
    for t, (x, shared, head, outputs) in enumerate(predicted("cross_stitch")):
        columns = [mlp(x, copy_of(shared["stage_0"], s)) for s in range(T)]
        alpha = leaf(shared, "stitch_1")
        stitched = sum(alpha[t, s] * columns[s] for s in range(T))
        column = mlp(stitched, copy_of(shared["stage_1"], t))
        np.testing.assert_allclose(outputs, dense(column, head["head"]), 1e-4, 1e-5)


def test_columns_keep_most_of_themselves_at_first():
    params, _ = setting("cross_stitch").init(jax.random.key(0), np.arange(T))
    alpha = np.asarray(params.shared["stitch_1"])
    np.testing.assert_allclose(np.diag(alpha), 0.9, rtol=1e-6)
    np.testing.assert_allclose(alpha.sum(axis=1), 1, rtol=1e-6)
    alone = models.make("cross_stitch", encoder=MLP).for_tasks(1)
    variables = jax.jit(lambda x: alone.init(jax.random.key(0), x, False))(
        jnp.ones((1, 2))
    )
    assert variables["params"]["stitch_1"].tolist() == [[1.0]]


class Whole(nn.Module):
    """The stages of an encoder, one after another."""

    encoder: nn.Module

    @nn.compact
    def __call__(self, x):
        for number, stage in enumerate(self.encoder.stages()):
            x = stage(f"stage_{number}")(x, False)
        return x


@pytest.mark.parametrize("encoder", [MLP, CNN], ids=["mlp", "cnn"])
def test_stages_are_the_encoder(encoder):
    x = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 1)).astype(np.float32)
    whole = Whole(encoder.clone(parent=None))

    @jax.jit
    def both(key, x):
        staged = whole.init(key, x)["params"]
        names = sorted(encoder.init(key, x, False)["params"])
        inner = [innermost(staged[f"stage_{n}"]) for n in range(len(names))]
        copied = dict(zip(names, inner, strict=True))
        together = encoder.apply({"params": copied}, x, False)
        return together, whole.apply({"params": staged}, x)

    np.testing.assert_allclose(*both(jax.random.key(1), x), rtol=1e-5)


def innermost(tree):
    while "kernel" not in tree:
        (tree,) = tree.values()
    return tree
