"""GPUs that are switched off to save power: they are not woken, and given the chance to fall asleep."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_nvml import FakeNvml
from tests.support.gpu_scene import MovedClock, children, of_gpu
from tracker_agent.collectors import nvidia_pci
from tracker_agent.collectors.collector import Context, NothingHere
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.nvidia import NvidiaCollector
from tracker_agent.collectors.nvidia_pci import PciGpus

FIRST, SECOND = "0000:01:00.0", "0000:41:00.0"


class Machine:
    """The PCI devices of a machine, as the kernel's files show them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.driver = root / "sys/bus/pci/drivers/nvidia"
        self.driver.mkdir(parents=True)
        (self.driver / "new_id").write_text("")

    def plug(self, address: str, control: str = "auto", status: str = "active") -> None:
        power = self.root / "sys/bus/pci/devices" / address / "power"
        power.mkdir(parents=True)
        (power / "control").write_text(control + "\n")
        (power / "runtime_status").write_text(status + "\n")
        (self.driver / address).mkdir()

    def unplug(self, address: str) -> None:
        (self.driver / address).rmdir()

    def status(self, address: str, status: str) -> None:
        (self.root / "sys/bus/pci/devices" / address / "power/runtime_status").write_text(status + "\n")


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.fixture
def gpus(machine: Machine, clock: MovedClock) -> PciGpus:
    return PciGpus(Kernel(str(machine.root)), clock)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    built = FakeNvml(tmp_path / "nvml")
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)
    return built


@pytest.fixture
def collector(machine: Machine, clock: MovedClock) -> Iterator[NvidiaCollector]:
    command = (sys.executable, "-P", "-m", "tracker_agent.collectors.nvidia_child")
    context = Context(kernel=Kernel(str(machine.root)), monotonic=clock)
    made = NvidiaCollector(context, command, deadline_s=5.0, first_deadline_s=20.0)
    yield made
    made.close()


def sampled(busy: float = 0.0, processes: int = 0) -> dict[str, Any]:
    return {"values": {"utilization.percent": busy}, "processes": [{}] * processes, "mig": []}


def test_gpus_are_counted_in_the_order_of_their_addresses(machine: Machine, gpus: PciGpus) -> None:
    machine.plug(SECOND, status="suspended")
    machine.plug(FIRST)

    asleep = gpus.asleep()

    assert asleep == [1]
    assert not gpus.all_asleep(asleep)


def test_state_is_read_at_each_sample(machine: Machine, gpus: PciGpus) -> None:
    machine.plug(FIRST)

    states = []
    for state in ("active", "suspended", "resuming", "suspending", "active"):
        machine.status(FIRST, state)
        states.append(gpus.asleep())

    assert states == [[], [0], [], [], []]


def test_gpu_that_may_not_sleep_is_asked_whatever_the_file_says(machine: Machine, gpus: PciGpus) -> None:
    machine.plug(FIRST, control="on", status="suspended")

    assert gpus.asleep() == []


def test_machine_without_nvidia_driver_has_no_gpu_asleep(gpus: PciGpus) -> None:
    asleep = gpus.asleep()

    assert asleep == []
    assert not gpus.all_asleep(asleep)
    assert not gpus.changed()
    assert not gpus.note([])


def test_change_of_gpus_is_told_once(machine: Machine, gpus: PciGpus, clock: MovedClock) -> None:
    machine.plug(FIRST)
    first = gpus.changed()
    machine.plug(SECOND)
    soon = gpus.changed()
    clock.now += nvidia_pci.LIST_INTERVAL_S
    then, again = gpus.changed(), gpus.changed()
    machine.unplug(FIRST)
    clock.now += nvidia_pci.LIST_INTERVAL_S

    assert (first, soon, then, again, gpus.changed()) == (False, False, True, False, True)


def test_idle_gpus_that_may_sleep_are_let_go_of_after_a_minute(
    machine: Machine, gpus: PciGpus, clock: MovedClock
) -> None:
    machine.plug(FIRST)
    gpus.asleep()

    let_go = []
    for _ in range(int(nvidia_pci.IDLE_S / 2)):
        let_go.append(gpus.note([sampled()]))
        clock.now += 2.0

    assert not any(let_go)
    assert gpus.note([sampled()])
    assert gpus.resting()
    clock.now += nvidia_pci.REST_S
    assert not gpus.resting()


@pytest.mark.parametrize("work", [sampled(busy=50.0), sampled(processes=1)])
def test_work_begins_the_minute_anew(
    machine: Machine, gpus: PciGpus, clock: MovedClock, work: dict[str, Any]
) -> None:
    machine.plug(FIRST)
    gpus.asleep()
    gpus.note([sampled()])
    clock.now += nvidia_pci.IDLE_S - 1
    gpus.note([work])
    clock.now += nvidia_pci.IDLE_S - 1

    assert not gpus.note([sampled()])
    assert not gpus.resting()


def test_idle_server_is_measured_for_ever(machine: Machine, gpus: PciGpus, clock: MovedClock) -> None:
    machine.plug(FIRST, control="on")
    machine.plug(SECOND, control="auto")
    gpus.asleep()

    for _ in range(100):
        assert not gpus.note([sampled(), sampled()])
        clock.now += 10.0


def test_no_process_asks_while_all_gpus_sleep(
    machine: Machine, library: FakeNvml, collector: NvidiaCollector
) -> None:
    machine.plug(FIRST, status="suspended")

    with pytest.raises(NothingHere, match="save power"):
        collector.sample()

    assert library.openings() == []
    machine.status(FIRST, "active")
    assert collector.sample().values["host.gpu.0.utilization.percent"] == 50
    machine.status(FIRST, "suspended")
    with pytest.raises(NothingHere):
        collector.sample()
    assert children() == [], "an open driver keeps a GPU awake"


def test_sleeping_gpu_is_not_asked_and_the_other_is(
    machine: Machine, library: FakeNvml, collector: NvidiaCollector
) -> None:
    machine.plug(FIRST, status="suspended")
    machine.plug(SECOND)
    # A GPU that is asked although it sleeps shows: every call about it fails.
    library.play(gpus=2, fail__gpu0=15)

    reading = collector.sample()

    assert reading.problems == ()
    assert of_gpu(reading.values.items(), 0) == {}
    assert of_gpu(reading.values.items(), 1)["utilization.percent"] == 50
    library.play(gpus=2)
    machine.status(FIRST, "active")
    woken = collector.sample()
    assert of_gpu(woken.values.items(), 0)["utilization.percent"] == 50
    assert woken.inventory is not None
    assert [gpu["uuid"] for gpu in woken.inventory["gpus"]] == ["GPU-played-0", "GPU-played-1"]


def test_driver_is_closed_while_idle_gpus_are_given_time_to_sleep(
    machine: Machine, library: FakeNvml, collector: NvidiaCollector, clock: MovedClock
) -> None:
    machine.plug(FIRST)
    library.play(busy=0)
    collector.sample()
    clock.now += nvidia_pci.IDLE_S
    assert collector.sample().values["host.gpu.0.utilization.percent"] == 0, "the last sample counts"

    with pytest.raises(NothingHere, match="fall asleep"):
        collector.sample()

    assert children() == []
    clock.now += nvidia_pci.REST_S
    assert collector.sample().values["host.gpu.0.utilization.percent"] == 0
