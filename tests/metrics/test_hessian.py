"""Curvature: equal to the dense matrix's, on spectra that were chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mtl_jax import metrics
from mtl_jax.metrics import hessian
from mtl_jax.objectives.losses import SOFTMAX
from mtl_jax.types import InputError


def quadratic(eigenvalues, seed=0):
    """Make a loss on a dict of parameters whose Hessian has these eigenvalues."""
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
    """Make a small network on 24 examples in mini-batches of 10, 10 and 4."""
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


@pytest.fixture(scope="module")
def dense(network):
    """Compute Hessian and Gauss-Newton matrix of the network, written out."""
    predict, output_loss, params, batch = network

    @jax.jit
    def matrices(params, batch):
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

    return jax.device_get(matrices(params, batch))


def test_products_are_those_of_the_dense_matrices(network, dense, key):
    predict, output_loss, params, batch = network
    operators = (
        metrics.hessian_operator(lambda p, b: output_loss(predict(p, b), b)),
        metrics.gauss_newton_operator(predict, output_loss),
    )
    flat, unravel = ravel_pytree(params)
    vector = jax.random.normal(key, flat.shape)
    for operator, matrix in zip(operators, dense, strict=True):
        product = ravel_pytree(jax.jit(operator)(params, batch, unravel(vector)))[0]
        np.testing.assert_allclose(product, matrix @ vector, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [0, 1], ids=["hessian", "gauss_newton"])
def test_all_three_agree_with_the_dense_matrix(network, dense, key, kind):
    predict, output_loss, params, batch = network
    operator = (
        metrics.hessian_operator(lambda p, b: output_loss(predict(p, b), b)),
        metrics.gauss_newton_operator(predict, output_loss),
    )[kind]
    matrix = dense[kind]
    values = np.linalg.eigvalsh(matrix)
    args = (operator, params, batch)
    top = metrics.top_eigenvalue(*args, key=key, iterations=24, batch_size=10)
    np.testing.assert_allclose(top.value, values[-1], rtol=1e-4)
    trace = metrics.trace(*args, key=key, draws=64, batch_size=10)
    assert abs(trace.value - np.trace(matrix)) < 4 * trace.standard_error
    spectrum = metrics.spectrum(*args, key=key, draws=32, iterations=24, batch_size=10)
    np.testing.assert_allclose(spectrum.weights.sum(axis=1), 1, rtol=1e-3)
    spectrum = jax.device_get(spectrum)
    mean = (spectrum.nodes * spectrum.weights).sum(axis=1) * len(values)
    error = mean.std() / np.sqrt(31)
    assert abs(mean.mean() - np.trace(matrix)) < 4 * error


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


@pytest.mark.parametrize("iterations", [2, 5])
def test_error_bound_is_the_residual_of_the_ritz_vector(iterations, key):
    # Against the Krylov space of the same start, written out in float64.
    loss_fn, params, batch = quadratic(np.linspace(0, 10, 40))
    flat, unravel = ravel_pytree(params)
    of_flat = lambda f: loss_fn(unravel(f), batch)  # noqa: E731
    matrix = np.asarray(jax.hessian(of_flat)(flat), np.float64)
    start = jax.random.normal(jax.random.split(key)[0], flat.shape, jnp.float32)
    powers = [np.asarray(start, np.float64)]
    for _ in range(iterations - 1):
        powers.append(matrix @ powers[-1])
    basis = np.linalg.qr(np.stack(powers, axis=1))[0]
    values, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
    ritz = basis @ vectors[:, -1]
    residual = np.linalg.norm(matrix @ ritz - values[-1] * ritz)
    operator = metrics.hessian_operator(loss_fn)
    eigenvalue = metrics.top_eigenvalue(
        operator, params, batch, key=key, iterations=iterations
    )
    np.testing.assert_allclose(eigenvalue, (values[-1], residual), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_curvature_is_free_of_scale(scale, key):
    # Where squares of it leave float32's range, as where they do not.
    eigenvalues = np.linspace(-3, 10, 40) * scale
    loss_fn, params, batch = quadratic(eigenvalues)
    args = metrics.hessian_operator(loss_fn), params, batch
    exact = metrics.top_eigenvalue(*args, key=key, iterations=40)
    np.testing.assert_allclose(exact.value, 10 * scale, rtol=1e-4)
    assert exact.error_bound < 0.1 * scale
    early = metrics.top_eigenvalue(*args, key=key, iterations=5)
    nearest = np.abs(eigenvalues - float(early.value)).min()
    assert nearest <= early.error_bound and 0 < early.error_bound < 10 * scale
    powered = metrics.power_iteration(*args, key=key, iterations=50)
    np.testing.assert_allclose(powered.value, 10 * scale, rtol=0.1)
    trace = metrics.trace(*args, key=key)
    error = abs(float(trace.value) - eigenvalues.sum())
    assert 0 < trace.standard_error < 20 * scale and error < 4 * trace.standard_error


FEW_VALUES = [
    (0.0,) * 6,
    (-4.0,) * 4,  # of which what is left of a vector of signs is 0 exactly
    (5.0, 3.0) + (0.0,) * 10,
    (2.0,) * 4 + (-1.0,) * 20,
    (1e-3, 1e3) + (1.0,) * 10,
]


@pytest.mark.parametrize("eigenvalues", FEW_VALUES, ids=str)
@pytest.mark.parametrize("rotated", [True, False])
def test_few_distinct_eigenvalues_invent_no_others(eigenvalues, rotated, key):
    # The Krylov space ends before the iterations do.
    loss_fn, params, batch = quadratic(eigenvalues)
    if not rotated:

        def loss_fn(params, batch):
            square = ravel_pytree(params)[0] ** 2
            return jnp.mean(batch) * square @ jnp.array(eigenvalues) / 2

    args = (metrics.hessian_operator(loss_fn), params, batch)
    atol = 1e-5 * np.abs(eigenvalues).max()
    top = metrics.top_eigenvalue(*args, key=key, iterations=50)
    np.testing.assert_allclose(top.value, max(eigenvalues), atol=atol)
    assert top.error_bound <= 10 * atol
    density = metrics.spectrum(*args, key=key, draws=2, iterations=8)
    nodes = np.asarray(density.nodes)[..., None]
    nearest = np.abs(nodes - np.array(eigenvalues)).min(axis=-1)
    assert nearest[np.asarray(density.weights) > 1e-3].max() <= 10 * atol
    np.testing.assert_allclose(density.weights.sum(axis=1), 1, rtol=1e-5)
    assert min(eigenvalues) - atol <= nodes.min()  # of any weight
    assert nodes.max() <= max(eigenvalues) + atol


@pytest.mark.parametrize(
    "eigenvalues", [(-9.0, 1.0, 4.0), (-2.0, 0.0, 0.5, 30.0), (0.0, 0.0, 0.0)], ids=str
)
def test_power_iteration_takes_the_absolute_top_with_its_sign(eigenvalues, key):
    loss_fn, params, batch = quadratic(eigenvalues)
    args = (metrics.hessian_operator(loss_fn), params, batch)
    eigenvalue = hessian.power_iteration(*args, key=key, iterations=60, batch_size=4)
    expected = max(eigenvalues, key=abs)
    np.testing.assert_allclose(eigenvalue.value, expected, rtol=1e-4)
    assert eigenvalue.error_bound <= 1e-3 * abs(expected)


def test_power_iteration_tells_that_it_has_not_converged(key):
    # Between -5 and 5 it stays anywhere; with few iterations it is on the way.
    loss_fn, params, batch = quadratic((-5.0, 5.0, 1.0))
    operator = metrics.hessian_operator(loss_fn)
    stuck = hessian.power_iteration(operator, params, batch, key=key)
    np.testing.assert_allclose(np.hypot(*stuck), 5, rtol=1e-4)
    assert stuck.error_bound > 0.1
    eigenvalues = np.linspace(0, 10, 40)
    loss_fn, params, batch = quadratic(eigenvalues)
    operator = metrics.hessian_operator(loss_fn)
    for iterations in (1, 3, 10):
        eigenvalue = hessian.power_iteration(
            operator, params, batch, key=key, iterations=iterations
        )
        nearest = np.abs(eigenvalues - float(eigenvalue.value)).min()
        assert nearest <= float(eigenvalue.error_bound) + 1e-3


def test_trace_is_exact_for_a_diagonal_matrix(key):
    def loss_fn(params, batch):
        return jnp.mean(batch) * jnp.sum(jnp.array([1.0, 2.0, 6.0]) * params**2) / 2

    estimate = metrics.trace(
        metrics.hessian_operator(loss_fn), jnp.ones(3), jnp.ones((4, 1)), key=key
    )
    np.testing.assert_allclose(estimate, (9.0, 0.0), atol=1e-5)


def test_counts_below_one_are_refused(key):
    loss_fn, params, batch = quadratic((1.0, 2.0))
    operator = metrics.hessian_operator(loss_fn)
    with pytest.raises(InputError, match="at least 1, not 0"):
        metrics.top_eigenvalue(operator, params, batch, key=key, iterations=0)
    with pytest.raises(InputError, match="at least 1, not 0"):
        metrics.trace(operator, params, batch, key=key, draws=0)
    with pytest.raises(InputError, match="at least 1, not 0"):
        hessian.power_iteration(operator, params, batch, key=key, iterations=0)
    with pytest.raises(InputError, match="at least 1, not 0"):
        metrics.spectrum(operator, params, batch, key=key, iterations=0)
