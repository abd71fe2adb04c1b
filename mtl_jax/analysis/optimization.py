"""The effect of MT on optimization: training losses at equal step."""

import numpy as np

from mtl_jax.analysis.at_steps import NOTHING, at_steps
from mtl_jax.analysis.comparison import Compared, named, tabulate
from mtl_jax.analysis.curves import Frame, values
from mtl_jax.analysis.matching import sides
from mtl_jax.analysis.memo import memoised


def optimization_effect(
    df: Frame, variant: str = "multi", baseline: str = "single"
) -> Frame:
    """Compare probe losses at equal step, ``D(t) = a_MT(t) - a_ST(t)``.

    In nats, + is MT *worse* optimised; losses as recorded, seed by seed. Only sound
    curves, and only steps at which all of them have a finite loss, so that the same
    seeds stand behind every step. Intervals hold step by step.

    Returns:
      setting, variant, baseline, task (empty: mean over tasks); step; effect, low,
      high (nats); seeds (pairs), st_diverged, mt_diverged, tasks; comparable; reason.
      What is not comparable has one row, with step -1.

    Raises:
      InputError: an unknown variant, or several rates of a variant.
    """
    frame = tabulate(effects(df, variant, baseline), "effect", {"step": [-1]})
    frame = frame[frame["effect"].notna() | ~frame["comparable"]]
    frame = frame.reset_index(drop=True)
    return named(frame, variant=variant, baseline=baseline)


@memoised
def effects(df: Frame, variant: str, baseline: str) -> list[Compared]:
    """Compute ``D`` of every (setting, task), seed by seed; NaN at other steps."""
    losses, compared = at_steps(values(df, "probe", "loss")), []
    for side in sides(df, variant, baseline):
        recorded = [of.steps for key, of in losses.items() if key[0] == side.setting]
        steps = np.unique(np.concatenate([NOTHING.steps, *recorded]))
        st, mt = (
            losses.get((side.setting, name, side.task), NOTHING).table(
                side.seeds, steps
            )
            for name in (baseline, variant)
        )
        difference = mt - st
        difference[:, np.isnan(difference).any(axis=0)] = np.nan
        if not side.reason and np.isnan(difference).all():
            side = side._replace(reason="no step at which all sound curves have a loss")
        compared.append(Compared(side, {"step": steps}, difference))
    return compared
