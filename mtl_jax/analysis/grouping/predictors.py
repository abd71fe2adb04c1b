"""Predictors of who helps whom, from the records of training.

Tables of the value of an auxiliary task for a target, setting by setting and seed by
seed: more says that it helps more. What other data say, such as covariances of inputs,
comes as a matrix and becomes such a table by `tabulate`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mtl_jax.analysis.curves import Frame, with_divergence
from mtl_jax.analysis.grouping.transfers import groups, members, transfers
from mtl_jax.types import InputError

OF_ALL_SEEDS = -1
"""Seed of values that are those of all seeds."""
COLUMNS = ["setting", "predictor", "seed", "target", "auxiliary", "value"]
CURVES = ["setting", "seed", "target", "auxiliary"]
JUDGES = "validation"
"""Split whose transfer predicts that of the test split."""


class Predictor(NamedTuple):
    """Predictor that records may hold."""

    title: str
    needs: str
    """Variants and factors that records must hold."""
    table: Callable[[Frame, str, str], Frame]
    """From records, method and baseline: setting, seed, target, auxiliary, value."""
    runs: Callable[[int], list[int]]
    """From the number of tasks: tasks of every run that it needs, of one seed."""
    looks: str = ""
    """Name of the values that it is measured by beside training."""


def predictors(
    df: Frame,
    data: Frame | None = None,
    method: str = "multi",
    baseline: str = "single",
) -> Frame:
    """Tabulate who helps whom by every predictor that the records hold.

    Args:
      df: records of one rate a task and variant.
      data: values of other predictors, as `tabulate` makes them.
      method: of the groups.
      baseline: tasks alone.

    Returns:
      A row per setting, predictor, seed, target and auxiliary; value, more of which
      says that the auxiliary helps the target more.
    """
    frames = [data[COLUMNS]] if data is not None else []
    for name, predictor in PREDICTORS.items():
        frames.append(predictor.table(df, method, baseline).assign(predictor=name))
    frames = [frame[COLUMNS] for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(frames, ignore_index=True)


def tabulate(
    matrix: np.ndarray,
    tasks: Sequence[str],
    predictor: str,
    setting: str,
    seed: int = OF_ALL_SEEDS,
) -> Frame:
    """Make a table for `predictors` of a matrix.

    Args:
      matrix: value of auxiliary j for target t ``[T, T]``; the diagonal is left out.
      tasks: names of the tasks ``[T]``.
      predictor: its name.
      setting: as the records call it.
      seed: that it is of; all if not given.

    Raises:
      InputError: the matrix is of another number of tasks.

    >>> tabulate(np.array([[1.0, 0.5], [0.4, 1.0]]), "ab", "cka", "s").value.tolist()
    [0.5, 0.4]
    """
    matrix = np.asarray(matrix, float)
    if matrix.shape != (len(tasks), len(tasks)):
        raise InputError(
            f"{predictor} is of shape {matrix.shape} and there are {len(tasks)} tasks; "
            f"give a value for every pair, [T, T]."
        )
    rows = [
        (setting, predictor, seed, tasks[t], tasks[j], value)
        for (t, j), value in np.ndenumerate(matrix)
        if t != j
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def matrix_of(table: Frame, tasks: Sequence[str]) -> np.ndarray:
    """Arrange a predictor's values as ``[T, T]``, target by auxiliary, mean over seeds.

    Pairs that are not there, and the diagonal, are NaN.
    """
    means = table.groupby(["target", "auxiliary"])["value"].mean().unstack()
    return means.reindex(index=list(tasks), columns=list(tasks)).to_numpy(float)


def _hoa(quantity: str) -> Callable[[Frame, str, str], Frame]:
    def table(df: Frame, method: str, baseline: str) -> Frame:
        return _of_pairs(transfers(df, quantity, method, baseline, JUDGES))

    return table


def _tag(df: Frame, method: str, baseline: str) -> Frame:
    del baseline
    # The rows of a task say what a step on it does to the others.
    rows = _joint(df, "affinity", method)
    names = {"task": "auxiliary", "other": "target"}
    return _over_training(rows.rename(columns=names))


def _cosine(df: Frame, method: str, baseline: str) -> Frame:
    del baseline
    rows = _joint(df, "cosine", method)
    return _over_training(rows.rename(columns={"task": "target", "other": "auxiliary"}))


def _similarity(df: Frame, method: str, baseline: str) -> Frame:
    del baseline
    rows = _of_method(df, method)
    rows = rows[rows["name"] == "gradient_similarity"]
    return _over_training(_of_pairs(rows.rename(columns={"task": "target"})))


def _of_method(df: Frame, method: str) -> Frame:
    """Probe values of a method's runs, with the group; none after divergence."""
    rows = with_divergence(df[(df["split"] == "probe") | (df["name"] == "diverged")])
    rows = rows[~(rows["step"] > rows["diverged_at"]) & (rows["task"] != "")]
    rows = rows.drop(columns=["group", "target"], errors="ignore")
    return rows.merge(groups(df, method), on=["setting", "variant"])


