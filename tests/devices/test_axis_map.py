import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.devices import axis_map, memory
from mtl_jax.devices.axis_map import sequential
from mtl_jax.types import ONE_INPUT, OWN_INPUTS, TASK_AXES, Batch, InputError, Params

T, B, D = 3, 4, 2


def loss(params, batch):
    """One task; its inputs come with a model state, as in training."""
    x, state = batch.x
    outputs = x @ params.shared["w"] * params.heads["scale"] + state.get("mean", 0.0)
    return jnp.mean((outputs - batch.y) ** 2), {"mean": outputs.mean()}


def arguments(axes, *, state):
    keys = jax.random.split(jax.random.key(1), 4)
    lead = () if axes.x is None else (T,)
    params = Params(
        {"w": jax.random.normal(keys[0], (D,))},
        {"scale": jax.random.normal(keys[1], (T,))},
    )
    x = jax.random.normal(keys[2], (*lead, B, D))
    held = {"mean": jnp.ones(lead)} if state else {}
    return params, Batch((x, held), jax.random.normal(keys[3], (T, B)))


def add(*args):
    return sum(jax.tree.leaves(args), start=jnp.float32(0))


ROWS, ONE = jnp.arange(1.0, T + 1), jnp.float32(10)

# Every form of in_axes that the package uses.
FORMS = {
    "default": (add, 0, (ROWS, ROWS)),
    "int": (add, (0,), (ROWS,)),
    "mixed": (add, (0, 0, None, 0, 0, None), (ROWS, ROWS, ONE, ROWS, ROWS, ONE)),
    "alone": (add, (0, None, 0), (ROWS[:1], ONE, ROWS[:1])),
    "trees": (add, (0, None), ({"a": ROWS, "b": (ROWS, ())}, (ONE, {"c": ONE}))),
    "own inputs": (loss, (TASK_AXES, OWN_INPUTS), arguments(OWN_INPUTS, state=True)),
    "one input": (loss, (TASK_AXES, ONE_INPUT), arguments(ONE_INPUT, state=True)),
    "no state": (loss, (TASK_AXES, ONE_INPUT), arguments(ONE_INPUT, state=False)),
    "evaluation": (
        lambda p, state, x, y: loss(p, Batch((x, state), y)),
        (TASK_AXES, None, None, 0),
        (lambda p, b: (p, b.x[1], b.x[0], b.y))(*arguments(ONE_INPUT, state=True)),
    ),
}


def close(a, b):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5), a, b)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("form", FORMS)
def test_sequential_is_vmap(form, wrap):
    f, axes, args = FORMS[form]
    close(wrap(sequential(f, axes))(*args), jax.vmap(f, axes)(*args))


@pytest.mark.parametrize("tasks", [1, T])
@pytest.mark.parametrize("axes", [OWN_INPUTS, ONE_INPUT], ids=["own", "one"])
def test_gradients_go_through(axes, tasks):
    params, batch = arguments(axes, state=True)
    params = params._replace(heads={"scale": params.heads["scale"][:tasks]})
    x = batch.x if axes.x is None else jax.tree.map(lambda x: x[:tasks], batch.x)
    args = params, Batch(x, batch.y[:tasks])

    def grads(axis_map):
        mapped = axis_map(loss, (TASK_AXES, axes))
        # Of what is mapped (heads, targets) and what is shared (trunk, one input).
        return jax.grad(lambda *a: (mapped(*a)[0] ** 2).sum(), (0, 1))(*args)

    close(grads(sequential), grads(jax.vmap))


@pytest.mark.parametrize("outer", [jax.vmap, sequential], ids=["vmap", "sequential"])
@pytest.mark.parametrize("inner", [jax.vmap, sequential], ids=["vmap", "sequential"])
def test_maps_nest(outer, inner):
    params, batch = arguments(OWN_INPUTS, state=True)
    runs = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    mapped = outer(inner(loss, (TASK_AXES, OWN_INPUTS)), (0, None))
    looped = [
        jax.vmap(loss, (TASK_AXES, OWN_INPUTS))(Params(*run), batch)
        for run in (params, jax.tree.map(lambda leaf: 2 * leaf, params))
    ]
    close(mapped(runs, batch), jax.tree.map(lambda *r: jnp.stack(r), *looped))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_waves_are_a_map(size):
    """In pieces that divide 6 rows, with arguments that have no rows."""
    rows, same = jnp.arange(12.0).reshape(6, 2), jnp.arange(2.0)
    f = lambda row, same, pair: (row @ same, pair["a"] + row[0])  # noqa: E731
    axes = (0, None, 0)
    arguments = rows, same, {"a": rows[:, 1]}
    mapped = axis_map.Waves(size)(f, axes)
    close(mapped(*arguments), jax.vmap(f, axes)(*arguments))
    loops = str(jax.make_jaxpr(mapped)(*arguments)).count("scan")
    assert loops == (0 if size >= 6 else 1)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_states_are_updated_in_place(size):
    """Without a second copy of them, where rows go one after another."""
    width = 1000
    states = {"w": jnp.arange(6.0 * width).reshape(6, width), "n": jnp.zeros(6, int)}
    rate, count = jnp.arange(6.0), jnp.int32(3)

    def steps(state, rate, count):
        def step(_, state):
            return {"w": jnp.sin(state["w"]) * rate + 1, "n": state["n"] + 1}

        after = jax.lax.fori_loop(0, count, step, state)
        return after, {"sum": after["w"].sum()}

    axes = (0, 0, None)
    update = axis_map.in_place(axis_map.Waves(size))(steps, axes)
    close(update(states, rate, count), jax.vmap(steps, axes)(states, rate, count))
    compiled = jax.jit(update, donate_argnums=0).lower(states, rate, count).compile()
    used = memory.temporaries(compiled)
    assert used < 1.1 * size * 4 * width + 2_000, used
    assert axis_map.in_place(jax.vmap) is jax.vmap


def test_auto_suits_the_backend():
    on_cpu = jax.default_backend() == "cpu"
    assert axis_map.make("auto") is (sequential if on_cpu else jax.vmap)
    assert axis_map.make("vmap") is jax.vmap
    assert axis_map.make("sequential") is sequential


def test_unknown_name():
    with pytest.raises(InputError, match=r"'scan'.*auto, vmap, sequential"):
        axis_map.make("scan")
