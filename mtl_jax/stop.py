"""Stopping politely: SIGTERM and SIGINT become a flag that the loop looks at."""

import signal
from types import FrameType


class StopSignal:
    """Context in which the first SIGTERM or SIGINT is noted and the second one acts.

    >>> import signal
    >>> with StopSignal() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stop.number == signal.SIGTERM
    True
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: list = []

    def __enter__(self) -> "StopSignal":
        self._before = [signal.signal(number, self._note) for number in self.SIGNALS]
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in zip(self.SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        for each, handler in zip(self.SIGNALS, self._before, strict=True):
            signal.signal(each, handler)
