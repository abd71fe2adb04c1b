"""The contracts of multi-task optimizers: what a method looks at, and what it returns.

Families, named as the literature does, by what a method looks at:

- `LossWeighting`: the task losses; one backward pass of the weighted loss.
- `GramianWeighting`: inner products ``gram[i, j] = <g_i, g_j>`` of the tasks'
  gradients.
- `CrossWeighting`: inner products between gradients of independent mini-batches.
- `Aggregator`: the gradients themselves, coordinate by coordinate or over time.
- `Perturbation`: gradients at other points than the parameters.
- `Cotangent`, `Rotation`: gradients with respect to the shared representation.

Directions are to be minimised along: ``params - learning_rate * direction``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from mtl_jax.smto.solvers.solution import Solution, unit
from mtl_jax.types import Array, InputError, PyTree

REDUCTIONS = ("sum", "mean")


class LossWeighting(NamedTuple):
    """Weights of the tasks from their losses."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, PyTree, Array], tuple[Array, PyTree]]
    """``update(losses [T], state, key) -> (weights [T], state)``."""
    look_back: Callable[[Array, PyTree], PyTree] | None = None
    """``look_back(losses [T], state) -> state``: told the losses of the same batch
    after the parameters moved, by methods that want to know (one forward pass)."""


class GramianWeighting(NamedTuple):
    """Weights of the tasks from the Gramian of their gradients."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, Array, PyTree, Array], tuple[Solution, PyTree]]
    """``update(gram [T, T], losses [T], state, key) -> (solution, state)``: weights
    ``[T]`` and the residual of what was solved for them, 0 for closed forms. A loss
    that is NaN marks a task that is absent: its row of the Gramian is 0."""


class CrossWeighting(NamedTuple):
    """Weights from gradients of independent mini-batches (double sampling)."""

    init: Callable[[int], PyTree]
    """``init(num_tasks) -> state``."""
    update: Callable[[Array, Array, PyTree, Array], tuple[Solution, PyTree]]
    """``update(cross [T, T], losses [T], state, key) -> (solution, state)`` with
    ``cross = J1 J2'`` of two independent batches."""
    combined: tuple[int, ...]
    """Numbers of the batches that the weights are applied to; the first two make
    ``cross``."""

    @property
    def parts(self) -> int:
        """How many independent batches there are."""
        return max(1, *self.combined) + 1


class Aggregator(NamedTuple):
    """A direction from the tasks' gradients themselves."""

    init: Callable[[PyTree], PyTree]
    """``init(grads [T, ...]) -> state``; only shapes are looked at."""
    update: Callable[[PyTree, Array, PyTree, Array], tuple["Aggregate", PyTree]]
    """``update(grads [T, ...], losses [T], state, key) -> (aggregate, state)``."""


class Aggregate(NamedTuple):
    """What an `Aggregator` returns."""

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
    """What a `Perturbation` returns."""

    direction: PyTree
    """Of the trunk ``[...]``."""
    heads: PyTree
    """Of the heads ``[T, ...]``."""
    solution: Solution
    """Of the weights of the gradients."""


class Cotangent(NamedTuple):
    """What to pull back through the trunk, from gradients at its output."""

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


Method = (
    LossWeighting
    | GramianWeighting
    | CrossWeighting
    | Aggregator
    | Perturbation
    | Cotangent
    | Rotation
)


def stateless(num_tasks: Any) -> tuple[()]:
    """Initial state of a method that has none."""
    del num_tasks
    return ()


def exact(weights: Array) -> Solution:
    """Weights that are given in closed form."""
    return Solution(weights, jnp.zeros((), weights.dtype))


def or_mean(solution: Solution, gram: Array) -> Solution:
    """The solution; the mean over active tasks where there is none at all.

    What a solver reached is kept where its residual is above `TOLERANCE`, too, and the
    residual tells. That is where gradients cancel to rounding: what was reached leads
    to a direction close to 0, while the mean would slide along the Pareto front.
    """
    active = unit(gram).active
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
    """Raise an `InputError` where a method that draws at random got no key."""
    if key is None:
        raise InputError("this method draws at random: pass update(..., key=KEY).")


def check_losses(losses: Array | None) -> None:
    """Raise an `InputError` where a method that looks at losses got none."""
    if losses is None:
        raise InputError("this method looks at losses: pass update(..., losses=).")


def check_reduction(reduction: str) -> None:
    """Raise an `InputError` for anything but ``sum`` and ``mean``."""
    if reduction not in REDUCTIONS:
        raise InputError(
            f"reduction {reduction!r} is not one of: {', '.join(REDUCTIONS)}."
        )


def check_range(
    name: str, value: Any, low: float, high: float, *, open_low: bool = False
) -> None:
    """Raise an `InputError` for a number outside ``[low, high]`` (or ``(low, high]``).

    Raises:
      InputError: naming the value and the limits; also for NaN.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    above = is_number and (value > low if open_low else value >= low)
    if not (above and value <= high and value < float("inf")):
        limit = "a finite number" if high == float("inf") else f"at most {high}"
        more = "more than" if open_low else "at least"
        raise InputError(f"{name} is {value!r}; it must be {more} {low} and {limit}.")


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Raise an `InputError` for a value that is not one of the choices."""
    if value not in choices:
        known = ", ".join(map(str, choices))
        raise InputError(f"{name} {value!r} is not one of: {known}.")


def check_steps(steps_per_epoch: int) -> None:
    """Raise an `InputError` where a method that counts epochs has no length of one."""
    is_whole = isinstance(steps_per_epoch, int) and not isinstance(
        steps_per_epoch, bool
    )
    if not is_whole or steps_per_epoch < 1:
        raise InputError(
            f"steps_per_epoch is {steps_per_epoch!r}; this method looks at the mean "
            f"losses of epochs: say how many updates make one, 1 or more."
        )


def positive(losses: Array) -> Array:
    """Losses ``[T]``, floored at rounding of their mean: methods divide by them.

    A loss that is NaN, of a task that is absent, stays NaN.
    """
    floor = jnp.finfo(losses.dtype).eps * jnp.nanmean(jnp.abs(losses))
    return jnp.maximum(losses, jnp.where(floor > 0, floor, 1))
