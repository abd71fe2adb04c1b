import numpy as np
import pytest

from mtl_jax.data import schedule
from mtl_jax.types import InputError

ROWS = np.random.default_rng(0).permutation(1000)[:50]


def batches(start, stop, *, rows=ROWS, seed=3, task=1, batch_size=8):
    return schedule.batches(rows, seed, task, start, stop, batch_size)


def test_stream_is_the_stated_one():
    epochs = [np.random.default_rng([3, 1, epoch]).permutation(50) for epoch in (0, 1)]
    expected = ROWS[np.concatenate(epochs)][: 12 * 8].reshape(12, 8)
    np.testing.assert_array_equal(batches(0, 12), expected)
    assert batches(0, 12).dtype == np.int32


def test_every_epoch_is_an_exact_shuffle():
    stream = batches(0, 25).reshape(-1)  # 200 places: four epochs
    epochs = stream.reshape(4, 50)
    for epoch in epochs:
        assert sorted(epoch) == sorted(ROWS)
    assert len({epoch.tobytes() for epoch in epochs}) == 4


@pytest.mark.parametrize("batch_size", [1, 7, 8, 10, 50])
def test_any_start_is_a_slice_of_the_whole(batch_size):
    whole = batches(0, 40, batch_size=batch_size)
    for start in range(0, 40, 3):
        for stop in range(start, 41, 5):
            part = batches(start, stop, batch_size=batch_size)
            np.testing.assert_array_equal(part, whole[start:stop])


def test_far_start_needs_only_its_own_epochs():
    schedule.permutation.cache_clear()
    assert batches(10**12, 10**12 + 5).shape == (5, 8)
    assert schedule.permutation.cache_info().misses <= 2


@pytest.mark.parametrize("other", [{"seed": 4}, {"task": 2}])
def test_other_key_is_another_stream(other):
    assert (batches(0, 6) != batches(0, 6, **other)).mean() > 0.8


def test_shuffles_in_the_cache_cannot_be_changed():
    batches(0, 1)[:] = 0
    test_stream_is_the_stated_one()
    with pytest.raises(ValueError, match="read-only"):
        schedule.permutation(50, 3, 1, 0)[0] = 0


def test_batch_may_be_as_large_as_the_split_but_not_larger():
    assert batches(0, 1, batch_size=50).shape == (1, 50)
    with pytest.raises(InputError, match="51 examples .*task 1, which has 50.*most 50"):
        batches(0, 1, batch_size=51)


def test_probe_is_a_fixed_sample():
    probe = schedule.probe(ROWS, seed=3, task=1, size=20)
    assert probe.dtype == np.int32 and probe.shape == (20,)
    assert (np.diff(probe) > 0).all() and set(probe) <= set(ROWS)
    np.testing.assert_array_equal(probe, schedule.probe(ROWS, 3, 1, 20))
    for seed, task in ((4, 1), (3, 2)):
        assert set(probe) != set(schedule.probe(ROWS, seed, task, 20))


def test_probe_larger_than_the_split_is_all_of_it():
    np.testing.assert_array_equal(schedule.probe(ROWS, 3, 1, 99), np.sort(ROWS))


def test_probe_is_independent_of_the_batches():
    # Choosing with the generator of epoch 0 would not be: numpy pads its seeds.
    same = np.random.default_rng([3, 1, 0]).choice(50, 20, replace=False)
    probe = schedule.probe(ROWS, 3, 1, 20)
    assert set(probe) != set(ROWS[same])
    overlaps = [
        len(set(schedule.probe(ROWS, seed, 1, 20)) & set(stream.reshape(-1)[:20]))
        for seed in range(200)
        for stream in [batches(0, 3, seed=seed)]
    ]
    assert abs(np.mean(overlaps) - 20 * 20 / 50) < 0.5  # 4 standard errors
