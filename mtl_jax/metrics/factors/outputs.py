"""Size of a task's outputs on its probe."""

import jax
import jax.numpy as jnp

from mtl_jax.metrics import precision, probe
from mtl_jax.metrics.factors.contract import Measured, TaskFactor, TaskProbe
from mtl_jax.types import Array, Batch


def logit_norm(batch_size: int = 128) -> TaskFactor:
    """Measure ``logit_norm``: the mean over examples of the l2 norm of the outputs.

    Over pixels, too, where outputs are images. Outputs that a head has for wider tasks
    do not count. The same in both scopes. Cost per example: a forward pass.

    Args:
      batch_size: examples of a mini-batch.
    """

    def measure(task: TaskProbe) -> dict[str, Measured]:
        def mean_norm(part: Batch) -> Array:
            outputs = precision.raised(task.predict(task.params, part.x))
            width = outputs.shape[-1] if task.width is None else task.width
            outputs = outputs.reshape(-1, outputs.shape[-1])
            known = jnp.arange(outputs.shape[-1])[None] < width
            return jax.vmap(precision.norm)(jnp.where(known, outputs, 0)).mean()

        with jax.default_matmul_precision("highest"):
            norms, sizes = probe.map_batches(mean_norm, task.batch, batch_size)
        mean, error = probe.mean_and_error(norms, sizes)
        return {"logit_norm": Measured(jnp.stack([mean] * 2), jnp.stack([error] * 2))}

    return measure
