"""Ways to merge what was trained apart, of a seed, as `merge` applies them.

Each takes a `Problem`, the single-task runs of one seed, and is traced once for all
seeds. The methods themselves are `mtl_jax.merging`'s; what is here binds them to a
setting and its data.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax import merging
from mtl_jax.merging import Corners, Learned
from mtl_jax.metrics import fisher_diagonal
from mtl_jax.objectives.losses import Objective
from mtl_jax.studies.statistics import has_statistics
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import Data, inputs
from mtl_jax.types import Array, Batch, ModelState, Params, PyTree

FISHER_EXAMPLES = 256
"""Inputs of a task that its diagonal is estimated on."""
FISHER_FLOOR = 1e-12
"""Least entry of a diagonal: those of models that fit well are small."""


class Rows(NamedTuple):
    """Rows of the pool that merging looks at, the same for all seeds and methods."""

    unlabelled: Array
    """Rows whose inputs alone are seen ``[S, T, B]``, or ``[S, B]`` of one input."""
    labelled: Array
    """Rows whose labels are seen, too; of that shape."""
    fisher: Array
    """Training examples ``[T, N]``."""
    visits: Array
    """Tasks in the order in which they are visited ``[S T]``."""
    statistics: Array
    """Training examples that batch statistics are made of ``[T, N, B]``."""


class Problem(NamedTuple):
    """Single-task runs of one seed that are to be merged."""

    start: PyTree
    """Trunk that all tasks started from."""
    solutions: Params
    """Trunks and heads that they came to, leaves ``[T, ...]``."""
    states: ModelState
    """Their states, leaves ``[T, ...]``."""
    data: Data
    rows: Rows
    key: Array

    @property
    def vectors(self) -> PyTree:
        """Return the task vectors ``[T, ...]``."""
        return merging.task_vectors(self.start, self.solutions.shared)

    def corners(self, vectors: PyTree) -> Corners:
        """Return start, task vectors and heads, for methods that learn."""
        return Corners(self.start, vectors, self.solutions.heads)


class Merged(NamedTuple):
    """A merged model, and how much of every task is in it."""

    params: Params
    """Trunk ``[...]``, heads ``[T, ...]``."""
    coefficients: Array
    """Coefficients of the task vectors ``[T]``, means over tensors; or NaN."""


class Merger(NamedTuple):
    """A way to merge."""

    merge: Callable[[Setting, Problem, Array], Merged]
    """``(setting, problem, scale) -> merged``."""
    is_scaled: bool = False
    """True where the scale matters, and is to be chosen by validation."""
    needs_classes: bool = False
    """True where it goes by what outputs say of classes."""


def average(setting: Setting, problem: Problem, scale: Array) -> Merged:
    """Average the solutions."""
    del setting, scale
    trunk = merging.average(problem.solutions.shared)
    count = len(jax.tree.leaves(problem.solutions)[0])
    return Merged(Params(trunk, problem.solutions.heads), jnp.full(count, 1 / count))


def fisher(setting: Setting, problem: Problem, scale: Array) -> Merged:
    """Average the solutions by the diagonals of their Fisher information."""
    del scale
    solutions, number = problem.solutions, jnp.arange(len(setting.tasks))
    objectives = _objectives(setting)

    def diagonal(objective: Objective, task: Array) -> PyTree:
        model: Any = jax.tree.map(lambda leaf: leaf[task], solutions)
        state = jax.tree.map(lambda leaf: leaf[task], problem.states)
        rows = problem.rows.fisher[task]

        def predict(trunk: PyTree, rows: Array) -> Array:
            x = inputs(setting, problem.data, rows)
            return setting.predict(Params(trunk, model.heads), state, x)

        key = jax.random.fold_in(problem.key, task)
        return fisher_diagonal(predict, objective, model.shared, rows, key=key)

    # Tasks of a kind are mapped together, one after another.
    parts, places = [], []
    for kind in {id(each): each for each in objectives}.values():
        chosen = [place for place, each in enumerate(objectives) if each is kind]
        parts.append(jax.lax.map(partial(diagonal, kind), number[jnp.array(chosen)]))
        places += chosen
    order = jnp.argsort(jnp.array(places))
    diagonals = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[order], *parts)
    trunk = merging.fisher_average(solutions.shared, diagonals, floor=FISHER_FLOOR)
    unknown = jnp.full(len(objectives), jnp.nan)
    return Merged(Params(trunk, solutions.heads), unknown)


def arithmetic(setting: Setting, problem: Problem, scale: Array) -> Merged:
    """Add up the task vectors, all with one scale."""
    trunk = merging.arithmetic(problem.start, problem.vectors, scale)
    return _scaled(setting, problem, trunk, scale)


def ties(setting: Setting, problem: Problem, scale: Array) -> Merged:
    """Add up trimmed task vectors where their signs agree."""
    trunk = merging.ties(problem.start, problem.vectors, scale=scale)
    return _scaled(setting, problem, trunk, scale)


def _scaled(setting: Setting, problem: Problem, trunk: PyTree, scale: Array) -> Merged:
    params = Params(trunk, problem.solutions.heads)
    return Merged(params, jnp.broadcast_to(scale, len(setting.tasks)))


def adamerging(
    layer_wise: bool, consistent: bool, setting: Setting, problem: Problem, scale: Array
) -> Merged:
    """Learn coefficients by the entropy of outputs; ++ of vectors of agreeing signs."""
    del scale
    vectors = problem.vectors
    learned = merging.adamerging(
        problem.corners(merging.consistent(vectors) if consistent else vectors),
        _predict(setting, problem),
        _objectives(setting),
        problem.rows.unlabelled,
        layer_wise=layer_wise,
        axes=setting.batch_axes.x,
    )
    return _learned(learned)


def atlas(setting: Setting, problem: Problem, scale: Array) -> Merged:
    """Learn coefficients by the losses of labels."""
    del scale
    rows = problem.rows.labelled
    y = problem.data.y[rows]
    if setting.batch_axes.x is None:
        y = jnp.moveaxis(y, 2, 1)  # [S, B, T] to [S, T, B]
    learned = merging.atlas(
        problem.corners(problem.vectors),
        _predict(setting, problem),
        _objectives(setting),
        Batch(rows, y),
        axes=setting.batch_axes,
    )
    return _learned(learned)


def tint(confident: bool, setting: Setting, problem: Problem, scale: Array) -> Merged:
    """Learn coefficients and heads by the classes of the single-task models."""
    del scale
    predict, solutions = _predict(setting, problem), problem.solutions

    def teacher(task: Array, rows: Array) -> Array:
        model: Any = jax.tree.map(lambda leaf: leaf[task], solutions)
        state = jax.tree.map(lambda leaf: leaf[task], problem.states)
        return setting.predict(model, state, inputs(setting, problem.data, rows))

    visits, rows = problem.rows.visits, problem.rows.unlabelled
    rounds = jnp.arange(len(visits)) // len(setting.tasks)
    seen = rows[rounds] if setting.batch_axes.x is None else rows[rounds, visits]
    learned = merging.tint(
        problem.corners(problem.vectors),
        predict,
        _objectives(setting),
        (visits, seen),
        teacher,
        confident=confident,
    )
    return _learned(learned)


def _learned(learned: Learned) -> Merged:
    leaves = jax.tree.leaves(learned.coefficients)
    return Merged(learned.params, jnp.stack(leaves).mean(axis=0))


def _predict(setting: Setting, problem: Problem) -> Callable[..., Array]:
    """Return the forward pass of a task; statistics are those of the batch."""
    train = has_statistics(problem.states.trunk)

    def predict(params: Params, task: Array, rows: Array) -> Array:
        state = jax.tree.map(lambda leaf: leaf[task], problem.states)
        x = inputs(setting, problem.data, rows)
        return setting.predict(params, state, x, train=train)

    return predict


def _objectives(setting: Setting) -> tuple[Objective, ...]:
    return merging.of_heads(setting.data.objectives, setting.data.widths)


MERGERS: dict[str, Merger] = {
    "average": Merger(average),
    "fisher": Merger(fisher),
    "arithmetic": Merger(arithmetic, is_scaled=True),
    "ties": Merger(ties, is_scaled=True),
    "adamerging": Merger(partial(adamerging, True, False), needs_classes=True),
    "adamerging++": Merger(partial(adamerging, True, True), needs_classes=True),
    "adamerging_task": Merger(partial(adamerging, False, False), needs_classes=True),
    "adamerging_task++": Merger(partial(adamerging, False, True), needs_classes=True),
    "atlas": Merger(atlas),
    "tint": Merger(partial(tint, False), needs_classes=True),
    "tint++": Merger(partial(tint, True), needs_classes=True),
}
"""Ways to merge by name."""
