"""From a method to an optax transformation of per-task gradients.

`lift` takes gradients ``[T, ...]`` to one direction ``[...]`` that chains with any
optax optimizer. What the method did at its latest update lies in its state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax import tree
from mtl_jax.gradients.gramian import Gram, compared, cross, gramian
from mtl_jax.smto.arguments import (
    as_losses,
    check_grads,
    check_method,
    check_num_tasks,
    check_params,
    check_place,
    check_samples,
)
from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    CrossWeighting,
    GramianWeighting,
    LossWeighting,
    check_choice,
    check_key,
    check_losses,
)
from mtl_jax.smto.solvers.solution import Solution
from mtl_jax.tree import row_lengths
from mtl_jax.types import Array, PyTree

NONFINITE = ("skip", "drop")
Smto = optax.GradientTransformationExtraArgs
"""``init(params) -> state`` and ``update(grads [T, ...], state, params=None, *,
losses=None, key=None) -> (direction [...], state)``; the state is an `SmtoState`."""

Liftable = LossWeighting | GramianWeighting | CrossWeighting | Aggregator


class SmtoState(NamedTuple):
    """State of a multi-task optimizer, and what it did at its latest update."""

    weights: Array
    """Weights of the tasks' gradients ``[T]``; ones before the first update."""
    residual: Array
    """Relative residual of the solver ``[]``; above `TOLERANCE` what it sought was not
    found, mostly because gradients cancel; infinite where the weights are those of the
    mean; 0 for closed forms."""
    norm: Array
    """Length of the direction ``[]``; NaN before the first update."""
    cosines: Array
    """Cosine of the direction with every task's gradient ``[T]``; NaN before the first
    update, where one of the two is zero, and where the tasks' gradients are not
    made."""
    skipped: Array
    """Updates skipped because a gradient was not finite, int32 ``[]``."""
    method: PyTree
    """The method's own state."""


def initial(num_tasks: int, method: PyTree, params: PyTree) -> SmtoState:
    """Make the state before the first update.

    Numbers are in float32, or float64 where a parameter is, whatever precision
    the parameters have and whether or not JAX defaults to float64.
    """
    dtype = tree.working_dtype(params)
    return SmtoState(
        weights=jnp.ones(num_tasks, dtype),
        residual=jnp.zeros((), dtype),
        norm=jnp.full((), jnp.nan, dtype),
        cosines=jnp.full(num_tasks, jnp.nan, dtype),
        skipped=jnp.zeros((), jnp.int32),
        method=tree.astype(dtype, method),
    )


def settle(
    usable: Array, direction: PyTree, after: SmtoState, before: SmtoState
) -> tuple[PyTree, SmtoState]:
    """Choose an update, or where it is not usable none: direction 0, one more skipped.

    No update is usable whose direction is not finite, as its length then is not, or
    what it remembers. The state keeps its dtypes.
    """
    usable = usable & tree.all_finite((after.norm, after.method))
    idle = before._replace(
        weights=jnp.zeros_like(before.weights), skipped=before.skipped + 1
    )
    nothing = jax.tree.map(jnp.zeros_like, direction)
    after = tree.cast_like(after, before)
    return tree.where(usable, direction, nothing), tree.where(usable, after, idle)


