"""ST and MT brought to the same training losses, seed by seed, without extrapolation.

What a training loss is worth is a regression on the raw cloud of a trajectory: of the
value (a test loss, a score, a factor) on the log training loss, locally linear. Points
are taken where they are, and not in the order of the steps: a loss that oscillates or
has spikes moves along the same curve, and pooling it first (isotonic regression) would
pool its log but average the value, which invents a gap (Jensen). The isotonic
matching is kept as a check.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.analysis.curves import (
    CURVE,
    FALLEN,
    Frame,
    align,
    counted,
    curves,
    of_name,
    values,
)
from mtl_jax.analysis.measures import measures
from mtl_jax.analysis.memo import memoised, of_variants
from mtl_jax.types import InputError

WIDTH = 0.2
"""Least half width of the kernel, log nats: losses that count as alike."""

REACH = 1.25
"""Half width in distances of the farther one of the two nearest points, one a side."""

EARLY = 0.05
"""Share of the first training loss by which a gap must have opened to be early."""

LASTING = 2.0
"""Least factor in training loss over which a gap must last to persist."""


class Cloud(NamedTuple):
    """Values along a trajectory, ``[P]`` each, by step."""

    log_loss: np.ndarray
    value: np.ndarray
    """May be NaN: measured, but not defined."""
    abscissa: np.ndarray
    """Antitonic regression of the log loss."""
    start: float = 0.0
    """Log of the first training loss."""


class Sides(NamedTuple):
    """The curves of a task in the two variants that are compared."""

    setting: str
    task: str
    seeds: list[int]
    """Seeds of which both curves are sound: the pairs."""
    st_diverged: int
    """Curves of the baseline that diverged."""
    mt_diverged: int
    reason: str
    """Reason why the two cannot be compared; empty where they can."""


class Matched(NamedTuple):
    """Values of a task at the same training losses, seed by seed."""

    sides: Sides
    log_loss: np.ndarray
    """Grid ``[P]``, log nats, falling: early in training comes first. Empty where the
    variants are not comparable."""
    st: np.ndarray
    """``[n, P]``, NaN at losses that one of the two runs of a seed does not reach."""
    mt: np.ndarray
    """``[n, P]``."""
    isotonic: np.ndarray
    """The gap as the isotonic matching has it ``[n, P]``."""
    sign: int
    """+1 of the loss, whose gap is + where MT is worse; of a score its direction, so
    that + is MT better."""
    start: float
    """Log of the lowest first training loss."""

    @property
    def gap(self) -> np.ndarray:
        """Compute the signed difference of MT and ST ``[n, P]``."""
        return self.sign * (self.mt - self.st)


@memoised
def sides(df: Frame, variant: str, baseline: str) -> list[Sides]:
    """Pair the curves of every (setting, task), and tell which pairs are sound.

    Raises:
      InputError: a variant that no record is of, or that is its own baseline.
    """
    known = list(df["variant"].unique())
    if variant not in known or baseline not in known or variant == baseline:
        raise InputError(
            f"variant {variant!r} and baseline {baseline!r} must be two of the "
            f"variants in the records: {', '.join(known)}."
        )
    losses = of_variants(of_name(df, "loss"), (baseline, variant))
    served = losses["task"].unique()
    if "group" in losses:
        of_variant = counted(losses[losses["variant"] == variant])
        if (of_variant["group"].fillna("") != "").any():
            served = of_variant["task"].unique()
    compared = []
    table = curves(losses)
    groups = dict(iter(table.groupby(["setting", "task", "variant"])))
    for setting, task in sorted({key[:2] for key in groups}):
        if task not in served:
            continue
        st, mt = (
            groups.get((setting, task, name), table[:0]) for name in (baseline, variant)
        )
        reasons = [*filter(None, [_unsound(baseline, st), _unsound(variant, mt)])]
        seeds = set(st[st["sound"]]["seed"]) & set(mt[mt["sound"]]["seed"])
        if not reasons and not seeds:
            reasons = ["no seed of which both curves are sound"]
        compared.append(
            Sides(
                setting,
                task,
                sorted(map(int, seeds)),
                int(st["diverged_at"].notna().sum()),
                int(mt["diverged_at"].notna().sum()),
                "; ".join(reasons),
            )
        )
    return compared


@memoised
def match(
    df: Frame, variant: str, baseline: str, split: str, name: str, points: int
) -> list[Matched]:
    """Regress every task's value on a grid of training losses that its seeds pass.

    The grid is equally spaced in log loss. It begins where the loss has fallen
    (`curves.FALLEN`) and ends at the lowest loss that two pairs of runs reach (of one
    pair, that it reaches): a seed that stops earlier leaves the later points to others.

    Raises:
      InputError: nobody recorded the value, fewer than 2 points, or as `sides`.
    """
    if points < 2:
        raise InputError(f"points is {points}; a grid has at least 2.")
    paired = sides(df, variant, baseline)
    clouds = clouds_of(df, split, name, of=(baseline, variant))
    if not clouds and not len(values(df, split, name)):
        raise InputError(
            f"the records hold no {name!r} of split {split!r} of a task; they hold: "
            f"{_held(df)}."
        )
    declared = measures(df)
    matched = []
    for side in paired:
        st, mt = (
            _measured(clouds.get((side.setting, v, side.task), {}), side.seeds)
            for v in (baseline, variant)
        )
        pairs = {seed: (st[seed], mt[seed]) for seed in st if seed in mt}
        if not side.reason and not pairs:
            bare = [who for who, has in (("ST", st), ("MT", mt)) if not has]
            whose = f"a sound curve of {' and '.join(bare)}" if bare else "a pair"
            side = side._replace(reason=f"no {split} {name} along {whose}")
        if not side.reason:
            pairs, side = _overlapping(pairs, side)
        if side.reason:
            none = np.zeros((0, 0))
            matched.append(Matched(side, np.zeros(0), none, none, none, 1, 0.0))
            continue
        sign = 1 if name == "loss" else declared[side.setting, name].direction
        start = min(cloud.start for pair in pairs.values() for cloud in pair)
        grid = _grid([_range(*pair) for pair in pairs.values()], points)
        st, mt = (at_all(grid, column) for column in zip(*pairs.values(), strict=True))
        lost = np.isnan(st) | np.isnan(mt)
        st, mt = (np.where(lost, np.nan, side) for side in (st, mt))
        check = sign * np.array(
            [
                _isotonic(grid, two) - _isotonic(grid, first)
                for first, two in pairs.values()
            ]
        )
        side = side._replace(seeds=list(pairs))
        matched.append(Matched(side, grid, st, mt, check, sign, start))
    return matched


def lasting(matched: Matched) -> np.ndarray:
    """Mark the bins ``[P]`` in which a gap must be there to be early and to persist."""
    begins = max(
        matched.start + np.log(EARLY), matched.log_loss.min() + np.log(LASTING)
    )
    return matched.log_loss <= max(begins, matched.log_loss[-2:].max())


@memoised
def clouds_of(
    df: Frame, split: str, name: str, scope: str = "", *, of: Sequence[str]
) -> dict[tuple[str, str, str], dict[int, Cloud]]:
    """Collect clouds of a value: ``(setting, variant, task) -> {seed: cloud}``.

    Args:
      df: records.
      split: of the value.
      name: of the value.
      scope: of the value.
      of: variants that are compared with each other.
    """
    aligned = align(of_variants(of_name(df, "loss"), tuple(of)))
    aligned = aligned[[*CURVE, "step", "log_loss", "abscissa", "start"]]
    recorded = of_variants(values(df, split, name, scope), tuple(of))
    points = recorded.merge(aligned, on=[*CURVE, "step"])
    log_loss, value, abscissa, start = (
        points[column].to_numpy(np.float64)
        for column in ("log_loss", "value", "abscissa", "start")
    )
    clouds = {}
    keys: Any = ["setting", "variant", "task", "seed"]
    for (*of_task, seed), at in points.groupby(keys).indices.items():
        cloud = Cloud(log_loss[at], value[at], abscissa[at], float(start[at[0]]))
        clouds.setdefault(tuple(of_task), {})[int(seed)] = cloud
    return clouds


def local_linear(at: np.ndarray, x: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Regress values ``[N]`` on ``x``, locally linear, at ``[P]``; NaN outside of x.

    Points count by the biweight of their distance. The kernel is wide enough for the
    nearest point on either side (times `REACH`) and for all that are within `WIDTH`:
    where points are rare this is close to interpolation. NaN where a point that counts
    is.

    >>> x = np.array([2.0, 1.0, 0.0])
    >>> local_linear(np.array([3.0, 1.5, 0.5]), x, 1 + 2 * x)
    array([nan,  4.,  2.])
    """
    distance = np.abs(at[:, None] - x)
    sides = (
        np.where(on_side, distance, np.inf).min(axis=1, initial=np.inf)
        for on_side in (x <= at[:, None], x >= at[:, None])
    )
    farther = np.maximum(*sides)
    inside = np.isfinite(farther)
    width = np.maximum(WIDTH, REACH * np.where(inside, farther, 0))[:, None]
    weight = np.clip(1 - (distance / width) ** 2, 0, None) ** 2
    total = weight.sum(axis=1, keepdims=True)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    undefined = (weight[:, np.isnan(value)] > 0).any(axis=1)
    value = np.nan_to_num(value)
    middle, mean = weight @ x, weight @ value
    away = x - middle[:, None]
    spread = (weight * away**2).sum(axis=1)
    slope = np.divide(
        (weight * away * value).sum(axis=1),
        spread,
        out=np.zeros(len(at)),
        where=spread > 1e-12,
    )
    known = inside & ~undefined
    return np.where(known, mean + slope * (at - middle), np.nan)


