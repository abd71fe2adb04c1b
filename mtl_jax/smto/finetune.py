"""Joint training, then the target alone: fine-tuning as weights of the losses."""

import jax.numpy as jnp

from mtl_jax.smto.contract import LossWeighting, check_count, check_task
from mtl_jax.types import Array


def finetune(joint_steps: int = 100, target: int = 0) -> LossWeighting:
    """Minimise the sum of the losses at first, and then that of one task.

    Weights are 1 for ``joint_steps`` updates, and from there on 1 of the target and 0
    of the others, whose heads stay. Trunk, head and optimizer go on from where joint
    training left them, so at equal total steps this is the usual recipe for a target
    with auxiliary tasks (pre-train together, fine-tune).

    >>> weighting = finetune(joint_steps=1)
    >>> first, state = weighting.update(jnp.ones(2), weighting.init(2), None)
    >>> first.tolist(), weighting.update(jnp.ones(2), state, None)[0].tolist()
    ([1.0, 1.0], [1.0, 0.0])

    Args:
      joint_steps: updates on all tasks.
      target: number of the task; of a group with a target, that is 0.

    Raises:
      InputError: an option out of its range; no such task (said when the run is set
        up).
    """
    joint_steps = check_count("finetune's joint_steps", joint_steps, 0)
    target = check_count("finetune's target", target, 0)

    def init(num_tasks: int) -> Array:
        check_task("finetune's target", target, num_tasks)
        return jnp.zeros((), jnp.int32)

    def update(losses: Array, state: Array, key: Array) -> tuple[Array, Array]:
        del key
        chosen = jnp.arange(losses.shape[0]) == target
        weights = chosen | (state < joint_steps)
        return weights.astype(losses.dtype), state + 1

    return LossWeighting(init, update)
