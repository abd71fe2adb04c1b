"""The numbers of a metric: float32 or wider, and lengths that are free of scale.

Parameters in bfloat16 or float16 have two or three digits: a step of rho = 1e-3 rounds
away, and so does what a sum gains. They are exact in float32, so every metric casts
them up at its door, with the floating leaves of its batch. float64 stays what it is.

Squares of a float32 below 1e-19 or above 1e19 leave its range though the number does
not. Where that happens lengths are taken of vectors over a power of two close to their
largest number, which rounds nothing.

>>> import jax.numpy as jnp
>>> raised({"w": jnp.ones(2, jnp.bfloat16), "labels": jnp.arange(2)})["w"].dtype
dtype('float32')
>>> print(norm({"w": jnp.array([3e-30, 4e-30])}))
5e-30
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from mtl_jax.types import Array, PyTree, Scalar

HIGHEST = lax.Precision.HIGHEST
Inner = Callable[[PyTree, PyTree], Array]
"""Inner product of two gradients, or several over groups of parameters ``[S]``."""


def raised(tree: PyTree) -> PyTree:
    """Cast floating leaves of fewer than 32 bits to float32; leave all others."""

    def cast(leaf: Array) -> Array:
        kind = jnp.result_type(leaf)
        narrow = jnp.issubdtype(kind, jnp.floating) and jnp.finfo(kind).bits < 32
        return leaf.astype(jnp.float32) if narrow else leaf

    return jax.tree.map(cast, tree)


def dtype_of(tree: PyTree) -> jnp.dtype:
    """Return the type of sums over a raised tree: float32, or float64 if it has any."""
    return jnp.result_type(jnp.float32, *jax.tree.leaves(tree))


def magnitude(values: Array) -> Array:
    """Return the power of two at or below each number; 1 for 0 and what is not finite.

    It has no gradient: what is divided and multiplied by it does not depend on it.
    """
    values = lax.stop_gradient(jnp.abs(values))
    sound = jnp.isfinite(values) & (values > 0)
    exponent = jnp.frexp(jnp.where(sound, values, 1))[1] - 1
    lowest = jnp.finfo(values.dtype).minexp
    return jnp.ldexp(jnp.ones_like(values), jnp.maximum(exponent, lowest))


def scaled(tree: PyTree) -> tuple[PyTree, Scalar]:
    """Return a tree over the magnitude of its largest number, and that magnitude."""
    leaves = [jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(tree)]
    largest = jnp.stack([jnp.zeros((), dtype_of(tree)), *leaves]).max()
    scale = magnitude(largest)
    return jax.tree.map(lambda leaf: leaf / scale, tree), scale


def dot(a: PyTree, b: PyTree) -> Scalar:
    """Return the inner product of two raised trees of one structure."""
    products = jax.tree.map(lambda u, v: jnp.vdot(u, v, precision=HIGHEST), a, b)
    return sum(jax.tree.leaves(products), start=jnp.zeros((), jnp.float32))


def squared_norm(tree: PyTree, inner: Inner = dot) -> Array:
    """Return the squared length, or several ``[S]``, wherever float32 can hold it."""
    squares, scale = _squares(tree, inner)
    return squares * scale * scale


def norm(tree: PyTree, inner: Inner = dot) -> Array:
    """Return the length by an inner product, or several lengths ``[S]``."""
    squares, scale = _squares(tree, inner)
    return jnp.sqrt(squares) * scale


def unit(tree: PyTree) -> PyTree:
    """Divide a tree by its length; a zero one stays zero."""
    length = norm(tree)
    length = jnp.where(length > 0, length, 1)
    return jax.tree.map(lambda leaf: leaf / length, tree)


def _squares(tree: PyTree, inner: Inner) -> tuple[Array, Scalar]:
    """Squared lengths of a tree over a scale, and the scale.

    The scale is 1, for one pass over the numbers, unless a square overflowed, or may
    have lost what underflowed.
    """
    squares = inner(tree, tree)
    limits = jnp.finfo(squares.dtype)
    least = limits.tiny / limits.eps * 2**32  # beside it 2^32 lost squares are rounding
    sound = jnp.isfinite(squares) & (squares > least)

    def again() -> tuple[Array, Scalar]:
        over, scale = scaled(tree)
        return inner(over, over), scale.astype(squares.dtype)

    unscaled = squares, jnp.ones((), squares.dtype)
    return lax.cond(_any(~sound.all()), again, lambda: unscaled)


@custom_vmap
def _any(condition: Array) -> Array:
    """Tell of a condition whether it holds, or of several mapped together, for any.

    A condition on one answer for all is a branch, where on one for each it would be a
    choice between two results, both of which are computed.
    """
    return condition


@_any.def_vmap
def _(axis_size: int, in_batched: list, condition: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return _any(condition.any()), False