def at_all(log_loss: np.ndarray, clouds: Iterable[Cloud]) -> np.ndarray:
    """Regress several clouds at the same log losses: ``[n, P]``."""
    rows = [local_linear(log_loss, cloud.log_loss, cloud.value) for cloud in clouds]
    return np.array(rows).reshape(len(rows), len(log_loss))


def _isotonic(log_loss: np.ndarray, cloud: Cloud) -> np.ndarray:
    """Interpolate between the plateaus of the antitonic regression; NaN outside."""
    x, plateau = np.unique(cloud.abscissa, return_inverse=True)
    mean = np.bincount(plateau, weights=cloud.value) / np.bincount(plateau)
    return np.interp(log_loss, x, mean, left=np.nan, right=np.nan)


def _measured(clouds: dict[int, Cloud], seeds: Sequence[int]) -> dict[int, Cloud]:
    """Clouds of the seeds without undefined points; of one point there is none."""
    measured = {}
    for seed in seeds:
        if seed in clouds:
            x, value, abscissa, start = clouds[seed]
            at = np.isfinite(value)
            if at.sum() > 1:
                measured[seed] = Cloud(x[at], value[at], abscissa[at], start)
    return measured


def _range(st: Cloud, mt: Cloud) -> tuple[float, float]:
    """Highest and lowest log loss that both runs pass, initialisation left out."""
    begun = min(st.start, mt.start) + np.log(FALLEN)
    highest = min(begun, st.log_loss.max(), mt.log_loss.max())
    return highest, max(st.log_loss.min(), mt.log_loss.min())