def _joint(df: Frame, name: str, method: str) -> Frame:
    """Values of pairs of tasks in the run of all of them: task, other."""
    rows = _of_method(df, method)
    rows = rows[rows["name"].str.startswith(f"{name}/") & (rows["variant"] == method)]
    return rows.assign(other=rows["name"].str.removeprefix(f"{name}/"))


def _of_pairs(rows: Frame) -> Frame:
    """Values of targets in groups of two, with the other task as the auxiliary."""
    is_pair = [len(members(group)) == 2 for group in rows["group"]]
    rows = rows[np.array(is_pair, bool)]
    auxiliaries = [
        next(name for name in members(group) if name != target)
        for group, target in zip(rows["group"], rows["target"], strict=True)
    ]
    return rows.assign(auxiliary=auxiliaries)


def _over_training(rows: Frame) -> Frame:
    """Average values over the steps of training (trapezoids), curve by curve.

    Points of a trajectory are dense at first; steps are what TAG averages over.
    """
    rows = rows[np.isfinite(rows["value"])]
    rows = rows.groupby([*CURVES, "step"])["value"].mean().reset_index()
    means = [
        (*keys, _time_mean(of["step"].to_numpy(float), of["value"].to_numpy(float)))
        for keys, of in rows.groupby(CURVES, sort=False)
    ]
    return pd.DataFrame(means, columns=[*CURVES, "value"])


def _time_mean(steps: np.ndarray, values: np.ndarray) -> float:
    span = steps[-1] - steps[0]
    if not span > 0:
        return float(values.mean())
    return float(np.trapezoid(values, steps) / span)


def _singles_and_pairs(tasks: int) -> list[int]:
    return [1] * tasks + _pairs(tasks)


def _pairs(tasks: int) -> list[int]:
    return [2] * (tasks * (tasks - 1) // 2)


HOA_NEEDS = "the variants single and multi:pairs, with validation values"
PREDICTORS: dict[str, Predictor] = {
    "hoa": Predictor(
        "transfer of pairs (HOA)", HOA_NEEDS, _hoa("score"), _singles_and_pairs
    ),
    "hoa_loss": Predictor(
        "transfer of pairs, by loss", HOA_NEEDS, _hoa("loss"), _singles_and_pairs
    ),
    "tag": Predictor(
        "affinity (TAG)",
        "the variant multi with the factor affinity",
        _tag,
        lambda tasks: [tasks],
        "affinity",
    ),
    "cosine": Predictor(
        "cosine of gradients",
        "the variant multi with the factor conflict",
        _cosine,
        lambda tasks: [tasks],
        "cosine",
    ),
    "similarity": Predictor(
        "gradient similarity in pairs",
        "the variant multi:pairs with the factor gradient_similarity",
        _similarity,
        _pairs,
        "gradient_similarity",
    ),
}
"""Predictors by name."""
