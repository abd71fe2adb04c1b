"""Curvature by matrix-vector products: top eigenvalue, trace, spectrum.

The same for the Hessian of a loss and for its Gauss-Newton matrix. An *operator* is
``(params, batch, vector) -> vector`` on pytrees like ``params``; over the probe it is
the mean over mini-batches. Units: nats per unit of parameter squared.

Lanczos is written out: matfree's divides by a residual of zero, so that a zero matrix
gives NaN and one of few distinct eigenvalues invents others.

>>> import jax, jax.numpy as jnp
>>> curvatures = jnp.array([1.0, 2.0, 5.0])
>>> def loss_fn(params, batch):
...     return jnp.mean(batch) * jnp.sum(curvatures * params**2) / 2
>>> operator = hessian_operator(loss_fn)
>>> args = jnp.ones(3), jnp.ones((4, 1))
>>> top = top_eigenvalue(operator, *args, key=jax.random.key(0), iterations=3)
>>> round(float(top.value), 3), bool(top.error_bound < 1e-3)
(5.0, True)
>>> hollow = hessian_operator(lambda p, b: loss_fn(p, b) - 10 * p[0] ** 2)
>>> round(float(power_iteration(hollow, *args, key=jax.random.key(0)).value), 3)
-19.0
>>> round(float(trace(operator, *args, key=jax.random.key(0)).value), 3)
8.0
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from mtl_jax.metrics import precision, probe
from mtl_jax.types import Array, InputError, LossFn, PyTree, Scalar

Operator = Callable[[PyTree, PyTree, PyTree], PyTree]
"""``(params, batch, vector) -> matrix @ vector``, mean over the batch."""


class Eigenvalue(NamedTuple):
    """An eigenvalue at an end of the spectrum; which one, its function says."""

    value: Scalar
    error_bound: Scalar
    """Some eigenvalue lies within this of ``value``, up to rounding: the norm of
    ``A v - value v`` for the unit vector ``v`` that was found. Nothing says that it is
    the one that was looked for."""


class Trace(NamedTuple):
    """A trace by Hutchinson's estimator with Rademacher vectors."""

    value: Scalar
    standard_error: Scalar
    """Over draws; NaN for a single one."""


class Spectrum(NamedTuple):
    """Spectral density by stochastic Lanczos quadrature: a sum of point masses."""

    nodes: Array
    """Eigenvalue estimates ``[draws, iterations]``."""
    weights: Array
    """Their masses ``[draws, iterations]``; each row sums to 1."""


def hessian_operator(loss_fn: LossFn) -> Operator:
    """Make the Hessian's operator, forward over reverse: 2 passes forward, 2 back.

    ``loss_fn`` must allow forward mode: no ``custom_vjp`` in it.
    """

    def operator(params: PyTree, batch: PyTree, vector: PyTree) -> PyTree:
        params, batch, vector = precision.raised((params, batch, vector))
        gradient = jax.grad(lambda p: loss_fn(p, batch))
        return jax.jvp(gradient, (params,), (vector,))[1]

    return operator


def gauss_newton_operator(
    predict: Callable[[PyTree, PyTree], Array],
    output_loss: Callable[[Array, PyTree], Scalar],
) -> Operator:
    """Make ``J' H J v``, with J of the outputs and H of the loss in the outputs.

    Args:
      predict: ``(params, batch) -> outputs``.
      output_loss: ``(outputs, batch) -> mean loss``; convex in the outputs for a
        positive semi-definite matrix.
    """

    def operator(params: PyTree, batch: PyTree, vector: PyTree) -> PyTree:
        params, batch, vector = precision.raised((params, batch, vector))
        forward = lambda p: precision.raised(predict(p, batch))  # noqa: E731
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
) -> Eigenvalue:
    """Estimate the largest algebraic eigenvalue of an operator over the probe.

    By Lanczos with full reorthogonalisation from a random vector, never above the true
    one; `power_iteration` has the largest absolute one. Cost: ``iterations`` products
    over all examples, at most as many as parameters; memory for as many vectors.

    Raises:
      InputError: ``iterations`` is not positive.
    """
    matvec, like = _flat(operator, params, batch, batch_size, iterations)
    with jax.default_matmul_precision("highest"):
        start, restarts = jax.random.split(key)
        vector = _normal(start, like)
        values, vectors, rest = _lanczos(matvec, vector, iterations, restarts)
    return Eigenvalue(values[-1], rest * jnp.abs(vectors[-1, -1]))


def power_iteration(
    operator: Operator,
    params: PyTree,
    batch: PyTree,
    *,
    key: Array,
    iterations: int = 100,
    batch_size: int = 128,
) -> Eigenvalue:
    """Estimate the eigenvalue of largest absolute value over the probe, with its sign.

    ``v <- A v / |A v|``, then the Rayleigh quotient ``v' A v``. It is not
    `top_eigenvalue` where the most negative curvature is the strongest, and does not
    converge where ``-a`` and ``a`` are both the largest; the error bound says so. For
    comparison with others' power iterations, or where ``iterations`` vectors do not
    fit: it keeps two, and needs more products. Cost: ``iterations`` products over all
    examples.

    Raises:
      InputError: ``iterations`` is not positive.
    """
    matvec, like = _flat(operator, params, batch, batch_size, iterations)

    def step(unused: Array, v: Array) -> Array:
        del unused
        product = matvec(v)
        # A v = 0 is an eigenvector as good as any.
        return jnp.where((product == 0).all(), v, precision.unit(product))

    with jax.default_matmul_precision("highest"):
        v = precision.unit(_normal(key, like))
        v = lax.fori_loop(0, iterations - 1, step, v)
        product = matvec(v)
        value = jnp.vdot(v, product)
        return Eigenvalue(value, precision.norm(product - value * v))


