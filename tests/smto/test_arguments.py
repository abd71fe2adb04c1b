"""Arguments of `lift`: taken, or refused with one message before any work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import smto
from mtl_jax.smto import strategies
from mtl_jax.types import InputError
from tests.smto.cases import LIFTED, jit, make

LIFT: Any = smto.lift  # of methods that a type checker does not know
T = 2
PARAMS = jnp.ones(3)
GRADS = jnp.array([[1.0, 2.0, 0.0], [-1.0, 1.0, 1.0]])
NAMES = ["sum", "famo", "uw", "mgda", "modo", "moco", "graddrop"]
"""A few of every family."""


def updated(name="sum", grads: Any = GRADS, nonfinite="skip", **extra: Any):
    """Return direction and state of a first update."""
    optimizer = LIFT(make(name, T), T, nonfinite)
    extra = {"losses": jnp.ones(T), "key": jax.random.key(0), **extra}
    return optimizer.update(grads, optimizer.init(PARAMS), **extra)


def message_of(call) -> str:
    """Return the one line of the `InputError` that a call ends in."""
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", [n for n in smto.SMTOS if n not in LIFTED])
def test_what_looks_at_more_than_gradients_is_sent_elsewhere(name):
    message = message_of(lambda: LIFT(make(name), T))
    way = message.rpartition("mtl_jax.smto.strategies.")[2].rstrip(".")
    assert callable(getattr(strategies, way)) and "multi-NAME" in message


@pytest.mark.parametrize("method", ["mgda", None, smto.make, 3])
def test_what_is_no_method_is_refused(method):
    message = message_of(lambda: LIFT(method, T))
    assert repr(method) in message and "smto.make" in message


@pytest.mark.parametrize("number", [0, -1, 2.0, True, None, "2", (2,), np.ones(2)])
def test_number_of_tasks_is_a_whole_number(number):
    message = message_of(lambda: LIFT(make("sum"), number))
    assert "num_tasks" in message and "1 or more" in message


def test_number_of_tasks_is_known():
    def init(number):
        return LIFT(make("sum"), number).init(PARAMS)

    with pytest.raises(InputError, match="num_tasks is traced"):
        jax.eval_shape(init, 2)
    assert init(np.int64(2)).weights.shape == init(jnp.int32(2)).weights.shape == (2,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("empty", [{}, [], (), None, {"a": {}}], ids=str)
def test_trunk_has_parameters(name, empty):
    assert "no leaves" in message_of(lambda: LIFT(make(name, T), T).init(empty))
    assert "no leaves" in message_of(lambda: updated(name, grads=empty))


@pytest.mark.parametrize("nonfinite", ["skip", "drop"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (jnp.ones(3), ["[3]", "2 tasks"]),
        (jnp.ones((T, 1)), ["[2, 1]", "one number a task"]),
        (1.0, ["[]", "2 tasks"]),
        (jnp.ones(T, bool), ["bool"]),
        (jnp.ones(T, jnp.complex64), ["complex64"]),
        ("ab", ["'ab'", "no array"]),
        ([1.0, [2.0, 3.0]], ["no array"]),
        ({"a": 1.0, "b": 2.0}, ["no array"]),
    ],
    ids=repr,
)
def test_losses_are_one_number_a_task(name, losses, words, nonfinite):
    message = message_of(lambda: updated(name, losses=losses, nonfinite=nonfinite))
    assert all(word in message for word in words)


@pytest.mark.parametrize("name", ["si", "mgda"])
def test_losses_of_other_kinds_are_numbers_all_the_same(name):
    update = jit(lambda losses: updated(name, losses=losses))
    expected = update(jnp.array([1.0, 4.0]))
    rows = np.array([1, 4])
    for losses in (
        [1.0, 4.0],
        (1, np.float32(4)),
        rows,
        rows.astype(np.uint8),
        [jnp.ones(()), jnp.float32(4)],
        jnp.array([1, 4], jnp.bfloat16),
    ):
        actual = updated(name, losses=losses) if name == "si" else update(losses)
        jax.tree.map(
            lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-6), actual, expected
        )


@pytest.mark.parametrize("name", ["sum", "rlw", "pcgrad"])
@pytest.mark.parametrize(
    "key",
    [0, 1.5, "a", jnp.ones(2), jnp.zeros((2, 2), jnp.uint32), (0, 1)],
    ids=repr,
)
def test_key_is_one_key(name, key):
    message = message_of(lambda: updated(name, key=key))
    assert "key is " in message and "jax.random.key" in message


@pytest.mark.parametrize("name", ["rlw", "pcgrad"])
def test_many_keys_are_not_one(name):
    keys = jax.random.split(jax.random.key(0), T)
    assert "one key" in message_of(lambda: updated(name, key=keys))


def test_old_keys_are_keys():
    new, old = jax.random.key(3), jax.random.PRNGKey(3)
    np.testing.assert_array_equal(*[updated("rlw", key=k)[0] for k in (new, old)])


@pytest.mark.parametrize("samples", [GRADS, (GRADS,), (GRADS, GRADS[:1])], ids=repr)
def test_samples_are_those_of_two_batches(samples):
    message = message_of(lambda: updated("modo", samples=samples))
    assert "2 tasks" in message or "samples=(J1, J2)" in message


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_arrays_of_the_tasks(name):
    for wrong in (jnp.ones((3, T)), jnp.ones(()), 1.0, [jnp.ones((T, 3)), 2.0]):
        assert "2 tasks" in message_of(lambda w=wrong: updated(name, grads=w))
