import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mtl_jax import analysis
from mtl_jax.analysis.correlation import rank_correlation
from mtl_jax.types import InputError


def table(x, y, setting="s", **columns):
    """Make a row per task, in two bins of two seeds that scatter about its values."""
    rows = [
        {"setting": setting, "task": f"t{k}", "seed": seed, "bin": b, "reason": ""}
        | {"contrast": one + seed + b - 1, "gap": two, "comparable": True, **columns}
        for k, (one, two) in enumerate(zip(x, y, strict=True))
        for seed in (0, 1)
        for b in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def of(result, statistic="spearman", setting="s"):
    rows = result[(result["statistic"] == statistic) & (result["setting"] == setting)]
    return rows.iloc[0]


X, Y = np.array([3.0, -1, 4, 1.5, -5, 9, 2, 6]), np.array([2.0, 7, 1, -8, 2.5, 8, 3, 4])


def test_units_are_tasks():
    row = of(analysis.correlate(table(X, Y)))
    assert row["value"] == pytest.approx(stats.spearmanr(X, Y)[0])
    assert (row["observations"], row["tasks"]) == (8, 8)
    rho, z = row["value"], np.arctanh(row["value"])
    error = ((1 + rho**2 / 2) / (7 - 2)) ** 0.5
    assert np.arctanh(row["high"]) == pytest.approx(z + 1.96 * error, abs=1e-3)
    tau = of(analysis.correlate(table(X, Y)), "kendall")["value"]
    assert tau == pytest.approx(stats.kendalltau(X, Y)[0])
    same = of(analysis.correlate(table(X, Y)), "sign_agreement")["value"]
    assert same == np.mean(X * Y > 0)


def test_levels_and_scales_of_settings_do_not_count():
    df = pd.concat([table(X, Y), table(100 * X + 7, Y - 50, "other")])
    result = analysis.correlate(df)
    both = of(result, setting="")
    assert both["value"] == pytest.approx(of(result)["value"])
    assert both["settings"] == 2 and both["high"] < of(result)["high"]


def test_few_tasks_and_constants_have_no_correlation():
    assert of(analysis.correlate(table(X[:3], Y[:3])))["reason"] == "few tasks"
    row = of(analysis.correlate(table(X, np.full(8, 0.1))))
    assert np.isnan(row["value"]) and "constant" in row["reason"]
    none = table(X, Y).assign(comparable=False)
    assert of(analysis.correlate(none))["not_comparable"] == 8


def test_only_lasting_bins_and_whole_rows_count():
    df = table(X, Y, lasting=True)
    more = df.assign(contrast=99.0, lasting=False)
    gone = df.assign(contrast=np.nan)
    result = of(analysis.correlate(pd.concat([df, more, gone])))
    assert result["value"] == of(analysis.correlate(df))["value"]
    assert result["missing"] == len(gone)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_intervals_cover(rho):
    rng = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's, of normal values
    held = []
    for _ in range(300):
        x = rng.normal(size=20)
        y = rho * x + (1 - rho**2) ** 0.5 * rng.normal(size=20)
        found = rank_correlation(x, y)
        held.append(found.low <= true <= found.high)
    assert np.mean(held) >= 0.92


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="lacks contrast"):
        analysis.correlate(table(X, Y).drop(columns="contrast"))
