from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mtl_jax import analysis
from mtl_jax.analysis.claims import explanation, harm, persistence, remedy
from mtl_jax.analysis.claims.harm import Affected
from mtl_jax.analysis.claims.paired import gaps as paired_gaps
from mtl_jax.analysis.claims.row import ClaimRow
from mtl_jax.analysis.interval import (
    Mean,
    holm,
    mean_of,
    negligible,
    p_above,
    p_below,
    p_nonzero,
    paired_t,
)
from mtl_jax.types import InputError
from tests.analysis.studies import FACTORS, paired, study
from tests.analysis.synthetic import curve, frame

# Of three seeds: the interval is the mean +- 2.484, p is that of t = mean / 0.577.
THERE = [9, 10, 11]
TURNED = [-9, -10, -11]
ABSENT = [-1, 0, 1]
UNCLEAR = [-10, 0, 10]


def summary(rows):
    """Collect verdicts of claims by setting."""
    return {row.setting: row.verdict for row in rows if not row.subject}


def test_t_intervals_and_p_values_from_tables():
    mean = paired_t(np.array([1.0, 2.0, 3.0]))
    assert (mean.value, mean.df) == (2, 2)
    assert mean.high - 2 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert p_nonzero(mean) == pytest.approx(0.0742, abs=1e-4)
    assert p_above(mean, 5) == 1 and p_below(mean, mean.high) == pytest.approx(0.05)
    assert p_above(Mean(1.96, 1.0, np.inf)) == pytest.approx(0.05, abs=1e-4)
    assert negligible(mean, 3.7) and not negligible(mean, 3.6)  # 2 + 1.686
    assert negligible(mean, 4.5, 0.025) and not negligible(mean, 4.4, 0.025)
    assert np.isnan(paired_t(np.ones(1)).low) and p_nonzero(paired_t(np.ones(1))) == 1


def test_values_that_are_all_alike_need_no_division():
    alike, nothing = paired_t(np.full(3, 0.3)), paired_t(np.zeros(3))
    assert (alike.low, alike.high) == pytest.approx((0.3, 0.3))
    assert p_above(alike) == 0 and p_above(alike, 0.3) == p_below(alike) == 1
    assert p_nonzero(nothing) == 1 and negligible(nothing, 0.1)
    assert mean_of([alike, nothing]).low == pytest.approx(0.15)


def test_means_of_settings_have_welch_s_degrees_of_freedom():
    mean = mean_of([Mean(1, 0.3, 2), Mean(2, 0.4, 4)])
    assert mean.value == 1.5 and mean.error == pytest.approx(0.25)
    assert mean.df == pytest.approx(0.0625**2 / (0.0225**2 / 2 + 0.04**2 / 4))


def test_holm_multiplies_by_the_tests_that_are_left():
    assert holm([0.01, 0.04, 0.02, 0.9]) == pytest.approx([0.04, 0.08, 0.06, 0.9])
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04]) and holm([]) == []


def gap_verdict(*tasks):
    rows = persistence.judge(
        [
            paired(str(k), early=early, late=late)
            for k, (early, late) in enumerate(tasks)
        ],
        ["s"],
        "multi",
        5.0,
    )
    assert rows[2].verdict == rows[5].verdict  # one setting is all settings
    return [row.verdict for row in rows[:3]]


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        (THERE, THERE, ["supported", "supported", "supported"]),
        (TURNED, TURNED, ["supported", "supported", "supported"]),
        (THERE, ABSENT, ["supported", "contradicted", "contradicted"]),
        (ABSENT, THERE, ["contradicted", "supported", "contradicted"]),
        (THERE, TURNED, ["supported", "supported", "contradicted"]),
        (THERE, UNCLEAR, ["supported", "inconclusive", "inconclusive"]),
        (UNCLEAR, ABSENT, ["inconclusive", "contradicted", "contradicted"]),
        # Surely not 0 (1.5 +- 1.2), and surely within the margin.
        ([1, 1.5, 2], [1, 1.5, 2], ["contradicted"] * 3),
        ([3, 4, 5], [3, 4, 5], ["supported"] * 3),
    ],
)
def test_a_gap_persists_if_it_is_there_early_and_late(early, late, expected):
    assert gap_verdict((early, late)) == expected


