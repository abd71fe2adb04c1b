"""Costs of an experiment on devices that it is compiled for, as a table and words."""

from collections import Counter
from typing import Any

from rich import box
from rich.table import Table

from mtl_jax.devices import memory
from mtl_jax.devices.preview import Cost, Preview

STEPS = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15))
PERIODS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1), ("ms", 1e-3))
HEADS = ("arguments", "temporaries", "flop", "moved", "rearranged", "kernels")


def table(preview: Preview) -> Table:
    """Tabulate what every program costs on one device, a row a program.

    Bytes are moved by kernels from and to the device's memory, rearranged by copies and
    transposes among them; of kernels, those that multiply stand behind the slash.
    """
    knows_time = any(cost.bounds for cost in preview.costs)
    is_tpu = any(cost.cycles for cost in preview.costs)
    made = Table(
        title=f"{preview.target.name}: a unit of each program, on one device",
        box=box.SIMPLE_HEAD,
    )
    made.add_column("program", overflow="fold")
    made.add_column("unit", no_wrap=True)
    for head in HEADS:
        made.add_column(head, justify="right", no_wrap=True)
    if is_tpu:
        made.add_column("cycles\nproducts", justify="right", no_wrap=True)
    if knows_time:
        made.add_column("at least", justify="right", no_wrap=True)
        made.add_column("for", no_wrap=True)
    for cost in preview.costs:
        if cost.error:
            made.add_row(cost.name, cost.unit, cost.error)
            continue
        cells = [
            _amount(cost.arguments, "B"),
            _amount(cost.temporaries, "B"),
            _amount(cost.flops),
            _amount(cost.bytes, "B"),
            _amount(cost.rearranged, "B"),
            f"{cost.kernels:,} / {cost.products:,}",
        ]
        if is_tpu:
            cells.append(f"{_amount(cost.cycles)}  {_share(cost):.0%}")
        if knows_time:
            cells += [duration(cost.seconds), cost.bound]
        made.add_row(cost.name, cost.unit, *cells)
    return made


def words(preview: Preview) -> list[str]:
    """Say whether it fits and what it takes, a sentence a line."""
    parts = {**preview.held, "temporaries": preview.temporaries}
    held = ", ".join(f"{what} {_amount(size, 'B')}" for what, size in parts.items())
    fits = preview.needed <= preview.capacity
    said = [
        f"memory: {_amount(preview.needed, 'B')} of {_amount(preview.capacity, 'B')} a "
        f"device ({held}): {'fits' if fits else 'DOES NOT FIT'}"
    ]
    if not fits:
        said.append(f"to make it fit: {memory.REMEDY}")
    if len(preview.target.devices) > 1:
        moved = Counter()
        for cost in preview.costs:
            moved.update(cost.collectives if cost.unit == "step" else {})
        sums = [f"{kind} {_amount(size, 'B')}" for kind, size in sorted(moved.items())]
        said.append(f"between devices, a step: {', '.join(sums) or 'nothing'}")
    if preview.seconds:
        of_units = {unit: 0.0 for unit in ("step", "evaluation", "point")}
        for cost in preview.costs:
            of_units[cost.unit] += cost.seconds * cost.times
        shares = ", ".join(
            f"{name} {duration(of_units[unit])}"
            for unit, name in (
                ("step", f"{preview.steps:,} steps"),
                ("evaluation", f"{preview.points} evaluations"),
                ("point", f"factors at {preview.points} points"),
            )
            if of_units[unit]
        )
        count = len(preview.target.devices)
        said.append(
            f"time: at least {duration(preview.seconds)} on "
            f"{count} {preview.target.name.partition(':')[0]} ({shares}), without "
            f"compilation and the host"
        )
    return said


def duration(seconds: float) -> str:
    """Write a time in its unit.

    >>> duration(0.00042), duration(95), duration(40_000)
    ('0.42 ms', '1.6 min', '11 h')
    """
    unit, size = next((p for p in PERIODS if seconds >= p[1]), PERIODS[-1])
    return f"{_digits(seconds / size)} {unit}"


def as_json(preview: Preview) -> dict[str, Any]:
    """Return all of it as JSON takes it; bytes, seconds and counts as they are."""
    return {
        "target": preview.target.name,
        "devices": len(preview.target.devices),
        "steps": preview.steps,
        "points": preview.points,
        "held": preview.held,
        "needed": preview.needed,
        "capacity": preview.capacity,
        "seconds": preview.seconds,
        "programs": [
            {**cost._asdict(), "seconds": cost.seconds, "bound": cost.bound}
            for cost in preview.costs
        ],
    }


def _share(cost: Cost) -> float:
    return cost.product_cycles / cost.cycles if cost.cycles else 0.0


def _amount(number: float, unit: str = "") -> str:
    """Write a number with the letter of its size.

    >>> _amount(1_234_567, "B"), _amount(999), _amount(0, "B")
    ('1.2 MB', '999', '0 B')
    """
    letter, size = next(
        (step for step in reversed(STEPS) if abs(number) >= step[1]), STEPS[0]
    )
    text = str(int(number)) if size == 1 else _digits(number / size)
    return f"{text} {letter}{unit}".strip()


def _digits(number: float) -> str:
    """Two digits, or all before the point."""
    places = 0 if number >= 9.95 else 1 if number >= 0.995 else 2
    return f"{number:.{places}f}"
