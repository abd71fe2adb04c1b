"""Costs: where the wall time of an experiment went."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from mtl_jax.report.plots.sheet import finish, sheet
from mtl_jax.report.plots.style import styled

COLOR = "#5b6b7a"


@styled()
def costs(seconds: Mapping[str, float], *, narrow: bool = False) -> Figure:
    """Draw seconds by what they went into, as bars with their shares.

    Args:
      seconds: of all sessions together.
      narrow: for a phone.
    """
    whole = sum(seconds.values()) or 1
    left = 0.25 + 0.072 * max(map(len, seconds))
    made = sheet(
        1, narrow=narrow, columns=2, height=0.1 + 0.23 * len(seconds), left=left
    )
    ((ax,),) = made.axes
    ax.barh(range(len(seconds)), list(seconds.values()), color=COLOR, height=0.62)
    for place, value in enumerate(seconds.values()):
        ax.annotate(
            f"{value:,.1f} s, {value / whole:.0%}",
            (value, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    ax.set_yticks(range(len(seconds)), [name.replace("_", " ") for name in seconds])
    ax.set_ylim(len(seconds) - 0.4, -0.6)
    ax.set_xlim(0, max(seconds.values()) * 1.4 or 1)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("wall time (s), all sessions")
    return finish(made)
