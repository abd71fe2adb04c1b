"""Task vectors: the way from a common start to what each task was trained to.

Lengths and cosines are free of the scale of parameters, as those of gradients are. Wang
et al., 2024 (Self Positioning) read them: a vector is about as long as its task has
data, and that of joint training lies nearer to the vector of the larger task.

>>> import jax.numpy as jnp
>>> start, solutions = jnp.array([1.0, 1.0]), jnp.array([[4.0, 1.0], [1.0, 5.0]])
>>> vectors = task_vectors(start, solutions)
>>> vectors.tolist(), lengths(vectors).tolist(), cosines(vectors)[0].tolist()
([[3.0, 0.0], [0.0, 4.0]], [3.0, 4.0], [1.0, 0.0])
>>> multi = jnp.array([4.0, 5.0])
>>> [round(c, 2) for c in cosines_to(vectors, multi - start).tolist()]
[0.6, 0.8]
"""

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.gradients import gramian
from mtl_jax.types import Array, InputError, PyTree


def task_vectors(start: PyTree, solutions: PyTree) -> PyTree:
    """Return the task vectors ``theta_t - theta_0``, leaves ``[T, ...]``.

    Args:
      start: parameters from which all tasks were trained, leaves ``[...]``.
      solutions: what each task was trained to, leaves ``[T, ...]``.

    Raises:
      InputError: trees of unlike structure or shape.
    """
    count_tasks(start, solutions)
    return jax.tree.map(lambda leaf, at: leaf - at[None], solutions, start)


def lengths(vectors: PyTree) -> Array:
    """Return the lengths ``[T]`` of the task vectors."""
    return tree.row_lengths(vectors)


def cosines(vectors: PyTree) -> Array:
    """Return the cosines ``[T, T]`` of the task vectors; NaN in rows of a zero one."""
    return gramian.cosines(vectors, vectors)


def cosines_to(vectors: PyTree, vector: PyTree) -> Array:
    """Return the cosines ``[T]`` of the task vectors with one more; NaN where one is 0.

    Args:
      vectors: leaves ``[T, ...]``.
      vector: such as that of joint training, ``theta_MT - theta_0``, leaves ``[...]``.

    Raises:
      InputError: trees of unlike structure or shape.
    """
    count_tasks(vector, vectors)
    return gramian.compared(vectors, vector)[1]


def count_tasks(start: PyTree, rows: PyTree) -> int:
    """Return the number of tasks ``T`` of a tree of rows ``[T, ...]``.

    Raises:
      InputError: trees of unlike structure, leaves that are not those of the start with
        one axis in front, or no leaves.
    """
    if jax.tree.structure(start) != jax.tree.structure(rows):
        raise InputError(
            f"the start is {jax.tree.structure(start)} and the stacked tree "
            f"{jax.tree.structure(rows)}; pass trees of one structure."
        )
    leaves = [jnp.shape(leaf) for leaf in jax.tree.leaves(rows)]
    if not leaves:
        raise InputError("the trees have no leaves; pass parameters.")
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(start)]
    for shape, row in zip(shapes, leaves, strict=True):
        if row != (*leaves[0][:1], *shape) or not row:
            raise InputError(
                f"a stacked leaf is {list(row)} where the start's is {list(shape)}; "
                f"pass leaves [T, ...] of the same T tasks."
            )
    return leaves[0][0]
