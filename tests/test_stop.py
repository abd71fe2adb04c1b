import signal

import pytest

from mtl_jax.stop import StopSignal

NUMBERS = [signal.SIGTERM, signal.SIGINT]


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
@pytest.mark.parametrize("second", NUMBERS)
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
