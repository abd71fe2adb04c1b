"""Ways to do a workload, timed interleaved: in each round every way runs once."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

Say = Callable[[str], None]
Rows = list[tuple[str, ...]]
HEADER = (
    *("workload", "way", "median ms", "min ms"),
    *("ratio of medians", "of minima", "peak MB"),
)


class Way(NamedTuple):
    """A way to do a workload."""

    name: str
    run: Callable[[], Any]
    units: int = 1
    """Steps, or block-steps, that one call does."""
    once: float = 0.0
    """Seconds per unit that are paid once a run: compilation."""
    megabytes: float | None = None
    """Peak memory of temporaries, where it is measured."""


def interleave(ways: list[Way], rounds: int) -> dict[str, list[float]]:
    """Time every way in every round, in ms per unit; a first call is not counted."""
    for way in ways:
        way.run()
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            began = time.perf_counter()
            way.run()
            seconds = (time.perf_counter() - began) / way.units + way.once
            times[way.name].append(1e3 * seconds)
    return times


def rows(label: str, ways: list[Way], rounds: int) -> Rows:
    """Time the ways, a table row each; ratios say how much faster the first is."""
    times_of = interleave(ways, rounds)
    ours = times_of[ways[0].name]
    return [
        (
            label,
            way.name,
            f"{median(times):.1f}",
            f"{min(times):.1f}",
            f"{median(times) / median(ours):.2f}",
            f"{min(times) / min(ours):.2f}",
            "" if way.megabytes is None else f"{way.megabytes:.0f}",
        )
        for way in ways
        for times in [times_of[way.name]]
    ]
