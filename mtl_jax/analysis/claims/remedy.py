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
    ClaimRow,
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
    """``D`` of every task: the difference of training losses at equal step, percent; +
    is worse."""


class Better(NamedTuple):
    """Verdict of the seeds on the transfer of an SMTO in a setting."""

    mean: Mean
    p: float
    """P value of an improvement, not yet adjusted."""
    p_not: float
    """P value of no improvement by the margin."""


def observe(df: Frame, unitary: str, baseline: str, split: str) -> list[Remedy]:
    """Collect effects of every variant but the baseline and the sum of losses."""
    known = dict.fromkeys(df["variant"])
    others = [name for name in known if name not in (unitary, baseline)]
    return [
        Remedy(
            name,
            _delta_m(df, name, unitary, split),
            or_reason(df, lambda other=name: _losses(df, other, unitary)),
        )
        for name in others
    ]


def _delta_m(df: Frame, variant: str, unitary: str, split: str) -> list[Paired]:
    """Delta_m of every setting, seed by seed; their mean is that of `delta_m`."""
    settings = df["setting"].unique().tolist()
    try:
        tests = tested(df, variant, unitary, split)
    except InputError as error:
        return [Paired(setting, "", [], {}, said(error)) for setting in settings]
    return [
        defined(_of_tests(setting, [test for test in tests if test.setting == setting]))
        for setting in settings
    ]


def _of_tests(setting: str, tests: Sequence[Tested]) -> Paired:
    tasks = by_task(tests)
    scores = [*chain(*tasks)]
    whys = [f"{test.task}: {test.reason}" for test in scores if test.reason]
    if whys or not scores:
        return Paired(setting, "", [], {}, "; ".join(whys) or "no task")
    seeds = sorted(set.intersection(*({*test.st} & {*test.mt} for test in scores)))
    if not seeds:
        return Paired(setting, "", [], {}, "")
    by = [np.mean([_relative(o, seeds) for o in task], axis=0) for task in tasks]
    improved = np.mean([gain > 0 for gain in by], axis=0)
    return Paired(
        setting, "", seeds, {"delta_m": np.mean(by, axis=0), "better": improved}
    )


def _relative(test: Tested, seeds: Sequence[int]) -> np.ndarray:
    st, mt = (np.array([side[s] for s in seeds]) for side in (test.st, test.mt))
    return test.direction * percent(mt - st, st)


def _losses(df: Frame, variant: str, unitary: str) -> list[Paired]:
    """Mean over steps of the difference of training losses, seed by seed."""
    losses = values(df, "probe", "loss")
    losses = losses[losses["variant"] == unitary]
    paired = []
    for effect in effects(df, variant, unitary):
        side = effect.sides
        if side.reason:
            paired.append(Paired(side.setting, side.task, [], {}, side.reason))
            continue
        seeds = sorted(set(side.st_seeds) & set(side.mt_seeds))
        st, mt = places(side.st_seeds, seeds), places(side.mt_seeds, seeds)
        at = np.isfinite(effect.values).all(axis=(0, 1))
        difference = effect.values[st, mt][:, at].mean(axis=-1)
        whole = losses[
            (losses["setting"] == side.setting)
            & (losses["task"] == side.task)
            & losses["step"].isin(effect.labels["step"][at])
            & losses["seed"].isin(seeds)
        ]
        shown = {"D": percent(difference, whole["value"].to_numpy())}
        paired.append(Paired(side.setting, side.task, seeds, shown))
    return paired


def improvement(setting: Paired, margin: float) -> Better:
    """Judge Delta_m of an SMTO in a setting with two seeds or more."""
    mean = paired_t(setting.values["delta_m"])
    p_not = p_below(mean, margin)
    # An improvement that is surely below the margin is none.
    return Better(mean, 1.0 if p_not <= ALPHA else p_above(mean), p_not)


