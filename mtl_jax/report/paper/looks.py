"""Names and looks of what the paper's figures show."""

from collections.abc import Iterable

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.variant import method_of
from mtl_jax.report import charts
from mtl_jax.report.charts.look import BASELINE, OTHERS, SUM, Look
from mtl_jax.report.text import listed
from mtl_jax.types import AUXILIARIES, JOIN

NAMES = {
    "sharpness": "adaptive sharpness",
    "covariance": "gradient covariance",
    "fisher": "Fisher trace",
    "minimum_loss": "min. training loss",
    "similarity": "gradient similarity",
    "score": "test score",
}
"""Names of aggregates."""
LABELS = {**NAMES, "sharpness": "adaptive sharpness (nats)"}
"""Names with units, where there are some."""
MOST_NAMES = 3
"""Auxiliary tasks up to which a set is shown by their names."""
UNITARY = "multi"


def variant_looks(table: Frame) -> dict[str, Look]:
    """Choose looks of the variants of a frame, with its columns variant and group."""
    groups = table.drop_duplicates("variant").set_index("variant")["group"]
    made = charts.looks(groups.index)
    return {v: made[v]._replace(label=said(v, groups[v])) for v in groups.index}


def said(variant: str, group: str) -> str:
    """Name a variant in words.

    >>> said("single", ""), said("multi:a/b+c", "a/b+c")
    ('single task', 'with b and c')
    >>> said("multi-pcgrad:a/b", "a/b"), said("multi-pcgrad", "")
    ('pcgrad, with b', 'pcgrad, all tasks')
    """
    method = method_of(variant)
    if method == "single":
        return "single task"
    target, slash, rest = group.partition(AUXILIARIES)
    names = rest.split(JOIN) if slash else []
    if not group:
        text = "all tasks"
    elif not slash:
        text = target
    elif len(names) > MOST_NAMES:
        text = f"with {len(names)} tasks ({variant.rpartition(AUXILIARIES)[2]})"
    else:
        text = f"with {listed(names)}"
    name = method.removeprefix(UNITARY).lstrip("-")
    return f"{name}, {text}" if name else text


def method_looks(methods: Iterable[str]) -> dict[str, Look]:
    """Choose looks of multi-task optimizers, by method."""
    return {
        method: look._replace(label=method.removeprefix(UNITARY).lstrip("-"))
        for method, look in charts.looks(methods).items()
    }


def size_looks(sizes: Iterable[int]) -> dict[str, Look]:
    """Choose looks of auxiliary sets by their number of tasks."""
    known = (BASELINE, SUM, *OTHERS)
    return {
        str(size): known[place % len(known)]._replace(
            label=f"{size} auxiliary task{'s' * (size != 1)}"
        )
        for place, size in enumerate(sorted(set(sizes)))
    }
