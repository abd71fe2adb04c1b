"""Studies that nobody ran, of which it is known what is true of every claim."""

import numpy as np
from synthetic import curve, frame, line

FALL = np.linspace(2.0, -1.0, 12)
FACTORS = ("sharpness_l2", "sharpness_linf", "fisher_trace", "coherence")
WORSE = {"coherence": -1}


def study(
    rng,
    gap=0.0,
    seeds=3,
    tasks=6,
    noise=0.01,
    explained=0.0,
    harm=0.0,
    unlike=0.0,
    help=0.0,
    change=0.0,
    setting="s",
    optimizers=("multi-pcgrad",),
):
    """Records of a setting.

    Args:
      rng: of the noise.
      gap: of the test loss, of alternating sign from task to task.
      seeds: number.
      tasks: number.
      noise: between runs.
      explained: contrast of every factor, with the sign that explains the gap.
      harm: log ratio of training losses of the task with most conflict, in MT.
      unlike: contrast of factors that has nothing to do with the gap.
      help: accuracy that optimizers add.
      change: log ratio of training losses, optimizers against the sum.
      setting: name.
      optimizers: variants.
    """
    curves = []
    for k in range(tasks):
        sign = 1 if k % 2 else -1
        conflict = k / max(tasks - 1, 1)
        for variant in ("single", "multi", *optimizers):
            together, helped = variant != "single", variant in optimizers
            for seed in range(seeds):
                own = rng.normal(size=3) * noise
                shift = own[0] + together * harm * conflict + helped * change
                log_loss = FALL + shift
                test = line(log_loss, 2.0) + together * sign * gap + own[1]
                ratio = together * (explained * sign + unlike) + own[2]
                factors = {
                    (name, "task"): np.exp(log_loss + WORSE.get(name, 1) * ratio)
                    for name in FACTORS
                }
                if together:
                    factors["mean_cosine", "shared"] = -conflict
                accuracy = 0.8 + helped * help + rng.normal() * noise / 10
                curves.append(
                    curve(
                        variant,
                        np.exp(log_loss),
                        test=test,
                        seed=seed,
                        task=f"t{k}",
                        setting=setting,
                        factors=factors,
                        accuracy=accuracy,
                    )
                )
    return frame(*curves)
