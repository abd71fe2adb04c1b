"""Groups on the page and in the terminal: shown where there are some, with reasons."""

import io
import itertools

import numpy as np
import pytest
from rich.console import Console

from mtl_jax.analysis.grouping import ranking, tabulate
from mtl_jax.report import findings, group_pictures, grouping, page
from mtl_jax.report.text import DASH
from tests import workdirs
from tests.analysis.group_records import COUNT, PAIRS, TASKS, TRIPLES, effects, records
from tests.report.test_report import Page, check_tables


@pytest.fixture(scope="module")
def df():
    return records(effects(), [*PAIRS, *TRIPLES])


def said(df, data=None, budget=2, by=()):
    """Return what the command prints."""
    stream = io.StringIO()
    console = Console(file=stream, width=250, markup=False, highlight=False)
    for part in grouping.told(df, data, budget, by):
        console.print(part)
    return stream.getvalue()


def test_the_command_tells_ranks_groups_and_what_is_missing(df):
    text = said(df, tabulate(np.ones((COUNT, COUNT)), TASKS, "overlap", "s"), budget=3)
    (row,) = (
        line for line in text.splitlines() if "(HOA)" in line and "groups" in line
    )
    assert "+1.00" in row and "5 of 5" in row and "250" in row
    assert "at most 3 models" in text and "all together" in text
    assert "tag: not in the records; it needs the variant multi with the" in text
    assert "hoa: not" not in text and "overlap of inputs" in text
    few = said(df, by=["hoa"])
    assert "(HOA)" in few and "by loss" not in few and "tag" not in few


def test_what_cannot_be_ranked_is_a_line(df):
    three = df[df["task"].isin(TASKS[:3])]
    whole = three["group"].map(lambda name: set(name.split("+")) <= {*TASKS[:3], ""})
    text = said(three[whole])
    assert "pairs: a task has at most 2 such groups, fewer than 3" in text
    assert "Which predictor" not in text and "a+b" in text
    alone = df[df["variant"] == "single"]
    assert "no groups: train the variants single, multi and multi:pairs." in said(alone)


def test_groups_that_were_not_trained_are_named():
    pairs = np.full((COUNT, COUNT), -4.0)
    pairs[:4, :4] = 8.0
    assert "not trained: multi:a+b+c+d" in said(records(pairs, PAIRS))


@pytest.fixture
def bare(monkeypatch):
    """Draw groups alone: the rest is tested elsewhere."""
    monkeypatch.setattr(page, "pictures", lambda made, *_: group_pictures.pairs(made))
    monkeypatch.setattr(page, "javascript", lambda: "")
    monkeypatch.setattr(page.claim_pictures, "pictures", lambda *_: [])


@pytest.mark.usefixtures("bare")
def test_the_page_has_ranks_and_pairs(tmp_path):
    tasks = TASKS[:4]
    groups = ["+".join(pair) for pair in itertools.combinations(tasks, 2)]
    variants = ("single", "multi", *(f"multi:{group}" for group in groups))
    rows = [
        {**row, "group": group}
        for row in workdirs.trajectories(
            variants, tasks, steps=(0, 5, 20, 100), factors=()
        )
        for group in [row["variant"].partition(":")[2]]
        if not group or row["task"] in group.split("+")
    ]
    folder = workdirs.write(tmp_path / "run", rows)
    made = findings.find(folder)
    parsed = Page(page.compose([made], folder / "report"))
    check_tables(parsed)
    assert "table-grouping" in parsed.ids and list(parsed.pictures) == ["pairs"]
    assert "Which predictor ranks the transfer of groups?" in parsed.words
    (picture,) = group_pictures.pairs(made)
    cells = picture.panels[0].rows.set_index(["column", "row"])["value"]
    means = made.transfers.groupby(["target", "group"])["value"].mean()
    assert len(cells) == 4 * 3
    assert cells["a", "b"] == means["a", "a+b"] != cells["b", "a"] == means["b", "a+b"]


@pytest.mark.usefixtures("bare")
def test_a_page_without_groups_says_nothing_of_them(tmp_path):
    rows = workdirs.trajectories(("single", "multi"), factors=())
    folder = workdirs.write(tmp_path / "run", rows)
    made = findings.find(folder)
    assert made.ranking.empty and made.transfers.empty
    parsed = Page(page.compose([made], folder / "report"))
    assert "table-grouping" not in parsed.ids and not parsed.pictures


def test_a_missing_number_is_a_dash():
    table = ranking(records(effects(), PAIRS))
    table = table[(table["over"] == "pairs")]
    shown = grouping.ranked(table[table["measured"] == "score"])
    assert {row[3].text for row in shown.rows} == {DASH}
