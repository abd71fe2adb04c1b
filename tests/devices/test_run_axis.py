"""Runs over 8 devices, and a run's batch over 4: what is found stays the same."""

import functools
import gc
import os
import re
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from pandas.testing import assert_frame_equal

from mtl_jax import models, smto
from mtl_jax.data import Dataset
from mtl_jax.devices.axis_map import sequential
from mtl_jax.smto import strategies
from mtl_jax.training import evaluate
from mtl_jax.training.batches import make_loader
from mtl_jax.training.compile import compile_programs, init_states
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import UpdateRule
from mtl_jax.training.variants import Label, Variant
from tests import small

DEVICES = 8
T, B, SIDE, CLASSES = 3, 44, 8, 4
"""No other axis is as long as a batch, or as its part of 11 on each of 4 devices."""
STEPS = 3


def prepare():
    """What conftest.py does, with more devices than one process has in these tests."""
    gc.freeze()
    warnings.simplefilter("error")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def there():
    """Call a function of this module in a process of 8 devices."""
    with ProcessPoolExecutor(1, small.server(), prepare) as pool:
        yield lambda f, *args, **options: pool.submit(f, *args, **options).result()


class on:
    """Context in which there are fewer devices."""

    def __init__(self, devices):
        self.patch, self.devices = pytest.MonkeyPatch(), devices

    def __enter__(self):
        assert len(jax.devices()) == DEVICES
        some = jax.devices()[: self.devices]
        self.patch.setattr(jax, "devices", lambda: some)

    def __exit__(self, *_):
        self.patch.undo()


def experiment(path, devices, **changes):
    """Records and newest state of the small experiment."""
    with on(devices):
        run = small.run(path / str(devices), **changes)
    return run.records, small.checkpoint_of(run.path)[0]


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_records_are_the_same_on_one_device_as_on_8(there, tmp_path):
    changes = {
        "seeds": (0, 1, 2),  # 9 runs
        "variants": ("single",),
        "steps": 5,
        "trajectory__count": 1,
        "factors__names": ("sharpness_and_covariance",),
    }
    (one, state), (many, other) = [
        there(experiment, tmp_path, devices, **changes) for devices in (1, DEVICES)
    ]
    assert set(one["run"]) == set(range(9))
    assert "adaptive_sharpness_linf" in set(one["name"])
    equal(state, other)
    # XLA fuses a program for one device otherwise than one for several: factors differ
    # in the last bit or two. What training and evaluation find does not.
    assert_frame_equal(one, many, rtol=2e-6)
    of_splits = [df[df["name"].isin(["loss", "accuracy"])] for df in (one, many)]
    assert len(of_splits[0]) == 9 * 4 * 3 * 2  # runs, points, splits, names
    assert_frame_equal(*of_splits, check_exact=True)


def optimized():
    """`prepare`, with XLA's optimizations that conftest.py leaves out."""
    os.environ.pop("XLA_FLAGS", None)
    prepare()


def test_runs_alone_on_a_device_train_to_the_bits_that_they_have_in_company(tmp_path):
    """A loop of one round is none to XLA, which fused such a run in its own way."""
    changes = {"seeds": (0, 1), "variants": ("single",), "learning_rates": (0.01,)}
    with ProcessPoolExecutor(1, small.server(), optimized) as pool:
        (records, state), (others, other) = (
            pool.submit(experiment, tmp_path, devices, **changes).result()
            for devices in (1, DEVICES)
        )
    assert set(records["run"]) == set(range(6))
    equal(state, other)
    assert_frame_equal(records, others, check_exact=True)


class Case(NamedTuple):
    """A method on a model, by names: what runs there is made there."""

    trunk: str
    way: str
    one_input: bool