def trace(
    operator: Operator,
    params: PyTree,
    batch: PyTree,
    *,
    key: Array,
    draws: int = 16,
    batch_size: int = 128,
) -> Trace:
    """Estimate the trace of an operator over the probe, by Hutchinson's estimator.

    Mean of ``v' A v`` over vectors of random signs (Hutchinson, 1990). Cost: ``draws``
    products over all examples.

    Raises:
      InputError: ``draws`` is not positive.
    """
    matvec, like = _flat(operator, params, batch, batch_size, draws)

    def draw(key: Array) -> Array:
        signs = _signs(key, like)
        return precision.dot(signs, matvec(signs))

    with jax.default_matmul_precision("highest"):
        values = lax.map(draw, jax.random.split(key, draws))
    return Trace(*probe.mean_and_error(values, jnp.ones_like(values)))


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
    """Estimate the spectral density of an operator over the probe.

    Nodes and weights of the Gauss quadrature that Lanczos finds from vectors of random
    signs (Ubaru, Chen & Saad, 2017, section 3; Ghorbani et al., 2019): the density is
    the mean over draws, ``trace(f(A)) / P`` is near the mean of ``sum f(node) *
    weight``. Cost: ``draws * iterations`` products over all examples, ``iterations`` at
    most as many as parameters; memory for ``iterations`` vectors.

    Raises:
      InputError: ``draws`` or ``iterations`` is not positive.
    """
    matvec, like = _flat(operator, params, batch, batch_size, min(draws, iterations))

    def draw(key: Array) -> tuple[Array, Array]:
        start, restarts = jax.random.split(key)
        signs = _signs(start, like)
        values, vectors, _ = _lanczos(matvec, signs, iterations, restarts)
        return values, vectors[0] ** 2

    with jax.default_matmul_precision("highest"):
        return Spectrum(*lax.map(draw, jax.random.split(key, draws)))


def _flat(
    operator: Operator, params: PyTree, batch: PyTree, batch_size: int, count: int
) -> tuple[Callable[[Array], Array], Array]:
    """The operator over the probe on flat vectors, and one of them: the parameters."""
    if count < 1:
        raise InputError(f"iterations and draws must be at least 1, not {count}.")
    params, batch = precision.raised((params, batch))
    flat, unravel = ravel_pytree(params)

    def matvec(vector: Array) -> Array:
        tangent = unravel(vector)
        mean = probe.mean_batches(
            lambda part: operator(params, part, tangent), batch, batch_size
        )
        return ravel_pytree(mean)[0].astype(flat.dtype)

    return matvec, flat


def _normal(key: Array, like: Array) -> Array:
    """Normal numbers, drawn in float32: a key has one meaning, whatever the type."""
    return jax.random.normal(key, like.shape, jnp.float32).astype(like.dtype)


def _signs(key: Array, like: Array) -> Array:
    """Random signs; as `_normal`, and as ``jax.random.rademacher`` without x64."""
    heads = jax.random.bernoulli(key, jnp.float32(0.5), like.shape)
    return jnp.where(heads, 1, -1).astype(like.dtype)


def _lanczos(
    matvec: Callable[[Array], Array], vector: Array, iterations: int, key: Array
) -> tuple[Array, Array, Scalar]:
    """Ritz values ``[K]`` rising, eigenvectors of the tridiagonal matrix ``[K, K]``.

    The third is the norm of what the last product leaves outside the Krylov space. An
    invariant subspace (few distinct eigenvalues) is left for a random direction
    orthogonal to it: coupling 0, so the Ritz values stay those of the matrix and the
    new ones have weight 0 in the quadrature of ``vector``.
    """
    iterations, kind = min(iterations, vector.size), vector.dtype

    def step(i: Array, state: tuple) -> tuple:
        basis, v, diagonal, coupling, longest = state
        basis = basis.at[i].set(v)
        apart = lambda u: u - basis.T @ (basis @ u)  # noqa: E731
        product = matvec(v)
        longest = jnp.maximum(longest, precision.norm(product))
        rest = apart(product)
        length = precision.norm(rest)
        share = length / jnp.where(longest > 0, longest, 1)
        ended = share <= 10 * jnp.finfo(kind).eps
        anew = _normal(jax.random.fold_in(key, i), v)
        following = precision.unit(jnp.where(ended, anew, rest))
        # Twice, after scaling: a short rest is mostly rounding, and not orthogonal.
        for _ in range(2):
            following = precision.unit(apart(following))
        return (
            basis,
            following,
            diagonal.at[i].set(jnp.vdot(v, product)),
            coupling.at[i].set(jnp.where(ended, 0, length)),
            longest,
        )

    zeros = jnp.zeros(iterations, kind)
    basis = jnp.zeros((iterations, vector.size), kind)
    state = (basis, precision.unit(vector), zeros, zeros, jnp.zeros((), kind))
    _, _, diagonal, coupling, _ = lax.fori_loop(0, iterations, step, state)
    # Eigenvalue solvers square: let them do it near 1.
    (diagonal, beside), scale = precision.scaled((diagonal, coupling[:-1]))
    beside = jnp.diag(beside, 1)
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + beside + beside.T)
    return values * scale, vectors, coupling[-1]
