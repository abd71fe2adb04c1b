"""The contracts of multi-task optimizers: what a method looks at, and what it returns.

Families, named as the literature does, by what a method looks at:

- `LossWeighting`: the task losses; one backward pass of the weighted loss.
- `GramianWeighting`: inner products ``gram[i, j] = <g_i, g_j>`` of the tasks'
  gradients.
- `CrossWeighting`: inner products between gradients of independent mini-batches.
- `Aggregator`: the gradients themselves, coordinate by coordinate or over time.
- `Perturbation`: gradients at other points than the parameters.
- `Cotangent`, `Rotation`, `Regularizer`: gradients with respect to the shared
  representation.
- `PreferenceSampler`: losses of one model at several preferences that it is told.

Directions are to be minimised along: ``params - learning_rate * direction``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from mtl_jax.gradients.gramian import Gram
from mtl_jax.options import one_of
from mtl_jax.smto.solvers.solution import Solution, unit_gramian
from mtl_jax.types import Array, InputError, PyTree, Scalar

REDUCTIONS = ("sum", "mean")


class LossWeighting(NamedTuple):
    """Weights of the tasks from their losses."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, PyTree, Array], tuple[Array, PyTree]]
    """``update(losses [T], state, key) -> (weights [T], state)``."""
    after_update: Callable[[Array, PyTree], PyTree] | None = None
    """``after_update(losses [T], state) -> state``: told the losses of the same batch
    after the parameters moved, by methods that want to know (one forward pass)."""


class GramianWeighting(NamedTuple):
    """Weights of the tasks from the Gramian of their gradients."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Gram, Array, PyTree, Array], tuple[Solution, PyTree]]
    """``update(gram [T, T], losses [T], state, key) -> (solution, state)``: weights
    ``[T]`` and the residual of what was solved for them, 0 for closed forms. A loss
    that is NaN marks a task that is absent: its row of the Gramian is 0."""


class CrossWeighting(NamedTuple):
    """Weights from gradients of independent mini-batches (double sampling)."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Gram, Array, PyTree, Array], tuple[Solution, PyTree]]
    """``update(cross [T, T], losses [T], state, key) -> (solution, state)`` with
    ``cross = J1 J2'`` of two independent batches."""
    combined: tuple[int, ...]
    """Numbers of the batches that the weights are applied to; the first two make
    ``cross``."""

    @property
    def parts(self) -> int:
        """Return the number of independent batches."""
        return max(1, *self.combined) + 1


class Aggregator(NamedTuple):
    """A direction from the tasks' gradients themselves."""

    init: Callable[[PyTree, int], PyTree]
    """``init(params [...], num_tasks) -> state``: trees like the parameters are made
    from theirs, which `optax.tree.map_params` knows by its own."""
    update: Callable[[PyTree, Array, PyTree, Array], tuple["Aggregate", PyTree]]
    """``update(grads [T, ...], losses [T], state, key) -> (aggregate, state)``, all in
    float32 at least, whatever the parameters are in."""


class Aggregate(NamedTuple):
    """The direction of an `Aggregator`, and how it was made."""

    direction: PyTree
    """``[...]``."""
    weights: Array
    """``[T]``: of the tasks' gradients, or ones where coordinates differ."""
    residual: Array
    """``[]``, as of a `Solution`."""


class Perturbation(NamedTuple):
    """A direction from gradients at points around the parameters."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[..., tuple["Perturbed", PyTree]]
    """``update(losses, grads, grads_at, losses_at, state, key) -> (perturbed, state)``:
    losses ``[T]`` and gradients ``[T, ...]`` (a `Params`) at the parameters, and
    functions from an offset for every task (a `Params` with leaves ``[T, ...]``) to the
    gradients, or the losses, that the tasks have there."""


class Perturbed(NamedTuple):
    """The direction of a `Perturbation`, and how it was made."""

    direction: PyTree
    """Trunk's part of it ``[...]``."""
    heads: PyTree
    """Heads' part of it ``[T, ...]``."""
    solution: Solution
    """Weights of the gradients, and their residual."""


class Cotangent(NamedTuple):
    """Gradients to pull back through the trunk, from those at its output."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, Array, PyTree, Array], tuple[Array, PyTree]]
    """``update(z, grads, state, key) -> (grads, state)``: the representation, one
    ``[1, B, D]`` or of own inputs ``[T, B, D]``, and the gradients of the losses with
    respect to it ``[T, B, D]``, to those that are pulled back and added up."""


class Rotation(NamedTuple):
    """Weights at the shared representation, and rotations of what the heads see."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, Array, PyTree, Array], tuple[Solution, Array, PyTree]]
    """``update(grads, generators, state, key) -> (solution, slopes, state)``: gradients
    of the losses with respect to the representation ``[T, N, D]`` and the rotations'
    generators ``[T, D, D]``, to weights and the generators' own gradients."""