def test_one_lasting_gap_among_many_tasks():
    """Variances of one size lend each other degrees of freedom; p is Holm's."""
    lasting, unclear, gone = (THERE, THERE), (UNCLEAR, UNCLEAR), (ABSENT, ABSENT)
    alone = [(5 * np.array(ABSENT) + 20, 5 * np.array(ABSENT) + 20)]
    assert gap_verdict(*alone)[-1] == "supported"
    noisy = tuple(3 * np.array(values) for values in unclear)
    assert gap_verdict(*alone, *[noisy] * 2)[-1] == "inconclusive"
    assert gap_verdict(*alone, *[(5 * np.array(ABSENT),) * 2] * 14)[-1] == "supported"
    assert gap_verdict(lasting, gone)[-1] == "supported"
    assert gap_verdict(unclear, gone)[-1] == "inconclusive"
    assert gap_verdict(gone, gone)[-1] == "contradicted"


def test_a_contradicted_setting_keeps_the_claim_open():
    tasks = [
        paired("a", "one", early=THERE, late=THERE),
        paired("a", "two", early=THERE, late=ABSENT),
    ]
    rows = persistence.judge(tasks, ["one", "two"], "multi", 5.0)
    expected = {"one": "supported", "two": "contradicted", "": "inconclusive"}
    assert summary(rows) == expected
    assert rows[-1].reason.startswith("contradicted in 1 of 2 settings (two)")
    assert rows[-1].p == pytest.approx(2 * rows[2].p)


def test_effect_of_a_gap_is_the_late_one_in_the_direction_of_other_seeds():
    task = paired(early=[1, 1, -3], late=[4, 5, 6])
    lasting = persistence.with_lasting(task).values["lasting"]
    assert lasting.tolist() == [-4, -5, 6]
    row = persistence.judge([task], ["s"], "multi", 5.0)[2]
    assert row.effect == -1 and row.sign_consistency == pytest.approx(2 / 3)


AGREES = (THERE, [0.4, 0.5, 0.6])
OPPOSITE = (THERE, [-0.49, -0.5, -0.51])
SAME = (TURNED, [-0.01, 0, 0.01])  # a gap without a contrast
OPEN = (THERE, [-1, 0.5, 1.2])
NO_GAP = (ABSENT, [0.4, 0.5, 0.6])


def factor_of(*tasks, name="f", setting="s"):
    named = [
        paired(str(k), setting, gap=g, contrast=c) for k, (g, c) in enumerate(tasks)
    ]
    return explanation.Factor(name, named, {})


def factor_verdict(*tasks):
    rows = explanation.judge([factor_of(*tasks)], ["s"], "multi", 5.0)
    assert {row.verdict for row in rows} == {rows[0].verdict}
    return rows[0].verdict


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([OPPOSITE], "supported"),
        ([SAME], "supported"),
        ([AGREES], "inconclusive"),
        ([AGREES] * 4, "inconclusive"),  # by chance, once in 16
        ([AGREES] * 5, "contradicted"),
        ([AGREES] * 5 + [OPEN], "contradicted"),
        ([AGREES] * 5 + [OPEN] * 2, "inconclusive"),  # 5 of 7 are not nearly all
        ([AGREES] * 8 + [OPEN] * 2, "contradicted"),
        ([AGREES] * 5 + [NO_GAP] * 9, "contradicted"),
        ([AGREES] * 5 + [OPPOSITE], "supported"),
        # The counterexample is one of many, but it keeps from a contradiction.
        ([AGREES] * 16 + [OPPOSITE], "supported"),
        ([NO_GAP] * 3, "not comparable"),
        ([], "not comparable"),
    ],
)
def test_a_factor_explains_if_enough_tasks_agree_and_none_does_not(tasks, expected):
    assert factor_verdict(*tasks) == expected


