"""The state of a run in few arrays is the same state, and takes the same steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax.models import cnn
from mtl_jax.training.optimizers import BY_LEAF, OPTIMIZERS, make_optimizer
from mtl_jax.training.packing import join_like, packing, part_like, ravel, unravel
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import data_pool, init_state, train_chunk
from tests.tiny import NORMALISED, RATE, SEED, TASKS, B, T, close, dataset, method
from tests.tiny import setting as tiny

PARAMS = {
    "kernel": jnp.linspace(-1, 1, 24).reshape(1, 2, 3, 4),
    "bias": jnp.array([2.0, -1.0]),
}


def test_a_packed_tree_is_the_tree():
    tree = {"a": PARAMS, "count": jnp.arange(3), "large": jnp.ones(5000)}
    tree["key"] = jax.random.key(1)
    pack, unpack = packing(tree)
    packed = pack(tree)
    assert {kind: row.shape for kind, row in packed.rows.items()} == {
        "float32": (26,),
        "int32": (3,),
    }
    assert [leaf.shape for leaf in packed.large] == [(), (5000,)]
    again = unpack(packed)
    assert again.pop("key") == tree.pop("key")
    jax.tree.map(np.testing.assert_array_equal, again, tree)


def test_a_row_of_several_types_is_cut_into_them():
    tree = {"a": jnp.arange(3.0), "b": jnp.ones(2, jnp.bfloat16)}
    row = ravel(tree)
    assert row.dtype == jnp.float32
    again = unravel(row, tree)
    assert again["b"].dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, again, tree)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_optimizers_but_those_by_leaf_take_a_row_for_a_tree(name):
    optimizer = make_optimizer(name, clip_norm=0.5)(0.1)
    params = [PARAMS, ravel(PARAMS)]
    states = [optimizer.init(each) for each in params]
    assert jax.tree.structure(join_like(states[0], PARAMS)) == (
        jax.tree.structure(states[1])
    )
    for _ in range(3):
        for n, each in enumerate(params):
            grads = jax.tree.map(lambda leaf: 3 * leaf + 1, each)
            updates, states[n] = optimizer.update(grads, states[n], each)
            params[n] = optax.apply_updates(each, updates)
    is_same = np.allclose(ravel(params[0]), params[1], rtol=1e-5, atol=1e-6)
    assert is_same == (name not in BY_LEAF)
    if is_same:
        parted = part_like(states[1], states[0], PARAMS)
        jax.tree.map(lambda u, v: close(u, v, atol=1e-6), parted, states[0])


def images() -> Any:
    data = dataset(one_input=False)
    x = np.random.default_rng(1).integers(255, size=(len(data.x), 4, 4, 1))
    trunk = cnn(channels=(2,), hidden=4)
    return from_dataset("tiny", data._replace(x=x.astype(np.uint8)), trunk)


@pytest.mark.parametrize("make", [lambda: tiny(NORMALISED), images])
def test_steps_are_those_of_the_state_as_it_is(make):
    """Of kernels, batch statistics and cosines; and of a run that diverges.

    By momentum: Adam makes steps of the rounding of gradients that are zero.
    """
    one = make()
    data: Any = jax.tree.map(jnp.asarray, data_pool(one))
    rows: Any = np.stack(one.data.rows["train"]).reshape(T, 2, B).swapaxes(0, 1)
    start: Any = None
    results = []
    for is_joined in (False, True):
        chosen = method(lifted=False)._replace(is_watched=True, is_joined=is_joined)
        start = init_state(one, chosen, SEED, TASKS)
        chunk: Any = jax.jit(
            lambda state, rate, chosen=chosen: train_chunk(
                one, chosen, state, jnp.asarray(rows), 2, rate, TASKS, data, True
            )
        )
        results.append(chunk(start, RATE))
        frozen, _ = chunk(start, jnp.nan)  # updates that are not finite
        assert frozen.diverged == 0
        close(frozen._replace(diverged=start.diverged), start, rtol=0, atol=0)
    close(*results, rtol=1e-4, atol=1e-5)
    assert np.isfinite(results[1][0].smto.cosines).all()
    assert jax.tree.structure(results[1][0]) == jax.tree.structure(start)
