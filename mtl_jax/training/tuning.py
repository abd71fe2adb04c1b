"""Options of a multi-task optimizer in the name of a variant: ``multi-cagrad@c=0.2``.

They go before those of the configuration. Variants that differ in numbers only are one
stack of runs, hence one program: a sweep over an option costs no compilation.
"""

from collections.abc import Mapping
from typing import Any

from mtl_jax import smto
from mtl_jax.options import one_of
from mtl_jax.training.config import SHARED
from mtl_jax.types import InputError

OPTION = "@"
"""In front of every option."""
KINDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a name",
}
"""Types of options that a name can give, by that of their defaults."""


def parse(method: str, base: str) -> tuple[str, dict[str, Any]]:
    """Split a method's name from its options.

    >>> parse("multi-cagrad@rescale=0@c=.2", "cagrad")
    ('multi-cagrad', {'c': 0.2, 'rescale': 0})

    Args:
      method: the part of a variant's name in front of its tasks.
      base: name of its multi-task optimizer; empty for none.

    Raises:
      InputError: an unknown option, one twice, or a value of another type.
    """
    name, *parts = method.split(OPTION)
    if parts and not base:
        raise InputError(
            f"variant {method!r} gives an option to {name!r}, which has none; give it "
            f"to a multi-task optimizer, as in multi-cagrad@c=0.2."
        )
    chosen: dict[str, Any] = {}
    for part in parts:
        option, _, text = part.partition("=")
        known = {k: v for k, v in smto.options(base).items() if k not in SHARED}
        one_of(f"option of {base} in variant {method!r}", option, known)
        if option in chosen:
            raise InputError(f"variant {method!r} gives {option} twice; give it once.")
        chosen[option] = _value(method, option, text, known[option])
    return name, dict(sorted(chosen.items()))


def spell(name: str, options: Mapping[str, Any]) -> str:
    """Spell a method with its options, always in one way.

    >>> spell("multi-cagrad", {"c": 0.2, "rescale": 0})
    'multi-cagrad@c=0.2@rescale=0'
    """
    return name + "".join(f"{OPTION}{k}={v}" for k, v in sorted(options.items()))


def numbers(base: str, options: Mapping[str, Any]) -> dict[str, float]:
    """Return the options that a program takes as numbers, whatever they are."""
    known = smto.options(base) if options else {}
    return {k: v for k, v in options.items() if type(known[k]) is float}


def _value(method: str, option: str, text: str, default: Any) -> Any:
    kind = type(default)
    if kind not in KINDS:
        raise InputError(
            f"variant {method!r}: {option} cannot be given in a name; set it for all "
            f"variants, as config.smto does."
        )
    try:
        if kind is bool:
            return {"True": True, "False": False}[text]
        return kind(text)
    except (KeyError, ValueError):
        raise InputError(
            f"variant {method!r} gives {option} as {text!r}; it must be {KINDS[kind]}."
        ) from None
