"""The effect of MT on optimization: training losses at equal step."""

import numpy as np

from mtl_jax.analysis.bootstrap import RESAMPLES
from mtl_jax.analysis.comparison import Compared, named, tabulate
from mtl_jax.analysis.curves import Frame, values
from mtl_jax.analysis.matching import sides


def optimization_effect(
    df: Frame,
    variant: str = "multi",
    baseline: str = "single",
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frame:
    """Compare probe losses at equal step, ``D(t) = a_MT(t) - a_ST(t)``.

    In nats, + is MT *worse* optimised; losses as recorded, not their regression. Only
    sound curves, and only steps at which all of them have a finite loss, so that the
    same seeds stand behind every step. Intervals as of `gap_curve`.

    Returns:
      setting, variant, baseline, task (empty: mean over tasks); step; effect, low,
      high (nats); st_seeds, mt_seeds, st_diverged, mt_diverged, tasks, clusters;
      comparable; reason. What is not comparable has one row, with step -1.

    Raises:
      InputError: an unknown variant, or several rates of a variant.
    """
    compared = effects(df, variant, baseline)
    frame = tabulate(compared, "effect", {"step": [-1]}, seed, resamples)
    frame = frame[frame["effect"].notna() | ~frame["comparable"]]
    frame = frame.reset_index(drop=True)
    return named(frame, variant=variant, baseline=baseline)


def effects(df: Frame, variant: str, baseline: str) -> list[Compared]:
    """Compute ``D`` of every (setting, task) and pair of seeds; NaN at other steps."""
    losses = values(df, "probe", "loss")
    losses = losses[np.isfinite(losses["value"])]
    compared = []
    for side in sides(df, variant, baseline):
        rows = losses[losses["setting"] == side.setting]
        steps = np.unique(rows["step"])
        rows = rows[rows["task"] == side.task]
        tables = (
            rows[rows["variant"] == name]
            .pivot(index="seed", columns="step", values="value")
            .reindex(index=seeds, columns=steps)
            .to_numpy()
            for name, seeds in ((baseline, side.st_seeds), (variant, side.mt_seeds))
        )
        st, mt = tables
        difference = mt[None] - st[:, None]
        difference[..., np.isnan(difference).any(axis=(0, 1))] = np.nan
        if not side.reason and np.isnan(difference).all():
            side = side._replace(reason="no step at which all sound curves have a loss")
        compared.append(Compared(side, {"step": steps}, difference))
    return compared
