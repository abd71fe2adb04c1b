"""Curvature by matrix-vector products: top eigenvalue, trace, spectrum.

The same three for the Hessian of a loss and for its Gauss-Newton matrix. Lanczos and
Hutchinson are matfree's. An *operator* is ``(params, batch, vector) -> vector`` on
pytrees like ``params``; over the probe it is the mean over mini-batches.

>>> import jax, jax.numpy as jnp
>>> curvatures = jnp.array([1.0, 2.0, 5.0])
>>> def loss_fn(params, batch):
...     return jnp.mean(batch) * jnp.sum(curvatures * params**2) / 2
>>> operator = hessian_operator(loss_fn)
>>> args = jnp.ones(3), jnp.ones((4, 1))
>>> top = top_eigenvalue(operator, *args, key=jax.random.key(0), iterations=3)
>>> round(float(top.value), 3), bool(top.error_bound < 1e-3)
(5.0, True)
>>> round(float(trace(operator, *args, key=jax.random.key(0)).value), 3)
8.0
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from matfree import decomp

from mtl_jax import tree
from mtl_jax.metrics import probe
from mtl_jax.types import Array, InputError, LossFn, PyTree, Scalar

Operator = Callable[[PyTree, PyTree, PyTree], PyTree]
"""``(params, batch, vector) -> matrix @ vector``, mean over the batch."""


class TopEigenvalue(NamedTuple):
    """The largest algebraic eigenvalue, by Lanczos with full reorthogonalisation."""

    value: Scalar
    error_bound: Scalar
    """Some eigenvalue lies within this of ``value``: the Ritz pair's residual."""


class Trace(NamedTuple):
    """A trace by Hutchinson's estimator with Rademacher vectors."""

    value: Scalar
    standard_error: Scalar


class Spectrum(NamedTuple):
    """Spectral density by stochastic Lanczos quadrature: a sum of point masses."""

    nodes: Array
    """Eigenvalue estimates ``[draws, iterations]``."""
    weights: Array
    """Their masses ``[draws, iterations]``; each row sums to 1."""


def hessian_operator(loss_fn: LossFn) -> Operator:
    """Hessian-vector product, forward over reverse: 2 forward, 2 backward passes.

    ``loss_fn`` must allow forward mode: no ``custom_vjp`` in it.
    """

    def operator(params: PyTree, batch: PyTree, vector: PyTree) -> PyTree:
        gradient = jax.grad(lambda p: loss_fn(p, batch))
        return jax.jvp(gradient, (params,), (vector,))[1]

    return operator


def gauss_newton_operator(
    predict: Callable[[PyTree, PyTree], Array],
    output_loss: Callable[[Array, PyTree], Scalar],
) -> Operator:
    """``J' H J v`` with J of the outputs and H of the loss in the outputs.

    Args:
      predict: ``(params, batch) -> outputs``.
      output_loss: ``(outputs, batch) -> mean loss``; convex in the outputs for a
        positive semi-definite matrix.
    """

    def operator(params: PyTree, batch: PyTree, vector: PyTree) -> PyTree:
        forward = lambda p: predict(p, batch)  # noqa: E731
        outputs, tangent = jax.jvp(forward, (params,), (vector,))
        curved = jax.jvp(
            jax.grad(lambda o: output_loss(o, batch)), (outputs,), (tangent,)
        )[1]
        return jax.vjp(forward, params)[1](curved)[0]

    return operator


def top_eigenvalue(
    operator: Operator,
    params: PyTree,
    batch: PyTree,
    *,
    key: Array,
    iterations: int = 20,
    batch_size: int = 128,
) -> TopEigenvalue:
    """Largest algebraic eigenvalue of an operator over the probe.

    Cost: ``iterations`` products over all examples; memory for as many vectors.

    Raises:
      InputError: ``iterations`` is not positive.
    """
    matvec, start = _flat(operator, params, batch, batch_size, iterations)
    with jax.default_matmul_precision("highest"):
        iterations = min(iterations, start.size)
        vector = jax.random.normal(key, start.shape, start.dtype)
        found = decomp.tridiag_sym(iterations, custom_vjp=False)(matvec, vector)
        values, vectors = jnp.linalg.eigh(found.J_small)
        residual = jnp.linalg.norm(found.residual)
    return TopEigenvalue(values[-1], residual * jnp.abs(vectors[-1, -1]))


def trace(
    operator: Operator,
    params: PyTree,
    batch: PyTree,
    *,
    key: Array,
    draws: int = 16,
    batch_size: int = 128,
) -> Trace:
    """Trace of an operator over the probe. Cost: ``draws`` products.

    Raises:
      InputError: ``draws`` is not positive.
    """
    matvec, start = _flat(operator, params, batch, batch_size, draws)

    def draw(key: Array) -> Array:
        signs = jax.random.rademacher(key, start.shape, start.dtype)
        return jnp.vdot(signs, matvec(signs), precision=tree.HIGHEST)

    with jax.default_matmul_precision("highest"):
        values = lax.map(draw, jax.random.split(key, draws))
    return Trace(*probe.mean_and_error(values, jnp.ones(draws)))


def spectrum(
    operator: Operator,
    params: PyTree,
    batch: PyTree,
    *,
    key: Array,
    draws: int = 4,
    iterations: int = 40,
    batch_size: int = 128,
) -> Spectrum:
    """Spectral density of an operator over the probe.

    Source: Ubaru, Chen & Saad, 2017; Ghorbani et al., 2019. Cost: ``draws *
    iterations`` products.

    Raises:
      InputError: ``draws`` or ``iterations`` is not positive.
    """
    matvec, start = _flat(operator, params, batch, batch_size, min(draws, iterations))
    iterations = min(iterations, start.size)

    def draw(key: Array) -> tuple[Array, Array]:
        signs = jax.random.rademacher(key, start.shape, start.dtype)
        found = decomp.tridiag_sym(iterations, custom_vjp=False)(matvec, signs)
        values, vectors = jnp.linalg.eigh(found.J_small)
        return values, vectors[0] ** 2

    with jax.default_matmul_precision("highest"):
        return Spectrum(*lax.map(draw, jax.random.split(key, draws)))


def _flat(
    operator: Operator, params: PyTree, batch: PyTree, batch_size: int, count: int
) -> tuple[Callable[[Array], Array], Array]:
    """The operator over the probe on flat vectors, and a vector of their shape."""
    if count < 1:
        raise InputError(f"iterations and draws must be at least 1, not {count}.")
    flat, unravel = ravel_pytree(params)

    def matvec(vector: Array) -> Array:
        tangent = unravel(vector)
        mean = probe.mean_batches(
            lambda one: operator(params, one, tangent), batch, batch_size
        )
        return ravel_pytree(mean)[0]

    return matvec, jnp.zeros_like(flat)