class Regularizer(NamedTuple):
    """A penalty on the gradients at the shared representation, added to the losses."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    penalty: Callable[[Array], Scalar]
    """``penalty(grads [T, B, P, C])``: of the gradients of the losses with respect to
    the representations of examples, at positions (1 where it has none) and channels."""
    through_heads: bool
    """True where it trains the heads, by which those gradients depend on them."""


class PreferenceSampler(NamedTuple):
    """Preferences over tasks that one model is told, to be trained at all of them."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[int, PyTree, Array], tuple[Array, PyTree]]
    """``update(num_tasks, state, key) -> (rays [M, T], state)``: preferences of a step,
    each of sum 1. It minimises the mean over them of the tasks' losses, weighted by the
    preference, of the model that is told it."""
    share: Callable[[int], Array]
    """``share(num_tasks) -> shares [T]``: the preference at which it is looked at."""


Method = (
    LossWeighting
    | GramianWeighting
    | CrossWeighting
    | Aggregator
    | Perturbation
    | Cotangent
    | Rotation
    | Regularizer
    | PreferenceSampler
)


def stateless(*given: Any) -> tuple[()]:
    """Return the state of a method that has none."""
    del given
    return ()


def zero_rows(params: PyTree, num_tasks: int) -> PyTree:
    """Return zeros ``[T, ...]`` of parameters ``[...]``: no task's gradient yet."""
    return jax.tree.map(lambda p: jnp.zeros((num_tasks, *p.shape), p.dtype), params)


def exact(weights: Array) -> Solution:
    """Return a solution of weights in closed form: its residual is 0."""
    return Solution(weights, jnp.zeros((), weights.dtype))


def or_mean(solution: Solution, gram: Gram) -> Solution:
    """Return the solution; the mean over active tasks where there is none at all.

    What a solver reached is kept where its residual is above `TOLERANCE`, too, and the
    residual tells. That is where gradients cancel to rounding: what was reached leads
    to a direction close to 0, while the mean would slide along the Pareto front.
    """
    active = unit_gramian(gram).active
    mean = active / jnp.maximum(active.sum(), 1)
    weights, residual = solution
    reached = jnp.isfinite(weights).all() & jnp.isfinite(residual)
    weights = jnp.where(reached, weights, mean.astype(weights.dtype))
    return Solution(weights, jnp.where(reached, residual, jnp.inf))


def reduce(weights: Array, reduction: str) -> Array:
    """Scale weights made for a mean over tasks to the reduction asked for.

    In every method with this switch, ``mean`` gives the direction ``g`` for ``T``
    copies of one gradient ``g`` (times the method's documented length), and ``sum``
    gives ``T g``: what unitary scalarization does to them.
    """
    return weights * weights.shape[0] if reduction == "sum" else weights


def check_key(key: Array | None) -> None:
    """Raise an `InputError` where a method that draws at random got no key, or many."""
    if key is None:
        raise InputError("this method draws at random: pass update(..., key=KEY).")
    kind, ndim = getattr(key, "dtype", jnp.float32), getattr(key, "ndim", 0)
    is_key = jnp.issubdtype(kind, jax.dtypes.prng_key) and ndim == 0
    is_raw = kind == jnp.uint32 and ndim == 1
    if not is_key and not is_raw:
        raise InputError(
            f"key is {said(key)}; pass one key, such as jax.random.key(0) or a row of "
            f"jax.random.split(KEY)."
        )


def check_losses(losses: Array | None) -> None:
    """Raise an `InputError` where a method that looks at losses got none."""
    if losses is None:
        raise InputError("this method looks at losses: pass update(..., losses=).")


def check_reduction(reduction: str) -> None:
    """Raise an `InputError` for anything but ``sum`` and ``mean``."""
    check_choice("reduction", reduction, REDUCTIONS)


