"""Options of a multi-task optimizer in the name of a variant: ``multi-cagrad@c=0.2``.

They go before those of the configuration. Variants that differ in numbers only are one
stack of runs, hence one program: a sweep over an option costs no compilation.

Options of a number for every task, weights and preferences, have slashes:
``multi-fixed@weights=1/0.5``. All points of a lattice on the simplex at once:
``multi-upgrad@preference=lattice.10``, which of two tasks are 0/1, 0.1/0.9, to 1/0.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mtl_jax import smto
from mtl_jax.options import one_of
from mtl_jax.smto.preference import lattice
from mtl_jax.training.config import SHARED
from mtl_jax.types import OPTION, InputError

KINDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a name",
    tuple: "numbers with slashes between them, one a task, or lattice.N",
}
"""Types of options that a name can give, by that of their defaults."""
BETWEEN = "/"
"""Between the numbers of an option that has one for every task."""
LATTICE = re.compile(r"lattice\.([1-9]\d*)")


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
    texts = {
        option: BETWEEN.join(map(str, value)) if isinstance(value, tuple) else value
        for option, value in sorted(options.items())
    }
    return name + "".join(f"{OPTION}{option}={text}" for option, text in texts.items())


def numbers(base: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a program takes as numbers, whatever they are."""
    known = smto.options(base) if options else {}
    return {k: v for k, v in options.items() if type(known[k]) in (float, tuple)}


def points(method: str, base: str, num_tasks: int) -> Iterator[str]:
    """Yield a method for every point of the lattices that its name has; itself if none.

    >>> list(points("multi-upgrad@preference=lattice.1", "upgrad", 2))
    ['multi-upgrad@preference=0.0/1.0', 'multi-upgrad@preference=1.0/0.0']

    Raises:
      InputError: as `parse`; as `lattice`.
    """
    name, options = parse(method, base)
    known = smto.options(base) if options else {}
    lattices = {
        option: lattice(int(text.partition(".")[2]), num_tasks)
        for option, text in options.items()
        if type(known[option]) is tuple and isinstance(text, str)
    }
    for point in itertools.product(*lattices.values()):
        yield spell(name, options | dict(zip(lattices, point, strict=True)))


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
        if kind is tuple and LATTICE.fullmatch(text):
            return text
        if kind is tuple:
            return tuple(float(part) for part in text.split(BETWEEN))
        return kind(text)
    except (KeyError, ValueError):
        raise InputError(
            f"variant {method!r} gives {option} as {text!r}; it must be {KINDS[kind]}."
        ) from None