def test_every_factor_has_to_fail():
    fails, explains = factor_of(OPPOSITE), factor_of(*[AGREES] * 5, name="g")
    unclear, none = factor_of(AGREES, name="h"), factor_of(NO_GAP, name="i")

    def judged(*factors):
        row = explanation.judge(factors, ["s"], "multi", 5.0)[-1]
        return row.verdict, row.reason

    assert judged(fails, fails) == ("supported", "")
    assert judged(fails, unclear) == ("inconclusive", "")
    assert judged(fails, explains) == ("contradicted", "")
    why = "i: none of 1 task has a gap to be explained"
    assert judged(fails, none) == ("supported", why)
    assert judged(none)[0] == "not comparable"


def test_a_factor_that_explains_one_setting_alone_is_not_consistent():
    first = factor_of(*[AGREES] * 5, setting="one").tasks
    second = factor_of(OPPOSITE, setting="two").tasks
    both = explanation.Factor("f", [*first, *second], {})
    rows = explanation.judge([both], ["one", "two"], "multi", 5.0)
    expected = {"one": "contradicted", "two": "supported", "": "supported"}
    assert summary(rows) == expected


def tasks_of(conflict, optimization, generalization=None, setting="s"):
    other = [0.0] * len(conflict) if generalization is None else generalization
    return [
        Affected(
            setting,
            str(k),
            "",
            c,
            {"optimization": d, "generalization": g, "transfer": -g},
            3,
        )
        for k, (c, d, g) in enumerate(zip(conflict, optimization, other, strict=True))
    ]


def test_a_perfect_order_of_five_tasks():
    """Take half a swap of neighbours from 1: 0.95; the exact p is 2 / 5!."""
    correlation = harm.correlation(
        tasks_of(range(5), [1, 2, 30, 31, 99]), "optimization"
    )
    z, error = np.arctanh(0.95), ((1 + 0.95**2 / 2) / 2) ** 0.5
    assert correlation.z[:2] == pytest.approx((z, error)) and correlation.df == 4
    assert 2 / 120 < p_nonzero(correlation.z) < 0.05 and correlation.units == 5


def test_degrees_of_freedom_are_those_within_settings():
    """Leave out levels and scales of settings, and settings of two tasks."""
    three = range(3)
    first = tasks_of(three, [1, 2, 3], setting="one")
    second = tasks_of([c + 9 for c in three], [300, 200, 100], setting="two")
    pair = tasks_of([1, 2], [5, 6], setting="pair")
    correlation = harm.correlation([*first, *second, *pair], "optimization")
    assert (correlation.z.value, correlation.df, correlation.units) == (0, 4, 6)
    rows = harm.judge([*first, *pair], ["one", "pair"], "multi", 0.5)
    assert set(summary(rows).values()) == {"not comparable"}
    assert rows[3].reason.startswith("2 degrees of freedom (tasks - 1, of groups")
    assert rows[7].reason.startswith("0 degrees of freedom")


RANKS = np.arange(60.0)
SHUFFLED = np.random.default_rng(3).permutation(60)  # rho = .06
TILTED = RANKS + 45 * np.random.default_rng(1).normal(size=60)


@pytest.mark.parametrize(
    ("optimization", "generalization", "expected"),
    [
        (RANKS, SHUFFLED, "supported"),
        (-RANKS, SHUFFLED, "contradicted"),
        (SHUFFLED, SHUFFLED, "contradicted"),  # no harm
        (RANKS, RANKS, "contradicted"),
        (RANKS, -RANKS, "contradicted"),
        (RANKS, TILTED, "inconclusive"),  # .48: around the margin
        (TILTED, SHUFFLED, "supported"),
    ],
)
def test_conflict_has_to_harm_optimization_alone(
    optimization, generalization, expected
):
    tasks = tasks_of(RANKS, optimization, generalization)
    assert summary(harm.judge(tasks, ["s"], "multi", 0.5))["s"] == expected


