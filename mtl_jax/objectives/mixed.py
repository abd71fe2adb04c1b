"""Objectives at the outputs of a head, of tasks alike and of several kinds.

Heads of one model have one shape, however unlike their tasks: as many outputs as the
widest needs. A task's objective looks at its own; the others move nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.objectives.losses import Objective
from mtl_jax.objectives.scores import Score
from mtl_jax.types import Array, InputError, PyTree


class MixedTargets(NamedTuple):
    """Targets of one of several kinds of tasks."""

    kind: Array
    """Number of the kind, the same for all examples ``[B]``."""
    value: Array
    """``[B, ...]``, of one type for all kinds."""


def of_head(objective: Objective, width: int) -> Objective:
    """Wrap an objective to look at ``width`` of a head's outputs ``[B, ..., W]``.

    >>> from mtl_jax.objectives.losses import BERNOULLI
    >>> of_head(BERNOULLI, 1).example_loss(jnp.zeros((2, 1)), jnp.array([0, 1]))
    Array([0.6931472, 0.6931472], dtype=float32)
    """

    def narrow(outputs: Array) -> Array:
        return outputs[..., 0] if objective.is_scalar else outputs[..., :width]

    def narrowed(function: Callable) -> Callable:
        return lambda outputs, *rest: function(narrow(outputs), *rest)

    chances, observed = objective.probabilities, objective.observations
    outputs_like, known = jax.ShapeDtypeStruct((width,), jnp.float32), objective.targets
    return Objective(
        example_loss=narrowed(objective.example_loss),
        sample_targets=lambda key, outputs, targets=None: objective.sample_targets(
            key, narrow(outputs), targets
        ),
        scores={
            name: score._replace(statistics=narrowed(score.statistics))
            for name, score in objective.scores.items()
        },
        probabilities=chances and narrowed(chances),
        observations=observed and narrowed(observed),
        labelled=objective.labelled,
        targets=known
        and known._replace(knows=lambda _, labels: known.knows(outputs_like, labels)),
    )


def of_kinds(objectives: Sequence[Objective]) -> Objective:
    """Combine objectives of several kinds: targets (`MixedTargets`) say which it is.

    All look at outputs of one shape, as `of_head` makes them. Scores of one name make
    the same of their statistics, of which a kind without the score has zeros, and one
    with fewer classes than another zeros for what it lacks.
    """

    def choose(functions: Sequence[Callable], targets: MixedTargets, *args: Any) -> Any:
        return jax.lax.switch(targets.kind[0], functions, *args, targets.value)

    def score(name: str) -> Score:
        of = [objective.scores.get(name) for objective in objectives]
        known = [score for score in of if score]
        measures = dict.fromkeys(score.measure for score in known)
        if len(measures) > 1:
            raise InputError(
                f"score {name!r} is declared as {' and as '.join(map(str, measures))} "
                f"by tasks of one setting; give one of them another name."
            )

        def statistics(outputs: Array, targets: MixedTargets) -> PyTree:
            shapes = [
                jax.eval_shape(score.statistics, outputs, targets.value)
                for score in known
            ]
            widest = jax.tree.map(_widest, *shapes)

            def part(score: Score | None) -> Callable:
                def of_kind(outputs: Array, value: Array) -> PyTree:
                    if score is None:
                        return jax.tree.map(
                            lambda to: jnp.zeros(to.shape, to.dtype), widest
                        )
                    return jax.tree.map(
                        _filled, score.statistics(outputs, value), widest
                    )

                return of_kind

            return choose([part(score) for score in of], targets, outputs)

        return known[0]._replace(statistics=statistics)

    def sample(key: Array, outputs: Array, targets: MixedTargets) -> MixedTargets:
        def of_kind(objective: Objective) -> Callable:
            def drawn(key: Array, outputs: Array, value: Array) -> Array:
                targets = objective.sample_targets(key, outputs, value)
                return targets.astype(value.dtype)

            return drawn

        parts = [of_kind(objective) for objective in objectives]
        return targets._replace(value=choose(parts, targets, key, outputs))

    def single(outputs: Array, value: Array) -> Array:
        del value
        return jnp.ones(outputs.shape[0])

    losses = [objective.example_loss for objective in objectives]
    observed = [objective.observations or single for objective in objectives]
    names = dict.fromkeys(name for objective in objectives for name in objective.scores)

    def all_there(value: Array) -> Array:
        return jnp.ones(value.shape[0], bool)

    there = [objective.labelled or all_there for objective in objectives]
    skips = any(objective.labelled for objective in objectives)
    return Objective(
        example_loss=lambda outputs, targets: choose(losses, targets, outputs),
        sample_targets=sample,
        scores={name: score(name) for name in names},
        observations=lambda outputs, targets: choose(observed, targets, outputs),
        labelled=(lambda targets: choose(there, targets)) if skips else None,
    )


def _widest(*shapes: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    widths = zip(*(shape.shape for shape in shapes), strict=True)
    return shapes[0].update(shape=tuple(map(max, widths)))


def _filled(leaf: Array, to: jax.ShapeDtypeStruct) -> Array:
    """The leaf with zeros behind it, in the shape of another."""
    missing = [(0, b - a) for a, b in zip(leaf.shape, to.shape, strict=True)]
    return jnp.pad(leaf, missing)
