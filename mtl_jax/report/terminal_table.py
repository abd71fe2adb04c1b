"""The closing table of an experiment: how every variant does on every task."""

from typing import Any

from rich import box
from rich.table import Table

from mtl_jax.analysis.measures import measures
from mtl_jax.objectives.measure import Measure

SPLITS = {"probe": "train", "validation": "val", "test": "test"}


def table(df: Any) -> Table:
    """Tabulate final values by variant, rate and task, mean +- s.d. over seeds.

    Values are in the units that the records declare; ``train`` is the probe.
    Where there are several scores, each has a line, under its name.

    Args:
      df: records, the DataFrame that `records.read` returns.
    """
    is_mark = df["name"] == "diverged"
    values = df[df["split"].isin(SPLITS) & (df["scope"] == "")]
    step, seeds = values["step"].max(), df["seed"].nunique()
    values = values[values["step"] == step]
    splits = [split for split in SPLITS if (values["split"] == split).any()]
    names = ["loss", *sorted(set(values["name"]) - {"loss"})]
    known, setting = measures(df), df["setting"].iloc[0]
    declared = {name: known[setting, name] for name in names}
    units = ", ".join(f"{name}: {m.unit}" for name, m in declared.items() if m.unit)
    closing = Table(
        title=f"step {step}: mean ± s.d. over {seeds} seeds ({units})",
        box=box.SIMPLE_HEAD,
    )
    for column in ("variant", "rate", "task"):
        closing.add_column(column, no_wrap=True)
    several = len(names) > 2
    heads = [("loss", "loss"), ("score", "")] if several else [(n, n) for n in names]
    for name, below in heads:
        if name == "score":
            closing.add_column(name, no_wrap=True)
        for split in splits:
            closing.add_column(f"{SPLITS[split]}\n{below}".strip(), justify="right")
    place = {name: i for i, name in enumerate(df["variant"].unique())}
    groups = values.groupby(["variant", "learning_rate", "task"])
    for (variant, rate, task), group in sorted(groups, key=lambda g: place[g[0][0]]):
        losses, *scores = (_cells(group, *each, splits) for each in declared.items())
        first = [variant, f"{rate:g}", task, *losses]
        lines = [[*sum(scores, [])]]
        if several:
            named = zip(names[1:], scores, strict=True)
            lines = [[name, *cells] for name, cells in named if any(cells)]
        for line in lines:
            closing.add_row(*first, *line)
            first = [""] * len(first)
    for _, mark in df[is_mark].iterrows():
        rate, seed = f"{mark['learning_rate']:g}", mark["seed"]
        text = f"run {mark['run']} (seed {seed}) diverged at step {mark['step']}"
        closing.add_row(mark["variant"], rate, text)
    return closing


def _cells(group: Any, name: str, measure: Measure, splits: list[str]) -> list[str]:
    """Write the value of every split."""
    rows = group[group["name"] == name]
    return [
        _mean_and_sd(rows[rows["split"] == split]["value"], measure) for split in splits
    ]


def _mean_and_sd(values: Any, measure: Measure) -> str:
    """``0.164 ±0.018`` of a plain number, ``94.8 ±1.2`` of percent.

    Nothing where a task does not have the score.
    """
    if not len(values):
        return ""
    values, digits = values * measure.factor, measure.digits
    spread = f" ±{values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def costs(seconds: dict[str, float]) -> str:
    """Write where the wall time went, in one line.

    >>> costs({"training": 6.0, "compilation": 3.0, "sharpness": 1.0})
    'time: training 6.0 s (60 %), compilation 3.0 s (30 %), sharpness 1.0 s (10 %)'
    """
    whole = sum(seconds.values())
    parts = (f"{k} {v:.1f} s ({v / whole:.0%})" for k, v in seconds.items())
    return "time: " + ", ".join(parts).replace("%)", " %)")