def remedy_of(*delta_m, change=(30, 31, 32), name="multi-a", settings="st"):
    transfer = [
        paired("", s, delta_m=values, better=np.array(values) > 0)
        for s, values in zip(settings, delta_m, strict=False)
    ]
    optimization = [paired("t", task.setting, D=change) for task in transfer]
    return remedy.Remedy(name, transfer, optimization)


HELPS, FAILS, NOISY = [2, 2.1, 2.2], [0, 0.05, -0.05], [-3, 0, 3]


@pytest.mark.parametrize(
    ("remedies", "expected"),
    [
        ([remedy_of(HELPS)], "contradicted"),
        ([remedy_of(FAILS)], "supported"),
        ([remedy_of(NOISY)], "inconclusive"),
        ([remedy_of(FAILS), remedy_of(NOISY)], "inconclusive"),
        ([remedy_of(FAILS), remedy_of(HELPS)], "contradicted"),
        ([remedy_of(FAILS, change=(-1, 0, 1))], "had no effect"),
        ([remedy_of([0, 0, 0], change=(0, 0, 0))], "had no effect"),
        ([remedy_of(FAILS, change=(-9, 0, 9))], "inconclusive"),
        ([remedy_of(FAILS), remedy_of(FAILS, change=(-1, 0, 1))], "supported"),
        # Better than the sum (.2 +- .12), by less than the margin.
        ([remedy_of([0.15, 0.2, 0.25])], "supported"),
        ([remedy_of(HELPS)] + [remedy_of(FAILS)] * 60, "contradicted"),
        # Of optimizers that scatter much more, one that seems not to is not believed.
        ([remedy_of(HELPS)] + [remedy_of(NOISY)] * 60, "inconclusive"),
        # One that never acts says nothing, for or against.
        ([remedy_of([0, 0, 0], change=(0, 0, 0)), remedy_of(FAILS)], "supported"),
    ],
)
def test_a_remedy_helps_or_does_not(remedies, expected):
    rows = remedy.judge(remedies, ["s"], 5.0, 0.5)
    assert summary(rows) == {"s": expected, "": expected}


@pytest.mark.parametrize(
    ("delta_m", "expected"),
    [
        ([HELPS, HELPS], "contradicted"),
        ([HELPS, FAILS], "supported"),  # not in each setting
        ([HELPS, NOISY], "inconclusive"),
        ([NOISY, FAILS], "supported"),
    ],
)
def test_reliably_is_in_every_setting(delta_m, expected):
    rows = remedy.judge([remedy_of(*delta_m)], ["s", "t"], 5.0, 0.5)
    assert rows[-1].verdict == expected


# What follows goes from records to verdicts.


def overall(df, measure="loss", **options):
    verdicts = analysis.claims(df, **options)
    assert list(verdicts.columns) == list(ClaimRow._fields)
    assert set(verdicts["verdict"]) <= {
        "supported",
        "contradicted",
        "inconclusive",
        "had no effect",
        "not comparable",
    }
    assert set(verdicts["measure"]) == {"score", "loss"}
    bare = verdicts["verdict"] == "not comparable"
    assert (verdicts[bare]["reason"] != "").all()
    rows = verdicts[(verdicts["setting"] == "") & (verdicts["subject"] == "")]
    rows = rows[(rows["measure"] == measure) | (rows["claim"] == "C3")]
    return rows.set_index("claim")


SIGNAL: Any = {"gap": 0.3, "unlike": -0.5, "harm": 0.4, "change": 0.2}


def test_records_in_which_the_claims_hold():
    rng = np.random.default_rng(0)
    df = pd.concat([study(rng, tasks=4, setting=s, **SIGNAL) for s in "rs"])
    verdicts = overall(df)["verdict"].to_dict()
    # Of 2 x 4 tasks, no correlation is surely negligible.
    assert verdicts == {
        "C1": "supported",
        "C2": "supported",
        "C3": "inconclusive",
        "C4": "supported",
    }