TRUNKS = {
    "mlp": partial(models.make, "mlp", widths=(6,)),
    "cnn": partial(models.make, "cnn", channels=(5,), hidden=6, conv="lax"),
    "resnet": partial(
        models.make, "resnet", widths=(5,), blocks=(1,), stem_stride=2, conv="lax"
    ),
}
smto_of: Any = smto.make
WAYS = {
    "sum": lambda: strategies.by_losses(smto_of("sum"), True),
    "upgrad": lambda: strategies.by_jacobian(smto_of("upgrad")),
    "mgda": lambda: strategies.by_gramian(smto_of("mgda")),
}


CASES = [
    (Case("mlp", "upgrad", one_input=True), (0, 1, 2)),
    (Case("cnn", "mgda", one_input=False), (0, 1)),
    (Case("resnet", "sum", one_input=False), (0,)),
]


def dataset(*, one_input):
    """Noise, but for what the model can learn by heart."""
    rng = np.random.default_rng(0)
    size = T * 2 * B
    rows = np.arange(size, dtype=np.int32).reshape(T, -1)
    x = rng.integers(256, size=(size, SIDE, SIDE, 1), dtype=np.uint8)
    y = rng.integers(CLASSES, size=(size, T), dtype=np.int32)
    y = y if one_input else y[:, 0]
    return Dataset(
        tasks=("a", "b", "c"),
        x=x,
        y=y,
        rows={"train": tuple(rows)},
        objectives=("softmax",) * T,
        widths=(CLASSES,) * T,
        provenance={},
        one_input=one_input,
    )


@functools.cache
def made(case, seeds):
    """Setting, variant and initial states of a case."""
    trunk = TRUNKS[case.trunk]()
    setting = from_dataset("", dataset(one_input=case.one_input), trunk)
    method = UpdateRule(
        WAYS[case.way](),
        lambda rate: optax.sgd(rate, momentum=0.5),
        jax.vmap,
    )
    runs = len(seeds)
    tasks = np.tile(np.arange(T, dtype=np.int32), (runs, 1))
    numbers = np.array(seeds, np.int32)
    labels = tuple(Label("", run) for run in range(runs))
    variant = Variant(
        "", "", method, tasks, numbers, np.full(runs, 0.1), labels, sequential
    )
    states = init_states(setting, variant)
    return setting, variant, states


@functools.cache
def trained(case, seeds, devices=DEVICES, sharing=1):
    """States, report and sums of some steps, and the compiled programs' texts."""
    setting, variant, states = made(case, seeds)
    rounds = evaluate.eval_batches({"train": setting.data.rows["train"]}, B)
    texts = []
    compile_one = jax.stages.Lowered.compile

    def compile_and_tell(lowered):
        compiled = compile_one(lowered)
        texts.append(compiled.as_text())
        return compiled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.stages.Lowered, "compile", compile_and_tell)
        train, some = setting.data.rows["train"], jax.devices()[:devices]
        fed = make_loader(setting, [variant], train, B, STEPS, rounds, some, sharing)
        (own,) = compile_programs(setting, [variant], [states], fed)
    ((chunk,), (piece,)) = next(fed.train_chunks([(0, STEPS)])), next(fed.eval_chunks())
    states, report = own.train(own.shard(states), chunk, STEPS)
    return own.gather((states, report, own.evaluate(states, piece))), texts


def test_states_are_the_same_on_1_2_and_8_devices(there):
    case, seeds = CASES[0]
    one, *others = [
        there(trained, case, seeds, devices)[0] for devices in (1, 2, DEVICES)
    ]
    for other in others:
        equal(other, one)


def lengths(text):
    """Lengths of all axes of the arrays in a compiled program."""
    shapes = re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", text)
    return {int(length) for shape in shapes for length in shape.split(",")}


@pytest.mark.parametrize(("case", "seeds"), CASES, ids=str)
def test_shared_batch_trains_as_a_whole_one(there, case, seeds):
    whole, _ = there(trained, case, seeds, DEVICES)
    shared, texts = there(trained, case, seeds, DEVICES, sharing=4)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), shared, whole
    )
    assert len(texts) == 2
    for text in texts:
        assert "all-reduce" in text
        assert "all-gather" not in text
        assert B // 4 in lengths(text)
        assert not {B, T * B} & lengths(text)
