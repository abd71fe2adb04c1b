"""The paper's experiments: frames that become files, and what is shown of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from mtl_jax.analysis import paper
from mtl_jax.analysis.aggregates import FACTORS
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.deltas import deltas
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.paper.auxiliary import MEASURED
from mtl_jax.analysis.paper.remedies import CHANGES
from mtl_jax.analysis.paper.table import shades_of, table_of
from mtl_jax.analysis.variant import method_of
from mtl_jax.objectives.measure import Measure
from mtl_jax.report.charts import Picture
from mtl_jax.report.charts.labels import label
from mtl_jax.report.paper import cells, figures, told
from mtl_jax.report.paper.looks import (
    LABELS,
    method_looks,
    size_looks,
    variant_looks,
)
from mtl_jax.report.tables import Table
from mtl_jax.report.text import counted
from mtl_jax.types import InputError

MOST_PANELS = 12
"""Tasks of Figure 2 that are drawn, and of temperature half of it."""


class Studied(NamedTuple):
    """Records of the settings of a page."""

    settings: Sequence[Frame]
    """Records of the chosen candidates, a frame per setting."""
    tried: Sequence[Frame]
    """Records of all candidates."""
    changes: Frame
    """`analysis.deltas.deltas` of all settings."""


class Section(NamedTuple):
    """Part of the page on an experiment, with the frames that it is made of."""

    id: str
    title: str
    sentences: list[str]
    pictures: list[Picture]
    tables: list[Table]
    frames: Mapping[str, Frame]
    """By name of their file, without ending."""


def studied(settings: Sequence[Frame], tried: Sequence[Frame]) -> Studied:
    """Compare all settings once.

    Args:
      settings: records of the chosen candidates, of one setting each.
      tried: records of all candidates, of one setting each.
    """
    changes = [deltas(df, score=_score(df)) for df in settings]
    return Studied(settings, tried, cells.joined(changes))


def figure_1(records: Studied) -> Section:
    """Show the test score of the targets against their training loss."""
    table = cells.joined([paper.figure_1(df, score=_score(df))
                          for df in records.settings])  # fmt: skip
    pictures = []
    if len(table):
        pictures.append(_scores(records, table, "figure-1", "Figure 1", 2))
    gaps = cells.joined([*map(_gaps, records.settings)])
    return Section(
        "figure_1",
        "Figure 1: what a training loss is worth on test data",
        [*told.transfers(_of_targets(records.changes, table)), *told.gaps(gaps)],
        pictures,
        [cells.table_1(_of_targets(records.changes, table))],
        {"figure_1": table, "figure_1_gaps": gaps, "deltas": records.changes},
    )


def figure_2(records: Studied) -> Section:
    """Show the same for all tasks whose transfer is significant."""
    table = cells.joined([paper.figure_2(df, score=_score(df))
                          for df in records.settings])  # fmt: skip
    pictures = []
    if len(table):
        pictures.append(_scores(records, table, "figure-2", "Figure 2", 3))
    return Section(
        "figure_2",
        "Figure 2: tasks with significant transfer",
        [
            *told.significant(records.changes),
            *([] if len(table) else ["No task is significant, so none is drawn."]),
            *told.beside_the_paper(records.changes),
        ],
        pictures,
        [cells.table_1(records.changes, only_significant=True)],
        {"figure_2": table, "deltas": records.changes},
    )


def figure_3(records: Studied) -> Section:
    """Show the factors of the targets against their training loss."""
    table = cells.joined([paper.figure_3(df) for df in records.settings])
    pictures = []
    if len(table):
        looks = variant_looks(table)
        panels = [
            figures.against_loss(
                title, rows[rows["factor"] == name], "value", LABELS[name], looks
            )
            for title, rows in _panels(table)[: MOST_PANELS // 2]
            for name in FACTORS
        ]
        text = (
            "Factors of the target (trunk and head, fixed probe) against its training "
            f"loss, {_loss_of(table)}, one point an epoch. The axis is logarithmic and "
            "reversed. Lines: means over seeds, in bins of the log loss in which all "
            "have points."
        )
        picture = Picture("figure-3", "Figure 3", text, panels, looks)
        pictures.append(picture)
    return Section(
        "figure_3",
        "Figure 3: factors of the target against its training loss",
        [*told.factors(_of_targets(records.changes, table))],
        pictures,
        [],
        {"figure_3": table, "deltas": records.changes},
    )


def table_1(records: Studied) -> Section:
    """Show transfer and the deltas of factors, as the paper shades them."""
    sentences = [
        *told.significant(records.changes),
        *told.consistency(records.changes),
        *told.beside_the_paper(records.changes),
    ]
    frames = {
        "table_1": table_of(records.changes),
        "table_1_shades": shades_of(records.changes),
        "table_1_paper": cells.paper_rows(records.changes),
        "deltas": records.changes,
    }
    shown = [cells.table_1(records.changes)]
    title = "Table 1: does a factor explain transfer?"
    return Section("table_1", title, sentences, [], shown, frames)


def figure_4(records: Studied) -> Section:
    """Show what multi-task optimizers change, in quadrants."""
    table = cells.joined([paper.figure_4(df, score=_score(df))
                          for df in records.settings])  # fmt: skip
    pictures = []
    if len(table):
        shown = table.assign(method=[method_of(v) for v in table["variant"]])
        looks = method_looks(shown["method"].unique())
        panels = [
            figures.quadrants(str(name), of[of["factor"] == factor], factor, looks)
            for name, of in shown.groupby("setting", sort=False)
            for factor in CHANGES
        ]
        text = (
            "Every point is a task and a multi-task optimizer, in percent of what the "
            "sum of losses has: the change of its test score against that of a factor. "
            "Full: the score changes significantly by the paper's rule. In the shaded "
            "quadrants the factor would explain it: better with less of it, or worse "
            "with more."
        )
        picture = Picture("figure-4", "Figure 4", text, panels, looks)
        pictures.append(picture)
    return Section(
        "figure_4",
        "Figure 4: what multi-task optimizers change",
        [*told.remedies(table)] if len(table) else [],
        pictures,
        [cells.quadrants(table)] if len(table) else [],
        {"figure_4": table},
    )


def figures_5_6(records: Studied) -> Section:
    """Show what goes with the gradient similarity of auxiliary sets."""
    table = cells.joined([paper.figures_5_6(df, score=_score(df))
                          for df in records.settings])  # fmt: skip
    correlated = paper.similarity_correlations(table)
    pictures, shown = [], []
    if len(table):
        first = table.iloc[0]
        measure = _measure(records, first["setting"], first["name"])
        score, looks = (first["name"], measure), size_looks(table["auxiliaries"])
        panels = [
            figures.auxiliary_sets(title, rows, name, looks, score)
            for name in MEASURED[1:]
            for title, rows in _panels(table)
        ]
        text = (
            "Every mark is a set of auxiliary tasks, mean over seeds with ± 2 s.d. "
            "Abscissa: cosine of the target's gradient with the sum "
            "of all tasks' gradients, mean over training."
        )
        columns = len(_panels(table))
        title = "Figures 5 and 6"
        picture = Picture("figures-5-6", title, text, panels, looks, columns)
        pictures.append(picture)
        shown.append(cells.sets(table, correlated))
    return Section(
        "figures_5_6",
        "Figures 5 and 6: auxiliary sets",
        [*told.sets(correlated)],
        pictures,
        shown,
        {"figures_5_6": table, "figures_5_6_correlations": correlated},
    )


def temperature(records: Studied) -> Section:
    """Show transfer against learning rate over batch size, from the sweep."""
    tables = [paper.temperature(df, score=_score(df)) for df in records.tried]
    best = cells.joined(
        [
            paper.best_temperatures(table, measures(df))
            for table, df in zip(tables, records.tried, strict=True)
        ]
    )
    table, pictures = cells.joined(tables), []
    if len(table):
        panels = _panels(table)
        some = panels[: MOST_PANELS // 2]
        looks = variant_looks(table)
        drawn = [
            figures.temperatures(title, rows, value, looks)
            for title, rows in some
            for value in ("mt", "transfer")
        ]
        left = f" Of {len(panels)} tasks the first {len(some)}; the files hold all."
        text = (
            "Mean score at the 10 best validation points, and transfer against the "
            "single task trained with the same learning rate and batch size. A mark is "
            "a candidate, the line their mean at a temperature."
            + left
            * (len(some) < len(panels))
        )
        picture = Picture("temperature", "Temperature", text, drawn, looks, 2)
        pictures.append(picture)
    return Section(
        "temperature",
        "Transfer against temperature",
        [*told.temperatures(table, best)] if len(table) else [],
        pictures,
        [cells.temperatures(best)] if len(best) else [],
        {"temperature": table, "best_temperatures": best},
    )


EXPERIMENTS: dict[str, Callable[[Studied], Section]] = {
    "figure_1": figure_1,
    "figure_2": figure_2,
    "figure_3": figure_3,
    "table_1": table_1,
    "figure_4": figure_4,
    "figures_5_6": figures_5_6,
    "temperature": temperature,
}
"""Experiments by name."""


def _score(df: Frame) -> str:
    """The score that the paper has of a setting, if it is not the first."""
    return paper.SCORES.get(cells.setting_name(str(df["setting"].iloc[0])), "")


def _gaps(df: Frame) -> Frame:
    """Gaps at the same training loss; empty where nothing can be compared."""
    try:
        return paper.gaps(df, _score(df))
    except InputError:
        return pd.DataFrame()


def _panels(table: Frame) -> list[tuple[str, Frame]]:
    """Rows of every target, with a title that tells them apart."""
    several = table["setting"].nunique() > 1
    return [
        (f"{target}, {_apart(setting)}" if several else str(target), rows)
        for (setting, target), rows in table.groupby(["setting", "target"], sort=False)
    ]


def _apart(setting: str) -> str:
    """The part of a setting's name that tells it apart: its workdir, if it has one."""
    return setting.partition(" (")[2].removesuffix(")") or setting