def test_records_in_which_the_claims_do_not_hold():
    """Make no gap (C1) and, elsewhere, factors that explain one; SMTOs that help."""
    rng = np.random.default_rng(1)
    nothing = study(rng, tasks=2, noise=0.002, help=0.05)
    verdicts, scores = overall(nothing), overall(nothing, "score")
    assert verdicts.loc["C1", "verdict"] == "contradicted"
    assert scores.loc["C4", "verdict"] == "contradicted"
    assert verdicts.loc["C4", "verdict"] == "had no effect"  # on the loss
    assert verdicts.loc["C2", "verdict"] == "not comparable"
    explained = study(rng, gap=0.3, explained=0.5, harm=-0.4, optimizers=())
    verdicts = overall(explained)["verdict"].to_dict()
    assert (verdicts["C2"], verdicts["C3"]) == ("contradicted", "contradicted")


@pytest.fixture(scope="module")
def records():
    return study(np.random.default_rng(2), tasks=3, **SIGNAL)


@pytest.fixture(scope="module")
def judged(records):
    return analysis.claims(records)


def test_numbers_are_those_of_the_other_tables(records, judged):
    effects = judged.query("setting == 's'")
    effects = effects.set_index(["measure", "claim", "subject"])["effect"]
    delta_m = analysis.delta_m(records, "multi").query("variant == 'multi-pcgrad'")
    assert effects["score", "C4", "transfer"] == pytest.approx(
        delta_m["delta_m"].iloc[0]
    )
    early = {}
    for task, gaps in analysis.gap(records).query("lasting").groupby("task"):
        bins = gaps["bin"].unique()
        third = round(len(bins) / 3)
        ends = [gaps[gaps["bin"].isin(part)] for part in (bins[:third], bins[-third:])]
        first, last = (rows.groupby("seed")[["gap", "st"]].mean() for rows in ends)
        both = first[first["gap"].notna() & last["gap"].notna()]
        early[task] = 100 * both["gap"] / both["st"].mean()
    of_all = pd.DataFrame(early).dropna()  # seeds that all tasks have
    expected = of_all.to_numpy().mean()
    assert effects["loss", "C1", "early"] == pytest.approx(expected)
    losses = records.query("split == 'probe' and name == 'loss'")
    means = losses.groupby(["variant", "task"])["value"].mean()
    ratio = means["multi-pcgrad"] / means["multi"] - 1
    assert effects["loss", "C4", "optimization"] == pytest.approx(100 * ratio.mean())
    affected = harm.observe(
        records,
        paired_gaps(records, ["multi"], "single", "test", 20, "loss"),
        variants=["multi"],
        baseline="single",
        split="test",
    )
    conflict = (
        analysis.conflict_effects(records).groupby("task").mean(numeric_only=True)
    )
    assert [task.conflict for task in affected] == pytest.approx(conflict["conflict"])
    ratio = 100 * (means["multi"] / means["single"] - 1)
    shown = [task.outcomes["optimization"] for task in affected]
    assert shown == pytest.approx(ratio.tolist())


def test_seeds_are_paired():
    """Give seed k a gap of k / 10 in ST; in MT, 1 more."""
    losses = np.array([2.0, 1.0, 0.5, 0.1])
    curves = [
        curve(variant, losses, test=1 + seed / 10 + more, seed=seed)
        for variant, seeds, more in (("single", (0, 1, 2), 0), ("multi", (3, 2, 1), 1))
        for seed in seeds
    ]
    (pair,) = paired_gaps(frame(*curves), ["multi"], "single", "test", 20, "loss")
    assert pair.seeds == [1, 2]
    # Of ST's loss, of which the mean over both seeds is 1.15.
    assert pair.values["late"] == pytest.approx([100 / 1.15] * 2)