def _grid(ranges: Sequence[tuple[float, float]], points: int) -> np.ndarray:
    """Grid over the losses that two pairs reach, or one where there is one."""
    second = min(1, len(ranges) - 1)
    highest = sorted((high for high, _ in ranges), reverse=True)[second]
    lowest = sorted(low for _, low in ranges)[second]
    return np.linspace(highest, lowest, points)


def _overlapping(
    pairs: dict[int, tuple[Cloud, Cloud]], side: Sides
) -> tuple[dict[int, tuple[Cloud, Cloud]], Sides]:
    """Pairs that share losses; the sides say why where none does."""
    ranges = {seed: _range(*pair) for seed, pair in pairs.items()}
    ranges = {seed: ends for seed, ends in ranges.items() if ends[0] > ends[1]}
    if ranges and np.subtract(*_grid([*ranges.values()], 2)) > 0:
        return {seed: pairs[seed] for seed in ranges}, side
    texts = []
    for place, name in enumerate(("ST", "MT")):
        clouds = [pair[place] for pair in pairs.values()]
        ends = np.exp([f(c.log_loss) for f in (np.max, np.min) for c in clouds])
        texts.append(f"{name} from {ends.max():.4g} to {ends.min():.4g}")
    why = f"no overlap of training losses (nats, seed by seed): {', '.join(texts)}"
    return {}, side._replace(reason=why)


def _unsound(variant: str, recorded: Frame) -> str:
    """Explain why no curve of a variant can be used; empty if there is one."""
    if recorded["sound"].any():
        return ""
    if not len(recorded):
        return f"no curve of {variant!r}"
    diverged = int(recorded["diverged_at"].notna().sum())
    return (
        f"no sound curve of {variant!r}: {diverged} of {len(recorded)} diverged, the "
        f"others have fewer than 2 usable points after their loss has fallen by a tenth"
    )


def _held(df: Frame) -> str:
    pairs = df[df["task"] != ""][["split", "name"]].drop_duplicates()
    return ", ".join(f"{split} {name}" for split, name in pairs.itertuples(index=False))
