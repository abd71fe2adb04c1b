"""A small net of three tasks, its corners, and the same in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import Params, merging
from mtl_jax.merging import Corners

TASKS, INPUTS, HIDDEN, CLASSES = 3, 4, 5, 3


def corners(seed=0, tasks=TASKS):
    """Draw a start, task vectors and heads, as float32 trees."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    start = {"w": draw(INPUTS, HIDDEN), "b": draw(HIDDEN)}
    solutions = {"w": draw(tasks, INPUTS, HIDDEN), "b": draw(tasks, HIDDEN)}
    vectors = merging.task_vectors(start, solutions)
    return Corners(start, vectors, draw(tasks, HIDDEN, CLASSES))


def inputs(*shape, seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(*shape, INPUTS)), jnp.float32)


def predict(params, task, x):
    del task
    z = jnp.tanh(x @ params.shared["w"] + params.shared["b"][None])
    return z @ params.heads


def alone(corners, task, x):
    """Return outputs of a task's own model."""
    trunk = jax.tree.map(lambda s, v: s + v[task], corners.start, corners.vectors)
    return predict(Params(trunk, corners.heads[task]), task, x)


def forward(trunk, head, x):
    """Return hidden units and logits."""
    z = np.tanh(x @ trunk["w"] + trunk["b"])
    return z, z @ head


def backward(trunk, head, x, z, towards):
    """Return gradients of the trunk and the head from those of the logits."""
    towards_hidden = (towards @ head.T) * (1 - z**2)
    trunk = {"w": x.T @ towards_hidden, "b": towards_hidden.sum(axis=0)}
    return trunk, z.T @ towards


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def point(corners, coefficients):
    """Return ``theta_0 + sum_t c_t tau_t``, of coefficients by name."""
    return {
        k: corners.start[k] + np.tensordot(coefficients[k], corners.vectors[k], 1)
        for k in corners.start
    }


def slopes(corners, gradient):
    """Return the gradient of the coefficients, by name ``[T]``."""
    return {
        k: np.array([(gradient[k] * v).sum() for v in corners.vectors[k]])
        for k in gradient
    }


class Adam:
    """Adam written out, of one array."""

    def __init__(self, rate):
        self.rate, self.count, self.mean, self.square = rate, 0, 0.0, 0.0

    def step(self, gradient):
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean = self.mean / (1 - 0.9**self.count)
        square = self.square / (1 - 0.999**self.count)
        return -self.rate * mean / (np.sqrt(square) + 1e-8)


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