def test_correlations_of_verdicts_are_those_of_the_tables(records, judged):
    effects = judged.query("claim == 'C2' and setting == 's' and measure == 'loss'")
    effects = effects.set_index("subject")["effect"]
    table = analysis.correlate(analysis.contrasts(records, FACTORS))
    rho = table.query("statistic == 'spearman'").set_index("factor")["value"]
    assert effects[list(FACTORS)].to_dict() == rho.to_dict()


def test_the_score_and_the_loss_may_say_different_things():
    """Let MT be worse in the test loss of every task, and as good in the score."""
    rng = np.random.default_rng(0)
    df = study(rng, gap=0.3, tasks=4, noise=0.001)
    verdicts = [
        overall(df, measure).loc["C1", "verdict"] for measure in ("loss", "score")
    ]
    assert verdicts == ["supported", "contradicted"]


def test_auxiliary_sets_of_a_target_are_the_units_of_conflict():
    """Let conflict harm optimization over sets, and the score be as it may."""
    rng = np.random.default_rng(0)
    fall, curves = np.linspace(1.0, -2.0, 12), []
    scores = np.random.default_rng(1).permutation(12) / 100
    for seed in range(2):
        curves.append(curve("single", np.exp(fall), seed=seed, accuracy=0.5))
        for k in range(12):
            log_loss = fall + 0.01 * k + 0.001 * rng.normal()
            curves.append(
                curve(f"multi:a/1.{k}", np.exp(log_loss), seed=seed,
                      test=2.0 + 0.1 * fall + scores[k],
                      accuracy=0.5 + scores[k],
                      factors={("gradient_similarity", "shared"): -k / 12})
            )  # fmt: skip
    df = frame(*curves)
    df["target"] = np.where(df["variant"] == "single", "", "a")
    rows = analysis.claims(df).query("claim == 'C3' and setting == 's'")
    rows = rows.set_index("subject")
    assert rows.loc["optimization", "effect"] > 0.99
    assert set(rows["tasks"]) == {12} and set(rows["seeds"]) == {2}
    assert rows.loc["optimization", "verdict"] == "supported"
    assert abs(rows.loc["transfer", "effect"]) < 0.4


def test_what_is_undecided_says_what_would_decide_it():
    task = paired(early=[-10, 0, 10], late=[-10, 0, 10])
    row = persistence.judge([task], ["s"], "multi", 5.0)[-1]
    assert (row.verdict, row.needed_of) == ("inconclusive", "seeds")
    n = row.needed  # t(n - 1) * 10 / sqrt(n) is to be below 5
    limits = [stats.t.ppf(0.95, k - 1) * 10 / k**0.5 for k in (n - 1, n)]
    assert limits[1] < 5 <= limits[0]
    units = tasks_of(range(4), [1, 3, 2, 4])
    row = harm.judge(units, ["s"], "multi", 0.6)[-1]
    assert (row.needed, row.needed_of) == (5, "tasks")


def test_a_setting_does_not_depend_on_the_others(records, judged):
    other = study(np.random.default_rng(3), gap=0.1, setting="a", tasks=2)
    beside = analysis.claims(pd.concat([other, records]))
    first, second = (
        df[df["setting"] == "s"].reset_index(drop=True) for df in (judged, beside)
    )
    pd.testing.assert_frame_equal(first, second)


def test_tasks_may_have_rates_of_their_own(records, judged):
    rate = records["task"].map({"t0": 1e-2, "t1": 1e-3}).fillna(1e-4)
    tuned = records.assign(
        learning_rate=rate.where(records["variant"] == "multi", 1e-3)
    )
    pd.testing.assert_frame_equal(analysis.claims(tuned), judged)
    with pytest.raises(InputError, match="task 't0' with 2 pairs"):
        analysis.claims(pd.concat([tuned, records]))


def without(column, *values):
    return lambda df: df[~df[column].isin(values)]


