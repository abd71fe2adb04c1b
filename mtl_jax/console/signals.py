"""Stopping politely: a signal becomes a flag that the loop looks at."""

import signal
import threading
from types import FrameType


class StopSignal:
    """Context in which the first signal to stop is noted and the second one acts.

    These are SIGTERM and SIGINT, SIGHUP of a terminal that is lost, and SIGUSR1 and
    SIGUSR2 that schedulers send before time is up. A SIGHUP that is ignored stays so
    (nohup). Only the main thread can hear signals; in another one nothing is noted.

    >>> import signal
    >>> with StopSignal() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stop.number == signal.SIGTERM
    True
    """

    SIGNALS = (
        *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
        *(signal.SIGUSR1, signal.SIGUSR2),
    )

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if number != signal.SIGHUP or not _is_ignored(number):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set by Python, which cannot be given back.
            signal.signal(number, handler or signal.SIG_DFL)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN
