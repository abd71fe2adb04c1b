import numpy as np
import pytest
from scipy import stats

from mtl_jax import analysis
from mtl_jax.analysis.moderation import moderated
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

PROBE = [2.0, 1.0, 0.5]


def runs(variant, values, name="accuracy", **options):
    """Make one run per seed; its test value is right where validation is best."""
    best = {"accuracy": [0.0, 1.0, 0.0], "mse": [9.0, 0.0, 9.0]}[name]
    return [
        curve(
            variant,
            PROBE,
            seed=seed,
            **{name: {"validation": best, "test": [0.99, value, 0.99]}},
            **options,
        )
        for seed, value in enumerate(values)
    ]


def test_values_at_the_best_validation_point():
    df = frame(*runs("single", [0.5, 0.7]), *runs("multi", [0.6, 0.8, 0.7]))
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    assert row[["st", "mt", "difference"]].tolist() == pytest.approx([0.6, 0.7, 0.1])
    assert row["by"] == "accuracy" and row["comparable"] and not row["reason"]
    assert row[["st_seeds", "mt_seeds", "seeds"]].tolist() == [2, 3, 2]
    # The loss is there too, at the best point of its own, turned so that + is better.
    loss = analysis.transfer(df).set_index("name").loc["loss"]
    assert loss[["st", "mt", "difference", "by"]].tolist() == [0.5, 0.5, 0, "loss"]


def test_less_is_better_turns_the_sign():
    df = frame(*runs("single", [0.5], name="mse"), *runs("multi", [0.8], name="mse"))
    row = analysis.transfer(df).set_index("name").loc["mse"]
    expected = [0.5, 0.8, -0.3]
    assert row[["st", "mt", "difference"]].tolist() == pytest.approx(expected)
    assert np.isnan(row["low"]) and row["reason"] == "1 common seed, fewer than 2"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_is_the_paired_t(seeds):
    rng = np.random.default_rng(seeds)
    st, mt = rng.uniform(size=(2, seeds))
    df = frame(*runs("single", st), *runs("multi", mt))
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    test = stats.ttest_rel(mt, st).confidence_interval()
    assert row[["low", "high"]].tolist() == pytest.approx([test.low, test.high])


def test_what_both_share_is_no_part_of_the_difference():
    df = frame(*runs("single", [0.1, 0.5, 0.9]), *runs("multi", [0.2, 0.6, 1.0]))
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    assert row[["low", "high"]].tolist() == pytest.approx([0.1, 0.1])


def test_seeds_that_only_one_side_has():
    df = frame(*runs("single", [0.1, 0.5]), *runs("multi", [0.2, 0.6, 0.9]))
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    assert row[["st", "mt"]].tolist() == pytest.approx([0.3, 0.4])
    others = [
        {**r, "seed": r["seed"] + 5} for rows in runs("multi", [0.6]) for r in rows
    ]
    df = frame(*runs("single", [0.1, 0.5]), others)
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    assert row["difference"] == pytest.approx(0.3) and np.isnan(row["low"])
    assert row["seeds"] == 0 and row["reason"] == "0 common seeds, fewer than 2"


def test_every_variant_against_the_baseline():
    df = frame(
        *runs("single", [0.5]), *runs("multi", [0.6]), *runs("multi-pcgrad", [0.4])
    )
    table = analysis.transfer(df).query("name == 'accuracy'")
    assert table["variant"].tolist() == ["multi", "multi-pcgrad"]
    np.testing.assert_allclose(table["difference"], [0.1, -0.1])
    table = analysis.transfer(df, baseline="multi").query("name == 'accuracy'")
    assert table["variant"].tolist() == ["single", "multi-pcgrad"]
    np.testing.assert_allclose(table["difference"], [-0.1, -0.2])


def test_by_the_loss_where_told():
    df = frame(*runs("single", [0.5]), *runs("multi", [0.6]))
    row = analysis.transfer(df, by="loss").set_index("name").loc["accuracy"]
    assert row[["st", "by"]].tolist() == [0.99, "loss"]


def test_a_diverged_run_counts_until_then():
    df = frame(*runs("single", [0.5, 0.5]), *runs("multi", [0.6, 0.8], diverged=1))
    row = analysis.transfer(df).set_index("name").loc["accuracy"]
    assert row["mt"] == pytest.approx(0.7) and row["mt_diverged"] == 2
    assert row["st_diverged"] == 0


def test_a_task_without_test_values():
    df = frame(
        *runs("single", [0.5]),
        *runs("multi", [0.6]),
        *runs("single", [0.5], task="b"),
    )
    table = analysis.transfer(df).query("task == 'b'")
    assert not table["comparable"].any() and len(table) == 2
    assert table["reason"].tolist()[0] == "no test accuracy of 'multi'"
    (delta,) = analysis.delta_m(df).to_dict("records")
    assert np.isnan(delta["delta_m"]) and not delta["comparable"]
    assert delta["reason"] == "b: no test accuracy of 'multi'"


def two_tasks(seeds=2):
    """Take a: accuracy .5 to .6 (+20%), mse .4 to .5 (-25%); b: .8 to .4 (-50%)."""
    curves = []
    for seed in range(seeds):
        for v, accuracy, mse, other in (
            ("single", 0.5, 0.4, 0.8),
            ("multi", 0.6, 0.5, 0.4),
        ):
            spread = (seed - (seeds - 1) / 2) / 10
            scores = {"accuracy": accuracy + spread, "mse": mse}
            curves.append(curve(v, PROBE, seed=seed, task="a", **scores))
            curves.append(curve(v, PROBE, seed=seed, task="b", accuracy=other))
    return frame(*curves)


def test_delta_m_by_hand():
    (row,) = analysis.delta_m(two_tasks()).to_dict("records")
    assert row["delta_m"] == pytest.approx(((20 - 25) / 2 - 50) / 2)
    # MT follows ST seed by seed, and so does Delta_m.
    assert row["low"] == pytest.approx(row["delta_m"]) and row["tasks"] == 2
    assert row["seeds"] == 2 and row["comparable"]
    (row,) = analysis.delta_m(two_tasks(), over_tasks=True).to_dict("records")
    middle, error = -26.25, (50 - 2.5) / 2  # of -2.5 and -50 %
    ends = [middle - 12.706 * error, middle + 12.706 * error]
    assert [row["low"], row["high"]] == pytest.approx(ends, rel=1e-4)
    (row,) = analysis.delta_m(two_tasks(seeds=1)).to_dict("records")
    assert row["delta_m"] == pytest.approx(((20 - 25) / 2 - 50) / 2)
    assert np.isnan(row["low"]) and row["reason"] == "1 common seed, fewer than 2"


def test_delta_m_of_the_loss_where_there_is_no_score():
    df = frame(curve("single", PROBE, test=0.5), curve("multi", PROBE, test=0.4))
    (row,) = analysis.delta_m(df).to_dict("records")
    assert row["delta_m"] == pytest.approx(20)


def test_delta_m_of_negative_scores_keeps_its_sign():
    df = frame(*runs("single", [-0.5]), *runs("multi", [-0.4]))
    (row,) = analysis.delta_m(df).to_dict("records")
    assert row["delta_m"] == pytest.approx(20)


def test_delta_m_is_not_defined_against_zero():
    df = frame(*runs("single", [0.0]), *runs("multi", [0.6]))
    (row,) = analysis.delta_m(df).to_dict("records")
    assert np.isnan(row["delta_m"]) and "of ST is 0 in seed 0" in row["reason"]
    assert not row["comparable"]


def with_zeros(zeros, seeds=5):
    """Make ST's accuracy of a 0 in some seeds, MT's better, and b worse by 50 %."""
    curves = []
    for seed in range(seeds):
        alone = 0.0 if seed < zeros else 0.3
        for v, a, b in (("single", alone, 0.8), ("multi", 0.3, 0.4)):
            curves.append(curve(v, PROBE, seed=seed, task="a", accuracy=a))
            curves.append(curve(v, PROBE, seed=seed, task="b", accuracy=b))
    return frame(*curves)


@pytest.mark.parametrize("zeros", [1, 2, 4, 5])
def test_delta_m_against_a_zero_is_never_that_of_the_other_tasks(zeros):
    """Leave Delta_m undefined where ST of a is 0: it is not the -50 % of b."""
    (row,) = analysis.delta_m(with_zeros(zeros)).to_dict("records")
    assert np.isnan([row["delta_m"], row["low"], row["high"]]).all()
    assert not row["comparable"] and row["reason"].startswith("a: the accuracy of ST")
    assert "in seed 0" in row["reason"]
    (row,) = analysis.delta_m(with_zeros(0)).to_dict("records")
    assert row["delta_m"] == pytest.approx(-25) and row["high"] == pytest.approx(-25)


def test_scores_of_ST_that_cancel():
    df = frame(*runs("single", [-0.5, 0.5]), *runs("multi", [0.5, 0.6]))
    (row,) = analysis.delta_m(df).to_dict("records")
    assert np.isnan(row["delta_m"]) and "of ST is 0 on average" in row["reason"]


def test_delta_m_of_two_mt_variants_is_paired():
    """Two optimizers that differ by the same in every seed, whatever the seed does."""
    seeds = [0.2, 0.5, 0.8]
    df = frame(
        *runs("multi", seeds),
        *runs("multi-pcgrad", [value + 0.01 for value in seeds]),
    )
    (row,) = analysis.delta_m(df, "multi").to_dict("records")
    ends = [row["delta_m"], row["low"], row["high"]]
    assert ends == pytest.approx([2, 2, 2])


def test_variants_lend_each_other_what_is_known_of_the_variance():
    rng = np.random.default_rng(0)
    names = [f"multi-{k}" for k in range(6)]
    values = 0.5 + 0.01 * rng.normal(size=(6, 3))
    curves = [c for n, v in zip(names, values, strict=True) for c in runs(n, v)]
    table = analysis.delta_m(frame(*runs("multi", [0.5] * 3), *curves), "multi")
    expected = moderated(list(100 * (values - 0.5) / 0.5))
    ends = [[mean.low, mean.high] for mean in expected]
    np.testing.assert_allclose(table[["low", "high"]], ends)


def grouped(*curves, **groups):
    """Make records with the group and target of every variant."""
    df = frame(*curves)
    named = {name.replace("_", ":"): group for name, group in groups.items()}
    pairs = [named.get(variant, ("", "")) for variant in df["variant"]]
    return df.assign(group=[g for g, _ in pairs], target=[t for _, t in pairs])


def test_of_a_variant_with_a_target_only_the_target_counts():
    df = grouped(
        *(c for task in "abc" for c in runs("single", [0.5, 0.5], task=task)),
        *runs("multi:x", [0.6, 0.7], task="a"),
        *runs("multi:x", [0.1, 0.1], task="b"),
        *runs("multi:y", [0.6, 0.7], task="a"),
        *runs("multi:y", [0.4, 0.3], task="b"),
        multi_x=("a/b", "a"),
        multi_y=("a+b", ""),
    )
    table = analysis.transfer(df).query("name == 'accuracy'")
    pairs = table[["variant", "task"]].to_numpy().tolist()
    assert pairs == [["multi:x", "a"], ["multi:y", "a"], ["multi:y", "b"]]
    deltas = analysis.delta_m(df).set_index("variant")
    assert deltas["delta_m"].to_dict() == pytest.approx({"multi:x": 30, "multi:y": 0})
    assert deltas["tasks"].to_dict() == {"multi:x": 1, "multi:y": 2}


def test_an_smto_is_held_against_the_sum_of_its_group():
    df = grouped(
        *runs("multi:x", [0.5, 0.5]),
        *runs("multi-pcgrad:x", [0.6, 0.6]),
        *runs("multi:y", [0.1, 0.1]),
        multi_x=("a/b", "a"),
        multi_y=("a/c", "a"),
    )
    (row,) = analysis.delta_m(df, "multi").to_dict("records")
    assert row["baseline"] == "multi:x" and row["delta_m"] == pytest.approx(20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "alone"}, "baseline 'alone'; the records are of: single, multi"),
        ({"split": "tset"}, "no values of split 'tset'"),
    ],
)
def test_input_errors(options, message):
    df = frame(*runs("single", [0.5]), *runs("multi", [0.6]))
    for function in (analysis.transfer, analysis.delta_m):
        with pytest.raises(InputError, match=message):
            function(df, **options)
    with pytest.raises(InputError, match="nothing to hold against"):
        analysis.transfer(frame(*runs("single", [0.5])))
