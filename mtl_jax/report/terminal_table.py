"""The closing table of an experiment: how every variant does on every task."""

from typing import Any

from rich import box
from rich.table import Table

from mtl_jax.analysis.curves import better

SPLITS = {"probe": "train", "validation": "val", "test": "test"}


def table(df: Any) -> Table:
    """Final values per variant, learning rate and task, mean +- s.d. over seeds.

    Losses are in nats, scores in percent, errors as they are; ``train`` is the probe.
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
    found = Table(
        title=f"step {step}: mean ± s.d. over {seeds} seeds (loss: nats, scores: %)",
        box=box.SIMPLE_HEAD,
    )
    for column in ("variant", "rate", "task"):
        found.add_column(column, no_wrap=True)
    several = len(names) > 2
    heads = [("loss", "loss"), ("score", "")] if several else [(n, n) for n in names]
    for name, below in heads:
        if name == "score":
            found.add_column(name, no_wrap=True)
        for split in splits:
            found.add_column(f"{SPLITS[split]}\n{below}".strip(), justify="right")
    place = {name: i for i, name in enumerate(df["variant"].unique())}
    groups = values.groupby(["variant", "learning_rate", "task"])
    for (variant, rate, task), group in sorted(groups, key=lambda g: place[g[0][0]]):
        losses, *scores = (_cells(group, name, splits) for name in names)
        first = [variant, f"{rate:g}", task, *losses]
        lines = [[*sum(scores, [])]]
        if several:
            own = zip(names[1:], scores, strict=True)
            lines = [[name, *cells] for name, cells in own if any(cells)]
        for line in lines:
            found.add_row(*first, *line)
            first = [""] * len(first)
    for _, mark in df[is_mark].iterrows():
        rate, seed = f"{mark['learning_rate']:g}", mark["seed"]
        text = f"run {mark['run']} (seed {seed}) diverged at step {mark['step']}"
        found.add_row(mark["variant"], rate, text)
    return found


def _cells(group: Any, name: str, splits: list[str]) -> list[str]:
    """Of every split."""
    rows = group[group["name"] == name]
    return [_mean_and_sd(rows[rows["split"] == split]) for split in splits]


def _mean_and_sd(rows: Any) -> str:
    """``0.164 ±0.018`` of a loss or an error, ``94.8 ±1.2`` of a score.

    Nothing where a task does not have the score.
    """
    if not len(rows):
        return ""
    percent = all(better(name) > 0 for name in rows["name"])
    values = rows["value"] * (100 if percent else 1)
    digits = 1 if percent else 3
    spread = f" ±{values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def costs(seconds: dict[str, float]) -> str:
    """Where the wall time went, in one line.

    >>> costs({"training": 6.0, "compilation": 3.0, "sharpness": 1.0})
    'time: training 6.0 s (60 %), compilation 3.0 s (30 %), sharpness 1.0 s (10 %)'
    """
    whole = sum(seconds.values())
    parts = (f"{k} {v:.1f} s ({v / whole:.0%})" for k, v in seconds.items())
    return "time: " + ", ".join(parts).replace("%)", " %)")
