"""Curvature: equal to the dense matrix's, on spectra that were chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import metrics
from mtl_jax.losses import SOFTMAX
from mtl_jax.types import InputError


def quadratic(eigenvalues, seed=0):
    """A loss on a dict of parameters whose Hessian has these eigenvalues."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))[0]
    matrix = jnp.asarray(basis @ np.diag(eigenvalues) @ basis.T, jnp.float32)

    def loss_fn(params, batch):
        flat = ravel_pytree(params)[0]
        return jnp.mean(batch) * flat @ matrix @ flat / 2

    half = len(eigenvalues) // 2
    params = {"a": jnp.ones(half), "b": jnp.ones(len(eigenvalues) - half)}
    return loss_fn, params, jnp.ones((6, 1))


@pytest.fixture(scope="module")
def network():
    """A small network on 24 examples in mini-batches of 10, 10 and 4."""
    rng = np.random.default_rng(1)
    batch = {
        "x": jnp.asarray(rng.normal(size=(24, 3)), jnp.float32),
        "y": jnp.asarray(rng.integers(0, 3, 24)),
    }
    params = {
        "w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "v": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
    }

    def predict(params, batch):
        return jnp.tanh(batch["x"] @ params["w"]) @ params["v"]

    def output_loss(outputs, batch):
        return SOFTMAX.example_loss(outputs, batch["y"]).mean()

    return predict, output_loss, params, batch


def dense(predict, output_loss, params, batch):
    """Hessian and Gauss-Newton matrix, written out."""
    flat, unravel = ravel_pytree(params)
    hessian = jax.hessian(lambda f: output_loss(predict(unravel(f), batch), batch))(
        flat
    )
    outputs = predict(params, batch)
    jacobian = jax.jacobian(lambda f: predict(unravel(f), batch))(flat)
    jacobian = jacobian.reshape(-1, flat.size)
    inner = jax.hessian(lambda o: output_loss(o.reshape(outputs.shape), batch))(
        outputs.ravel()
    )
    return hessian, jacobian.T @ inner @ jacobian


def test_products_are_those_of_the_dense_matrices(network, key):
    predict, output_loss, params, batch = network
    operators = (
        metrics.hessian_operator(lambda p, b: output_loss(predict(p, b), b)),
        metrics.gauss_newton_operator(predict, output_loss),
    )
    flat, unravel = ravel_pytree(params)
    vector = jax.random.normal(key, flat.shape)
    for operator, matrix in zip(operators, dense(*network), strict=True):
        found = ravel_pytree(operator(params, batch, unravel(vector)))[0]
        np.testing.assert_allclose(found, matrix @ vector, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [0, 1], ids=["hessian", "gauss_newton"])
def test_all_three_agree_with_the_dense_matrix(network, key, kind):
    predict, output_loss, params, batch = network
    operator = (
        metrics.hessian_operator(lambda p, b: output_loss(predict(p, b), b)),
        metrics.gauss_newton_operator(predict, output_loss),
    )[kind]
    matrix = dense(*network)[kind]
    values = jnp.linalg.eigvalsh(matrix)
    args = (operator, params, batch)
    top = metrics.top_eigenvalue(*args, key=key, iterations=24, batch_size=10)
    np.testing.assert_allclose(top.value, values[-1], rtol=1e-4)
    trace = metrics.trace(*args, key=key, draws=64, batch_size=10)
    assert abs(trace.value - jnp.trace(matrix)) < 4 * trace.standard_error
    spectrum = metrics.spectrum(*args, key=key, draws=32, iterations=24, batch_size=10)
    np.testing.assert_allclose(spectrum.weights.sum(axis=1), 1, rtol=1e-3)
    mean = (spectrum.nodes * spectrum.weights).sum(axis=1) * len(values)
    error = mean.std() / np.sqrt(31)
    assert abs(mean.mean() - jnp.trace(matrix)) < 4 * error


@pytest.mark.parametrize(
    "eigenvalues", [(-9.0, 1.0, 4.0), (-2.0, -1.0, 0.0, 0.5, 30.0)]
)
def test_lanczos_is_exact_at_full_rank_and_takes_the_algebraic_top(eigenvalues, key):
    loss_fn, params, batch = quadratic(eigenvalues)
    operator = metrics.hessian_operator(loss_fn)
    top = metrics.top_eigenvalue(operator, params, batch, key=key, iterations=50)
    np.testing.assert_allclose(top.value, max(eigenvalues), rtol=1e-4)
    assert top.error_bound < 1e-2 * max(np.abs(eigenvalues))


def test_error_bound_holds_before_convergence(key):
    eigenvalues = np.linspace(0, 10, 40)
    loss_fn, params, batch = quadratic(eigenvalues)
    operator = metrics.hessian_operator(loss_fn)
    for iterations in (2, 5, 10):
        top = metrics.top_eigenvalue(
            operator, params, batch, key=key, iterations=iterations
        )
        nearest = np.abs(eigenvalues - float(top.value)).min()
        assert nearest <= float(top.error_bound) + 1e-3
        assert top.value <= 10 + 1e-3


def test_trace_is_exact_for_a_diagonal_matrix(key):
    def loss_fn(params, batch):
        return jnp.mean(batch) * jnp.sum(jnp.array([1.0, 2.0, 6.0]) * params**2) / 2

    found = metrics.trace(
        metrics.hessian_operator(loss_fn), jnp.ones(3), jnp.ones((4, 1)), key=key
    )
    np.testing.assert_allclose(found, (9.0, 0.0), atol=1e-5)


def test_counts_below_one_are_refused(key):
    loss_fn, params, batch = quadratic((1.0, 2.0))
    operator = metrics.hessian_operator(loss_fn)
    with pytest.raises(InputError, match="at least 1, not 0"):
        metrics.top_eigenvalue(operator, params, batch, key=key, iterations=0)
    with pytest.raises(InputError, match="at least 1, not 0"):
        metrics.trace(operator, params, batch, key=key, draws=0)
