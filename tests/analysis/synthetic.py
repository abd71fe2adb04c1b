"""Records of trajectories that nobody trained, so that every answer is known."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mtl_jax.storage.records import Row

COLUMNS = [*dict.fromkeys([*Row._fields, "scope"])]


def curve(
    variant,
    probe,
    *,
    test: Any = None,
    validation: Any = None,
    steps: Any = None,
    seed: Any = 0,
    task: Any = "a",
    setting: Any = "s",
    rate: Any = 1e-3,
    run: Any = None,
    batch_size: Any = 32,
    factors: Any = None,
    diverged: Any = None,
    **scores: Any,
):
    """Make the rows of one task in one run.

    Test and validation losses are the probe loss where not given; ``scores`` are of
    both of these splits; ``factors`` maps (name, scope) to values.
    """
    probe = np.asarray(probe, float)
    steps = np.arange(len(probe)) if steps is None else steps
    run = seed if run is None else run
    key = {"setting": setting, "variant": variant, "run": run, "seed": seed}
    key |= {"learning_rate": rate, "batch_size": batch_size, "smto": "sum"}
    values = {("probe", "loss", ""): probe}
    values["test", "loss", ""] = probe if test is None else test
    values["validation", "loss", ""] = probe if validation is None else validation
    for (name, score), split in product(scores.items(), ("test", "validation")):
        values[split, name, ""] = score[split] if isinstance(score, dict) else score
    for (name, scope), score in (factors or {}).items():
        values["probe", name, scope] = score
    rows = [
        {**key, "step": int(step), "epoch": 0.0, "split": split, "task": task}
        | {"scope": scope, "name": name, "value": float(value)}
        for (split, name, scope), series in values.items()
        for step, value in zip(steps, np.broadcast_to(series, len(steps)), strict=True)
        if value is not None
    ]
    if diverged is not None:
        mark = {"step": diverged, "epoch": 0.0, "split": "train", "task": ""}
        rows.append({**key, **mark, "scope": "", "name": "diverged", "value": 1.0})
    return rows


def frame(*curves):
    df = pd.DataFrame([row for rows in curves for row in rows])
    return df[[c for c in COLUMNS if c in df]].assign(standard_error=np.nan)


def line(log_loss, intercept=1.0, slope=0.3):
    """Compute a test loss that is linear in the log of the training loss."""
    return intercept + slope * np.asarray(log_loss)


def power_laws(
    gaps, variants: Any = ("single", "multi"), seeds: Any = (0, 1), **options: Any
):
    """Make curves of ``b = 1 + .3 log a``, in MT higher by the gap of its task.

    Steps and losses differ from variant to variant and seed to seed.
    """
    curves = []
    for (task, gap), (v, variant), seed in product(
        gaps.items(), enumerate(variants), seeds
    ):
        count = 9 + 4 * v + seed
        log_loss = np.linspace(2.0, -1.0 - 0.1 * v - 0.05 * seed, count)
        test = line(log_loss) + (gap if v else 0)
        curves.append(
            curve(variant, np.exp(log_loss), test=test, seed=seed, task=task, **options)
        )
    return curves
