"""A trace of some steps, and how fast the others went."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtl_jax.devices.target import CHIPS, Target
from mtl_jax.storage import provenance, records
from mtl_jax.training import profile
from mtl_jax.training.throughput import throughput
from mtl_jax.types import InputError
from tests import small


@pytest.mark.parametrize(
    "text", ["1", "a:b", "3:3", "5:2", "-1:4", "3:13", "1:2:3", "1.5:2"]
)
def test_steps_that_cannot_be_traced_are_refused(text):
    with pytest.raises(InputError, match="profile is"):
        profile.span(text, 12)


def test_a_traced_run_has_a_trace_and_the_same_records(tmp_path):
    with small.compiled_once(tmp_path / "cache"):
        plain = small.run(tmp_path / "plain", variants=("single",))
        traced = small.run(tmp_path / "traced", variants=("single",), profile="3:7")
    assert list((tmp_path / "traced").glob("profile/**/*.xplane.pb"))
    assert not (tmp_path / "plain" / profile.FOLDER).exists()
    kept = ["variant", "run", "step", "split", "task", "name", "value"]
    first, second = (
        sorted(records.read(run.path)[kept].itertuples(index=False, name=None))
        for run in (plain, traced)
    )
    assert first == second
    (session,) = provenance.sessions(traced.path)
    rates = session["throughput"]
    assert rates["steps"] > 0 and rates["flops"] > 0 and rates["peak_share"] is None


def programs(flops: int) -> Any:
    """Stand in for the programs of a variant of 2 runs of 3 tasks."""
    variant = SimpleNamespace(seeds=np.zeros(2), task_ids=np.zeros((2, 3)))
    return SimpleNamespace(train_program=SimpleNamespace(flops=flops, variant=variant))


def test_rates_are_those_of_all_runs_by_the_time_of_training():
    options = {"batch_size": 8, "compute": "bfloat16"}
    devices = Target("NVIDIA H200", "gpu", ())
    rates = throughput([programs(10**9)] * 3, 100, 2.0, **options, target=devices)
    assert rates.steps == 50 * 6 and rates.examples == 50 * 3 * 6 * 8
    assert rates.flops == 50 * 3e9
    assert rates.peak_share == pytest.approx(150e9 / CHIPS["h200"].flops)
    unknown = Target("abacus", "cpu", ())
    none = throughput([programs(10**9)], 0, 0.0, **options, target=unknown)
    assert none.steps == 0 and none.peak_share is None
