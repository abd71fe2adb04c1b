"""Numbers as a reader wants them: with sign, unit, interval, or the reason for none."""

import math
from collections.abc import Mapping
from typing import NamedTuple

DASH = "–"
MINUS = "−"


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    note: str = ""
    """In small letters below."""
    color: str = ""
    """Colour of a mark in front: that of a variant."""
    shade: str = ""
    """Shade of the paper's Table 1: ``positive``, ``negative``, ``insignificant``."""


def fixed(value: float, digits: int, *, sign: bool = False) -> str:
    """Write a number with a fixed number of digits, more where it would vanish.

    >>> fixed(-0.0251, 3), fixed(0.00002, 3), fixed(1.5, 1, sign=True)
    ('−0.025', '0.00002', '+1.5')
    """
    if not math.isfinite(value):
        return DASH
    plus = "+" if sign and value > 0 else ""
    more = digits
    while value and not float(f"{value:.{more}f}") and more < digits + 2:
        more += 1
    text = f"{value:.{more}f}"
    if value and not float(text):
        text = f"{value:.1g}"
    if abs(value) >= 1e6:
        text = f"{value:.3g}"
    return (plus + text).replace("-", MINUS)


def interval(low: float, high: float, digits: int) -> str:
    """Write an interval, empty where there is none.

    >>> interval(-0.5, 2, 1), interval(math.nan, 1, 1)
    ('[−0.5, 2.0]', '')
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def estimate(
    value: float, low: float, high: float, digits: int, *, sign: bool = True
) -> str:
    """Write a number with its interval, as in a sentence.

    >>> estimate(0.1234, 0.1, 0.2, 2), estimate(0.1, math.nan, math.nan, 1)
    ('+0.12 [0.10, 0.20]', '+0.1 (no interval)')
    """
    ends = interval(low, high, digits) or "(no interval)"
    return f"{fixed(value, digits, sign=sign)} {ends}"


def effect(
    value: float, low: float, high: float, digits: int, reason: str = ""
) -> Cell:
    """Show a difference and its interval, or the reason why one is missing.

    >>> effect(1.5, math.nan, math.nan, 1, "too few seeds")
    Cell(text='+1.5', note='no interval: too few seeds', color='', shade='')
    """
    if not math.isfinite(value):
        return Cell(DASH, reason or "not defined")
    nothing = f"no interval: {reason}" if reason else "no interval"
    shown = interval(low, high, digits) or nothing
    return Cell(fixed(value, digits, sign=True), shown)


def listed(words: list[str]) -> str:
    """Join words as a list in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def excludes_zero(low: float, high: float) -> bool:
    """Tell whether an interval lies on one side of 0; False where there is none."""
    return low > 0 or high < 0


def p_value(p: float) -> str:
    """Write the probability of a test.

    >>> p_value(0.0249), p_value(0.0)
    ('p = 0.025', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    >>> counted(1, "seed"), counted(3, "task")
    ('1 seed', '3 tasks')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def throughput(rates: Mapping[str, float | None]) -> str:
    """Write how fast a process trained, in one line.

    >>> throughput({"steps": 2054.3, "examples": 591e3, "flops": 4.2e9})
    'training: 2,054 steps/s of all runs, 591,000 examples/s, 4.2 GFLOP/s a device'
    >>> rates = {"steps": 9, "examples": 99, "flops": 25e12, "peak_share": 0.05}
    >>> throughput(rates).partition("examples/s, ")[2]
    '25,000 GFLOP/s a device (5.0 % of peak)'

    Args:
      rates: as `training.throughput.Throughput` has them.
    """
    flops = (rates["flops"] or 0) / 1e9
    said = (
        f"training: {rates['steps']:,.0f} steps/s of all runs, "
        f"{rates['examples']:,.0f} examples/s, "
        f"{flops:,.{0 if flops >= 10 else 1}f} GFLOP/s a device"
    )
    share = rates.get("peak_share")
    return said if share is None else f"{said} ({100 * share:.1f} % of peak)"
