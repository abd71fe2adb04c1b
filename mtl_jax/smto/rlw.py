"""Random loss weighting (Lin et al., 2022)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mtl_jax.smto.contract import (
    LossWeighting,
    check_choice,
    check_key,
    check_reduction,
    reduce,
    stateless,
)
from mtl_jax.types import Array, PyTree

Draw = Callable[[Array, int], Array]
"""``(key, num_tasks) -> weights [T]`` that sum to 1."""


def rlw(distribution: str = "normal", reduction: str = "sum") -> LossWeighting:
    """Draw weights anew at every step, of mean ``1 / T`` (with ``sum``: 1).

    Args:
      distribution: ``normal`` and ``uniform`` are put through a softmax, and so is
        ``random_normal``, whose mean and deviation are drawn, too; ``dirichlet`` is
        flat on the simplex; ``bernoulli`` trains a random set of tasks, equally
        weighted, and ``constrained_bernoulli`` one task.
      reduction: ``mean``: the weights sum to 1; ``sum``: to ``T``.

    Raises:
      InputError: unknown distribution or reduction.

    Source: Lin, Ye, Zhang & Tsang, TMLR 2022, Algorithm 1 and section 3.1.
    """
    check_reduction(reduction)
    check_choice("rlw's distribution", distribution, tuple(DISTRIBUTIONS))
    draw = DISTRIBUTIONS[distribution]

    def update(losses: Array, state: PyTree, key: Array) -> tuple[Array, PyTree]:
        check_key(key)
        weights = draw(key, losses.shape[0]).astype(losses.dtype)
        return reduce(weights, reduction), state

    return LossWeighting(stateless, update)


DTYPE = jnp.float32
"""Dtype of draws: those of another are other numbers."""


def _normal(key: Array, num_tasks: int) -> Array:
    return jax.nn.softmax(jax.random.normal(key, (num_tasks,), DTYPE))


def _uniform(key: Array, num_tasks: int) -> Array:
    return jax.nn.softmax(jax.random.uniform(key, (num_tasks,), DTYPE))


def _random_normal(key: Array, num_tasks: int) -> Array:
    mean_key, deviation_key, key = jax.random.split(key, 3)
    mean = jax.random.uniform(mean_key, (num_tasks,), DTYPE)
    deviation = jax.random.uniform(deviation_key, (num_tasks,), DTYPE)
    return jax.nn.softmax(
        mean + deviation * jax.random.normal(key, (num_tasks,), DTYPE)
    )


def _dirichlet(key: Array, num_tasks: int) -> Array:
    return jax.random.dirichlet(key, jnp.ones(num_tasks, DTYPE))


def _bernoulli(key: Array, num_tasks: int) -> Array:
    # Of many draws the first that is not empty: an exact draw of the others.
    draws = jax.random.bernoulli(key, DTYPE(0.5), (64, num_tasks))
    chosen = draws[jnp.argmax(draws.any(axis=1))].astype(DTYPE)
    return chosen / chosen.sum()


def _constrained_bernoulli(key: Array, num_tasks: int) -> Array:
    return jax.nn.one_hot(
        jax.random.randint(key, (), 0, num_tasks, jnp.int32), num_tasks, dtype=DTYPE
    )


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": _normal,
    "uniform": _uniform,
    "random_normal": _random_normal,
    "dirichlet": _dirichlet,
    "bernoulli": _bernoulli,
    "constrained_bernoulli": _constrained_bernoulli,
}
