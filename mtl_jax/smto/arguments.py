"""Check what `lift` is given before anything is traced: one message each."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.smto.contract import (
    Cotangent,
    Method,
    Perturbation,
    PreferenceSampler,
    Regularizer,
    Rotation,
    check_count,
    check_known,
    said,
)
from mtl_jax.types import InputError, PyTree

WAYS: dict[type, str] = {
    Perturbation: "by_perturbation",
    Cotangent: "by_cotangent",
    Rotation: "by_rotation",
    Regularizer: "by_regularizer",
    PreferenceSampler: "by_preferences",
}
"""Families that look at more than the tasks' gradients, and the way in `directions`
that makes it."""

AROUND = (
    *("apply_if_finite", "conditionally_mask", "conditionally_transform", "flatten"),
    *("MultiSteps", "mechanize", "sam"),
)
"""Wrappers of optax that hold what goes in against what comes out."""


def check_method(method: Any) -> None:
    """Raise an `InputError` for what cannot be lifted."""
    kind = type(method)
    if kind in WAYS:
        raise InputError(
            f"a {kind.__name__} looks at more than the tasks' gradients, so there is "
            f"nothing to lift: train it as a variant multi-NAME of a configuration, or "
            f"by mtl_jax.smto.strategies.{WAYS[kind]}."
        )
    if not isinstance(method, Method):
        raise InputError(
            f"lift takes a multi-task optimizer, and {method!r} is none: pass "
            f"smto.make(NAME)."
        )


def check_num_tasks(num_tasks: Any) -> int:
    """Return the number of tasks.

    Raises:
      InputError: it is no whole number, or less than 1.
    """
    return check_count("num_tasks", check_known("num_tasks", num_tasks), 1)


def check_place() -> None:
    """Raise an `InputError` inside of a wrapper that `lift` belongs in front of.

    Nothing but the call tells: such a wrapper hands on the gradients as they are, and
    fails on what comes back, or broadcasts it.
    """
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_qualname.partition(".")[0]
        if name in AROUND and frame.f_globals.get("__name__", "").startswith("optax."):
            raise InputError(
                f"lift is inside of optax's {name}, which holds gradients [T, ...] "
                f"against a direction [...]; put it behind: "
                f"optax.chain(lift(...), {name}(...)). See docs/optax.md."
            )
        frame = frame.f_back


def check_params(params: PyTree) -> None:
    """Raise an `InputError` for a tree that is empty, or of which a part is masked.

    A node without children that is no container of Python stands for any tree:
    `optax.tree.map_params` makes a state of one.
    """
    _check_whole(params)
    if params is None or isinstance(params, dict | list | tuple):
        _check_leaves(params)


def _check_leaves(tree: PyTree) -> None:
    if not jax.tree.leaves(tree):
        raise InputError(
            f"the tree {tree!r} has no leaves: tasks that share no parameters have "
            f"nothing to combine; leave lift out."
        )


def _check_whole(tree: PyTree) -> None:
    leaves = jax.tree.leaves(tree, is_leaf=lambda n: isinstance(n, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        raise InputError(
            "lift is inside of optax's partition or masked, so leaves that it does not "
            "see keep their task axis; put it in front: "
            "optax.chain(lift(...), optax.partition(...)). See docs/optax.md."
        )


def check_grads(grads: PyTree, num_tasks: int) -> None:
    """Raise an `InputError` for gradients that are not ``[T, ...]``, or for none."""
    _check_whole(grads)
    _check_leaves(grads)
    for leaf in jax.tree.leaves(grads):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InputError(
                f"a gradient is {jnp.result_type(leaf)}; pass floating-point gradients."
            )
        if jnp.ndim(leaf) == 0 or leaf.shape[0] != num_tasks:
            raise InputError(
                f"a gradient of shape {jnp.shape(leaf)} does not have {num_tasks} "
                f"tasks in front; pass leaves [T, ...] or lift(..., num_tasks=T)."
            )


def check_samples(samples: Any, num_tasks: int) -> None:
    """Raise an `InputError` for anything but the gradients of two batches, or None."""
    if samples is None:
        return
    if not isinstance(samples, tuple | list) or len(samples) != 2:
        raise InputError(
            "samples are the gradients [T, ...] of two independent batches: pass "
            "samples=(J1, J2)."
        )
    for grads in samples:
        check_grads(grads, num_tasks)


def as_losses(losses: Any, num_tasks: int, dtype: Any) -> Any:
    """Return losses ``[T]`` in a dtype; None as it is.

    Raises:
      InputError: they are no numbers, or not one a task.
    """
    if losses is None:
        return None
    try:
        array = jnp.asarray(losses)
    except (TypeError, ValueError) as error:
        raise InputError(f"losses {said(losses)} are no array") from error
    is_real = any(jnp.issubdtype(array.dtype, t) for t in (jnp.floating, jnp.integer))
    if not is_real or array.shape != (num_tasks,):
        raise InputError(
            f"losses are {array.dtype} {list(array.shape)}, of {num_tasks} tasks; pass "
            f"one number a task, [{num_tasks}]."
        )
    return array.astype(dtype)