def diverged(df):
    """Mark all but one seed of MT."""
    marks = df[(df["variant"] == "multi") & (df["seed"] > 0)].drop_duplicates("seed")
    return pd.concat([df, marks.assign(task="", name="diverged", step=3)])


def apart(df):
    at = (df["variant"] == "multi") & (df["split"] == "probe") & (df["name"] == "loss")
    return df.assign(value=df["value"].where(~at, df["value"] * 1e6))


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (
            without("seed", 1, 2),
            dict.fromkeys(("C1", "C2", "C4"), "1 common sound seed, fewer than 2"),
        ),
        (diverged, dict.fromkeys(("C1", "C2"), "1 common sound seed, fewer than 2")),
        (without("task", "t1", "t2"), {"C3": "0 degrees of freedom"}),
        (without("variant", "multi-pcgrad"), {"C4": "no SMTO was trained"}),
        (without("variant", "single"), dict.fromkeys(("C1", "C2", "C3"), "'single'")),
        (without("variant", "multi"), dict.fromkeys(("C1", "C2", "C4"), "'multi'")),
        (without("scope", "task"), {"C2": "no factor of adaptive_sharpness_linf, "}),
        (without("scope", "shared"), {"C3": "nor 'mean_cosine'"}),
        (without("split", "test"), dict.fromkeys(("C1", "C2", "C3", "C4"), "'test'")),
        (without("split", "validation"), dict.fromkeys(("C3", "C4"), "'validation'")),
        (without("split", "probe"), {"C1": "no task", "C2": "no factor"}),
        (apart, dict.fromkeys(("C1", "C2"), "no overlap of training losses")),
        (lambda df: df[:0], {"C1": "no task", "C3": "no task", "C4": "no SMTO"}),
    ],
)
def test_what_is_missing_is_said(records, change, reasons):
    verdicts = overall(change(records))
    for claim, reason in reasons.items():
        row = verdicts.loc[claim]
        assert row["verdict"] == "not comparable" and reason in row["reason"], row
        assert np.isnan(row["effect"]) or claim == "C3"


def test_a_factor_that_one_setting_lacks(records):
    bare = study(np.random.default_rng(4), tasks=2, gap=0.3, setting="bare")
    bare = bare[bare["name"] != "coherence"]
    table = analysis.claims(pd.concat([records, bare]))
    row = table[(table["setting"] == "bare") & (table["subject"] == "coherence")]
    assert "no bin with the factor of all seeds (not recorded)" in row["reason"].iloc[0]


def test_runs_that_do_not_differ_from_seed_to_seed():
    """Judge without variance and without warning: the answer is the plain one."""
    options: Any = {"gap": 0.3, "tasks": 3, "noise": 0, "unlike": 0.5, "change": 0.2}
    verdicts = overall(study(np.random.default_rng(0), **options))["verdict"]
    assert verdicts.to_dict() == {
        "C1": "supported",
        "C2": "supported",
        "C3": "not comparable",
        "C4": "supported",
    }


def test_scores_whose_mean_is_zero_have_no_percentage():
    def runs(variant, score):
        return [
            curve(variant, [2.0, 1.0, 0.5], accuracy=score, seed=seed)
            for seed in range(2)
        ]

    df = frame(*runs("single", 0.5), *runs("multi", 0.0), *runs("multi-a", 0.1))
    table = analysis.claims(df).query(
        "claim == 'C4' and setting == 's' and measure == 'score'"
    )
    row = table[table["subject"] == "transfer"].iloc[0]
    assert row["verdict"] == "not comparable" and "not defined" in row["reason"]


def test_missing_columns_are_an_error():
    with pytest.raises(InputError, match="lack the columns"):
        analysis.claims(pd.DataFrame({"setting": []}))


def test_merged_models_are_no_optimizers(records, judged):
    """Let merged models be there, too: the claims say what they said."""
    merged = records[records["variant"] == "multi-pcgrad"]
    both = pd.concat([records, merged.assign(variant="merged-ties")])
    pd.testing.assert_frame_equal(analysis.claims(both), judged)
