"""Selection by validation: the point of a run, and the learning rate and batch size.

`RULE` says how a candidate (a learning rate with a batch size) is chosen. A candidate
is chosen for a *model*, by the mean over the tasks that it serves: single-task runs
choose task by task, multi-task runs once. With ``over="task"`` multi-task runs, too,
choose for every task by its own value.
"""

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import (
    CURVE,
    RUN,
    Frame,
    are,
    judged_by,
    score_names,
    values,
    with_divergence,
)
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.memo import memoised
from mtl_jax.options import one_of
from mtl_jax.types import InputError

CELL = ["setting", "variant", "learning_rate", "batch_size"]
CHOICE = ["setting", "variant", "task"]
OVER = ("model", "task")
RULE = (
    "The value of a run is its best validation value, up to divergence (of equal "
    "points, the one with the lower validation loss, then the first); that of a "
    "candidate is the mean over its seeds. The best candidate is chosen; one of which "
    "every run diverged, only where there is no other; of equals, the smaller learning "
    "rate, then the smaller batch size. Test data have no say."
)


@memoised
def best_points(df: Frame, by: str | None = None) -> Frame:
    """Select the point of every curve that is best in validation.

    Of equal points it is the one with the lower validation loss, then the first: a
    score of few examples has many ties, and the first of them stops a curve early.

    Args:
      df: records.
      by: name of the validation value that chooses; None for the only score of the
        task and, where there are none or several, the loss.

    Returns:
      A row per curve: setting, variant, learning_rate, batch_size, seed, task; by;
      step; validation (the value there); diverged (the run did, later).

    Raises:
      InputError: no such validation value, or one that is there twice.
    """
    names, declared, frames = score_names(df, "validation"), measures(df), []
    chosen = {key: by or judged_by(scores) for key, scores in names.items()}
    losses = values(df, "validation", "loss").rename(columns={"value": "loss"})
    losses = losses[[*CURVE, "step", "loss"]]
    for name in sorted(set(chosen.values())):
        rows = values(df, "validation", name)
        rows = rows[are(rows, [key for key, judge in chosen.items() if judge == name])]
        rows = rows[np.isfinite(rows["value"])].assign(by=name)
        directions = {s: declared[s, name].direction for s in rows["setting"].unique()}
        rows["worse"] = -rows["setting"].map(directions).astype(float) * rows["value"]
        frames.append(rows.merge(losses, how="left", on=[*CURVE, "step"]))
    if not sum(map(len, frames)):
        raise InputError(
            f"the records hold no {by or 'loss'!r} of split 'validation'; it chooses "
            f"the point of a run."
        )
    best = pd.concat(frames).sort_values([*CURVE, "worse", "loss", "step"])
    best = best.drop_duplicates(CURVE).rename(columns={"value": "validation"})
    best["diverged"] = best["diverged_at"].notna()
    columns = [*CURVE, "by", "step", "validation", "diverged"]
    return best[columns].reset_index(drop=True)


@memoised
def best_values(df: Frame, split: str = "test", by: str | None = None) -> Frame:
    """Read every score, and the loss, at its best validation point.

    Each at the best point of its own (`best_points`): the loss is not read where the
    score is best, nor the other way round. A score that validation lacks is read where
    the validation loss is lowest.

    Args:
      df: records.
      split: of the values.
      by: name of the validation value that chooses the point of all of them.

    Returns:
      A row per curve and name: setting, variant, learning_rate, batch_size, seed, task;
      name; by; step; value (of the split); diverged (the run did, later).

    Raises:
      InputError: as `best_points`.
    """
    validated = {name for of in score_names(df, "validation").values() for name in of}
    names = {name for of in score_names(df, split).values() for name in of}
    frames = []
    for name in sorted({"loss", *names}):
        best = best_points(df, by or (name if name in validated else "loss"))
        rows = values(df, split, name)[[*CURVE, "step", "value"]]
        frames.append(rows.merge(best, on=[*CURVE, "step"]).assign(name=name))
    columns = [*CURVE, "name", "by", "step", "value", "diverged"]
    return pd.concat(frames, ignore_index=True)[columns]


