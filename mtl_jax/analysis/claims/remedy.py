"""C4: SMTOs change optimization, but do not reliably improve transfer."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc

from mtl_jax.analysis.claims.paired import (
    Paired,
    defined,
    fewest_seeds,
    means_of,
    of_setting,
    or_reason,
    over_tasks,
    percent,
    reasons,
    said,
    share,
    unit_of,
    usable,
    variants_of,
    why_not,
)
from mtl_jax.analysis.claims.row import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_COMPARABLE,
    SUPPORTED,
    ClaimRow,
    not_comparable,
    seeds_to_decide,
    verdict,
    with_mean,
)
from mtl_jax.analysis.curves import Frame, values
from mtl_jax.analysis.interval import (
    ALPHA,
    ROUNDING,
    Mean,
    holm,
    mean_of,
    negligible,
    p_above,
    p_below,
    p_nonzero,
)
from mtl_jax.analysis.moderation import moderated
from mtl_jax.analysis.optimization import effects
from mtl_jax.analysis.transfer import Tested, tested
from mtl_jax.analysis.variant import method_of, same_group
from mtl_jax.types import InputError

TRANSFER = {"score": "% (Delta_m)", "loss": "% (Delta_m of the loss)"}
OPTIMIZATION = "% of the training loss"


class Remedy(NamedTuple):
    """An SMTO against the sum of losses."""

    variant: str
    transfer: list[Paired]
    """``delta_m`` (percent, + is better) of a setting, of which the task is empty (with
    groups of tasks, a group); and ``better``, the share of its tasks that are."""
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


def observe(
    df: Frame, unitary: str, baseline: str, split: str
) -> dict[str, list[Remedy]]:
    """Collect effects of every method but the baseline and the sum, by measure."""
    methods = dict.fromkeys(map(method_of, df["variant"].unique()))
    remedies: dict[str, list[Remedy]] = {measure: [] for measure in TRANSFER}
    for method in methods:
        if method in (unitary, baseline):
            continue
        pairs = [(v, same_group(v, unitary)) for v in variants_of(df, method)]
        optimization = [
            task
            for pair in pairs
            for task in or_reason(df, lambda pair=pair: _losses(df, *pair))
        ]
        for measure, remedy in remedies.items():
            transfer = [
                result
                for pair in pairs
                for result in _delta_m(df, *pair, split, measure)
            ]
            remedy.append(Remedy(method, transfer, optimization))
    return remedies


def _delta_m(
    df: Frame, variant: str, unitary: str, split: str, measure: str
) -> list[Paired]:
    """Delta_m of every setting, seed by seed; their mean is that of `delta_m`."""
    settings = df["setting"].unique().tolist()
    unit = unit_of(variant, "")
    try:
        tests = tested(df, variant, unitary, split)
    except InputError as error:
        return [Paired(setting, unit, [], {}, said(error)) for setting in settings]
    return [
        defined(
            _of_tests(
                setting, unit, [t for t in tests if t.setting == setting], measure
            )
        )
        for setting in settings
    ]


def _of_tests(setting: str, unit: str, tests: Sequence[Tested], measure: str) -> Paired:
    tasks = []
    for name in dict.fromkeys(test.task for test in tests):
        of_task = [test for test in tests if test.task == name]
        scores = [test for test in of_task if test.name != "loss"]
        losses = [test for test in of_task if test.name == "loss"]
        tasks.append(scores if scores and measure == "score" else losses)
    used = [*chain(*tasks)]
    whys = [f"{test.task}: {test.reason}" for test in used if test.reason]
    if whys or not used:
        return Paired(setting, unit, [], {}, "; ".join(whys) or "no task")
    seeds = sorted(set.intersection(*({*test.st} & {*test.mt} for test in used)))
    if not seeds:
        return Paired(setting, unit, [], {}, "")
    by = [np.mean([_relative(o, seeds) for o in task], axis=0) for task in tasks]
    improved = np.mean([gain > 0 for gain in by], axis=0)
    return Paired(
        setting, unit, seeds, {"delta_m": np.mean(by, axis=0), "better": improved}
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
        unit = unit_of(variant, side.task)
        if side.reason:
            paired.append(Paired(side.setting, unit, [], {}, side.reason))
            continue
        at = np.isfinite(effect.values).all(axis=0)
        whole = losses[
            (losses["setting"] == side.setting)
            & (losses["task"] == side.task)
            & losses["step"].isin(effect.labels["step"][at])
            & losses["seed"].isin(side.seeds)
        ]
        difference = effect.values[:, at].mean(axis=-1)
        shown = {"D": percent(difference, whole["value"].to_numpy())}
        paired.append(Paired(side.setting, unit, side.seeds, shown))
    return paired


def _better(mean: Mean, margin: float) -> Better:
    """Judge Delta_m of an SMTO in a setting."""
    p_not = p_below(mean, margin)
    # An improvement that is surely below the margin is none.
    return Better(mean, 1.0 if p_not <= ALPHA else p_above(mean), p_not)


def improvements(
    remedies: Sequence[Sequence[Paired]], margin: float
) -> list[list[Better]]:
    """Judge Delta_m of every SMTO in settings with two seeds or more.

    The variance is moderated over the SMTOs of a setting.
    """
    keys = dict.fromkeys(
        (item.setting, item.task) for group in remedies for item in group
    )
    judged: list[list[Better]] = [[] for _ in remedies]
    for key in keys:
        places, units = [], []
        for place, group in enumerate(remedies):
            for item in group:
                if (item.setting, item.task) == key:
                    places.append(place)
                    units.append(item.values["delta_m"])
        for place, mean in zip(places, moderated(units), strict=True):
            judged[place].append(_better(mean, margin))
    return judged


def judge(
    remedies: Sequence[Remedy],
    settings: Sequence[str],
    margin: float,
    margin_delta_m: float,
    measure: str = "score",
) -> list[ClaimRow]:
    """Judge every SMTO and all together, in every setting and over all.

    Args:
      remedies: as observed.
      settings: their names.
      margin: percent of the training loss.
      margin_delta_m: percent.
      measure: that transfer is of.
    """
    rows = []
    for setting in [*settings, ""]:
        base = ClaimRow("C4", setting, "", measure, "")
        optimization = _optimizations(remedies, base, margin)
        transfer = _transfers(remedies, base, margin_delta_m, optimization)
        rows += [*chain(*zip(transfer, optimization, strict=True))]
        rows.append(_whole(transfer, optimization, base))
    return rows


def _transfers(
    remedies: Sequence[Remedy],
    base: ClaimRow,
    margin: float,
    optimization: Sequence[ClaimRow],
) -> list[ClaimRow]:
    """Judge whether each SMTO improves transfer, in all settings that can be judged."""
    groups = [usable(of_setting(item.transfer, base.setting)) for item in remedies]
    judged = improvements(groups, margin)
    # It has to improve in all settings: the largest p.
    p = holm([max((result.p for result in results), default=1.0) for results in judged])
    rows = []
    for remedy, group, results, adjusted, trained in zip(
        remedies, groups, judged, p, optimization, strict=True
    ):
        row = base._replace(variant=remedy.variant, subject="transfer")
        row = row._replace(reason=_why(of_setting(remedy.transfer, base.setting)))
        if not group:
            rows.append(not_comparable(row, row.reason))
            continue
        p_not = _jointly([result.p_not for result in results])
        mean = mean_of([result.mean for result in results])
        idle = trained.verdict == NO_EFFECT and not any(
            (np.abs(item.values["delta_m"]) > ROUNDING).any() for item in group
        )
        row = row._replace(
            tasks=len(usable(of_setting(remedy.optimization, base.setting))),
            seeds=fewest_seeds(group),
            sign_consistency=share([item.values["better"] for item in group]),
            p=adjusted,
            supporting=sum(result.p_not <= ALPHA for result in results),
            opposing=sum(result.p <= ALPHA for result in results),
            verdict=NO_EFFECT if idle else verdict(p_not <= ALPHA, adjusted <= ALPHA),
        )
        if row.verdict == INCONCLUSIVE:
            needed = seeds_to_decide([r.mean for r in results], row.seeds, margin)
            row = row._replace(needed=needed, needed_of="seeds" * bool(needed))
        rows.append(with_mean(row, mean, TRANSFER[base.measure], margin))
    return rows


def _jointly(p: Sequence[float]) -> float:
    """Combine p values of no improvement, of which one true one is enough (Fisher).

    What is to be refuted is an improvement in every setting, and settings are
    independent.
    """
    if len(p) == 1 or min(p) == 0:
        return min(p)
    statistic = -2 * float(np.sum(np.log(p)))
    return float(chdtrc(2 * len(p), statistic))


def _optimizations(
    remedies: Sequence[Remedy], base: ClaimRow, margin: float
) -> list[ClaimRow]:
    """Judge whether each SMTO changes the training loss of a task."""
    groups = [usable(of_setting(item.optimization, base.setting)) for item in remedies]
    drawn = iter(means_of([*chain(*groups)], "D"))
    means = [[next(drawn) for _ in group] for group in groups]
    p = iter(holm([p_nonzero(mean) for results in means for mean in results]))
    rows = []
    for remedy, group, results in zip(remedies, groups, means, strict=True):
        row = base._replace(variant=remedy.variant, subject="optimization")
        row = row._replace(reason=_why(of_setting(remedy.optimization, base.setting)))
        if not group:
            rows.append(not_comparable(row, row.reason))
            continue
        adjusted = [next(p) for _ in group]
        same = [negligible(mean, margin) for mean in results]
        changed = [q <= ALPHA and not no for q, no in zip(adjusted, same, strict=True)]
        names = dict.fromkeys(task.setting for task in group)
        mean = mean_of([over_tasks(of_setting(group, name), "D") for name in names])
        agree = [np.sign(o.values["D"]) == np.sign(o.values["D"].mean()) for o in group]
        decided = SUPPORTED if any(changed) else INCONCLUSIVE
        row = row._replace(
            tasks=len(group),
            seeds=fewest_seeds(group),
            sign_consistency=share(agree),
            p=min(adjusted),
            supporting=sum(changed),
            opposing=sum(same),
            verdict=NO_EFFECT if all(same) else decided,
        )
        rows.append(with_mean(row, mean, OPTIMIZATION, margin))
    return rows


def _whole(
    transfer: Sequence[ClaimRow], optimization: Sequence[ClaimRow], row: ClaimRow
) -> ClaimRow:
    """Judge all SMTOs: none may improve, and optimization must change under one.

    One that never differs from the sum has no say.
    """
    known = [item for item in transfer if item.verdict != NOT_COMPARABLE]
    trained = [item for item in optimization if item.verdict != NOT_COMPARABLE]
    left_out = [
        item for item in [*transfer, *optimization] if item not in known + trained
    ]
    why = "; ".join(
        f"{item.variant} ({item.subject}): {item.reason}" for item in left_out
    )
    if not known or not trained:
        return not_comparable(row, why or "no SMTO was trained")
    judged = [item for item in known if item.verdict != NO_EFFECT]
    best = max(judged or known, key=lambda item: item.effect)
    none = sum(item.verdict == SUPPORTED for item in judged)
    improve = sum(item.verdict == CONTRADICTED for item in judged)
    change = any(item.verdict == SUPPORTED for item in trained)
    decided = verdict(bool(judged) and none == len(judged) and change, improve > 0)
    nothing = all(item.verdict == NO_EFFECT for item in trained) and not improve
    row = row._replace(
        effect=best.effect,
        unit=best.unit,
        low=best.low,
        high=best.high,
        margin=best.margin,
        tasks=best.tasks,
        seeds=min(item.seeds for item in known),
        sign_consistency=best.sign_consistency,
        p=min(item.p for item in known),
        supporting=none,
        opposing=improve,
        verdict=NO_EFFECT if nothing else decided,
        reason=why,
    )
    needed = max((item.needed for item in judged), default=0)
    if row.verdict == INCONCLUSIVE and needed:
        row = row._replace(needed=needed, needed_of="seeds")
    return row


def _why(tasks: Sequence[Paired]) -> str:
    """Reasons of Delta_m have no task; those of one setting need no name either."""
    if not tasks:
        return "no task"
    if any(task.task for task in tasks):
        return reasons(tasks)
    told = {task.setting: why_not(task) for task in tasks if why_not(task)}
    alone = len({task.setting for task in tasks}) == 1
    return "; ".join(why if alone else f"{name}: {why}" for name, why in told.items())
