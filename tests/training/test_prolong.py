"""A run that goes on beyond its end is the longer run, bit for bit."""

import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.types import InputError
from tests import small

KEYS = ["variant", "run", "step", "split", "task", "name"]
LONG = {"steps": 20, "variants": ("single", "multi-pcgrad")}
SHORT = {**LONG, "steps": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prolong")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def prolonged(folder):
    """Train for 12 steps, and then for 20, with checkpoints of all points kept."""
    path, changes = folder / "prolonged", {"checkpoint__keep_points": True}
    first = small.run(path, **SHORT, **changes)
    return first, small.run(path, **LONG, **changes)


def at(df, steps):
    chosen = df[df["step"].isin(steps)].sort_values(KEYS, ignore_index=True)
    return chosen.reset_index(drop=True)


def test_it_is_the_longer_run(folder, prolonged):
    first, second = prolonged
    assert second.outcome.step == 20
    assert "going on from step 12 of 20" in second.said[0]
    whole = small.run(folder / "whole", **LONG)
    shared = set(whole.records["step"]) & set(second.records["step"])
    assert {0, 1, 2, 20} <= shared
    assert_frame_equal(
        at(second.records, shared), at(whole.records, shared), check_exact=True
    )
    before = set(first.records["step"])
    assert 12 in before
    assert_frame_equal(
        at(second.records, before), at(first.records, before), check_exact=True
    )
    kept = {int(p.name) for p in (second.path / "checkpoints").iterdir()
            if p.name.isdecimal()}  # fmt: skip
    assert kept >= before | {20}


def test_it_cannot_be_shorter_than_it_is(prolonged):
    path = prolonged[1].path
    with pytest.raises(InputError, match="at step 20, and steps is 15; choose at"):
        small.run(path, **{**LONG, "steps": 15}, checkpoint__keep_points=True)


def test_a_rate_that_goes_by_the_length_is_refused(folder):
    changes = {"optimizer__schedule": "cosine"}
    small.run(folder / "cosine", **SHORT, **changes)
    with pytest.raises(InputError, match="steps was 12, now 20"):
        small.run(folder / "cosine", **LONG, **changes)


def test_what_only_begins_like_the_length_is_refused(prolonged):
    """Points at levels of the loss lie where the chunks end."""
    path, changes = prolonged[1].path, {"checkpoint__keep_points": True}
    with pytest.raises(InputError, match="steps_per_dispatch was 5, now 4"):
        small.run(path, **LONG, **changes, steps_per_dispatch=4)
