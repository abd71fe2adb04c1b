"""Optimizers of optax by name, with options that are looked at before anything runs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from mtl_jax.options import check_options, defaults, is_positive, one_of
from mtl_jax.types import InputError, PyTree

OptimizerMaker = Callable[[Any], optax.GradientTransformation]
"""A learning rate, or a schedule of it, to an optimizer: any chain of optax."""


def momentum(
    learning_rate: Any, momentum: float = 0.9, nesterov: bool = False
) -> optax.GradientTransformation:
    """Make gradient descent with a momentum, .9 as in the paper; optax's without."""
    return optax.sgd(learning_rate, momentum, nesterov)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "amsgrad": optax.amsgrad,
    "lamb": optax.lamb,
    "lion": optax.lion,
    "momentum": momentum,
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "novograd": optax.novograd,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
    "yogi": optax.yogi,
}
"""Optimizers by their names."""
BY_LEAF = {"lamb", "novograd"}
"""Those that look at the length of every leaf."""

DECAYED: dict[str, Any] = {
    "all": None,
    "matrices": lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
}
"""Parameters that weight decay is for: all, or none of biases and scales."""


class Limit(NamedTuple):
    """The range of an option."""

    text: str
    holds: Callable[[float], bool]


DECAY = Limit("at least 0 and below 1", lambda value: 0 <= value < 1)
"""Decay of a running mean; at 1 it would never move."""
AMOUNT = Limit("at least 0 and finite", lambda value: 0 <= value < float("inf"))
LIMITS = {
    "b1": DECAY,
    "b2": DECAY,
    "momentum": DECAY,
    "eps": Limit("above 0 and finite", is_positive),
    "eps_root": AMOUNT,
    "weight_decay": AMOUNT,
}
"""By the names that optax gives options, whichever optimizer has them."""


def options(name: str) -> dict[str, Any]:
    """Return the numbers that an optimizer can be given, with their defaults.

    >>> options("sgd")
    {'momentum': 0.0, 'nesterov': False}

    Raises:
      InputError: an unknown name.
    """
    known = defaults("optimizer", name, OPTIMIZERS)
    if "momentum" in known:  # optax's None, as a number
        known["momentum"] = known["momentum"] or 0.0
    return {k: v for k, v in known.items() if isinstance(v, int | float)}


def make_optimizer(
    name: str,
    schedule: optax.Schedule | None = None,
    clip_norm: float = 0.0,
    decayed: str = "all",
    **options: Any,
) -> OptimizerMaker:
    """Make an optimizer, as a function of its learning rate.

    >>> make_optimizer("sgd", momentum=2.0)
    Traceback (most recent call last):
    mtl_jax.types.InputError: optimizer.sgd.momentum is 2.0; it must be at least 0 and \
below 1.

    Args:
      name: one of `OPTIMIZERS`.
      schedule: factor of the learning rate, as `schedules.make_schedule` makes it.
      clip_norm: length that all gradients together are cut down to; 0 for any.
      decayed: parameters that weight decay is for, one of `DECAYED`.
      **options: as optax has them.

    Raises:
      InputError: an unknown name or option, or a value out of its range.
    """
    factory = OPTIMIZERS[one_of("optimizer", name, OPTIMIZERS)]
    known = defaults("optimizer", name, OPTIMIZERS)
    check_options(name, options, known)
    for option, value in options.items():
        _check(f"optimizer.{name}.{option}", value, LIMITS.get(option))
    _check("optimizer.clip_norm", clip_norm, AMOUNT)
    mask = DECAYED[one_of("optimizer.decayed", decayed, DECAYED)]
    if mask is not None:
        decay_mask = {"mask", "weight_decay_mask"} & set(known)
        if not decay_mask:
            raise InputError(
                f"optimizer.decayed is {decayed!r}, and {name} has no weight decay to "
                f"mask; leave it at 'all', or choose adamw."
            )
        options |= dict.fromkeys(decay_mask, mask)

    def scheduled(learning_rate: Any) -> Any:
        def rate(count: Any) -> Any:
            assert schedule is not None
            return learning_rate * schedule(count)

        return learning_rate if schedule is None else rate

    def optimizer(learning_rate: Any) -> optax.GradientTransformation:
        chosen = factory(scheduled(learning_rate), **options)
        if not clip_norm:
            return chosen
        return optax.chain(optax.clip_by_global_norm(clip_norm), chosen)

    return optimizer


def is_elementwise(name: str, decayed: str) -> bool:
    """Tell whether an optimizer takes all parameters in one row as it takes a tree.

    >>> is_elementwise("adam", "all"), is_elementwise("lamb", "all")
    (True, False)
    """
    return name not in BY_LEAF and DECAYED[decayed] is None


def check_optimizer(optimizer: OptimizerMaker, params: PyTree) -> None:
    """Raise an `InputError` for what makes no optimizer of a learning rate.

    Args:
      optimizer: to be called with a learning rate that is traced.
      params: parameters, or their shapes.
    """

    def updates(rate: Any, params: PyTree) -> PyTree:
        made = optimizer(rate)
        return made.update(params, made.init(params), params)[0]

    try:
        shapes = jax.eval_shape(updates, jax.ShapeDtypeStruct((), "float32"), params)
    except Exception as error:
        raise InputError(
            f"the optimizer is to make an optax.GradientTransformation of a learning "
            f"rate, as lambda rate: optax.adam(rate) does, and it raises "
            f"{type(error).__name__}: {error}"
        ) from error
    if jax.tree.structure(shapes) != jax.tree.structure(params):
        raise InputError(
            "the optimizer makes updates of another structure than the parameters; "
            "pass a chain of optax."
        )


def _check(field: str, value: Any, limit: Limit | None) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if limit and not (is_number and limit.holds(value)):
        raise InputError(f"{field} is {value!r}; it must be {limit.text}.")