def lift(method: Liftable, num_tasks: int, nonfinite: str = "skip") -> Smto:
    """Make a method an optax transformation of per-task gradients.

    Args:
      method: a weighting or an aggregator. A `CrossWeighting` takes the gradients of
        independent batches as ``samples=(J1, J2)``; without them all are those of one
        batch.
      num_tasks: number of tasks ``T``, the leading axis of the gradients. Losses are
        one number a task, as an array or a list.
      nonfinite: what to do where a task's gradient is not finite. ``skip``: the
        direction is 0, the state is kept, and ``skipped`` counts. ``drop``: the task
        sits out this update with weight 0.

    Raises:
      InputError: a method that looks at more than the gradients, an unknown
        ``nonfinite``; at init or update, inside of a wrapper of optax that belongs
        behind (``partition``, ``MultiSteps``: see docs/optax.md), or for a tree without
        leaves; at update, if gradients, losses or samples have another number of tasks,
        or if losses or a key are needed and missing.

    >>> import jax.numpy as jnp, numpy as np, optax
    >>> from mtl_jax import smto
    >>> optimizer = optax.chain(smto.lift(smto.make("mgda"), 2), optax.sgd(1.0))
    >>> params = {"w": jnp.zeros(2)}
    >>> grads = {"w": jnp.array([[1.0, 0.0], [-1.0, 1.0]])}  # [T, ...]
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
    >>> print(np.asarray(updates["w"]).round(4))  # twice (.2, .4): reduction "sum"
    [-0.4 -0.8]
    """
    check_method(method)
    num_tasks = check_num_tasks(num_tasks)
    check_choice("nonfinite", nonfinite, NONFINITE)
    drop = nonfinite == "drop"

    def init(params: PyTree) -> SmtoState:
        check_place()
        check_params(params)
        if isinstance(method, Aggregator):
            return initial(num_tasks, method.init(params, num_tasks), params)
        return initial(num_tasks, method.init(num_tasks), params)

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        losses: Any = None,
        key: Any = None,
        samples: Any = None,
        **extra_args: Any,
    ) -> tuple[Any, Any]:
        del params, extra_args
        check_place()
        check_grads(updates, num_tasks)
        check_samples(samples, num_tasks)
        dtype = state.weights.dtype
        losses = as_losses(losses, num_tasks, dtype)
        if key is not None:
            check_key(key)
        by_gram = not isinstance(method, Aggregator)
        gram = gramian(updates) if by_gram else None
        sound = jnp.isfinite(gram.lengths if gram else row_lengths(updates))
        for batch in samples or ():
            sound = sound & jnp.isfinite(row_lengths(batch))
        if drop:
            check_losses(losses)
        if losses is not None:
            sound = sound & jnp.isfinite(losses)
        grads = updates
        if drop:
            losses = jnp.where(sound, losses, jnp.nan)  # type: ignore[arg-type]
            grads = tree.keep_rows(sound, grads)
            gram = gram.among(sound) if gram else None
            samples = samples and tuple(tree.keep_rows(sound, s) for s in samples)
        aggregate, inner_state = _update(
            method, grads, gram, samples, losses, state.method, key, dtype
        )
        weights = aggregate.weights
        if drop and by_gram:  # an aggregator may go on with what it remembers
            weights = jnp.where(sound, weights, 0)
        direction = jax.tree.map(
            lambda leaf, rows: leaf.astype(rows.dtype), aggregate.direction, updates
        )
        # Of what is returned: by the Gramian, what cancels would be that of rounding.
        norm, cosines = compared(grads, direction)
        after = SmtoState(
            weights=weights,
            residual=aggregate.residual,
            norm=norm,
            cosines=cosines,
            skipped=state.skipped,
            method=inner_state,
        )
        usable = sound.any() if drop else sound.all()
        return settle(usable, direction, after, state)

    return Smto(init, update)


def _update(
    method: Liftable,
    grads: PyTree,
    gram: Gram | None,
    samples: tuple[PyTree, PyTree] | None,
    losses: Array | None,
    state: PyTree,
    key: Array | None,
    dtype: Any,
) -> tuple[Aggregate, PyTree]:
    """Update any method that can be lifted, once, in ``dtype``."""
    update: Any = method.update
    if isinstance(method, Aggregator):
        with jax.default_matmul_precision("highest"):
            return update(tree.astype(dtype, grads), losses, state, key)
    if isinstance(method, LossWeighting):
        check_losses(losses)
        weights, state = weigh(method, losses, state, key)  # type: ignore[arg-type]
        residual = jnp.zeros((), dtype)
    else:
        products: Any = gram if samples is None else cross(*samples)
        (weights, residual), state = weigh_gram(method, products, losses, state, key)
    return Aggregate(tree.combine(weights, grads), weights, residual), state


def weigh_gram(
    weighting: GramianWeighting | CrossWeighting,
    gram: Gram,
    losses: Array | None,
    state: PyTree,
    key: Array | None,
) -> tuple[Solution, PyTree]:
    """Weigh tasks by a Gramian; small as it is, nothing of it is rounded to TF32."""
    update: Any = weighting.update
    with jax.default_matmul_precision("highest"):
        return update(gram, losses, state, key)


def weigh(
    weighting: LossWeighting, losses: Array, state: PyTree, key: Array | None
) -> tuple[Array, PyTree]:
    """Weigh tasks by losses; one that is NaN gets weight 0, and the state stays."""
    update: Any = weighting.update
    present = jnp.isfinite(losses)
    weights, after = update(jnp.where(present, losses, 1), state, key)
    return jnp.where(present, weights, 0), tree.where(present.all(), after, state)
