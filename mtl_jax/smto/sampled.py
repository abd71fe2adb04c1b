"""A single task a step, drawn by the tasks' sizes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.smto.contract import (
    LossWeighting,
    as_vector,
    check_key,
    check_range,
    check_reduction,
    reduce,
)
from mtl_jax.types import Array, InputError, PyTree


def sampled(
    temperature: float = 1.0, sizes: Sequence[int] | Array = (), reduction: str = "sum"
) -> LossWeighting:
    """Weight for one task, drawn at every step with ``p_i ~ n_i^(1 / temperature)``.

    What users of text corpora of unlike sizes do instead of a step on all tasks:
    proportional to size at temperature 1, nearer to uniform the larger it is. The other
    tasks' losses are computed and not used, so a run sees the batches that all other
    variants see at that step. Source: Raffel et al., JMLR 2020, section 3.5.2
    (temperature-scaled mixing).

    Args:
      temperature: positive.
      sizes: training examples of every task; a run from a configuration knows them.
      reduction: ``mean``: the task's weight is 1; ``sum``: it is ``T``.

    Raises:
      InputError: an option out of its range; sizes that are not positive, or as many
        as there are tasks (said when the run is set up).

    >>> weighting = sampled(sizes=(900, 100), reduction="mean")
    >>> keys = jax.random.split(jax.random.key(0), 1000)
    >>> draw = jax.vmap(lambda key: weighting.update(jnp.ones(2), (), key)[0])
    >>> bool(abs(draw(keys)[:, 0].mean() - 0.9) < 0.03)
    True
    """
    check_reduction(reduction)
    temperature = check_range(
        "sampled's temperature", temperature, 0, float("inf"), open_low=True
    )
    counts = as_vector(sizes)
    if isinstance(counts, np.ndarray) and not (counts > 0).all():
        raise InputError(f"sampled's sizes {counts.tolist()} must be positive.")
    logits = jnp.log(counts) / temperature

    def init(num_tasks: int) -> tuple[()]:
        if counts.shape != (num_tasks,):
            raise InputError(
                f"sampled knows {counts.size} sizes of {num_tasks} tasks; pass the "
                f"number of training examples of every task."
            )
        return ()

    def update(losses: Array, state: PyTree, key: Array) -> tuple[Array, PyTree]:
        check_key(key)
        task = jax.random.categorical(key, logits)
        return reduce(jax.nn.one_hot(task, len(losses)), reduction), state

    return LossWeighting(init, update)
