"""Options in the names of variants: one program, and the numbers of runs apart."""

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mtl_jax import smto
from mtl_jax.devices import target
from mtl_jax.smto.preference import lattice
from mtl_jax.training import ahead, tuning, variants
from mtl_jax.types import InputError
from tests import small

TASKS, SIZES = ("a", "b", "c"), (30, 20, 30)
KEYS = ["variant", "seed", "learning_rate", "step", "split", "task", "name"]


def config(*names, **changes):
    return small.config({"variants": names, **changes})


def test_numbers_are_stacked_and_all_else_is_not():
    names = [f"multi-cagrad@c={c}" for c in ("0.2", ".4", "8e-1")]
    names += ["multi-cagrad@c=0.2@rescale=0", "multi-cagrad", "multi-mgda", "multi"]
    rates = (1e-3, 1e-2)
    made = variants.make_all(config(*names, learning_rates=rates), TASKS, SIZES)
    first, rescaled, plain, *_ = made
    assert len(made) == 5 and first.name == "multi-cagrad of 3 tasks"
    assert {label.variant for label in first.labels} == {
        f"multi-cagrad@c={c}" for c in (0.2, 0.4, 0.8)
    }
    assert len(first.seeds) == 2 * 2 * 3
    assert {label.number for label in first.labels} == set(range(4))
    np.testing.assert_array_equal(
        first.options["c"], np.tile(np.array([0.2, 0.4, 0.8], np.float32), 4)
    )
    assert rescaled.name == "multi-cagrad@c=0.2@rescale=0"
    assert list(rescaled.options) == ["c"] and plain.options == {}
    assert {variant.smto for variant in made[:3]} == {"cagrad"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("multi@c=1", "'multi@c=1' gives an option to 'multi', which has none"),
        ("single@c=1", "which has none"),
        ("multi-cagrad@d=1", "'d' is not one of: c, rescale"),
        ("multi-cagrad@c", "gives c as ''; it must be a number"),
        ("multi-cagrad@c=much", "gives c as 'much'; it must be a number"),
        ("multi-cagrad@rescale=.5", "gives rescale as '.5'; it must be a whole number"),
        ("multi-cagrad@c=1@c=2", "gives c twice"),
        ("multi-cagrad@c=-1", "c is -1.0"),
        ("multi-fixed@weights=1/two/3", "numbers with slashes between them"),
        ("multi-fixed@weights=1/2", "2 weights .* for 3 tasks"),
        ("multi-upgrad@preference=1/-1/1", "not negative"),
        ("multi-upgrad@preference=1/2", "2 numbers, .* for 3 tasks"),
        ("multi-upgrad@preference=lattice.0", "lattice.N"),
        ("multi-upgrad@preference=lattice.99", "has 5050 points"),
        ("multi-cagrad@reduction=mean", "'reduction' is not one of"),
        ("multi-cagrat@c=1", "did you mean 'multi-cagrad'"),
    ],
)
def test_options_that_make_no_sense(name, words):
    with pytest.raises(InputError, match=words):
        variants.make_all(config("multi", name), TASKS, SIZES)


def test_one_option_spelled_in_two_ways_is_there_twice():
    names = "multi-cagrad@c=0.20", "multi-cagrad@c=2e-1"
    with pytest.raises(InputError, match="twice"):
        variants.make_all(config(*names), TASKS, SIZES)


def test_a_lattice_is_one_stack_of_runs():
    lattice, corner = "multi-upgrad@preference=lattice.2", "multi-upgrad@preference="
    (made,) = variants.make_all(config(lattice), TASKS, SIZES)
    points = made.options["preference"]
    assert points.shape == (12, 3)  # two seeds of six
    np.testing.assert_array_equal(points.sum(axis=1), 1)
    assert len({tuple(point) for point in points.tolist()}) == 6
    assert made.labels[0].variant == f"{corner}0.0/0.0/1.0"
    expanded = variants.expand(config(lattice, "single", f"{lattice}:a/b"), TASKS)
    assert len(expanded) == 6 + 1 + 3 and f"{corner}0.5/0.5:a/b" in expanded
    assert variants.make_all(config(*expanded), TASKS, SIZES)
    with pytest.raises(InputError, match="twice"):
        variants.make_all(config(lattice, f"{corner}0/0/1"), TASKS, SIZES)