def judge(
    remedies: Sequence[Remedy],
    settings: Sequence[str],
    margin: float,
    margin_delta_m: float,
) -> list[ClaimRow]:
    """Judge every SMTO and all together, in every setting and over all.

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


def _transfers(
    remedies: Sequence[Remedy], setting: str, margin: float
) -> list[ClaimRow]:
    """Judge whether each SMTO improves transfer, in all settings that can be judged."""
    usables = [usable(of_setting(remedy.transfer, setting)) for remedy in remedies]
    improvements = [
        [improvement(setting, margin) for setting in group] for group in usables
    ]
    # It has to improve in all settings: the largest p. To fail in one is enough: the
    # smallest, times their number.
    p = holm(
        [max((result.p for result in results), default=1.0) for results in improvements]
    )
    rows = []
    for remedy, group, results, adjusted in zip(
        remedies, usables, improvements, p, strict=True
    ):
        row = ClaimRow("C4", setting, remedy.variant, "transfer")
        row = row._replace(reason=_why(of_setting(remedy.transfer, setting)))
        if not group:
            rows.append(not_comparable(row, row.reason))
            continue
        p_not = min(1.0, len(group) * min(result.p_not for result in results))
        mean = mean_of([result.mean for result in results])
        row = row._replace(
            tasks=len(usable(of_setting(remedy.optimization, setting))),
            seeds=fewest_seeds(group),
            sign_consistency=share([setting.values["better"] for setting in group]),
            p=adjusted,
            verdict=verdict(p_not <= ALPHA, adjusted <= ALPHA),
            statement=f"{remedy.variant} against the sum of losses, in "
            f"{counted(len(group), 'setting')}: {written(mean, TRANSFER)}; "
            f"{p_written(adjusted)} that it improves{' in each' if not setting else ''}"
            f" (Holm over SMTOs), {p_written(p_not)} that it fails to by {margin:g} %.",
        )
        rows.append(with_mean(row, mean, TRANSFER, margin))
    return rows


def _optimizations(
    remedies: Sequence[Remedy], setting: str, margin: float
) -> list[ClaimRow]:
    """Judge whether each SMTO changes the training loss of a task."""
    usables = [usable(of_setting(remedy.optimization, setting)) for remedy in remedies]
    means = [[paired_t(task.values["D"]) for task in group] for group in usables]
    p = iter(holm([p_nonzero(mean) for results in means for mean in results]))
    rows = []
    for remedy, group, results in zip(remedies, usables, means, strict=True):
        row = ClaimRow("C4", setting, remedy.variant, "optimization")
        row = row._replace(reason=_why(of_setting(remedy.optimization, setting)))
        if not group:
            rows.append(not_comparable(row, row.reason))
            continue
        adjusted = [next(p) for _ in group]
        same = [negligible(mean, margin) for mean in results]
        changed = [q <= ALPHA and not no for q, no in zip(adjusted, same, strict=True)]
        worse = sum(
            mean.value > 0 for mean, yes in zip(results, changed, strict=True) if yes
        )
        names = dict.fromkeys(task.setting for task in group)
        mean = mean_of([over_tasks(of_setting(group, name), "D") for name in names])
        agree = [np.sign(o.values["D"]) == np.sign(o.values["D"].mean()) for o in group]
        row = row._replace(
            tasks=len(group),
            seeds=fewest_seeds(group),
            sign_consistency=share(agree),
            p=min(adjusted),
            verdict=verdict(any(changed), all(same)),
            statement=f"{remedy.variant} against the sum of losses: the training loss "
            f"at equal step differs in {sum(changed)} of {counted(len(group), 'task')} "
            f"(higher in {worse}; smallest {p_written(min(adjusted))} after Holm over "
            f"SMTOs and tasks), on average by {written(mean, OPTIMIZATION)}.",
        )
        rows.append(with_mean(row, mean, OPTIMIZATION, margin))
    return rows


def _whole(
    transfer: Sequence[ClaimRow], optimization: Sequence[ClaimRow], setting: str
) -> ClaimRow:
    """Judge all SMTOs: none may improve, and optimization must change under one."""
    row = ClaimRow("C4", setting, "", "")
    judged = [row for row in transfer if row.verdict != NOT_COMPARABLE]
    trained = [row for row in optimization if row.verdict != NOT_COMPARABLE]
    left_out = [
        row for row in [*transfer, *optimization] if row not in judged + trained
    ]
    why = "; ".join(f"{row.variant} ({row.subject}): {row.reason}" for row in left_out)
    if not judged or not trained:
        return not_comparable(row, why or "no SMTO was trained")
    best = max(judged, key=lambda row: row.effect)
    none = sum(row.verdict == SUPPORTED for row in judged)
    improve = [row.variant for row in judged if row.verdict == CONTRADICTED]
    change = [row.variant for row in trained if row.verdict == SUPPORTED]
    same = all(row.verdict == CONTRADICTED for row in trained)
    return row._replace(
        effect=best.effect,
        unit=best.unit,
        low=best.low,
        high=best.high,
        margin=best.margin,
        tasks=best.tasks,
        seeds=min(row.seeds for row in judged),
        sign_consistency=best.sign_consistency,
        p=min(row.p for row in judged),
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
    if any(task.task for task in tasks):
        return reasons(tasks)
    told = {task.setting: why_not(task) for task in tasks if why_not(task)}
    alone = len({task.setting for task in tasks}) == 1
    return "; ".join(why if alone else f"{name}: {why}" for name, why in told.items())
