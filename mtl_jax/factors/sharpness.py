"""Sharpness of a task on its probe."""

import jax
import jax.numpy as jnp

from mtl_jax import metrics
from mtl_jax.factors.contract import Measured, TaskFactor, TaskProbe, in_each_scope
from mtl_jax.metrics.sharpness import Ball, sharpness_in


def sharpness(
    rho: float, batch_size: int, steps: int, adaptive: bool = False
) -> TaskFactor:
    """``sharpness_l2``, ``sharpness_linf`` (nats), ``gradient_l2``, ``gradient_l1``.

    The gradients are the mean dual norms of mini-batch gradients: ``sharpness_l2 - rho
    * gradient_l2`` is what curvature adds. ``adaptive_`` in front if so.
    """
    prefix = "adaptive_" if adaptive else ""
    norms = {"l2": "l2", "linf": "l1"}

    def measure(of: TaskProbe) -> dict[str, Measured]:
        whole = jax.tree.map(jnp.abs if adaptive else jnp.ones_like, of.params)
        trunk = whole._replace(heads=jax.tree.map(jnp.zeros_like, whole.heads))
        balls = [Ball(norm, scale) for norm in norms for scale in (whole, trunk)]
        options = {"rho": rho, "steps": steps, "batch_size": batch_size}
        found = sharpness_in(balls, of.loss_fn, of.params, of.batch, **options)
        value, error, gradient = (leaf.reshape(len(norms), -1) for leaf in found)
        rises = {
            f"{prefix}sharpness_{norm}": Measured(value[i], error[i])
            for i, norm in enumerate(norms)
        }
        gradients = {
            f"{prefix}gradient_{dual}": Measured(gradient[i])
            for i, dual in enumerate(norms.values())
        }
        return rises | gradients

    return measure


def average_sharpness(rho: float, draws: int, batch_size: int) -> TaskFactor:
    """``average_sharpness`` (nats) under Gaussian noise."""

    def measure(of: TaskProbe) -> dict[str, Measured]:
        found = in_each_scope(
            of,
            lambda lift, params: metrics.average_sharpness(
                lambda p, b: of.loss_fn(lift(p), b),
                params,
                of.batch,
                key=of.key,
                rho=rho,
                draws=draws,
                batch_size=batch_size,
            ),
        )
        return {"average_sharpness": Measured(found.value, found.standard_error)}

    return measure
