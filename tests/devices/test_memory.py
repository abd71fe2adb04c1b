import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.devices import memory
from mtl_jax.types import InputError
from tests import small


def test_temporaries_of_a_program():
    side = 256

    def products(x):
        return jnp.sum(jnp.sin(x @ x) @ x)

    program = jax.jit(products).lower(jnp.ones((side, side))).compile()
    assert memory.temporaries(program) >= 4 * side**2


def test_size_counts_leaves():
    assert memory.size({"a": np.zeros((3, 4), np.float32), "b": None}) == 48


def test_capacity_is_that_of_this_machine():
    assert 2**28 < memory.capacity() < 2**44


def test_what_does_not_fit_is_said_before_it_runs(tmp_path, monkeypatch):
    seen, check = [], memory.check
    monkeypatch.setattr(memory, "check", lambda parts: seen.append(parts))
    small.run(tmp_path / "fits", factors__names=("conflict",))
    monkeypatch.setattr(memory, "check", check)
    before, after, last = seen
    assert before.keys() < after.keys() and min(after.values()) > 0
    assert before.items() < last.items() and last["temporaries of factors"] > 0
    for room, words in [(sum(before.values()) - 1, "states"), (None, "temporaries")]:
        room = sum(after.values()) - 1 if room is None else room
        monkeypatch.setattr(memory, "capacity", lambda *_, room=room: room)
        with pytest.raises(InputError, match=f"needs .*{words} .* smaller batch_size"):
            small.run(tmp_path / words)
        assert not list((tmp_path / words).glob("records/*"))
    monkeypatch.undo()  # the folder is free for another configuration
    assert small.run(tmp_path / "states", variants=("multi",)).outcome.step == 12
