"""Workdirs of runs that nobody made: records, config.json and run.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtl_jax.storage import records
from mtl_jax.storage.records import Row
from tests.analysis.synthetic import curve

FACTORS = ("sharpness_l2", "fisher_trace", "coherence", "noise_scale")
STEPS = (0, 1, 2, 5, 10, 20, 50, 100)
SESSION = {
    "started": "2026-01-02T03:04:05+00:00",
    "from_step": 0,
    "versions": {"mtl_jax": None, "jax": "9.8.7"},
    "python": "3.11.0",
    "devices": ["NVIDIA H200", "NVIDIA H200"],
    "processor": "AMD EPYC",
    "git_revision": "0123456789abcdef+",
    "seconds": {"training": 6.0, "compilation": 3.0, "sharpness": 1.0},
}


def trajectories(
    variants: Sequence[str] = ("single", "multi"),
    tasks: Sequence[str] = ("a", "b"),
    seeds: Sequence[int] = (0, 1),
    *,
    steps: Sequence[int] = STEPS,
    factors: Sequence[str] = ("coherence",),
    offset: Mapping[str, float] | None = None,
    diverged: Sequence[str] = (),
    **options: Any,
) -> list[dict[str, Any]]:
    """Rows of smooth trajectories with accuracies, factors, conflict and weights.

    Args:
      variants: of which ``single`` has no conflict.
      tasks: names.
      seeds: of every variant.
      steps: that were looked at.
      factors: of tasks; with any of them come conflict and weights.
      offset: of the log training loss, by variant.
      diverged: variants of which all runs do, at their last step.
      options: of `analysis.synthetic.curve`.
    """
    rng, rows = np.random.default_rng(0), []
    at = np.log1p(np.asarray(steps))
    for v, variant in enumerate(variants):
        shift = (offset or {}).get(variant, 0.05 * v)
        for seed in seeds:
            for t, task in enumerate(tasks):
                log_loss = 1 - at * (0.8 + 0.02 * seed) + shift
                test = np.exp(log_loss) * 0.8 + 0.3 + 0.03 * v * (-1) ** t
                rows += curve(
                    variant,
                    np.exp(log_loss),
                    test=test + 0.01 * rng.normal(size=len(at)),
                    accuracy=np.clip(1 - test / 4, 0, 1),
                    steps=steps,
                    seed=seed,
                    task=task,
                    run=seed * len(tasks) + t if variant == "single" else seed,
                    factors={
                        (name, "task"): _factor(name, at, v, rng) for name in factors
                    },
                    diverged=steps[-1] if variant in diverged else None,
                    **options,
                )
            if variant != "single" and factors:
                rows += _conflict(rows[-1], tasks, steps, rng)
                rows += _weights(rows[-1], tasks, steps, rng)
    return rows


def _factor(name: str, at: np.ndarray, variant: int, rng: Any) -> np.ndarray:
    """Values along a run; those of the noise scale are negative, too."""
    if name == "noise_scale":
        return 1_000 * rng.normal(size=len(at))
    return np.exp(-at * (1 + 0.1 * variant)) + 0.01 * rng.random()


def _conflict(
    like: Mapping[str, Any], tasks: Sequence[str], steps: Sequence[int], rng: Any
) -> list[dict[str, Any]]:
    """Rows of the conflict of one run."""
    run = {**like, "split": "probe", "scope": "shared"}
    names = [("", n) for n in ("mean_cosine", "negative_pairs", "unit_mean")]
    names += [(t, n) for t in tasks for n in ("mean_cosine", "cosine_update")]
    names += [(t, f"cosine/{u}") for t in tasks for u in tasks if t != u]
    return [
        {**run, "task": task, "name": name, "step": step, "value": value}
        for task, name in names
        for step, value in zip(steps, rng.uniform(-0.5, 0.5, len(steps)), strict=True)
    ]


def _weights(
    like: Mapping[str, Any], tasks: Sequence[str], steps: Sequence[int], rng: Any
) -> list[dict[str, Any]]:
    """Rows of the weights of one run; before the first update there are none."""
    run = {**like, "split": "train", "scope": "", "name": "weight"}
    return [
        {**run, "task": task, "step": step, "value": rng.uniform(-0.2, 2)}
        for task in tasks
        for step in steps
        if step > 0
    ]


def write(path: Path, rows: Sequence[Mapping[str, Any]], **config: Any) -> Path:
    """A workdir with these records; its config has the fields given."""
    path.mkdir(parents=True)
    by_step: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        by_step.setdefault(row["step"], []).append(Row(**row))
    records.write_anew(path, by_step)
    setting = rows[0]["setting"]
    fields = {"setting": setting, "steps": STEPS[-1], "factors.names": [], **config}
    (path / "config.json").write_text(json.dumps(fields))
    sessions = {"data": {}, "sessions": [SESSION, SESSION]}
    (path / "run.json").write_text(json.dumps(sessions))
    return path


def sweep(
    path: Path,
    cells: Mapping[tuple[str, str], tuple[float, int]],
    options: Mapping[tuple[float, int], str] | None = None,
    **columns: Any,
) -> None:
    """What a sweep of two rates and two batch sizes leaves beside records.

    Args:
      path: of the workdir.
      cells: that were chosen, by variant and task (empty: all tasks).
      options: of the optimizer in a cell.
      columns: of every candidate that was not chosen.
    """
    rows = [
        {"setting": "s", "variant": variant, "task": task, "learning_rate": rate}
        | {"batch_size": size, "by": "accuracy", "validation": 0.9, "runs": 2}
        | {"diverged": 0, "chosen": True, "at_edge": rate == 0.1}
        | {"options": (options or {}).get((rate, size), "")}
        | ({} if (rate, size) == cell else {"validation": 0.8, "chosen": False})
        | ({} if (rate, size) == cell else columns)
        for (variant, task), cell in cells.items()
        for rate in (0.1, 0.01)
        for size in (16, 64)
    ]
    pd.DataFrame(rows).to_csv(path / "candidates.csv", index=False)
    (path / "selection.json").write_text(json.dumps({"rule": "The best is chosen."}))