@memoised
def candidates(df: Frame, by: str | None = None, over: str = "model") -> Frame:
    """Rank every learning rate and batch size by validation, and mark the chosen.

    Args:
      df: records.
      by: name of the validation value that chooses; None for the only score of the
        task, or the one score that all tasks of a model have, otherwise the loss.
      over: ``model`` or ``task``, see the module.

    Returns:
      A row per choice and candidate: setting, variant, task (empty: all tasks of the
      model), learning_rate, batch_size; by; validation (NaN: none before divergence);
      runs, diverged (numbers of runs); chosen.

    Raises:
      InputError: ``over`` is neither, or as `best_points`.
    """
    one_of("over", over, OVER)
    frames, declared = [], measures(df)
    for _, of_setting in df.groupby("setting"):
        served = of_setting.drop_duplicates([*RUN, "task"])
        served = served[served["task"] != ""]
        variants = set(served["variant"])
        apart = variants if over == "task" else _alone(served)
        judges = {
            judged_by(names) for names in score_names(of_setting, "validation").values()
        }
        joint = by or (judges.pop() if len(judges) == 1 else "loss")
        best = pd.concat(
            [
                _of(best_points(of_setting, by), apart),
                _of(
                    best_points(of_setting, joint),
                    variants - apart,
                    task="",
                ),
            ]
        )
        marks = of_setting[of_setting["name"] == "diverged"]
        runs = with_divergence(pd.concat([served[served["name"] != "diverged"], marks]))
        runs["task"] = runs["task"].where(runs["variant"].isin(apart), "")
        runs = runs.drop_duplicates([*RUN, "task"])
        counts = runs.groupby([*CELL, "task"])["diverged_at"].agg(["size", "count"])
        counts.columns = ["runs", "diverged"]
        means = best.groupby([*CELL, "task"]).agg(
            by=("by", "first"), validation=("validation", "mean")
        )
        frames.append(counts.join(means).reset_index())
    table: Frame = pd.concat(frames, ignore_index=True)
    table["by"] = table.groupby(CHOICE)["by"].transform("first").fillna("")
    judged = zip(table["setting"], table["by"], strict=True)
    directions = [declared[key].direction if key[1] else 0 for key in judged]
    table["worse"] = -np.array(directions) * table["validation"]
    table["lost"] = table["runs"] == table["diverged"]
    order = ["lost", "worse", "learning_rate", "batch_size"]
    table = table.sort_values([*CHOICE, *order])
    table["chosen"] = ~table.duplicated(CHOICE)
    columns = ["learning_rate", "batch_size", "by", "validation", "runs", "diverged"]
    table = table.sort_values([*CHOICE, "learning_rate", "batch_size"])
    return table[[*CHOICE, *columns, "chosen"]].reset_index(drop=True)


def select(df: Frame, by: str | None = None, over: str = "model") -> Frame:
    """Select the records of what `candidates` chooses.

    Of every task the rows of its own choice. Rows of a run as a whole are kept of one
    candidate a variant, the one that most tasks chose; marks of divergence, of all.
    """
    table = candidates(df, by, over)
    return keep(df, table[table["chosen"]])


def keep(df: Frame, chosen: Frame) -> Frame:
    """Keep the records of chosen candidates (columns as those of `candidates`)."""
    of_model = chosen[chosen["task"] == ""][CELL]
    of_task = chosen[chosen["task"] != ""][[*CELL, "task"]]
    whole, tasks = df[df["task"] == ""], df[df["task"] != ""]
    kept = [tasks.merge(of_model, on=CELL), tasks.merge(of_task, on=[*CELL, "task"])]
    runs = pd.concat(kept)[RUN].drop_duplicates()
    votes = chosen.groupby(CELL, sort=False).size().reset_index(name="votes")
    votes = votes.sort_values("votes", ascending=False, kind="stable")
    main = votes.drop_duplicates(["setting", "variant"])[CELL]
    is_mark = whole["name"] == "diverged"
    kept += [whole[is_mark].merge(runs, on=RUN), whole[~is_mark].merge(main, on=CELL)]
    records = pd.concat([frame for frame in kept if len(frame)], ignore_index=True)
    place = {name: i for i, name in enumerate(df["variant"].unique())}
    return records.sort_values(
        ["step", "variant"],
        key=lambda column: column.map(place) if column.name == "variant" else column,
        kind="stable",
        ignore_index=True,
    )


def _alone(served: Frame) -> set[str]:
    """Variants of which every run serves a single task; a row per run and task."""
    runs = served.groupby(RUN)["task"].nunique()
    most = runs.groupby("variant").max()
    return set(most[most == 1].index)


def _of(best: Frame, variants: set[str], **columns: str) -> Frame:
    return best[best["variant"].isin(variants)].assign(**columns)
