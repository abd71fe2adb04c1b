"""Learning-rate schedules: the factor of the learning rate at every step.

>>> factor = make_schedule("cosine", steps=100, warmup_steps=10, final_fraction=0.1)
>>> [round(float(factor(step)), 3) for step in (0, 5, 10, 55, 100)]
[0.0, 0.5, 1.0, 0.55, 0.1]
"""

from collections.abc import Callable

import optax

from mtl_jax.options import is_whole, one_of
from mtl_jax.types import InputError

SCHEDULES: dict[str, Callable[[int, float], optax.Schedule]] = {
    "constant": lambda *_: optax.constant_schedule(1.0),
    "cosine": lambda steps, final: optax.cosine_decay_schedule(1.0, steps, final),
    "linear": lambda steps, final: optax.linear_schedule(1.0, final, steps),
}
"""Schedules by name, of the steps after warm-up and the factor at the end."""


def make_schedule(
    name: str, steps: int, warmup_steps: int = 0, final_fraction: float = 0.0
) -> optax.Schedule | None:
    """Make a schedule: the number of an update to the factor of its learning rate.

    Args:
      name: one of `SCHEDULES`.
      steps: of training, warm-up included.
      warmup_steps: updates in which the factor grows linearly from 0 to 1.
      final_fraction: factor at the end, of those that decay.

    Returns:
      The schedule; None where the factor is always 1.

    Raises:
      InputError: an unknown name, or a value out of its range.
    """
    make = SCHEDULES[one_of("optimizer.schedule", name, SCHEDULES)]
    if not is_whole(warmup_steps, least=0) or warmup_steps >= steps:
        raise InputError(
            f"optimizer.warmup_steps is {warmup_steps!r}; it must be a whole number of "
            f"at least 0 and below steps, {steps}."
        )
    if not 0 <= final_fraction <= 1:
        raise InputError(
            f"optimizer.final_fraction is {final_fraction!r}; it must be 0 to 1."
        )
    if name == "constant" and not warmup_steps:
        return None
    decay = make(steps - warmup_steps, final_fraction)
    if not warmup_steps:
        return decay
    warmup = optax.linear_schedule(0.0, 1.0, warmup_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])
