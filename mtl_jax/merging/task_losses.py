"""Losses that merging learns by: with labels, with those of the teachers, without any.

Each is made of a forward pass, ``predict(params of a task, its number, x)``, and is a
loss of one task; the number is there for what else a task has, such as batch
statistics. `of_all` sums it over tasks, `of_each` takes one task a step.

>>> import jax, jax.numpy as jnp
>>> from mtl_jax.objectives.losses import BERNOULLI, SOFTMAX
>>> float(entropy(SOFTMAX, jnp.zeros((2, 4)))) == float(jnp.log(4.0))
True
>>> float(entropy(BERNOULLI, jnp.array([50.0, -50.0]))) < 1e-6
True
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from mtl_jax.merging.learning import Loss
from mtl_jax.objectives.losses import Objective, named
from mtl_jax.objectives.missing import mean_loss
from mtl_jax.objectives.mixed import of_head
from mtl_jax.types import TASK_AXES, Array, Batch, InputError, Params, PyTree, Scalar

Predict = Callable[[Params, Array, PyTree], Array]
"""``(params of a task, its number [], x [B, ...])`` to outputs ``[B, ...]``."""
Teacher = Callable[[Array, PyTree], Array]
"""``(number of a task [], x [B, ...])`` to outputs ``[B, ...]`` of its own model."""
TaskLoss = Callable[[Params, Array, PyTree], Scalar]
"""``(params of a task, its number [], its batch)`` to its mean loss, nats."""


def of_heads(
    objectives: Sequence[str | Objective], widths: Sequence[int]
) -> tuple[Objective, ...]:
    """Return the objective of every task at the outputs of a head, of each kind one.

    As a data set has them: the head is as wide as the widest task needs.

    >>> a, b, c = of_heads(("softmax", "bernoulli", "softmax"), (3, 1, 3))
    >>> loss = b.example_loss(jnp.zeros((1, 3)), jnp.ones(1))
    >>> a is c, round(float(loss[0]), 4)
    (True, 0.6931)

    Args:
      objectives: of every task, or their names.
      widths: how many outputs each looks at.

    Raises:
      InputError: an unknown name.
    """
    kinds = list(zip(objectives, widths, strict=True))
    first = [kinds.index(kind) for kind in kinds]
    made = {i: of_head(named(kinds[i][0]), kinds[i][1]) for i in first}
    return tuple(made[i] for i in first)


def of_all(loss: TaskLoss, num_tasks: int, axes: PyTree = 0) -> Loss:
    """Sum a task's loss over all tasks; the batch of a step is that of all.

    Args:
      loss: of one task.
      num_tasks: ``T``.
      axes: of the batch over tasks, as those of ``vmap``: 0 for leaves ``[T, ...]``,
        None where all see one input, `OWN_INPUTS` or `ONE_INPUT` with labels.
    """

    def total(params: Params, batch: PyTree) -> Scalar:
        mapped = jax.vmap(loss, (TASK_AXES, 0, axes))
        return mapped(params, jnp.arange(num_tasks), batch).sum()

    return total


def of_each(loss: TaskLoss) -> Loss:
    """Take one task's loss a step; the batch is ``(number of the task, its batch)``."""

    def visited(params: Params, batch: tuple[Array, PyTree]) -> Scalar:
        task, examples = batch
        head = jax.tree.map(lambda leaf: leaf[task], params.heads)
        return loss(Params(params.shared, head), task, examples)

    return visited


def supervised(predict: Predict, objectives: Sequence[Objective]) -> TaskLoss:
    """Make the loss of labels, any objective's: a batch is `Batch` ``(x, y)``."""

    def loss(params: Params, task: Array, batch: Batch) -> Scalar:
        outputs = predict(params, task, batch.x)
        return _switch(mean_loss, objectives, task, outputs, batch.y)

    return loss


