"""`lift` among optax's wrappers: behind it all work, around it most are refused."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

from mtl_jax import smto
from mtl_jax.types import InputError
from tests.smto.cases import LIFTED, jit, make

LIFT: Any = smto.lift  # of methods that a type checker does not know
T, UPDATES, PARTS = 2, 4, 2
PARAMS = {"w": jnp.arange(1.0, 4.0), "v": {"scale": jnp.float32(2.0)}}
RNG = np.random.default_rng(0)
METHODS = ["uw", "aligned_mtl", "modo", "moco", "gradvac", "graddrop"]
"""A few of every family, some with a state, some that draw."""


def normal(*shape):
    return jax.tree.map(
        lambda p: jnp.float32(RNG.normal(size=(*shape, *p.shape))), PARAMS
    )


GRADS = normal(UPDATES, T)
LOSSES = jnp.float32(np.exp(RNG.normal(size=(UPDATES, T))))
KEYS = jax.random.split(jax.random.key(0), UPDATES)


def close(actual, expected, rtol=1e-5, atol=1e-6):
    chex.assert_trees_all_close(actual, expected, rtol=rtol, atol=atol)


def steps_of(optimizer, grads, params=PARAMS, **extra):
    """Return updates ``[S, ...]`` of a few steps, the parameters moved along."""

    def step(carry, batch):
        params, state = carry
        grads, extra = batch
        updates, state = optimizer.update(grads, state, params, **extra)
        return (optax.apply_updates(params, updates), state), updates

    start = params, optimizer.init(params)
    return jax.lax.scan(step, start, (grads, extra))[1]


LABELS = {"w": "train", "v": "freeze"}
BEHIND: dict[str, Any] = {
    "freezing": optax.partition(
        {"train": optax.adam(0.1), "freeze": optax.set_to_zero()}, LABELS
    ),
    "clipping": optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0)),
    "weight decay": optax.adamw(0.1, weight_decay=0.5),
    "masked decay": optax.chain(
        optax.masked(optax.add_decayed_weights(0.5), {"w": True, "v": False}),
        optax.sgd(0.1),
    ),
    "apply_if_finite": optax.apply_if_finite(optax.adam(0.1), 3),
    "MultiSteps": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    "inject_hyperparams": optax.inject_hyperparams(optax.adam)(
        optax.linear_schedule(0.1, 0.0, UPDATES)
    ),
}
"""By what stands behind `lift`."""


@pytest.mark.parametrize("name", ["uw", "aligned_mtl", "modo", "moco", "graddrop"])
def test_what_stands_behind_sees_an_ordinary_gradient(name):
    lifted = LIFT(make(name, T), T)
    extra = {"losses": LOSSES, "key": KEYS}

    @jit
    def run():
        directions = steps_of(optax.chain(lifted, optax.identity()), GRADS, **extra)
        chained = {
            what: steps_of(optax.chain(lifted, behind), GRADS, **extra)
            for what, behind in BEHIND.items()
        }
        alone = {what: steps_of(tx, directions) for what, tx in BEHIND.items()}
        return chained, alone

    chained, alone = run()
    for what in BEHIND:
        close(chained[what], alone[what])
        shapes = jax.tree.map(lambda leaf: leaf.shape[1:], chained[what])
        assert shapes == jax.tree.map(jnp.shape, PARAMS), what
    assert (np.asarray(chained["freezing"]["v"]["scale"]) == 0).all()
    assert (np.asarray(chained["freezing"]["w"]) != 0).any()


def always(step: Any, **extra: Any) -> Any:
    del extra
    return step >= 0


AROUND: dict[str, Any] = {
    "partition": lambda tx: optax.partition(
        {"train": tx, "freeze": optax.set_to_zero()}, LABELS
    ),
    "masked": lambda tx: optax.masked(tx, {"w": True, "v": False}),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "conditionally_mask": lambda tx: optax.conditionally_mask(tx, always),
    "conditionally_transform": lambda tx: optax.conditionally_transform(tx, always),
    "flatten": optax.flatten,
    "sam": lambda tx: optax.contrib.sam(tx, optax.sgd(0.1)),
    "mechanize": optax.contrib.mechanize,
}


@pytest.mark.parametrize("what", AROUND)
@pytest.mark.parametrize("name", METHODS)
def test_what_must_not_stand_around_is_refused(what, name):
    lifted = LIFT(make(name, T), T)
    for inner in (lifted, optax.chain(lifted, optax.sgd(0.1))):
        wrapped = AROUND[what](inner)
        with pytest.raises(
            InputError, match=rf"optax's .*{what}.*chain\(lift\("
        ) as error:
            wrapped.init(PARAMS)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", AROUND)
def test_it_is_refused_at_an_update_too(what):
    # As with a state that was made elsewhere.
    lifted = LIFT(make("sum"), T)
    state = lifted.init(PARAMS)

    def init(params: Any) -> Any:
        del params
        return state

    wrapped = AROUND[what](lifted._replace(init=init))
    grads = jax.tree.map(lambda g: g[0], GRADS)
    with pytest.raises(InputError, match=f"optax's .*{what}"):
        wrapped.update(grads, wrapped.init(PARAMS), PARAMS)


def test_wrappers_that_hand_on_what_comes_back_may_stand_around():
    lifted = LIFT(make("aligned_mtl"), T)
    chain = optax.chain(lifted, optax.sgd(0.1))
    expected = jit(steps_of, static_argnums=0)(chain, GRADS)
    everything = {"w": True, "v": True}
    for wrapped in (
        optax.masked(chain, everything),
        optax.partition({"all": chain}, {"w": "all", "v": "all"}),
        optax.named_chain(("lift", lifted), ("sgd", optax.sgd(0.1))),
        optax.inject_hyperparams(lambda rate: optax.chain(lifted, optax.sgd(rate)))(
            0.1
        ),
    ):
        close(jit(steps_of, static_argnums=0)(wrapped, GRADS), expected)


def in_parts(grads_of, params, x):
    """Average over micro-batches, in the memory of one."""
    pieces = jnp.moveaxis(x.reshape(T, PARTS, -1, x.shape[-1]), 1, 0)
    rows = jax.lax.map(lambda piece: grads_of(params, piece), pieces)
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), rows)


def over_devices(grads_of, params, x):
    """Average over the devices, of parameters that are their own on each."""
    local = jax.lax.pcast(params, "data", to="varying")
    return jax.lax.pmean(grads_of(local, x), "data")


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_in_parts_or_over_devices_takes_the_steps_of_the_whole(name):
    lifted = LIFT(make(name, T), T)
    inputs = jnp.float32(RNG.normal(size=(T, 8, 3)))

    def loss(params, x):
        return jnp.mean((x @ params["w"] * params["v"]["scale"] - 1) ** 2)

    grads_of = jax.vmap(jax.value_and_grad(loss), (None, 0))

    def by(mean, *args):
        def run(x, keys):
            def step(carry, key):
                params, state = carry
                losses, grads = mean(*args, params, x)
                updates, state = lifted.update(
                    grads, state, params, losses=losses, key=key
                )
                return (optax.apply_updates(params, updates), state), state.cosines

            return jax.lax.scan(step, (PARAMS, lifted.init(PARAMS)), keys)

        return run

    mesh, copied = jax.make_mesh((2,), ("data",), (AxisType.Auto,)), PartitionSpec()
    spread = jax.shard_map(
        by(over_devices, grads_of),
        mesh=mesh,
        in_specs=(PartitionSpec(None, "data"), copied),
        out_specs=copied,
    )
    runs = by(grads_of), by(in_parts, grads_of), spread
    (end, cosines), *others = jit(lambda *args: [r(*args) for r in runs])(inputs, KEYS)
    for other, others_cosines in others:
        close(other[0], end[0], rtol=1e-4, atol=1e-5)
        close(others_cosines, cosines, rtol=1e-3, atol=1e-4)


def test_gradients_of_replicated_parameters_are_summed_over_devices():
    # What the page says of `shard_map`, and why it asks for `pcast`.
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))

    def over(cast):
        def grad(w, x):
            w = jax.lax.pcast(w, "data", to="varying") if cast else w
            return jax.lax.pmean(jax.grad(lambda w: jnp.mean(w * x))(w), "data")

        specs = PartitionSpec(), PartitionSpec("data")
        mapped = jax.shard_map(grad, mesh=mesh, in_specs=specs, out_specs=specs[0])
        return float(jit(mapped)(jnp.ones(()), jnp.arange(4.0)))

    assert (over(cast=True), over(cast=False)) == (1.5, 3.0)


TRACKED = {"dbmtl", "moco", "momentum_config", "excessmtl"}
"""Methods whose state has trees like the parameters."""


@pytest.mark.parametrize("name", LIFTED)
def test_trees_like_the_parameters_are_mapped_in_every_state(name):
    optimizer: Any = optax.chain(LIFT(make(name, T), T), optax.adam(0.1))
    state = optimizer.init(PARAMS)
    shapes: Any = optax.tree.map_params(
        optimizer, jnp.shape, state, transform_non_params=lambda _: None
    )
    like = jax.tree.map(jnp.shape, PARAMS)
    stacked = jax.tree.map(lambda p: (T, *p.shape), PARAMS)
    assert shapes[1][0].mu == shapes[1][0].nu == like
    trees = [
        tree for tree in jax.tree.leaves(state[0], is_leaf=is_tree) if is_tree(tree)
    ]
    mapped = jax.tree.leaves(shapes[0], is_leaf=is_tree)
    assert len(mapped) == len(trees) and all(tree in (like, stacked) for tree in mapped)
    assert bool(trees) == (name in TRACKED)


def is_tree(node):
    return isinstance(node, dict)


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_gives_directions_of_its_own_type(name):
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (PARAMS, GRADS))
    optimizer = LIFT(make(name, T), T)
    extra = {"losses": LOSSES, "key": KEYS}
    run = jit(lambda params, grads: steps_of(optimizer, grads, params, **extra))
    directions, expected = run(*low), run(PARAMS, GRADS)
    for actual, leaf in zip(*map(jax.tree.leaves, (directions, expected)), strict=True):
        assert actual.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(actual), leaf, rtol=0.1, atol=0.1)
