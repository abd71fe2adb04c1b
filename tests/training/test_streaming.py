"""What is streamed is what would lie on the device: the same batches, the same bits."""

import signal
import threading
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.data import Dataset
from mtl_jax.devices import memory, multihost
from mtl_jax.storage import checkpoint
from mtl_jax.training import evaluate, streaming
from mtl_jax.training import setting as settings
from mtl_jax.training.batches import make_loader
from mtl_jax.training.resolve import resolve
from mtl_jax.training.step import Data, data_pool
from mtl_jax.training.streaming import SmallPools
from mtl_jax.types import InputError
from tests import small

T, EXAMPLES, CHUNK, BATCH = 2, 400, 5, 16
CHANGES = {
    "factors.names": ("conflict",),
    "steps_per_dispatch": CHUNK,
    "batch_size": BATCH,
    "eval_batch_size": 16,
}
"""Chunks end at 1, 2, 5, 10 and 12; the last piece of the evaluation is filled up."""
CASES = {"own inputs": {}, "one input": {"data_parallel": 2, "variants": ("multi",)}}


class Mapped(np.memmap):
    """Keeps the numbers of rows that are asked for."""

    asked: list = []

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            Mapped.asked.append(len(index))
        return super().__getitem__(index)


def dataset(name, folder):
    """Noise on the disk; of one input, tasks of two kinds."""
    one_input = name == "one input"
    rng = np.random.default_rng(0)
    values = rng.random((EXAMPLES, 4), np.float32)
    x = Mapped(folder / f"{name}.x", values.dtype, "w+", shape=values.shape)
    x[:] = values
    labels = rng.integers(2, size=(EXAMPLES, T), dtype=np.int32)
    order = rng.permutation(EXAMPLES).astype(np.int32)
    halves = (order, order) if one_input else (order[::2], order[1::2])
    ends = {"train": (0, 130), "validation": (130, 150), "test": (150, 200)}
    return Dataset(
        tasks=("a", "b"),
        x=x,
        y=labels if one_input else labels[:, 0],
        rows={name: tuple(own[i:j] for own in halves) for name, (i, j) in ends.items()},
        objectives=("softmax", "bernoulli" if one_input else "softmax"),
        widths=(2, 1 if one_input else 2),
        provenance={},
        one_input=one_input,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture
def case(request, folder, monkeypatch):
    """Changes that make an experiment, whose data is mapped from a file."""
    own = dataset(request.param, folder)
    monkeypatch.setattr(settings, "load_dataset", lambda *_, **__: own)
    return {**CHANGES, **CASES[request.param]}


def fed(made, streams):
    rounds = evaluate.eval_batches(
        {name: made.splits[name] for name in made.config.evaluate},
        made.config.eval_batch_size,
    )
    sharing, train = made.config.data_parallel, made.splits["train"]
    options = (BATCH, CHUNK, rounds, jax.devices(), sharing, streams)
    return make_loader(made.setting, made.variants, train, *options), rounds


def chosen(part: Any) -> tuple:
    """Examples that a part's rows show."""
    data, rows, _ = jax.device_get(part)
    return data.x[rows], data.y[rows]


def equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_parts_show_the_same_examples(case):
    made = resolve(small.config(case))
    (streamed, rounds), (resident, _) = fed(made, True), fed(made, False)
    steps = list(pairwise([0, 1, 5, 10, 12]))
    Mapped.asked.clear()
    for ends, parts, others in zip(
        steps, streamed.train_chunks(steps), resident.train_chunks(steps), strict=True
    ):
        count = ends[1] - ends[0]
        for part, other, like in zip(parts, others, streamed.train_like, strict=True):
            assert jax.tree.map(np.shape, part) == jax.tree.map(np.shape, like)
            equal(*([leaf[:, :count] for leaf in chosen(p)] for p in (part, other)))
    (others,) = resident.eval_chunks()
    pieces = list(streamed.eval_chunks())
    assert len(pieces) == 2
    for i, other in enumerate(others):
        parts: list[Any] = [piece[i] for piece in pieces]
        examples = map(np.concatenate, zip(*(_by_round(p) for p in parts), strict=True))
        number = rounds.rows.shape[1]
        equal([leaf[:number] for leaf in examples], _by_round(other))
        mask = np.concatenate([part.mask for part in parts], axis=1)
        equal(mask[:, :number], rounds.mask)
        assert not mask[:, number:].any() and mask.shape[1] > number
    lengths = {len(parts[0].data.x) for parts in pieces}
    longest = len(streamed.train_like[0].data.x)
    assert lengths | {longest} == set(Mapped.asked)
    assert longest < EXAMPLES
    assert memory.size(pieces[0][0]) < streamed.bytes
    assert memory.size((data_pool(made.setting), rounds[:2])) == resident.bytes


def _by_round(part):
    return [np.moveaxis(leaf, 1, 0) for leaf in chosen(part)]


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_results_are_the_same_bits_also_of_a_run_that_changes_over(case, tmp_path):
    def run(name, choice):
        changes = {**case, "data.stream": choice}
        return small.run(tmp_path / name, **changes)

    resident, save, put, lengths = (
        run("resident", "never"),
        checkpoint.save,
        multihost.put,
        [],
    )

    def keep_lengths(tree, sharding):
        lengths.extend(len(leaf) for leaf in jax.tree.leaves(tree) if np.ndim(leaf))
        return put(tree, sharding)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multihost, "put", keep_lengths)
        Mapped.asked.clear()
        streamed = run("streamed", "always")
    assert max(lengths) == max(Mapped.asked) < EXAMPLES

    def stop(manager, step, state):
        save(manager, step, state)
        if step == 5:  # heard at the next boundary
            signal.raise_signal(signal.SIGINT)

    order = ("always", "never")[:: -1 if "batch_devices" in case else 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", stop)
        assert run("both", order[0]).outcome.step == 10
    both = run("both", order[1])
    assert both.said == [f"going on from step 10 of 12 in {both.path}"]
    assert {"loss", "cosine/b"} <= set(resident.records["name"])
    for other in (streamed, both):
        assert_frame_equal(other.records, resident.records, check_exact=True)
        equal(*(small.checkpoint_of(run.path) for run in (other, resident)))


def zeros() -> Any:
    leaves: Any = np.zeros((6, 3), np.float32), np.zeros(6, np.int32), None
    return Data(*leaves)


def test_auto_streams_what_takes_half_of_a_device(monkeypatch):
    data = zeros()
    for room, needed in [(192, False), (191, True)]:
        monkeypatch.setattr(memory, "capacity", lambda *_, room=room: room)
        assert streaming.is_needed("auto", data) is needed
        assert streaming.is_needed("always", data)
        assert not streaming.is_needed("never", data)


def test_unknown_choice():
    with pytest.raises(InputError, match="data.stream 'yes' is not one of: auto, alw"):
        resolve(small.config({"data.stream": "yes"}))


def test_pools_are_read_ahead_and_come_in_order():
    data = zeros()
    begun, enough = [], threading.Semaphore(0)

    def read(number):
        begun.append(number)
        if number == 0:  # slower than the next one, which has a thread of its own
            assert enough.acquire(timeout=60)
        elif number == 1:
            enough.release()
        elif number == 2:
            ahead.set()
        return number

    ahead = threading.Event()
    numbers = SmallPools(data, {}, 6).read(read, range(9))
    assert next(numbers) == 0
    assert ahead.wait(60)  # before anybody asks for it
    assert max(begun) <= streaming.AHEAD
    assert list(numbers) == list(range(1, 9))
    assert sorted(begun) == list(range(9))


def test_error_of_a_reader_is_told():
    data = zeros()
    numbers = SmallPools(data, {}, 6).read(lambda n: 1 // (n - 1), range(3))
    assert next(numbers) == -1
    with pytest.raises(ZeroDivisionError):
        next(numbers)
