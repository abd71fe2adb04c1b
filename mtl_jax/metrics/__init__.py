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
from mtl_jax.metrics.fisher import fisher_trace
from mtl_jax.metrics.hessian import (
    gauss_newton_operator,
    hessian_operator,
    spectrum,
    top_eigenvalue,
    trace,
)
from mtl_jax.metrics.sharpness import average_sharpness, sharpness

__all__ = [
    "affinity",
    "average_sharpness",
    "batch_cosines",
    "conflict",
    "direction_cosines",
    "fisher_trace",
    "gauss_newton_operator",
    "gsnr",
    "hessian_operator",
    "m_coherence",
    "multi_task_curvature",
    "noise_scale",
    "sharpness",
    "spectrum",
    "split_half_cosines",
    "stiffness",
    "top_eigenvalue",
    "trace",
]
