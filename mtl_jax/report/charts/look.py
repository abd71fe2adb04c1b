"""Looks of variants: one colour, dash and marker each, everywhere.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; dashes
and markers differ, too, for paper without colours.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

INK, MUTED = "#222222", "#7a7a7a"


class Look(NamedTuple):
    """Colour, dashes (points drawn and left out) and marker of a variant."""

    label: str
    color: str
    dash: tuple[float, ...]
    marker: str
    """Shape, as Vega names it."""


BASELINE = Look("", "#000000", (1, 0), "circle")
SUM = Look("", "#D55E00", (8, 3), "square")
OTHERS = (
    Look("", "#0072B2", (5, 2, 2, 2), "triangle-up"),
    Look("", "#009E73", (2, 2), "diamond"),
    Look("", "#CC79A7", (9, 2, 2, 2, 2, 2), "triangle-down"),
    Look("", "#E69F00", (12, 3), "cross"),
    Look("", "#56B4E9", (6, 3, 3, 3), "triangle-right"),
)


def looks(variants: Iterable[str], baseline: str = "single") -> dict[str, Look]:
    """Choose looks: the baseline black, ``multi`` vermillion, others in turn.

    >>> looks(["multi-pcgrad", "multi", "single"])["multi"].color
    '#D55E00'
    """
    by_variant, others = {}, 0
    for name in dict.fromkeys(variants):
        if name == baseline:
            by_variant[name] = BASELINE._replace(label=f"{name} (ST)")
        elif name == "multi":
            by_variant[name] = SUM._replace(label=f"{name} (MT, sum of losses)")
        else:
            by_variant[name] = other(others)._replace(label=name)
            others += 1
    return by_variant


def other(number: int) -> Look:
    """Return the look of a number: of 25 in turn no two have all in common."""
    size = len(OTHERS)
    turned = OTHERS[(number + number // size) % size]
    return turned._replace(color=OTHERS[number % size].color)


def scales(looks: dict[str, Look]) -> dict[str, dict[str, Any]]:
    """Return the scales of colour, dashes and markers, by channel."""
    chosen = list(looks.values())
    ranges: dict[str, list] = {
        "color": [look.color for look in chosen],
        "strokeDash": [list(look.dash) for look in chosen],
        "shape": [look.marker for look in chosen],
    }
    return {
        channel: {"domain": list(looks), "range": values}
        for channel, values in ranges.items()
    }
