"""Points that task vectors span: ``theta_0 + sum_t lambda_t tau_t``.

Coefficients are one array ``[T]`` for all parameters, or a tree that has the start's
tree, or the upper part of it, with an array ``[T]`` in every leaf: one coefficient a
task, a layer or a module.

>>> import jax.numpy as jnp
>>> start = {"w": jnp.zeros(2), "b": jnp.ones(1)}
>>> vectors = {"w": jnp.array([[1.0, 0.0], [0.0, 2.0]]), "b": jnp.array([[1.0], [3.0]])}
>>> compose(start, vectors, jnp.array([1.0, 0.5]))["w"].tolist()
[1.0, 1.0]
>>> compose(start, vectors, {**per_layer(vectors, 0.5), "b": jnp.zeros(2)})
{'b': Array([1.], dtype=float32), 'w': Array([0.5, 1. ], dtype=float32)}
>>> arithmetic(start, vectors, scale=2.0)["w"].tolist()
[2.0, 4.0]
"""

import jax
import jax.numpy as jnp

from mtl_jax import tree
from mtl_jax.merging.vectors import count_tasks
from mtl_jax.options import check_sizes
from mtl_jax.types import Array, InputError, PyTree, Scalar


def compose(start: PyTree, vectors: PyTree, coefficients: PyTree) -> PyTree:
    """Add task vectors with coefficients to the start.

    Args:
      start: parameters, leaves ``[...]``.
      vectors: task vectors, leaves ``[T, ...]``.
      coefficients: ``[T]``, or a tree of them as above.

    Raises:
      InputError: trees or coefficients that do not fit each other.
    """
    count = count_tasks(start, vectors)

    def moved(weights: Array, vectors: PyTree, start: PyTree) -> PyTree:
        if jnp.shape(weights) != (count,):
            raise InputError(
                f"coefficients are {list(jnp.shape(weights))} for {count} tasks; pass "
                f"[{count}], or a tree of them."
            )

        return jax.tree.map(jnp.add, start, tree.combine(weights, vectors))

    structure = jax.tree.structure(coefficients)
    try:
        structure.flatten_up_to(start)
    except ValueError as error:
        raise InputError(
            f"coefficients are {structure}, which is no upper part of the start's "
            f"{jax.tree.structure(start)}; pass an array [{count}], or per_layer(...)."
        ) from error
    return jax.tree.map(moved, coefficients, vectors, start)


def arithmetic(start: PyTree, vectors: PyTree, scale: float | Scalar = 0.3) -> PyTree:
    """Add the sum of all task vectors, scaled: task arithmetic (Ilharco et al., 2023).

    ``theta_0 + lambda sum_t tau_t``; their eight tasks of ViT-B/32 take lambda = 0.3,
    ``1 / T`` is the plain average. Several scales are one more axis of ``vmap``.

    Raises:
      InputError: trees of unlike structure or shape.
    """
    count_tasks(start, vectors)
    return compose(start, vectors, per_task(vectors, scale))


def per_task(vectors: PyTree, value: float | Scalar) -> Array:
    """Return one coefficient a task, ``[T]``, all of them of one value."""
    return jnp.full(jax.tree.leaves(vectors)[0].shape[:1], value, jnp.float32)


def per_layer(vectors: PyTree, value: float | Scalar) -> PyTree:
    """Return a tree of one coefficient a parameter tensor and task, ``[T]`` each."""
    return jax.tree.map(lambda leaf: per_task(leaf, value), vectors)


def partition(key: Array, vectors: PyTree, parts: int) -> PyTree:
    """Split task vectors at random into ``parts`` each: the xK of aTLAS.

    Every entry of a tensor is in one of K groups, the same for all tasks (Zhang et al.,
    2024, section 5.2); the vectors of the groups add up to the whole. They are learned
    as so many tasks, at K times the memory. Unlike in the authors' code
    (`composition.py`: `mask_multiply`), tensors of all ranks take part, those of one
    shape are split independently.

    >>> whole = jnp.ones((3, 4, 5))
    >>> parts = partition(jax.random.key(0), whole, 2)
    >>> parts.shape, bool((parts[:3] + parts[3:] == whole).all())
    ((6, 4, 5), True)

    Args:
      key: of the groups.
      vectors: leaves ``[T, ...]``.
      parts: ``K``.

    Returns:
      Leaves ``[K T, ...]``, all tasks of a group together.

    Raises:
      InputError: parts that are no positive whole number.
    """
    check_sizes("parts", (parts,))
    leaves, structure = jax.tree.flatten(vectors)

    def split(key: Array, leaf: Array) -> Array:
        groups = jax.random.randint(key, leaf.shape[1:], 0, parts)
        kept = [jnp.where((groups == k)[None], leaf, 0) for k in range(parts)]
        return jnp.concatenate(kept)

    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(map(split, keys, leaves))