def unsupervised(predict: Predict, objectives: Sequence[Objective]) -> TaskLoss:
    """Make the loss of inputs alone, the `entropy` of outputs: a batch is ``x``.

    Raises:
      InputError: a task whose outputs have no entropy, of regression or of pixels.
    """
    check_classes(objectives, "outputs have no entropy")

    def loss(params: Params, task: Array, x: PyTree) -> Scalar:
        return _switch(entropy, objectives, task, predict(params, task, x))

    return loss


def taught(
    predict: Predict,
    objectives: Sequence[Objective],
    teacher: Teacher,
    *,
    confident: bool = False,
) -> TaskLoss:
    """Make the loss of teachers' labels, `pseudo_label_loss`: a batch is ``x``.

    Raises:
      InputError: a task whose outputs say no class, of regression or of pixels.
    """
    check_classes(objectives, "outputs say no class")

    def of_outputs(objective: Objective, outputs: Array, taught: Array) -> Scalar:
        return pseudo_label_loss(objective, outputs, taught, confident=confident)

    def loss(params: Params, task: Array, x: PyTree) -> Scalar:
        outputs = predict(params, task, x), lax.stop_gradient(teacher(task, x))
        return _switch(of_outputs, objectives, task, *outputs)

    return loss


def entropy(objective: Objective, outputs: Array) -> Scalar:
    """Return the mean entropy of what outputs ``[B, ...]`` say of classes, nats.

    Of a binary task it is that of both of its outcomes.
    """
    assert objective.probabilities is not None
    chances = objective.probabilities(outputs)
    # Of a probability that is 0 the logarithm has no gradient.
    chances = jnp.maximum(chances, jnp.finfo(chances.dtype).tiny)
    return -(chances * jnp.log(chances)).sum(axis=-1).mean()


def pseudo_label_loss(
    objective: Objective, outputs: Array, taught: Array, *, confident: bool = False
) -> Scalar:
    """Return the mean loss against the classes that a teacher finds likeliest, nats.

    >>> from mtl_jax.objectives.losses import SOFTMAX
    >>> outputs, taught = jnp.array([[0.0, 9.0], [0.0, 0.0]]), jnp.array([[1.0, 0]] * 2)
    >>> round(float(pseudo_label_loss(SOFTMAX, outputs, taught)), 3)
    4.847
    >>> loss = pseudo_label_loss(SOFTMAX, outputs, taught, confident=True)
    >>> round(float(loss), 3)  # of the second alone
    0.693

    Args:
      objective: of the task.
      outputs: of the merged model ``[B, ...]``.
      taught: outputs of the teacher, of the same shape.
      confident: leave examples out on which both disagree and the merged model is surer
        than its teacher; where none is left the loss is 0.
    """
    chances = objective.probabilities
    assert chances is not None
    theirs, ours = chances(taught), lax.stop_gradient(chances(outputs))
    labels = theirs.argmax(axis=-1)
    losses = objective.example_loss(outputs, labels)
    if not confident:
        return losses.mean()
    agreed = labels == ours.argmax(axis=-1)
    kept = agreed | (theirs.max(axis=-1) >= ours.max(axis=-1))
    count = jnp.maximum(kept.sum(), 1).astype(losses.dtype)
    return jnp.where(kept, losses, 0).sum() / count


def check_classes(objectives: Sequence[Objective], problem: str) -> None:
    """Raise an `InputError` for the first task that is not one of classes."""
    for task, objective in enumerate(objectives):
        if objective.probabilities is None:
            raise InputError(
                f"task {task} is of regression or of pixels, so its {problem}: leave "
                f"it out, or learn by labels (atlas)."
            )


def _switch(
    function: Callable[..., Scalar],
    objectives: Sequence[Objective],
    task: Array,
    *outputs: Array,
) -> Scalar:
    """Apply a function of an objective by the number of the task, once a kind."""
    kinds: list[Objective] = []
    for objective in objectives:
        if objective not in kinds:
            kinds.append(objective)
    numbers = jnp.array([kinds.index(objective) for objective in objectives])
    branches = [
        lambda *outputs, kind=kind: function(kind, *outputs).astype(jnp.float32)
        for kind in kinds
    ]
    return lax.switch(numbers[task], branches, *outputs)
