from __future__ import annotations

import sys

import pytest
from glmdiag.machine import nvml
from glmdiag.machine.accelerators import Condition, Process

from tests.diagnose.nvml_stand_in import GIB, StandIn, busy_v100, devices, two_a100


@pytest.fixture
def look(monkeypatch):
    def call(library) -> nvml.Seen:
        monkeypatch.setitem(sys.modules, "pynvml", library)
        return nvml.look()

    return call


def test_devices_are_seen_with_their_users(look):
    seen = look(busy_v100())
    (device,) = seen.devices
    assert seen.driver == "570.1"
    assert (device.name, device.memory_free, device.capability) == ("Tesla V100", 2 * GIB, None)
    # A process outside this container: its memory is known, its name is not.
    assert device.processes == [Process(pid=2**22 + 1, user=None, name=None, memory=30 * GIB)]


def test_what_a_card_refuses_is_none_and_nothing_else_is_lost(look):
    (device,) = look(busy_v100()).devices
    assert device.condition == Condition()
    assert [d.name for d in look(devices(["A", "B"])).devices] == ["A", "B"]


def test_condition_is_told_in_plain_units(look):
    seen = look(two_a100())
    state = seen.devices[0].condition
    assert seen.cuda == "12.4"
    assert (state.clock, state.clock_max, state.slowed_by) == (210, 1410, [])
    assert (state.power, state.power_limit, state.temperature) == (61.5, 400.0, 31)
    assert (state.pcie, state.pcie_max, state.lanes, state.lanes_max) == (1, 4, 16, 16)
    assert (state.ecc_errors, state.nvlinks) == (0, 2)


@pytest.mark.parametrize(
    ("reasons", "slowed"),
    [
        (0x0, []),
        (0x1, []),  # idle
        (0x4, []),  # the usual limit on power under load
        (0x20, ["heat"]),
        (0x48, ["heat", "hardware"]),
        (0x80, ["power"]),
    ],
)
def test_only_reasons_that_are_faults_count_as_slowing(look, reasons, slowed):
    assert look(two_a100(reasons=reasons)).devices[0].condition.slowed_by == slowed


def test_a_device_off_the_bus_is_told_and_the_others_are_seen(look):
    first, second = look(two_a100()).devices
    assert (first.problem, second.problem) == (None, "GPU is lost")
    assert second.memory_total is None


@pytest.mark.parametrize("library", [None, StandIn({}, broken=True)], ids=["missing", "no driver"])
def test_without_library_or_driver_nothing_is_seen(look, library):
    assert look(library) == nvml.Seen()


def test_a_library_that_refuses_everything_shows_a_driver_without_devices(look):
    assert look(StandIn({})) == nvml.Seen(driver="unknown", devices=[])
