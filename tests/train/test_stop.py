from __future__ import annotations

import signal

import pytest
from glmtrain.stop import StopSignal


@pytest.fixture(autouse=True)
def _heed_interrupts():
    """Whoever runs the tests in the background of a shell has interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted(number):
    with StopSignal() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number.name


def test_the_second_interrupt_is_obeyed_at_once():
    with StopSignal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