def check_range(
    name: str, value: Any, low: float, high: float, *, open_low: bool = False
) -> Any:
    """Return an option that is a number in ``[low, high]`` (or ``(low, high]``).

    A number of Python, NumPy or JAX becomes a float: it takes the type of what it
    meets. A traced one becomes a float32, and what it is nobody can check.

    Raises:
      InputError: naming the value and the limits; also for NaN, and for no number.
    """
    value = _plain(value)
    limit = "a finite number" if high == float("inf") else f"at most {high}"
    wanted = f"it must be {'more than' if open_low else 'at least'} {low} and {limit}"
    if isinstance(value, Tracer):
        if _kind(value) not in (float, int) or value.ndim:
            raise InputError(f"{name} is {said(value)}; {wanted}.")
        return value.astype(jnp.float32)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    above = is_number and (value > low if open_low else value >= low)
    if not (above and value <= high and value < float("inf")):
        raise InputError(f"{name} is {said(value)}; {wanted}.")
    return float(value)


def check_count(name: str, value: Any, low: int) -> Any:
    """Return an option that is a whole number of at least ``low``.

    As `check_range`: an int, or where it is traced an int32 that nobody can check.

    Raises:
      InputError: naming the value and the limit.
    """
    value = _plain(value)
    wanted = f"it must be a whole number, {low} or more"
    if isinstance(value, Tracer):
        if _kind(value) is not int or value.ndim:
            raise InputError(f"{name} is {said(value)}; {wanted}.")
        return value.astype(jnp.int32)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InputError(f"{name} is {said(value)}; {wanted}.")
    return value


def check_choice(name: str, value: Any, choices: tuple) -> Any:
    """Return an option that is one of the choices.

    Raises:
      InputError: it is none of them, or traced.
    """
    value = check_known(name, value)
    is_array = isinstance(value, np.ndarray | jax.Array)
    one_of(name, said(value) if is_array else value, choices)
    return choices[choices.index(value)]


def check_known(name: str, value: Any) -> Any:
    """Return an option that shapes of arrays or the program depend on.

    Raises:
      InputError: it is traced.
    """
    if isinstance(value, Tracer):
        raise InputError(
            f"{name} is traced ({said(value)}), but the program depends on it: pass a "
            f"value that is known, as one of static_argnames of jax.jit or static_args "
            f"of optax.inject_hyperparams."
        )
    return _plain(value)


def check_task(name: str, number: Any, num_tasks: int) -> None:
    """Raise an `InputError` for an option that is the number of no task of a run.

    A traced one is not checked.
    """
    if not isinstance(number, Tracer) and number >= num_tasks:
        raise InputError(
            f"{name} is task {number}, of {num_tasks} tasks; name one of 0 to "
            f"{num_tasks - 1}."
        )


def check_steps(steps_per_epoch: Any) -> Any:
    """Return the length of an epoch, for a method that counts them.

    Raises:
      InputError: there is none.
    """
    try:
        return check_count("steps_per_epoch", steps_per_epoch, 1)
    except InputError as error:
        raise InputError(
            f"steps_per_epoch is {steps_per_epoch!r}; this method looks at the mean "
            f"losses of epochs: say how many updates make one, 1 or more."
        ) from error


def as_vector(values: Any) -> Any:
    """Return numbers, one a task, as a float32 array; of NumPy unless they are traced.

    What is no numbers becomes a NaN.
    """
    if any(isinstance(v, Tracer) for v in jax.tree.leaves(values)):
        return jnp.asarray(values, jnp.float32)
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError):
        return np.array([np.nan], np.float32)


def said(value: Any) -> str:
    """Say what a value is, in a line: of arrays the dtype and the shape."""
    if isinstance(value, np.ndarray | jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    return " ".join(repr(value).split())


def _plain(value: Any) -> Any:
    """Return a number of Python for a known scalar of NumPy or JAX."""
    is_array = isinstance(value, np.generic | np.ndarray | jax.Array)
    if not is_array or isinstance(value, Tracer) or value.ndim:
        return value
    kind = _kind(value)
    return kind(value) if kind else value


def _kind(value: Any) -> Any:
    """Return the type of Python that is meant by an array's dtype; None for others."""
    kinds = {float: jnp.floating, int: jnp.integer, bool: jnp.bool_}
    fits = [kind for kind, t in kinds.items() if jnp.issubdtype(value.dtype, t)]
    return fits[0] if fits else None


def positive(losses: Array) -> Array:
    """Return losses ``[T]``, at least rounding of their mean: methods divide by them.

    A loss that is NaN, of a task that is absent, stays NaN.
    """
    info, largest = jnp.finfo(losses.dtype), jnp.nanmax(jnp.abs(losses))
    mean = jnp.nanmean(jnp.abs(losses) / jnp.where(largest > 0, largest, 1)) * largest
    floor = jnp.where(mean > 0, jnp.maximum(info.eps * mean, info.tiny), 1)
    return jnp.maximum(losses, floor)
