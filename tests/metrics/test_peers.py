"""Parity with PyTorch and its curvature libraries on one small network.

Torch computes in float64, so what differs is our float32. ``torch.func`` and plain
autograd are always compared with; PyHessian, BackPACK and curvlinops where installed.
PyHessian 0.1 computes in float32 and its spectral density wants ``torch.eig``, which is
no more. BackPACK's gradients are those of the mean, ``1 / N`` of an example's.
"""

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mtl_jax.metrics.coherence import m_coherence
from mtl_jax.metrics.fisher import fisher_trace
from mtl_jax.metrics.hessian import (
    gauss_newton_operator,
    hessian_operator,
    power_iteration,
    spectrum,
    top_eigenvalue,
    trace,
)
from mtl_jax.metrics.sharpness import sharpness
from mtl_jax.metrics.similarity import linear_cka
from mtl_jax.objectives.losses import SOFTMAX

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings(  # of torch, about torch and its libraries
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning",
    "ignore:Full backward hook is firing:UserWarning",
    "ignore:Using backward\\(\\) with create_graph=True:UserWarning",
)

N, CLASSES, BATCH_SIZE = 24, 3, 10  # mini-batches of 10, 10 and 4
SHAPES = {"0.weight": (3, 1, 3, 3), "0.bias": (3,), "3.weight": (3, 48), "3.bias": (3,)}
RNG = np.random.default_rng(0)
WEIGHTS = {
    name: RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    for name, shape in SHAPES.items()
}
X, Y = RNG.normal(size=(N, 1, 6, 6)), RNG.integers(0, CLASSES, N)

PARAMS = {name: jnp.asarray(value, jnp.float32) for name, value in WEIGHTS.items()}
BATCH = {"x": jnp.asarray(X, jnp.float32), "y": jnp.asarray(Y)}


