"""Findings: everything that the page says of one workdir, computed once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtl_jax import analysis
from mtl_jax.analysis import grouping, memo
from mtl_jax.analysis.claims.explanation import FACTORS
from mtl_jax.analysis.curves import RUN, Frame, scopes, score_names, trained
from mtl_jax.analysis.variant import MERGED
from mtl_jax.report import charts
from mtl_jax.report.choice import Cell, Choice, choice_of
from mtl_jax.storage import commands, disk, provenance, records
from mtl_jax.types import InputError

BASELINE = "single"
HEADLINE = tuple(FACTORS)
"""Factors that are shown first: those of C2."""
MOST_TASKS = 40
"""Tasks up to which every one has panels of its own."""
MOST_FACTOR_TASKS = 6


class Versus(NamedTuple):
    """A variant against the baseline; tables of `mtl_jax.analysis`."""

    gap: Frame
    gap_curve: Frame
    gap_summary: Frame
    score_gap: Frame
    """Gap of each task's score; empty if there is none."""
    score_curve: Frame
    """Gap curve of the score that all tasks have; empty if there is none."""
    optimization: Frame
    contrasts: Frame
    """Empty if no factor was recorded."""
    conflict: Frame
    """Effects, a row per task and seed; empty if no conflict was recorded."""
    conflict_steps: Frame
    """The same step by step."""


class Findings(NamedTuple):
    """Content of a workdir, analysed."""

    setting: str
    """With the workdir's name, if several have the same setting."""
    workdir: Path
    config: Mapping[str, Any]
    """Fields by their dotted names."""
    sessions: Sequence[Mapping[str, Any]]
    choice: Choice
    diverged: Frame
    """A row per run that did, of all in the workdir: variant, seed, learning_rate,
    batch_size, step, tasks."""
    records: Frame
    """Records of the chosen candidates."""
    table: charts.Trajectories
    tasks: list[str]
    variants: list[str]
    seeds: dict[str, list[int]]
    """Seeds by variant."""
    cells: dict[str, dict[Cell, list[str]]]
    """Learning rates and batch sizes of every variant, with the tasks shown in them."""
    scores: dict[str, str]
    """The score by which a task is shown, the first of its own; tasks without one are
    left out."""
    at_best: Frame
    """Test values at the best-validation points: a row per curve and name."""
    transfer: Frame
    delta_m: Frame
    delta_m_of_sum: Frame
    """Multi-task optimizers against ``multi``; empty where there are none."""
    fronts: Frame
    """Hypervolumes of variants that differ in their preferences only."""
    transfers: Frame
    """Transfer of groups of tasks; empty where fewer than two tasks have any."""
    ranking: Frame
    """Correlations of predictors with it; empty where it is."""
    versus: dict[str, Versus]
    step: int
    """Last step that was reached."""

    @property
    def shared_score(self) -> str:
        """Return the score that all tasks are shown by; empty if there is none."""
        names = {self.scores.get(task, "") for task in self.tasks}
        return names.pop() if len(names) == 1 else ""

    @property
    def factors(self) -> list[str]:
        """List the factors of tasks, the headline ones first."""
        factors = self.records
        factors = factors[(scopes(factors) == "task") & (factors["task"] != "")]
        names = [n for n in factors["name"].unique() if not n.endswith("_bound")]
        others = [name for name in names if name not in HEADLINE]
        return [name for name in HEADLINE if name in names] + others

    def run_cell(self, variant: str) -> str:
        """Name learning rate and batch size of which values of whole runs are kept."""
        rows = self.records
        rows = rows[(rows["variant"] == variant) & (rows["task"] == "")]
        rows = rows[rows["name"] != "diverged"]
        if not len(rows):
            return ""
        return f"{rows['learning_rate'].iloc[0]:g}, {rows['batch_size'].iloc[0]}"

    def shown(self, most: int) -> list[str]:
        """Choose tasks for panels: all, or some from the lowest to the highest gap."""
        if len(self.tasks) <= most:
            return self.tasks
        ordered = self.tasks
        if self.versus:
            gaps = next(iter(self.versus.values())).gap_summary
            gaps = gaps[(gaps["statistic"] == "mean") & (gaps["task"] != "")]
            gaps = gaps[gaps["comparable"]].sort_values("value")
            ordered = gaps["task"].tolist() if len(gaps) >= most else ordered
            at = np.linspace(0, len(ordered) - 1, most).round().astype(int)
            return [ordered[place] for place in at]
        return ordered[:most]


@memo.scope()
def find(workdir: Path, setting: str = "") -> Findings:
    """Analyse the records of a workdir, finished or not.

    Args:
      workdir: of a training run.
      setting: a name for the setting, if not its own.

    Raises:
      InputError: it holds no records, or what a sweep left beside them is unfit.
    """
    whole: Frame = records.read(workdir)
    if setting:
        whole = whole.assign(setting=setting)
    made = choice_of(workdir, whole)
    df = whole
    if not made.swept:
        df = analysis.select(whole) if len(made.candidates) else _first_rates(whole)
    tasks = [task for task in df["task"].unique() if task]
    names = score_names(df, "test")
    scores = {key[1]: shown[0] for key, shown in names.items() if shown}
    variants = list(df["variant"].unique())
    kinds = {scores.get(task, "") for task in tasks}
    shared = kinds.pop() if len(kinds) == 1 else ""
    others = analysis.compared(df, BASELINE) if BASELINE in variants else []
    of_trained = trained(df)
    together = of_trained[of_trained["variant"] != BASELINE]
    optimizers = [v for v in others if v != "multi" and not v.startswith(MERGED)]
    transfers = _or_empty(lambda: _of_groups(df))
    return Findings(
        setting=str(df["setting"].iloc[0]),
        workdir=workdir,
        config=_config(workdir),
        sessions=provenance.sessions(workdir),
        choice=made,
        diverged=_diverged(whole),
        records=df,
        table=charts.indexed(df),
        tasks=tasks,
        variants=variants,
        seeds={v: sorted(df[df["variant"] == v]["seed"].unique()) for v in variants},
        cells={v: _cells(df, v, tasks) for v in variants},
        scores=scores,
        at_best=_or_empty(lambda: analysis.best_values(df)),
        transfer=_or_empty(lambda: analysis.transfer(df, BASELINE)),
        delta_m=_or_empty(lambda: analysis.delta_m(df, BASELINE)),
        delta_m_of_sum=_or_empty(lambda: analysis.delta_m(together, "multi"))
        if optimizers
        else pd.DataFrame(),
        fronts=_or_empty(lambda: analysis.fronts(df)),
        transfers=transfers,
        ranking=_or_empty(lambda: grouping.ranking(df))
        if len(transfers)
        else pd.DataFrame(),
        versus={v: _versus(df, v, scores, shared) for v in others},
        step=int(whole["step"].max()),
    )


