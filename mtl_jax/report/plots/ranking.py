"""Variants side by side: one number each, with its interval, from best to worst."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from mtl_jax.report.plots import axis
from mtl_jax.report.plots.effects import ROW, Interval, interval, name_rows
from mtl_jax.report.plots.sheet import finish, sheet, short
from mtl_jax.report.plots.style import Look, styled


@styled()
def ranking(
    panels: Sequence[tuple[str, str, Mapping[str, Interval]]],
    variants: Sequence[str],
    looks: Mapping[str, Look],
    *,
    narrow: bool = False,
) -> Figure:
    """Draw a row for every variant, a panel for every number.

    Args:
      panels: title, label of the abscissa, and variant to number.
      variants: from top to bottom.
      looks: of the variants.
      narrow: for a phone.
    """
    left = 0.35 + 0.075 * max(len(short(variant)) for variant in variants)
    height = max(0.9, 1.25 * ROW * len(variants))
    made = sheet(len(panels), narrow=narrow, height=height, left=left, columns=2)
    for (title, label, by_variant), (ax,) in zip(panels, made.axes, strict=True):
        ax.set_title(title)
        ax.set_xlabel(label)
        axis.zero_line(ax, vertical=True)
        for place, variant in enumerate(variants):
            if variant in by_variant:
                interval(ax, place, by_variant[variant], looks[variant])
        ax.set_ylim(len(variants) - 0.4, -0.6)
        name_rows(ax, variants)
    return finish(made)
