"""Factors of a trajectory, as pure functions of anybody's ``loss_fn(params, batch)``.

Every function works under ``jit`` and ``vmap``, on any pytree of parameters, in float32
at the highest matmul precision; give it a ``loss_fn`` in evaluation mode.
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
from mtl_jax.metrics.fisher import fisher_trace
from mtl_jax.metrics.hessian import (
    gauss_newton_operator,
    hessian_operator,
    power_iteration,
    spectrum,
    top_eigenvalue,
    trace,
)
from mtl_jax.metrics.sharpness import average_sharpness, sharpness
from mtl_jax.metrics.similarity import linear_cka

__all__ = [
    "affinity",
    "average_sharpness",
    "barrier",
    "batch_cosines",
    "conflict",
    "direction_cosines",
    "fisher_trace",
    "gauss_newton_operator",
    "gsnr",
    "hessian_operator",
    "line",
    "linear_cka",
    "losses_at",
    "m_coherence",
    "multi_task_curvature",
    "noise_scale",
    "plane",
    "power_iteration",
    "sharpness",
    "spectrum",
    "split_half_cosines",
    "stiffness",
    "top_eigenvalue",
    "trace",
]
