"""Wall time of a process by what it goes into."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator


class Stopwatch:
    """Seconds by name; what is in no context counts as the rest.

    >>> watch = Stopwatch("training")
    >>> with watch("evaluation"):
    ...     pass
    >>> sorted(watch.seconds())
    ['evaluation', 'training']
    """

    def __init__(self, rest: str) -> None:
        self._rest = rest
        self._began = time.monotonic()
        self._seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what is done in this context under a name."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - began

    def seconds(self) -> dict[str, float]:
        """Return the seconds so far, the rest first."""
        rest = time.monotonic() - self._began - sum(self._seconds.values())
        return {self._rest: rest, **self._seconds}
