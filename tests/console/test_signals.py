import signal
import threading

import pytest

from mtl_jax.console.signals import StopSignal
from tests import small

NUMBERS = [
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
]


@pytest.fixture
def caught():
    """Signals that went past the context, to the handlers that were there before."""
    numbers = []
    before = {n: signal.signal(n, lambda n, _: numbers.append(n)) for n in NUMBERS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def test_no_signal(caught):
    with StopSignal() as stop:
        pass
    assert (stop.number, caught) == (None, [])


@pytest.mark.parametrize("number", NUMBERS)
def test_first_signal_is_noted(caught, number):
    with StopSignal() as stop:
        signal.raise_signal(number)
    assert (stop.number, caught) == (number, [])


@pytest.mark.parametrize("first", NUMBERS)
@pytest.mark.parametrize("second", NUMBERS[:3])
def test_second_signal_acts(caught, first, second):
    with StopSignal() as stop:
        signal.raise_signal(first)
        signal.raise_signal(second)
    assert (stop.number, caught) == (first, [second])


def test_handlers_come_back(caught):
    with pytest.raises(KeyError), StopSignal():
        raise KeyError
    for number in NUMBERS:
        signal.raise_signal(number)
    assert caught == NUMBERS


def test_lost_terminal_that_is_ignored_stays_so(caught):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.number is None
        signal.raise_signal(signal.SIGTERM)
    assert stop.number == signal.SIGTERM
    assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN
    assert caught == []


def test_run_in_another_thread(tmp_path):
    """Only the main thread may set handlers."""
    ends = []

    def work():
        ends.append(small.run(tmp_path / "run", variants=("multi",), seeds=(0,)))

    before = [signal.getsignal(number) for number in NUMBERS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [end.outcome.step for end in ends] == [12]
    assert [signal.getsignal(number) for number in NUMBERS] == before
