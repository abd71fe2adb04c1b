"""Names that a field of the configuration lists."""

from collections.abc import Iterable


def names(entries: Iterable[str]) -> tuple[str, ...]:
    """The names: a flag without quotes, ``--field=a,b``, arrives as one entry.

    >>> names(("flip,crop", "scale "))
    ('flip', 'crop', 'scale')
    """
    words = (word.strip() for entry in entries for word in entry.split(","))
    return tuple(word for word in words if word)
