"""Floating-point operations of the products in a traced program.

Of matrix products and convolutions, a multiplication and an addition each; all else is
small beside them. They are the arithmetic that was asked for, whatever a compiler makes
of it.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from jax.extend import core


def count(jaxpr: Any, choose: Callable[..., int] = max) -> int:
    """Count the operations of a device, once through the program.

    >>> import jax, jax.numpy as jnp
    >>> def f(x):
    ...     return jax.lax.fori_loop(0, 3, lambda _, y: x @ y, x)
    >>> count(jax.make_jaxpr(f)(jnp.ones((4, 4))))
    384

    Args:
      jaxpr: of ``jax.make_jaxpr`` or of what ``jit(f).trace`` returns. Within
        ``shard_map`` its shapes are a device's. A loop of unknown length counts as one
        round.
      choose: ``max`` counts the costliest branch of every choice, ``min`` the
        cheapest.
    """
    if isinstance(jaxpr, core.ClosedJaxpr):
        jaxpr = jaxpr.jaxpr
    return sum(_of_equation(equation, choose) for equation in jaxpr.eqns)


def _of_equation(equation: Any, choose: Callable[..., int]) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        ((contracted, _), _) = parameters["dimension_numbers"]
        sides = equation.invars[0].aval.shape
        terms = math.prod(sides[axis] for axis in contracted)
        return 2 * terms * equation.outvars[0].aval.size
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
        zeros = math.prod(parameters["lhs_dilation"])  # between inputs, so many to one
        return 2 * equation.outvars[0].aval.size * (kernel.size // outputs) // zeros
    parts = [count(part, choose) for part in _jaxprs(parameters)]
    if name == "scan":
        return parameters["length"] * sum(parts)
    return choose(parts, default=0) if name == "cond" else sum(parts)


def _jaxprs(parameters: dict[str, Any]) -> Iterator[Any]:
    """Programs within an equation; not those that only say how it is derived."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, core.Jaxpr | core.ClosedJaxpr):
                yield each
