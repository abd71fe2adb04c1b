"""Numbers of the page are those that docs/report.md says how to find."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mtl_jax import analysis
from mtl_jax.report import charts, findings, tables
from mtl_jax.storage import records
from tests import workdirs

TEXT = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
LINES = dict(re.findall(r"^\| ([^|]+) \| `(.+)` \|$", TEXT, re.MULTILINE))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    rows = workdirs.trajectories(
        seeds=(0, 1, 2), tasks=("a", "b", "c"), factors=workdirs.FACTORS
    )
    return workdirs.write(tmp_path_factory.mktemp("documented") / "run", rows)


@pytest.fixture(scope="module")
def tables_of(workdir):
    names = {"analysis": analysis, "df": records.read(workdir)}
    return {what: eval(line, names) for what, line in LINES.items()}


def test_every_line_makes_a_table(tables_of):
    assert len(tables_of) == 12
    for what, made in tables_of.items():
        for table in made if isinstance(made, tuple) else (made,):
            assert isinstance(table, pd.DataFrame) and len(table), what


def test_values_of_tasks_are_those_of_the_page(workdir, tables_of):
    analysed = findings.find(workdir)
    shown = tables.tasks(analysed, charts.looks(analysed.variants))
    values = tables_of["Tasks and variants: values"]["mean"]
    differences = tables_of["Tasks and variants: differences"]
    for row in shown.rows:
        task, name = row[0].text, row[1].text.partition(" ")[0]
        factor = 100 if name == "accuracy" else 1
        digits = 0.051 if name == "accuracy" else 0.00051
        for cell, variant in zip(row[2:4], ("single", "multi"), strict=True):
            wanted = factor * values[task, name, variant]
            assert float(cell.text) == pytest.approx(wanted, abs=digits)
        of_task = differences.query("task == @task and name == @name").iloc[0]
        said = float(row[4].text.replace("−", "-"))
        assert said == pytest.approx(factor * of_task["difference"], abs=digits)


def test_gaps_are_those_of_the_page(workdir, tables_of):
    analysed = findings.find(workdir)
    shown = tables.gaps(analysed, charts.looks(analysed.variants))
    found = tables_of["Gap: table"].query("statistic == 'mean'").set_index("task")
    for row in shown.rows:
        if row[1].text in found.index:
            said = float(row[2].text.replace("−", "-"))
            assert said == pytest.approx(found.loc[row[1].text, "value"], abs=6e-4)