def test_a_lattice_of_many_tasks():
    points = np.array(lattice(2, 40))
    assert points.shape == (820, 40) and len(np.unique(points, axis=0)) == 820
    np.testing.assert_array_equal(points.sum(axis=1), 1)


def test_names_of_groups_have_options_too():
    name = "multi-cagrad@c=0.2:a/b"
    (made,) = variants.make_all(config(name), TASKS, SIZES)
    assert {label.variant for label in made.labels} == {name}
    assert variants.smto_of(name) == "cagrad" and made.measured == 1
    assert tuning.parse("multi-mgda-ub", "mgda") == ("multi-mgda-ub", {})


NUMBERS = {
    name: {
        k: (1.0, 2.0, 3.0) if type(v) is tuple else v
        for k, v in smto.options(name).items()
        if type(v) in (float, tuple) and k != "sizes"
    }
    for name in smto.SMTOS
}


# One model of all preferences: see test_palora.py.
@pytest.mark.parametrize("name", [n for n in NUMBERS if NUMBERS[n] and n != "palora"])
def test_every_number_of_every_method_can_be_stacked(name):
    """They stay unknown while a program is traced."""
    full = tuning.spell(f"multi-{name}", NUMBERS[name])
    made = ahead.experiment(
        config(full, **{"factors.names": ("conflict",)}), target.make("cpu")
    )
    (variant,) = made.variants
    assert set(variant.options) == set(NUMBERS[name])
    programs, _ = ahead.pieces(made)
    for piece in programs:
        if piece.unit != "evaluation":
            piece.trace()


def test_every_run_has_weights_of_its_own(tmp_path):
    names = ("multi-fixed@weights=0/0/0", "multi-fixed@weights=1/1/1", "multi")
    df = small.run(tmp_path, variants=names, evaluate=("test",)).records
    df = df[(df["split"] == "test") & (df["name"] == "loss")]
    still, ones, multi = (
        at(df, name)["value"].to_numpy()
        for name in (
            "multi-fixed@weights=0.0/0.0/0.0",
            names[1].replace("1", "1.0"),
            "multi",
        )
    )
    np.testing.assert_allclose(ones, multi, rtol=2e-3)
    start = at(df, "multi").query("step == 0")["value"].to_numpy()
    assert set(still) == set(start) and set(multi) != set(start)


def at(df, variant):
    rows = df[df["variant"] == variant].sort_values(KEYS, ignore_index=True)
    return rows.drop(columns="run")


def test_a_stack_of_options_has_the_bits_of_runs_apart(tmp_path):
    names = [f"multi-cagrad@c={c}" for c in (0.0, 0.4, 0.9)]
    changes = {"learning_rates": (1e-2, 3e-2), "evaluate": ("test",)}
    with small.compiled_once(tmp_path / "cache"):
        together = small.run(tmp_path / "all", variants=tuple(names), **changes)
        alone = small.run(tmp_path / "alone", variants=(names[1],), **changes)
        changes |= {"variants": ("multi-cagrad",), "smto__cagrad__c": 0.9}
        set_for_all = small.run(tmp_path / "fixed", **changes)
    assert_frame_equal(
        at(together.records, names[1]), at(alone.records, names[1]), check_exact=True
    )
    ours = at(together.records, names[2])["value"]
    fixed = at(set_for_all.records, "multi-cagrad")["value"]
    np.testing.assert_allclose(ours, fixed, rtol=2e-3, atol=2e-3)
    other = at(together.records, names[0])["value"]
    assert not np.allclose(ours, other, rtol=2e-3, atol=2e-3)


def test_a_single_task_may_have_an_update_rule_too():
    """``single-fmtl`` is sharpness-aware minimisation of every task alone."""
    plain, flat = variants.make_all(
        config("single", "single-fmtl@rho=0.1:a+c"), TASKS, SIZES
    )
    assert plain.smto == variants.NO_SMTO and flat.smto == "fmtl"
    assert {label.variant for label in flat.labels} == {"single-fmtl@rho=0.1"}
    assert flat.task_ids.shape == (4, 1) and set(flat.task_ids.flat) == {0, 2}
    assert flat.options["rho"].tolist() == [np.float32(0.1)] * 4
    assert variants.label("single-fmtl:a") == "single-fmtl"
    with pytest.raises(InputError, match="did you mean 'single'"):
        variants.make_all(config("singel"), TASKS, SIZES)
