"""C4: SMTOs change optimization, but do not reliably improve transfer."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from mtl_jax.analysis.claims.interval import (
    ALPHA,
    Mean,
    holm,
    mean_of,
    negligible,
    p_above,
    p_below,
    p_nonzero,
    paired_t,
)
from mtl_jax.analysis.claims.paired import (
    Paired,
    defined,
    fewest_seeds,
    of_setting,
    or_reason,
    over_tasks,
    percent,
    places,
    reasons,
    said,
    share,
    usable,
    why_not,
)
from mtl_jax.analysis.claims.row import (
    CONTRADICTED,
    NOT_COMPARABLE,
    SUPPORTED,
    Row,
    counted,
    not_comparable,
    p_written,
    verdict,
    with_mean,
    written,
)
from mtl_jax.analysis.curves import Frame, values
from mtl_jax.analysis.optimization import effects
from mtl_jax.analysis.transfer import Tested, by_task, tested
from mtl_jax.types import InputError

TRANSFER = "% (Delta_m)"
OPTIMIZATION = "% of the training loss"


class Remedy(NamedTuple):
    """An SMTO against the sum of losses."""

    variant: str
    transfer: list[Paired]
    """``delta_m`` (percent, + is better) of a setting, of which the task is empty; and
    ``better``, the share of its tasks that are."""
    optimization: list[Paired]
    """Of every task ``D``: the difference of training losses at equal step, percent; +
    is worse."""


class Better(NamedTuple):
    """What the seeds say of the transfer of an SMTO in a setting."""

    mean: Mean
    p: float
    """That it is better, not yet adjusted."""
    p_not: float
    """That it is not better by the margin."""


def observe(df: Frame, unitary: str, baseline: str, split: str) -> list[Remedy]:
    """Every variant but the baseline and the sum of losses."""
    known = dict.fromkeys(df["variant"])
    others = [name for name in known if name not in (unitary, baseline)]
    return [
        Remedy(
            name,
            _delta_m(df, name, unitary, split),
            or_reason(df, lambda own=name: _losses(df, own, unitary)),
        )
        for name in others
    ]


def _delta_m(df: Frame, variant: str, unitary: str, split: str) -> list[Paired]:
    """Delta_m of every setting, seed by seed; their mean is that of `delta_m`."""
    settings = df["setting"].unique().tolist()
    try:
        found = tested(df, variant, unitary, split)
    except InputError as error:
        return [Paired(setting, "", [], {}, said(error)) for setting in settings]
    return [
        defined(_of_tests(setting, [one for one in found if one.setting == setting]))
        for setting in settings
    ]


def _of_tests(setting: str, found: Sequence[Tested]) -> Paired:
    tasks = by_task(found)
    scores = [*chain(*tasks)]
    whys = [f"{one.task}: {one.reason}" for one in scores if one.reason]
    if whys or not scores:
        return Paired(setting, "", [], {}, "; ".join(whys) or "no task")
    seeds = sorted(set.intersection(*({*one.st} & {*one.mt} for one in scores)))
    if not seeds:
        return Paired(setting, "", [], {}, "")
    by = [np.mean([_relative(o, seeds) for o in own], axis=0) for own in tasks]
    improved = np.mean([own > 0 for own in by], axis=0)
    return Paired(
        setting, "", seeds, {"delta_m": np.mean(by, axis=0), "better": improved}
    )


def _relative(one: Tested, seeds: Sequence[int]) -> np.ndarray:
    st, mt = (np.array([side[s] for s in seeds]) for side in (one.st, one.mt))
    return one.direction * percent(mt - st, st)


def _losses(df: Frame, variant: str, unitary: str) -> list[Paired]:
    """Mean over steps of the difference of training losses, seed by seed."""
    losses = values(df, "probe", "loss")
    losses = losses[losses["variant"] == unitary]
    found = []
    for one in effects(df, variant, unitary):
        side = one.sides
        if side.reason:
            found.append(Paired(side.setting, side.task, [], {}, side.reason))
            continue
        seeds = sorted(set(side.st_seeds) & set(side.mt_seeds))
        st, mt = places(side.st_seeds, seeds), places(side.mt_seeds, seeds)
        at = np.isfinite(one.values).all(axis=(0, 1))
        difference = one.values[st, mt][:, at].mean(axis=-1)
        own = losses[
            (losses["setting"] == side.setting)
            & (losses["task"] == side.task)
            & losses["step"].isin(one.labels["step"][at])
            & losses["seed"].isin(seeds)
        ]
        shown = {"D": percent(difference, own["value"].to_numpy())}
        found.append(Paired(side.setting, side.task, seeds, shown))
    return found


def improvement(one: Paired, margin: float) -> Better:
    """Delta_m of an SMTO in a setting that can be judged."""
    mean = paired_t(one.values["delta_m"])
    p_not = p_below(mean, margin)
    # An improvement that is surely below the margin is none.
    return Better(mean, 1.0 if p_not <= ALPHA else p_above(mean), p_not)


def judge(
    remedies: Sequence[Remedy],
    settings: Sequence[str],
    margin: float,
    margin_delta_m: float,
) -> list[Row]:
    """Rows of every SMTO and of all, in every setting and over all.

    Args:
      remedies: as observed.
      settings: their names.
      margin: percent of the training loss.
      margin_delta_m: percent.
    """
    rows = []
    for setting in [*settings, ""]:
        transfer = _transfers(remedies, setting, margin_delta_m)
        optimization = _optimizations(remedies, setting, margin)
        rows += [*chain(*zip(transfer, optimization, strict=True))]
        rows.append(_whole(transfer, optimization, setting))
    return rows


def _transfers(remedies: Sequence[Remedy], setting: str, margin: float) -> list[Row]:
    """Of every SMTO: does it improve transfer, in all settings that can be judged?"""
    usables = [usable(of_setting(one.transfer, setting)) for one in remedies]
    found = [[improvement(one, margin) for one in own] for own in usables]
    # It has to improve in all settings: the largest p. To fail in one is enough: the
    # smallest, times their number.
    p = holm([max((one.p for one in own), default=1.0) for own in found])
    rows = []
    for remedy, own, results, adjusted in zip(remedies, usables, found, p, strict=True):
        row = Row("C4", setting, remedy.variant, "transfer")
        row = row._replace(reason=_why(of_setting(remedy.transfer, setting)))
        if not own:
            rows.append(not_comparable(row, row.reason))
            continue
        p_not = min(1.0, len(own) * min(one.p_not for one in results))
        mean = mean_of([one.mean for one in results])
        row = row._replace(
            tasks=len(usable(of_setting(remedy.optimization, setting))),
            seeds=fewest_seeds(own),
            sign_consistency=share([one.values["better"] for one in own]),
            p=adjusted,
            verdict=verdict(p_not <= ALPHA, adjusted <= ALPHA),
            statement=f"{remedy.variant} against the sum of losses, in "
            f"{counted(len(own), 'setting')}: {written(mean, TRANSFER)}; "
            f"{p_written(adjusted)} that it improves{' in each' if not setting else ''}"
            f" (Holm over SMTOs), {p_written(p_not)} that it fails to by {margin:g} %.",
        )
        rows.append(with_mean(row, mean, TRANSFER, margin))
    return rows


def _optimizations(
    remedies: Sequence[Remedy], setting: str, margin: float
) -> list[Row]:
    """Of every SMTO: does it change the training loss of a task?"""
    usables = [usable(of_setting(one.optimization, setting)) for one in remedies]
    found = [[paired_t(one.values["D"]) for one in own] for own in usables]
    p = iter(holm([p_nonzero(one) for own in found for one in own]))
    rows = []
    for remedy, own, results in zip(remedies, usables, found, strict=True):
        row = Row("C4", setting, remedy.variant, "optimization")
        row = row._replace(reason=_why(of_setting(remedy.optimization, setting)))
        if not own:
            rows.append(not_comparable(row, row.reason))
            continue
        adjusted = [next(p) for _ in own]
        same = [negligible(one, margin) for one in results]
        changed = [q <= ALPHA and not no for q, no in zip(adjusted, same, strict=True)]
        worse = sum(
            one.value > 0 for one, yes in zip(results, changed, strict=True) if yes
        )
        names = dict.fromkeys(one.setting for one in own)
        mean = mean_of([over_tasks(of_setting(own, name), "D") for name in names])
        agree = [np.sign(o.values["D"]) == np.sign(o.values["D"].mean()) for o in own]
        row = row._replace(
            tasks=len(own),
            seeds=fewest_seeds(own),
            sign_consistency=share(agree),
            p=min(adjusted),
            verdict=verdict(any(changed), all(same)),
            statement=f"{remedy.variant} against the sum of losses: the training loss "
            f"at equal step differs in {sum(changed)} of {counted(len(own), 'task')} "
            f"(higher in {worse}; smallest {p_written(min(adjusted))} after Holm over "
            f"SMTOs and tasks), on average by {written(mean, OPTIMIZATION)}.",
        )
        rows.append(with_mean(row, mean, OPTIMIZATION, margin))
    return rows


def _whole(transfer: Sequence[Row], optimization: Sequence[Row], setting: str) -> Row:
    """Of all SMTOs: none may improve, and optimization must change under one."""
    row = Row("C4", setting, "", "")
    judged = [one for one in transfer if one.verdict != NOT_COMPARABLE]
    trained = [one for one in optimization if one.verdict != NOT_COMPARABLE]
    left_out = [
        one for one in [*transfer, *optimization] if one not in judged + trained
    ]
    why = "; ".join(f"{one.variant} ({one.subject}): {one.reason}" for one in left_out)
    if not judged or not trained:
        return not_comparable(row, why or "no SMTO was trained")
    best = max(judged, key=lambda one: one.effect)
    none = sum(one.verdict == SUPPORTED for one in judged)
    improve = [one.variant for one in judged if one.verdict == CONTRADICTED]
    change = [one.variant for one in trained if one.verdict == SUPPORTED]
    same = all(one.verdict == CONTRADICTED for one in trained)
    return row._replace(
        effect=best.effect,
        unit=best.unit,
        low=best.low,
        high=best.high,
        margin=best.margin,
        tasks=best.tasks,
        seeds=min(one.seeds for one in judged),
        sign_consistency=best.sign_consistency,
        p=min(one.p for one in judged),
        verdict=verdict(none == len(judged) and bool(change), bool(improve) or same),
        statement=f"Of {counted(len(judged), 'SMTO')}, {len(improve)} reliably "
        f"improve transfer ({', '.join(improve) or 'none'}), {none} surely do not, and "
        f"{len(change)} change optimization; the best for transfer is {best.variant}: "
        f"{best.effect:+.3g} {best.unit}.",
        reason=why,
    )


def _why(tasks: Sequence[Paired]) -> str:
    """Reasons of Delta_m have no task; those of one setting need no name either."""
    if not tasks:
        return "no task"
    if any(one.task for one in tasks):
        return reasons(tasks)
    told = {one.setting: why_not(one) for one in tasks if why_not(one)}
    alone = len({one.setting for one in tasks}) == 1
    return "; ".join(why if alone else f"{name}: {why}" for name, why in told.items())