def features(params, x):
    x = lax.conv_general_dilated(
        x,
        params["0.weight"],
        (1, 1),
        "VALID",
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    return jnp.tanh(x + params["0.bias"].reshape(1, 3, 1, 1)).reshape(x.shape[0], -1)


def predict(params, x):
    return features(params, x) @ params["3.weight"].T + params["3.bias"][None]


def output_loss(outputs, batch):
    return SOFTMAX.example_loss(outputs, batch["y"]).mean()


def loss_fn(params, batch):
    return output_loss(predict(params, batch["x"]), batch)


HESSIAN = hessian_operator(loss_fn)
GAUSS_NEWTON = gauss_newton_operator(lambda p, b: predict(p, b["x"]), output_loss)


def peer(name: str) -> Any:
    """Import an optional library; some warn of torch when they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def network(dtype=torch.float64):
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3))
    model = model.to(dtype)
    model.load_state_dict({k: torch.tensor(v) for k, v in WEIGHTS.items()})
    return model, torch.tensor(X, dtype=dtype), torch.tensor(Y)


def torch_loss() -> tuple[Callable, dict]:
    """Make ``loss(params, x, y)`` in torch, and its parameters."""
    model, _, _ = network()

    def loss(params, x, y):
        outputs = torch.func.functional_call(model, params, (x,))
        return torch.nn.functional.cross_entropy(outputs, y)

    return loss, {name: p.detach() for name, p in model.named_parameters()}


def flat_loss():
    """Make the same of one vector, in the order of `SHAPES`."""
    loss, params = torch_loss()
    sizes = [int(np.prod(shape)) for shape in SHAPES.values()]

    def of(vector):
        parts = zip(SHAPES.items(), vector.split(sizes), strict=True)
        return loss(
            {name: part.reshape(shape) for (name, shape), part in parts},
            torch.tensor(X),
            torch.tensor(Y),
        )

    return of, torch.cat([params[name].ravel() for name in SHAPES])


def in_order(params):
    """Flatten a tree of ours to a vector in the order of `SHAPES`."""
    return np.concatenate([np.asarray(params[name]).ravel() for name in SHAPES])


@functools.cache
def dense_hessian():
    return torch.func.hessian(flat_loss()[0])(flat_loss()[1]).numpy()


def example_squares(label: int | None = None):
    """Compute ``|gradient|^2`` of examples, and the mean gradient, by torch.func."""
    loss, params = torch_loss()
    y = torch.tensor(Y) if label is None else torch.full((N,), label)

    def example_loss(params, x, y):
        return loss(params, x[None], y[None])

    rows = torch.func.vmap(torch.func.grad(example_loss), (None, 0, 0))(
        params, torch.tensor(X), y
    )
    rows = torch.cat([row.reshape(N, -1) for row in rows.values()], dim=1).numpy()
    return (rows**2).sum(axis=1), rows.mean(axis=0)


def test_outputs_and_loss_are_the_same():
    model, x, y = network()
    outputs = predict(PARAMS, BATCH["x"])
    np.testing.assert_allclose(outputs, model(x).detach(), rtol=1e-5, atol=1e-6)
    loss, params = torch_loss()
    np.testing.assert_allclose(loss_fn(PARAMS, BATCH), loss(params, x, y), rtol=1e-6)


def test_hessian_vector_product(key):
    vector = {
        name: jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (name, shape) in enumerate(SHAPES.items())
    }
    of, at = flat_loss()
    gradient = torch.func.grad(of)
    direction = torch.tensor(in_order(vector), dtype=torch.float64)
    expected = torch.func.jvp(gradient, (at,), (direction,))[1]
    actual = in_order(HESSIAN(PARAMS, BATCH, vector))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_spectrum_at_full_length_is_that_of_the_dense_hessian(key):
    expected = np.linalg.eigvalsh(dense_hessian())
    actual = spectrum(
        HESSIAN, PARAMS, BATCH, key=key, draws=1, iterations=500, batch_size=BATCH_SIZE
    )
    assert actual.nodes.shape == (1, len(expected))
    np.testing.assert_allclose(actual.nodes[0], expected, atol=3e-6 * expected.max())


def test_eigenvalues_of_pyhessian(key):
    pyhessian = peer("pyhessian")
    model, x, y = network(torch.float32)
    torch.manual_seed(0)
    loss = torch.nn.CrossEntropyLoss()
    theirs = pyhessian.hessian(model, loss, data=(x, y), cuda=False)
    (expected,), _ = theirs.eigenvalues(maxIter=300, tol=1e-7)
    draws = np.array(theirs.trace(maxIter=100, tol=0))
    args = (HESSIAN, PARAMS, BATCH)
    options: Any = {"key": key, "batch_size": BATCH_SIZE}
    by_power = power_iteration(*args, iterations=300, **options)
    by_lanczos = top_eigenvalue(*args, iterations=40, **options)
    # It stops where a step no longer changes the quotient: a little too low.
    np.testing.assert_allclose(by_power.value, expected, rtol=1e-4)
    np.testing.assert_allclose(by_lanczos.value, expected, rtol=1e-4)
    ours = trace(*args, draws=100, **options)
    error = np.hypot(ours.standard_error, draws.std() / np.sqrt(len(draws)))
    assert len(draws) == 100 and abs(ours.value - draws.mean()) < 4 * error
    assert abs(ours.value - np.trace(dense_hessian())) < 4 * ours.standard_error


def test_top_eigenvalue_and_trace_of_the_dense_hessian(key):
    dense = dense_hessian()
    args = (HESSIAN, PARAMS, BATCH)
    values = np.linalg.eigvalsh(dense)
    top = top_eigenvalue(*args, key=key, iterations=40, batch_size=BATCH_SIZE)
    np.testing.assert_allclose(top.value, values.max(), rtol=1e-5)
    assert abs(top.value - values.max()) <= top.error_bound + 1e-5 * values.max()
    estimate = trace(*args, key=key, draws=128, batch_size=BATCH_SIZE)
    assert abs(estimate.value - np.trace(dense)) < 4 * estimate.standard_error


def test_products_of_curvlinops(key):
    curvlinops = peer("curvlinops")
    model, x, y = network()
    data = [(x[:10], y[:10]), (x[10:20], y[10:20]), (x[20:], y[20:])]
    args = (model, torch.nn.CrossEntropyLoss(), list(model.parameters()), data)
    vector = {
        name: jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (name, shape) in enumerate(SHAPES.items())
    }
    direction = torch.tensor(in_order(vector), dtype=torch.float64)
    for operator, theirs in (
        (HESSIAN, curvlinops.HessianLinearOperator),
        (GAUSS_NEWTON, curvlinops.GGNLinearOperator),
    ):
        expected = (theirs(*args) @ direction).detach()
        actual = in_order(operator(PARAMS, BATCH, vector))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_exact_fisher_trace(key):
    model, x, _ = network()
    chances = torch.softmax(model(x), dim=1).detach().numpy()
    squares = np.stack([example_squares(c)[0] for c in range(CLASSES)], axis=1)
    expected = (chances * squares).sum(axis=1).mean()
    estimate = fisher_trace(
        predict, SOFTMAX, PARAMS, BATCH["x"], key=key, estimator="exact"
    )
    np.testing.assert_allclose(estimate.value, expected, rtol=1e-5)
    curvature = trace(GAUSS_NEWTON, PARAMS, BATCH, key=key, draws=64)
    assert abs(curvature.value - estimate.value) < 4 * curvature.standard_error


def empirical(key):
    return fisher_trace(
        predict,
        SOFTMAX,
        PARAMS,
        BATCH["x"],
        key=key,
        targets=BATCH["y"],
        estimator="empirical",
    ).value


def test_per_example_gradients_of_torch_func(key):
    squares, mean = example_squares()
    np.testing.assert_allclose(empirical(key), squares.mean(), rtol=1e-5)
    coherence = m_coherence(loss_fn, PARAMS, BATCH, batch_size=BATCH_SIZE)
    np.testing.assert_allclose(coherence.alpha, mean @ mean / squares.mean(), rtol=1e-5)


def test_per_example_gradients_of_backpack(key):
    backpack = peer("backpack")
    extensions = importlib.import_module("backpack.extensions")
    model, x, y = network()
    model = backpack.extend(model)
    loss = backpack.extend(torch.nn.CrossEntropyLoss())
    with backpack.backpack(extensions.BatchL2Grad()):
        loss(model(x), y).backward()
    squares = np.sum([p.batch_l2.numpy() for p in model.parameters()], axis=0) * N**2
    np.testing.assert_allclose(squares, example_squares()[0], rtol=1e-9)
    np.testing.assert_allclose(empirical(key), squares.mean(), rtol=1e-5)


def sharpness_in_torch(rho, norm, adaptive):
    """Step once by SAM or ASAM on every mini-batch, by autograd."""
    loss, params = torch_loss()
    rises = []
    for start in range(0, N, BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        x, y = torch.tensor(X[part]), torch.tensor(Y[part])
        gradient = torch.func.grad(loss)(params, x, y)
        scale = {k: p.abs() if adaptive else p * 0 + 1 for k, p in params.items()}
        if norm == "linf":
            step = {k: rho * scale[k] * g.sign() for k, g in gradient.items()}
        else:
            squares = [((scale[k] * g) ** 2).sum() for k, g in gradient.items()]
            length = torch.stack(squares).sum().sqrt()
            step = {k: rho * scale[k] ** 2 * g / length for k, g in gradient.items()}
        at = {k: p + step[k] for k, p in params.items()}
        rises.append((float(loss(at, x, y) - loss(params, x, y)), len(y)))
    values, sizes = zip(*rises, strict=True)
    return np.average(values, weights=sizes)


@pytest.mark.parametrize("adaptive", [False, True], ids=["standard", "adaptive"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_sharpness(norm, adaptive):
    rise = sharpness(
        loss_fn,
        PARAMS,
        BATCH,
        rho=0.05,
        norm=norm,
        adaptive=adaptive,
        batch_size=BATCH_SIZE,
    )
    expected = sharpness_in_torch(0.05, norm, adaptive)
    np.testing.assert_allclose(rise.value, expected, rtol=1e-4)


def test_cka():
    model, x, _ = network()
    first, second = (m(x).detach() for m in (model[:3], model))
    a, b = (f - f.mean(dim=0) for f in (first, second))
    norm = torch.linalg.matrix_norm
    expected = norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
    similarity = linear_cka(features(PARAMS, BATCH["x"]), predict(PARAMS, BATCH["x"]))
    np.testing.assert_allclose(similarity, expected, rtol=1e-5)
