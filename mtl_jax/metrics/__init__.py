"""Factors of a trajectory, as pure functions of anybody's ``loss_fn(params, batch)``.

Every function works under ``jit``, ``vmap`` and ``lax.scan``, on any pytree of
parameters, at the highest matmul precision; give it a ``loss_fn`` in evaluation mode.

Its numbers are float32, with x64 enabled or not, or float64 where the parameters are.
Parameters and floating leaves of the batch in bfloat16 or float16 are cast up to
float32 first, and ``loss_fn`` sees them so: it should compute in the type of its
parameters, as a ``loss_fn`` that casts down itself has its own digits only. What is
drawn at random is drawn in float32, so a key gives the same draws for every type.
Where a value has no unit of gradients or losses (cosines, coherence), it is the same
for losses of any scale that float32 can hold.
"""

from mtl_jax.metrics.coherence import (
    batch_cosines,
    gsnr,
    m_coherence,
    noise_scale,
    stiffness,
)
from mtl_jax.metrics.conflict import (
    affinity,
    conflict,
    direction_cosines,
    multi_task_curvature,
    split_half_cosines,
)
from mtl_jax.metrics.connectivity import barrier, line, losses_at, plane
from mtl_jax.metrics.covariance import gradient_covariance
from mtl_jax.metrics.fisher import fisher_diagonal, fisher_trace
from mtl_jax.metrics.hessian import (
    gauss_newton_operator,
    hessian_operator,
    power_iteration,
    spectrum,
    top_eigenvalue,
    trace,
)
from mtl_jax.metrics.sharpness import average_sharpness, sharpness
from mtl_jax.metrics.similarity import linear_cka, pairwise_cka

__all__ = [
    "affinity",
    "average_sharpness",
    "barrier",
    "batch_cosines",
    "conflict",
    "direction_cosines",
    "fisher_diagonal",
    "fisher_trace",
    "gauss_newton_operator",
    "gradient_covariance",
    "gsnr",
    "hessian_operator",
    "line",
    "linear_cka",
    "losses_at",
    "m_coherence",
    "multi_task_curvature",
    "noise_scale",
    "pairwise_cka",
    "plane",
    "power_iteration",
    "sharpness",
    "spectrum",
    "split_half_cosines",
    "stiffness",
    "top_eigenvalue",
    "trace",
]
