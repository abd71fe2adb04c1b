"""Curves of ST and MT brought to the same training losses, without extrapolation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.analysis.curves import CURVE, Frame, align, curves, values
from mtl_jax.analysis.measures import measures
from mtl_jax.types import InputError

Key = tuple[str, str]
"""``(setting, task)``."""


class Line(NamedTuple):
    """Values along a curve, ``[P]`` each, by step."""

    abscissa: np.ndarray
    """Log nats, never rising."""
    value: np.ndarray
    """May be NaN: measured, but not defined."""


class Sides(NamedTuple):
    """The curves of a task in the two variants that are compared."""

    setting: str
    task: str
    st_seeds: list[int]
    """Seeds of the sound curves of the baseline."""
    mt_seeds: list[int]
    """Seeds of the sound curves of the variant."""
    st_diverged: int
    """Curves of the baseline that diverged."""
    mt_diverged: int
    reason: str
    """Reason why the two cannot be compared; empty where they can."""


class Matched(NamedTuple):
    """Values of a task at the same training losses."""

    sides: Sides
    log_loss: np.ndarray
    """Grid ``[P]``, log nats, falling: early in training comes first. Empty where the
    variants are not comparable."""
    st: np.ndarray
    """``[n_st, P]``."""
    mt: np.ndarray
    """``[n_mt, P]``."""
    sign: int
    """+1 of the loss, whose gap is + where MT is worse; of a score its direction, so
    that + is MT better."""

    @property
    def gap(self) -> np.ndarray:
        """Compute the signed difference of MT and ST ``[n_st, n_mt, P]``."""
        return self.sign * (self.mt[None] - self.st[:, None])


def sides(df: Frame, variant: str, baseline: str) -> list[Sides]:
    """Collect the curves of every (setting, task), and which are sound.

    Raises:
      InputError: a variant that no record is of, or that is its own baseline.
    """
    known = list(df["variant"].unique())
    if variant not in known or baseline not in known or variant == baseline:
        raise InputError(
            f"variant {variant!r} and baseline {baseline!r} must be two of the "
            f"variants in the records: {', '.join(known)}."
        )
    compared = []
    for (setting, task), table in curves(df).groupby(["setting", "task"]):
        st, mt = (table[table["variant"] == name] for name in (baseline, variant))
        reasons = [_unsound(baseline, st), _unsound(variant, mt)]
        compared.append(
            Sides(
                setting,
                task,
                sorted(st[st["sound"]]["seed"].tolist()),
                sorted(mt[mt["sound"]]["seed"].tolist()),
                int(st["diverged_at"].notna().sum()),
                int(mt["diverged_at"].notna().sum()),
                "; ".join(filter(None, reasons)),
            )
        )
    return compared


def match(
    df: Frame, variant: str, baseline: str, split: str, name: str, points: int
) -> list[Matched]:
    """Interpolate every task's value on a grid over the range all sound curves share.

    The grid is equally spaced in log loss. Between points the value is linear in the
    abscissa; points of one abscissa (plateaus of the fit) count with their mean.

    Raises:
      InputError: nobody recorded the value, fewer than 2 points, or as `sides`.
    """
    if points < 2:
        raise InputError(f"points is {points}; a grid has at least 2.")
    lines = lines_of(df, split, name)
    if not lines:
        raise InputError(
            f"the records hold no {name!r} of split {split!r} of a task; they hold: "
            f"{_held(df)}."
        )
    matched, declared = [], measures(df)
    for side in sides(df, variant, baseline):
        st, mt = (
            _measured(lines.get((side.setting, v, side.task), {}), seeds)
            for v, seeds in ((baseline, side.st_seeds), (variant, side.mt_seeds))
        )
        side = side._replace(st_seeds=list(st), mt_seeds=list(mt))
        if not side.reason:
            side = side._replace(reason=_apart(st, mt, f"{split} {name}"))
        grid, sign = np.zeros(0), 1
        if not side.reason:
            sign = 1 if name == "loss" else declared[side.setting, name].direction
            both = [line.abscissa for line in [*st.values(), *mt.values()]]
            highest = min(abscissa.max() for abscissa in both)
            lowest = max(abscissa.min() for abscissa in both)
            grid = np.linspace(highest, lowest, points)
        st, mt = (at_all(grid, side_lines.values()) for side_lines in (st, mt))
        matched.append(Matched(side, grid, st, mt, sign))
    return matched


def lines_of(
    df: Frame, split: str, name: str, scope: str = ""
) -> dict[tuple[str, str, str], dict[int, Line]]:
    """Collect lines of a value: ``(setting, variant, task) -> {seed: line}``."""
    aligned = align(df)[[*CURVE, "step", "abscissa"]]
    points = values(df, split, name, scope).merge(aligned, on=[*CURVE, "step"])
    lines = {}
    keys: Any = ["setting", "variant", "task", "seed"]
    for (setting, variant, task, seed), rows in points.groupby(keys):
        line = Line(
            rows["abscissa"].to_numpy(),
            rows["value"].to_numpy(np.float64),
        )
        lines.setdefault((setting, variant, task), {})[seed] = line
    return lines


def at(log_loss: np.ndarray, line: Line) -> np.ndarray:
    """Interpolate a line at abscissas ``[P]``; NaN outside and next to what is NaN.

    >>> line = Line(np.array([2.0, 1.0, 1.0]), np.array([0.0, 4.0, 6.0]))
    >>> at(np.array([3.0, 1.5, 1.0]), line)
    array([nan, 2.5, 5. ])
    """
    if not len(line.abscissa):
        return np.full(len(log_loss), np.nan)
    x, plateau = np.unique(line.abscissa, return_inverse=True)
    mean = np.bincount(plateau, weights=line.value) / np.bincount(plateau)
    return np.interp(log_loss, x, mean, left=np.nan, right=np.nan)


def at_all(log_loss: np.ndarray, lines: Any) -> np.ndarray:
    """Interpolate several lines: ``[n, P]``."""
    rows = [at(log_loss, line) for line in lines] if len(log_loss) else []
    return np.array(rows).reshape(len(rows), len(log_loss))


def _measured(lines: dict[int, Line], seeds: Sequence[int]) -> dict[int, Line]:
    """Lines of the seeds without undefined points; of one point there is no line."""
    measured = {}
    for seed in seeds:
        if seed in lines:
            finite = np.isfinite(lines[seed].value)
            if finite.sum() > 1:
                measured[seed] = Line(*(column[finite] for column in lines[seed]))
    return measured


def _unsound(variant: str, recorded: Frame) -> str:
    """Explain why no curve of a variant can be used; empty if there is one."""
    if recorded["sound"].any():
        return ""
    if not len(recorded):
        return f"no curve of {variant!r}"
    diverged = int(recorded["diverged_at"].notna().sum())
    return (
        f"no sound curve of {variant!r}: {diverged} of {len(recorded)} diverged, the "
        f"others have fewer than 2 usable points"
    )


def _apart(st: dict[int, Line], mt: dict[int, Line], what: str) -> str:
    """Explain why the curves share no range of training loss; empty where they do."""
    texts, ranges = [], []
    for name, lines in (("ST", st), ("MT", mt)):
        if not lines:
            return f"no {what} along a sound curve of {name}"
        highest = min(line.abscissa.max() for line in lines.values())
        lowest = max(line.abscissa.min() for line in lines.values())
        ranges.append((lowest, highest))
        texts.append(f"{name} from {np.exp(highest):.4g} to {np.exp(lowest):.4g}")
    if min(high for _, high in ranges) > max(low for low, _ in ranges):
        return ""
    return f"no overlap of training losses (nats, all seeds): {', '.join(texts)}"


def _held(df: Frame) -> str:
    pairs = df[df["task"] != ""][["split", "name"]].drop_duplicates()
    return ", ".join(f"{split} {name}" for split, name in pairs.itertuples(index=False))