def setting_of(workdir: Path) -> str:
    """Name of the setting of a workdir, empty if it does not say."""
    return str(_config(workdir).get("setting", ""))


def correlations(all_of: Sequence[Findings]) -> tuple[Frame, Frame, Frame, Frame]:
    """Correlate over the tasks of every setting, and of all.

    Returns:
      gap with the contrasts of factors; conflict with the optimization effect and
      with transfer, means over steps; conflict with the effect, step by step. Tables
      of `analysis.correlate`, empty where there is nothing.
    """
    compared = [versus for findings in all_of for versus in findings.versus.values()]

    def joined(name: str) -> Frame:
        frames = [getattr(versus, name) for versus in compared]
        frames = [frame for frame in frames if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def correlated(table: Frame, x: str, y: str) -> Frame:
        return analysis.correlate(table, x, y) if len(table) else pd.DataFrame()

    means, by_step = joined("conflict"), joined("conflict_steps")
    return (
        correlated(joined("contrasts"), "contrast", "gap"),
        correlated(means, "conflict", "effect"),
        correlated(means, "conflict", "transfer"),
        correlated(by_step, "conflict", "effect"),
    )


def _versus(df: Frame, variant: str, scores: dict[str, str], shared: str) -> Versus:
    def gaps(name: str) -> Frame:
        table = analysis.gap(df, variant, BASELINE, name=name)
        return table[table["task"].map(scores) == name]

    of_scores = [_or_empty(lambda n=name: gaps(n)) for name in set(scores.values())]
    of_scores = [frame for frame in of_scores if len(frame)]
    empty = pd.DataFrame()
    return Versus(
        gap=_or_empty(lambda: analysis.gap(df, variant, BASELINE)),
        gap_curve=_or_empty(lambda: analysis.gap_curve(df, variant, BASELINE)),
        gap_summary=_or_empty(lambda: analysis.gap_summary(df, variant, BASELINE)),
        score_gap=pd.concat(of_scores, ignore_index=True) if of_scores else empty,
        score_curve=_or_empty(
            lambda: analysis.gap_curve(df, variant, BASELINE, name=shared)
        )
        if shared
        else empty,
        optimization=analysis.optimization_effect(df, variant, BASELINE),
        contrasts=_or_empty(lambda: analysis.contrasts(df, None, variant, BASELINE)),
        conflict=_or_empty(lambda: analysis.conflict_effects(df, variant, BASELINE)),
        conflict_steps=_or_empty(
            lambda: analysis.conflict_effects(df, variant, BASELINE, per_step=True)
        ),
    )


def _of_groups(df: Frame) -> Frame:
    """Transfer of groups, where two tasks or more have some beside that of all."""
    table = grouping.transfers(df)
    whole = table["group"].map(lambda name: set(grouping.members(name)))
    parts = table[whole.map(len) < df[df["task"] != ""]["task"].nunique()]
    return table if parts["target"].nunique() > 1 else pd.DataFrame()


def _or_empty(make: Callable[[], Frame]) -> Frame:
    """A table, or an empty one where the records do not hold what it is made of."""
    try:
        return make()
    except InputError:
        return pd.DataFrame()


def _first_rates(df: Frame) -> Frame:
    """Records of one rate per variant where validation cannot choose: the lowest."""
    candidate = ["learning_rate", "batch_size"]
    lowest = df.sort_values(candidate).drop_duplicates("variant")
    return df.merge(lowest[["variant", *candidate]], on=["variant", *candidate])


def _diverged(df: Frame) -> Frame:
    marks = df[df["name"] == "diverged"].drop_duplicates(RUN)
    runs = df[df["task"] != ""].groupby(RUN)["task"].unique()
    rows = marks[[*RUN, "step"]].reset_index(drop=True)
    keys = rows[RUN].itertuples(index=False, name=None)
    return rows.assign(tasks=[", ".join(runs.get(key, [])) for key in keys])


def _cells(df: Frame, variant: str, tasks: list[str]) -> dict[Cell, list[str]]:
    rows = df[(df["variant"] == variant) & (df["task"] != "")]
    rows = rows[["task", "learning_rate", "batch_size"]].drop_duplicates("task")
    cells = {task: (rate, size) for task, rate, size in rows.itertuples(index=False)}
    tasks_by_cell: dict[Cell, list[str]] = {}
    for task in tasks:
        if task in cells:
            tasks_by_cell.setdefault(cells[task], []).append(task)
    return tasks_by_cell


def _config(workdir: Path) -> dict[str, Any]:
    """Fields of the configuration; none where they are damaged or not there."""
    try:
        fields = disk.read_json(workdir / commands.CONFIG)
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields.get("steps", 0), int) else {}
