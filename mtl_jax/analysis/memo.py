"""Tables that several analyses of the same records need, made once."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Keep what functions of records return, until the end; records must not change.

    >>> made = memoised(lambda df: [df["x"]])
    >>> df = {"x": 1}
    >>> with scope():
    ...     made(df) is made(df)
    True
    >>> made(df) is made(df)
    False
    """
    token = _kept.set({} if _kept.get() is None else _kept.get())
    try:
        yield
    finally:
        _kept.reset(token)


def memoised(function: F) -> F:
    """Make a function of records keep what it returns within a `scope`."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        kept = _kept.get()
        if kept is None:
            return function(*args, **kwargs)
        df, *rest = args
        key = function, id(df), *rest, *sorted(kwargs.items())
        if key not in kept:
            # With the records, so that no others get their id.
            kept[key] = df, function(*args, **kwargs)
        return kept[key][1]

    return cast(F, call)


@memoised
def of_variants(df: Any, variants: tuple[str, ...]) -> Any:
    """Keep the records of some variants."""
    return df[df["variant"].isin(variants)]
