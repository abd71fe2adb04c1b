"""Runs that nobody made, as the paper makes them: a target and its auxiliary tasks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.storage import records
from mtl_jax.storage.records import Row

UPDATES = 19.53
"""Updates of an epoch: batches of 128 of 2,500 examples."""
DENSE = (0, 1, 2, 5)
"""Steps that are looked at, too, beside the epochs."""
VARIANTS = {
    "single": ("", ""),
    "multi:a/b": ("a/b", "a"),
    "multi:a/c": ("a/c", "a"),
    "multi-pcgrad:a/b": ("a/b", "a"),
}
"""Groups and targets by variant."""
GAIN = {"multi:a/b": 0.02, "multi:a/c": -0.03, "multi-pcgrad:a/b": 0.021}
"""Test accuracy that a variant gains over ``single``."""


def rows(
    variants: Mapping[str, tuple[str, str]] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    epochs: int = 25,
    setting: str = "fashion_mtl",
    gain: Mapping[str, float] | None = None,
    noise: float = 0.002,
    full: bool = True,
    cell: tuple[float, int] = (0.01, 128),
    similarity: Mapping[str, float] | None = None,
) -> list[Row]:
    """Make the records of runs: losses fall and accuracies saturate, epoch by epoch.

    Args:
      variants: groups and targets by variant; without a group, tasks a and b.
      seeds: of every variant.
      epochs: that are trained.
      setting: name.
      gain: accuracy that variants gain, once the training loss is below 1/3.
      noise: s.d. between seeds.
      full: the loss of all training data is recorded beside that of the probe.
      cell: learning rate and batch size.
      similarity: gradient similarity of variants.
    """
    variants = VARIANTS if variants is None else variants
    gain = GAIN if gain is None else gain
    steps = [*DENSE, *(round(UPDATES * epoch) for epoch in range(1, epochs + 1))]
    made = []
    for v, (variant, (group, target)) in enumerate(variants.items()):
        tasks = group.replace("+", "/").split("/") if group else ["a", "b"]
        for number, (seed, task) in enumerate((s, t) for s in seeds for t in tasks):
            rng = np.random.default_rng([v, seed, *map(ord, task)])
            run = Row(
                setting=setting, variant=variant, seed=seed, learning_rate=cell[0],
                run=number if variant == "single" else list(seeds).index(seed),
                batch_size=cell[1], smto="sum", step=0, epoch=0.0, split="", task=task,
                name="", value=0.0, group=group, target=target,
            )  # fmt: skip
            shift = noise * rng.normal()
            for step in steps:
                epoch = step / UPDATES
                values = _values(rng, epoch, epochs, v, gain.get(variant, 0), shift)
                if group and task == target or variant != "single" and not group:
                    near = (similarity or {}).get(variant, 0.5)
                    noisy = near + 0.01 * rng.normal()
                    values["probe", "gradient_similarity", "shared"] = noisy
                for (split, name, scope), value in values.items():
                    if split == "train" and not full:
                        continue
                    measure: dict[str, Any] = {}
                    if name in ("loss", "accuracy"):
                        measure["direction"] = -1 if name == "loss" else 1
                        measure["unit"] = "nats" if name == "loss" else "%"
                    made.append(
                        run._replace(
                            step=step,
                            epoch=epoch,
                            split=split,
                            name=name,
                            scope=scope,
                            value=float(value),
                            **measure,
                        )  # fmt: skip
                    )
    return made


def write(path: Path, made: Sequence[Row], **config: Any) -> Path:
    """Make a workdir with these records."""
    path.mkdir(parents=True)
    by_step: dict[int, list[Row]] = {}
    for row in made:
        by_step.setdefault(row.step, []).append(row)
    records.write_anew(path, by_step)
    fields = {"setting": made[0].setting, "steps": max(by_step), **config}
    (path / "config.json").write_text(json.dumps(fields))
    (path / "run.json").write_text(json.dumps({"data": {}, "sessions": []}))
    return path


def _values(
    rng: Any, epoch: float, epochs: int, variant: int, gain: float, shift: float
) -> dict[tuple[str, str, str], float]:
    """Values of a task at a point, by split, name and scope."""
    loss = 2 * np.exp(-7 * epoch / epochs) * (1 + 0.02 * rng.normal())
    opened = gain * (loss < 1 / 3)
    accuracy = 0.9 - 0.15 * loss + opened + shift
    values = {("train", "loss", ""): loss, ("probe", "loss", ""): 0.9 * loss}
    for split in ("validation", "test"):
        values[split, "loss", ""] = 0.4 + 0.3 * loss - opened + 0.01 * rng.normal()
        noisy = accuracy + 0.004 * rng.normal()
        # Few examples: ties.
        values[split, "accuracy", ""] = round(noisy, 2 if split == "validation" else 4)
    for scope in ("task", "shared"):
        factor = rng.lognormal(sigma=0.1) * (1 - 0.1 * variant)
        values["probe", "adaptive_sharpness_linf", scope] = 0.2 * factor * loss
        values["probe", "gradient_covariance", scope] = 300 * factor
        values["probe", "fisher_trace", scope] = 4 * factor * np.exp(-epoch)
    return values
