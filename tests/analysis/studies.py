"""Studies that nobody ran, of which it is known what is true of every claim."""

import numpy as np

from mtl_jax.analysis.claims.explanation import Factor
from mtl_jax.analysis.claims.harm import Affected
from mtl_jax.analysis.claims.paired import Paired
from mtl_jax.analysis.claims.remedy import Remedy
from tests.analysis.synthetic import curve, frame, line

FALL = np.linspace(2.0, -2.0, 16)
FACTORS = ("fisher_trace", "coherence")
WORSE = {"coherence": -1}


def study(
    rng,
    gap=0.0,
    seeds=3,
    tasks=6,
    noise=0.01,
    explained=0.0,
    harm=0.0,
    unlike=0.0,
    help=0.0,
    change=0.0,
    setting="s",
    optimizers=("multi-pcgrad",),
):
    """Make the records of a setting.

    Args:
      rng: of the noise.
      gap: of the test loss, of alternating sign from task to task.
      seeds: number.
      tasks: number.
      noise: between runs.
      explained: contrast of every factor, with the sign that explains the gap.
      harm: log ratio of training losses of the task with most conflict, in MT.
      unlike: contrast of factors that has nothing to do with the gap.
      help: accuracy that optimizers add.
      change: log ratio of training losses, optimizers against the sum.
      setting: name.
      optimizers: variants.
    """
    curves = []
    for k in range(tasks):
        sign = 1 if k % 2 else -1
        conflict = k / max(tasks - 1, 1)
        for variant in ("single", "multi", *optimizers):
            together, helped = variant != "single", variant in optimizers
            for seed in range(seeds):
                errors = rng.normal(size=3) * noise
                shift = errors[0] + together * harm * conflict + helped * change
                log_loss = FALL + shift
                test = line(log_loss, 2.0) + together * sign * gap + errors[1]
                ratio = together * (explained * sign + unlike) + errors[2]
                factors = {
                    (name, "task"): np.exp(log_loss + WORSE.get(name, 1) * ratio)
                    for name in FACTORS
                }
                if together:
                    factors["mean_cosine", "shared"] = -conflict
                accuracy = 0.8 + helped * help + rng.normal() * noise / 10
                curves.append(
                    curve(
                        variant,
                        np.exp(log_loss),
                        test=test,
                        seed=seed,
                        task=f"t{k}",
                        setting=setting,
                        factors=factors,
                        accuracy=accuracy,
                    )
                )
    return frame(*curves)


def paired(task="a", setting="s", **values):
    """Make a task with values by name, one per seed."""
    arrays = {name: np.array(numbers, float) for name, numbers in values.items()}
    count = len(next(iter(arrays.values())))
    return Paired(setting, task, list(range(count)), arrays)


def noise(rng, tasks, seeds, size):
    """Draw ``[tasks, seeds]``; half of the variance is of the MT run, for all tasks.

    ``size`` is that of one task and seed.
    """
    shared, apart = rng.normal(size=(1, seeds)), rng.normal(size=(tasks, seeds))
    return size * (shared + apart) / 2**0.5


def gaps(rng, early, late, seeds, size, setting="s"):
    """Draw early and late gaps of tasks, percent, with noise shared in part."""
    first, second = (noise(rng, len(early), seeds, size) for _ in range(2))
    second = 0.6 * first + 0.8 * second
    return [
        paired(f"t{k}", setting, early=early[k] + first[k], late=late[k] + second[k])
        for k in range(len(early))
    ]


def factor(rng, gap, contrast, seeds, size, setting="s", name="f"):
    """Draw a factor of which the noise is a fortieth of that of gaps in percent."""
    first = noise(rng, len(gap), seeds, size)
    second = noise(rng, len(gap), seeds, size / 40)
    tasks = [
        paired(
            f"t{k}", setting, gap=gap[k] + first[k], contrast=contrast[k] + second[k]
        )
        for k in range(len(gap))
    ]
    return Factor(name, tasks, {})


def affected(rng, sizes, optimization, generalization, transfer):
    """Draw tasks of settings of these sizes: normal, correlated, on any scale."""
    tasks_of_settings = []
    for place, tasks in enumerate(sizes):
        conflict = rng.normal(size=tasks)
        outcomes = {
            name: rng.lognormal()
            * (rho * conflict + (1 - rho**2) ** 0.5 * rng.normal(size=tasks))
            for name, rho in (
                ("optimization", optimization),
                ("generalization", generalization),
                ("transfer", transfer),
            )
        }
        tasks_of_settings += [
            Affected(f"s{place}", f"t{k}", "", conflict[k], effects, 3)
            for k in range(tasks)
            for effects in [{name: values[k] for name, values in outcomes.items()}]
        ]
    return tasks_of_settings


def remedy(rng, helps, change, seeds, size, name="multi-pcgrad", tasks=3):
    """Draw an SMTO that helps by a percentage per setting and changes losses."""
    transfer, optimization = [], []
    for place, help in enumerate(helps):
        values = help + size * rng.normal(size=seeds)
        gains = paired("", f"s{place}", delta_m=values, better=values > 0)
        transfer.append(gains)
        for k in range(tasks):
            values = change + rng.normal(size=seeds)
            optimization.append(paired(f"t{k}", f"s{place}", D=values))
    return Remedy(name, transfer, optimization)
