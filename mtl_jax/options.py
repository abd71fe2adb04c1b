"""Names and options of fields: known ones, each once.

What a message says of a name that is not known is said here, for all of them.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mtl_jax.types import InputError


def one_of(kind: str, name: Any, known: Iterable[Any]) -> Any:
    """Return the name if it is one of those that are known.

    >>> one_of("model", "clap", ["cnn", "mlp"])
    Traceback (most recent call last):
    mtl_jax.types.InputError: model 'clap' is not one of: cnn, mlp.

    Args:
      kind: what it is a name of, for the message.
      name: to be looked up; choices may also be numbers.
      known: all names, in the order in which the message lists them.

    Raises:
      InputError: it is not one of them.
    """
    known = tuple(known)
    if name not in known:
        listing = ", ".join(map(str, known)) or "none"
        ending = did_you_mean(closest(name, known))
        raise InputError(f"{kind} {name!r} is not one of: {listing}{ending}")
    return name


def defaults(
    kind: str, name: Any, factories: Mapping[str, Callable[..., Any]]
) -> dict[str, Any]:
    """Return the options of a factory, by its name, with their defaults.

    >>> defaults("sum", "plus", {"plus": lambda a=1, b=2.0: a + b})
    {'a': 1, 'b': 2.0}

    Args:
      kind: what it is a name of, for the message.
      name: of the factory.
      factories: by their names; options are their arguments that have a default.

    Raises:
      InputError: it is not one of them.
    """
    signature = inspect.signature(factories[one_of(kind, name, factories)])
    return {
        option: parameter.default
        for option, parameter in signature.parameters.items()
        if parameter.default is not parameter.empty
    }


def check_options(name: str, chosen: Iterable[str], known: Iterable[str]) -> None:
    """Raise an `InputError` for the first option of a factory that is not known."""
    known = tuple(known)
    for option in chosen:
        one_of(f"option of {name}", option, known)


def did_you_mean(name: str | None) -> str:
    """Return the end of a message about an unknown name: a question, or a full stop.

    >>> did_you_mean("pcgrad"), did_you_mean(None)
    ("; did you mean 'pcgrad'?", '.')
    """
    return f"; did you mean {name!r}?" if name else "."


def closest(name: Any, known: Iterable[Any]) -> str | None:
    """Return the name most like one that is not known, if any is like it.

    >>> closest("PCgard", ["sum", "pcgrad"])
    'pcgrad'
    """
    by_lower = {word.lower(): word for word in known if isinstance(word, str)}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def name_list(kind: str, entries: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names that a field lists.

    A flag without quotes, ``--field=a,b``, arrives as one entry.

    >>> name_list("augmentations", ("flip,crop", "scale "))
    ('flip', 'crop', 'scale')

    Raises:
      InputError: an entry is no text, or a name is there twice.
    """
    entries = (entries,) if isinstance(entries, str) else tuple(entries)
    for entry in entries:
        if not isinstance(entry, str):
            raise InputError(f"{kind} {entry!r} is no name; list names: {kind}=a,b.")
    words = (word.strip() for entry in entries for word in entry.split(","))
    chosen = tuple(word for word in words if word)
    for name in chosen:
        if chosen.count(name) > 1:
            raise InputError(f"{kind} {name!r} is named twice; name it once.")
    return chosen


def some_of(
    kind: str, entries: str | Iterable[str], known: Iterable[str]
) -> tuple[str, ...]:
    """Return the names that a field lists, all of which are known.

    Raises:
      InputError: as `names` and `one_of`.
    """
    known = tuple(known)
    return tuple(one_of(kind, name, known) for name in name_list(kind, entries))


def check_items(
    field: str,
    items: Iterable[Any],
    fits: Callable[[Any], bool],
    rule: str,
    *,
    empty: bool = False,
    once: bool = True,
) -> None:
    """Check what a field lists; the message names the first item that is unfit.

    >>> check_items("seeds", (0, 0.5), is_whole, "name whole numbers")
    Traceback (most recent call last):
    mtl_jax.types.InputError: seeds are (0, 0.5); 0 is unfit: name whole numbers.

    Args:
      field: its name.
      items: its value.
      fits: whether an item is as it should be.
      rule: what the items should be, as a request.
      empty: whether there may be none.
      once: whether each may be there only once.

    Raises:
      InputError: an item does not fit or is there twice, or there is none.
    """
    items = tuple(items)
    wrong = [f" {_part(item)} is unfit:" for item in items if not fits(item)]
    if once:
        wrong += [f" {i!r} is there twice:" for i in items if items.count(i) > 1]
    if wrong or not (items or empty):
        raise InputError(f"{field} are {items};{[*wrong, ''][0]} {rule}.")


def check_sizes(field: str, sizes: Iterable[Any]) -> None:
    """Check sizes, such as widths of layers; the message names the first unfit one.

    Raises:
      InputError: one is not a whole number of at least 1, or more than axes of arrays
        may have, or there is none.
    """

    def fits(size: Any) -> bool:
        return is_whole(size) and size < 2**31

    check_items(field, sizes, fits, "give positive whole numbers", once=False)


def is_whole(number: Any, least: int = 1) -> bool:
    """Return whether something is a whole number of at least 1, or another least."""
    return isinstance(number, int) and not isinstance(number, bool) and number >= least


def is_positive(number: Any) -> bool:
    """Return whether something is a positive number, and finite."""
    real = isinstance(number, int | float) and not isinstance(number, bool)
    return real and 0 < number < float("inf")


def _part(item: Any) -> str:
    """Say which item it is; of ``1,x``, a flag that stayed one text, the word."""
    words = item.split(",") if isinstance(item, str) else []
    return repr(next((word for word in words if not _is_number(word)), item))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
