"""Records of groups in which what auxiliaries do adds up, so that all is known."""

import itertools

import numpy as np
import pandas as pd

TASKS = ("a", "b", "c", "d", "e")
COUNT = len(TASKS)
SINGLE = 0.5
"""Accuracy of every task alone."""


def effects(seed=0):
    """Draw what an auxiliary changes for a target, percent ``[T, T]``."""
    return np.random.default_rng(seed).normal(scale=4, size=(COUNT, COUNT))


def records(pairs, groups=None, *, noise=0.0, seeds=(0, 1, 2), rng=None, factor=()):
    """Records of runs in which effects of auxiliaries add up to their mean.

    Test and validation values differ by noise only. ``factor`` holds pairs of names and
    matrices ``[task, other]`` that the joint run records.
    """
    rng = rng or np.random.default_rng(1)
    numbers = range(COUNT)
    groups = [*itertools.combinations(numbers, 2)] if groups is None else groups
    rows = []

    def add(variant, group, task, seed, value):
        at = {"variant": variant, "seed": seed, "task": TASKS[task], "group": group}
        for split in ("validation", "test"):
            accuracy = value + noise * rng.normal()
            # One look is at a loss, so that training loses no point.
            for name, number in (("accuracy", accuracy), ("loss", 1 - accuracy)):
                rows.append({**at, "split": split, "name": name, "value": number})

    for seed in seeds:
        for task in numbers:
            add("single", "", task, seed, SINGLE)
        for group in groups:
            text = "+".join(TASKS[t] for t in group)
            for task in group:
                others = [o for o in group if o != task]
                change = pairs[task, others].mean() / 100
                add(f"multi:{text}", text, task, seed, SINGLE * (1 + change))
        for task in numbers:
            change = np.delete(pairs[task], task).mean() / 100
            add("multi", "", task, seed, SINGLE * (1 + change))
            for name, matrix in factor:
                for other in set(numbers) - {task}:
                    rows.append(
                        {"variant": "multi", "seed": seed, "task": TASKS[task]}
                        | {"group": "", "split": "probe", "name": name}
                        | {"value": matrix[task, other], "scope": "shared"}
                        | {"name": f"{name}/{TASKS[other]}"}
                    )
    df = pd.DataFrame(rows)
    df["scope"] = df["scope"].fillna("") if "scope" in df else ""
    df["direction"] = [{"accuracy": 1, "loss": -1}.get(name, 0) for name in df["name"]]
    df["unit"] = ["%" if name == "accuracy" else "" for name in df["name"]]
    of_run = {"setting": "s", "run": 0, "learning_rate": 0.1, "batch_size": 8}
    return df.assign(**of_run, step=10, epoch=1.0, target="", smto="sum")


TRIPLES = [*itertools.combinations(range(COUNT), 3)]
PAIRS = [*itertools.combinations(range(COUNT), 2)]
