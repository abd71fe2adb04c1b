"""A score that no file of the house has heard of, from training to the page."""

import io

import numpy as np
import pytest
from rich.console import Console

from mtl_jax import analysis
from mtl_jax.objectives.losses import OBJECTIVES, SOFTMAX
from mtl_jax.objectives.scores import Score, mean
from mtl_jax.report import (
    charts,
    findings,
    pictures,
    sweep,
    tables,
    terminal_table,
)
from tests import small

PERPLEXITY = Score(
    SOFTMAX.example_loss,
    lambda sums, count: np.exp(mean(sums, count)),
    higher_is_better=False,
)
RATES = (1e-4, 1e-2)  # the lower rate learns nothing in a dozen steps


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    with pytest.MonkeyPatch.context() as patch, small.compiled_once(folder / "cache"):
        scores = {"perplexity": PERPLEXITY}
        patch.setitem(OBJECTIVES, "softmax", SOFTMAX._replace(scores=scores))
        yield small.run(folder / "run", learning_rates=RATES)


@pytest.fixture(scope="module")
def selected(run):
    return analysis.select(run.records)


@pytest.fixture(scope="module")
def page(run):
    return findings.find(run.path)


def at_best(df):
    """Test perplexities by variant and task, where validation is lowest."""
    rows = df[(df["name"] == "perplexity") & (df["task"] != "")]
    keys = ["variant", "task", "seed"]
    validation = rows[rows["split"] == "validation"]
    best = validation.loc[validation.groupby(keys)["value"].idxmin()]
    test = rows[rows["split"] == "test"].merge(best[[*keys, "step"]])
    return test.groupby(["variant", "task"])["value"].mean()


def test_the_records_declare_it(run):
    declared = run.records.groupby("name")[["direction", "unit"]].agg(set)
    assert declared.loc["perplexity"].tolist() == [{-1}, {""}]
    assert declared.loc["loss"].tolist() == [{-1}, {"nats"}]


def test_the_lowest_is_chosen(run):
    table = analysis.candidates(run.records)
    assert set(table["by"]) == {"perplexity"}
    assert set(table[table["chosen"]]["learning_rate"]) == {RATES[1]}
    chosen = table.groupby(["variant", "task"])["validation"].idxmin()
    assert table.loc[chosen, "chosen"].all()
    points = analysis.best_points(run.records)
    assert (points[points["learning_rate"] == RATES[1]]["step"] > 0).all()


def test_less_counts_as_better(selected):
    means = at_best(selected)
    relative = means["multi"] / means["single"] - 1
    delta_m = analysis.delta_m(selected)["delta_m"]
    np.testing.assert_allclose(delta_m, -100 * relative.mean())
    difference = analysis.transfer(selected).set_index(["name", "task"])["difference"]
    np.testing.assert_allclose(
        difference["perplexity"][means["single"].index],
        means["single"] - means["multi"],
    )


def test_the_gap_is_positive_where_mt_is_better(selected):
    table = analysis.gap(selected, name="perplexity")
    np.testing.assert_allclose(table["gap"], table["st"] - table["mt"])
    assert (table["gap"] != 0).any()


def test_the_closing_table_has_it_as_it_is(run):
    text = io.StringIO()
    Console(file=text, width=200).print(terminal_table.table(run.records))
    last = run.records[run.records["step"] == run.records["step"].max()]
    rows = last.query(f"name == 'perplexity' and learning_rate == {RATES[1]}")
    rows = rows.query("variant == 'multi' and split == 'test'")
    for values in rows.groupby("task")["value"]:
        assert f"{values[1].mean():.3f} ±{values[1].std():.3f}" in text.getvalue()
    assert "(loss: nats)" in text.getvalue()  # and a perplexity has no unit


def test_the_page_has_it_as_it_is(page, selected):
    looks = charts.looks(page.variants)
    rows = [
        row for row in tables.tasks(page, looks).rows if row[1].text != "loss (nats)"
    ]
    means = at_best(selected)
    assert [row[1].text for row in rows] == ["perplexity"] * 3
    assert [row[2].text for row in rows] == [f"{x:.3f}" for x in means["single"]]
    assert {row[4].note for row in tables.candidates(page, looks).rows} == {
        "perplexity"
    }


def test_the_darkest_candidate_is_the_lowest(page):
    (picture,) = sweep.sweep(page, charts.looks(page.variants))
    assert "perplexity, mean over" in picture.caption
    color = picture.panels[0].spec["layer"][0]["encoding"]["color"]
    assert color["scale"]["reverse"]


def test_an_axis_names_it_without_a_unit(page):
    looks = charts.looks(page.variants)
    drawn = pictures.pictures(page, looks, findings.correlations([page]))
    learning = next(picture for picture in drawn if picture.id == "learning")
    layer = learning.panels[-1].spec["layer"][0]
    assert layer["encoding"]["y"]["axis"]["title"] == "test perplexity"