def _of_targets(changes: Frame, table: Frame) -> Frame:
    """Deltas of the targets of a figure."""
    shown = table[["setting", "target"]].drop_duplicates()
    return changes.merge(shown, on=["setting", "target"])


def _measure(records: Studied, setting: str, name: str) -> Measure:
    at = [str(df["setting"].iloc[0]) for df in records.settings].index(setting)
    return measures(records.settings[at])[setting, name]


def _loss_of(table: Frame) -> str:
    splits = set(table["loss_split"])
    if splits == {"train"}:
        return "of all its training data"
    if splits == {"probe"}:
        return "of the probe (that of all training data was not recorded)"
    return "of all its training data (of the probe where that was not recorded)"


def _scores(records: Studied, table: Frame, id: str, title: str, most: int) -> Picture:
    """Figure 1 or 2."""
    panels = _panels(table)
    some = panels[:MOST_PANELS]
    looks = variant_looks(table)
    drawn = []
    for name, rows in some:
        first = rows.iloc[0]
        measure = _measure(records, first["setting"], first["name"])
        ordinate = f"test {label(first['name'], measure)}"
        drawn.append(figures.against_loss(name, rows, "score", ordinate, looks))
    left = f" Of {counted(len(panels), 'task')} the first {len(some)}."
    text = (
        f"Test score against the training loss of the task, {_loss_of(table)}, one "
        f"point an epoch. The axis is logarithmic and reversed: training goes from "
        f"left to right. Lines: means over seeds, in bins of the log loss in which all "
        f"have points." + left * (len(some) < len(panels))
    )
    return Picture(id, title, text, drawn, looks, min(most, len(drawn)))
