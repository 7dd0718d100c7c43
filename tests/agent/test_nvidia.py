"""GPUs through NVML: the real child process and pynvml on a library that plays scenarios."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.agent_process import wait_until
from tests.support.fake_nvml import FakeNvml
from tracker_agent.collectors import nvidia
from tracker_agent.collectors.collector import CollectorError, NothingHere, Reading
from tracker_agent.collectors.nvidia import NvidiaCollector


class MovedClock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    built = FakeNvml(tmp_path / "nvml")
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)
    return built


@pytest.fixture
def collector(clock: MovedClock) -> Iterator[NvidiaCollector]:
    made = NvidiaCollector(deadline_s=1.0, first_deadline_s=20.0, monotonic=clock)
    yield made
    made.close()


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() == psutil.STATUS_ZOMBIE or "nvidia_child" in " ".join(child.cmdline())
    ]


def sample_until_it_works(collector: NvidiaCollector, clock: MovedClock) -> Reading:
    def attempt() -> Reading | None:
        clock.now += nvidia.RESTART_MAX_S
        try:
            return collector.sample()
        except CollectorError:
            return None

    reading: Reading = wait_until(attempt, what="a sample")
    return reading


def test_values_of_each_gpu_come_under_its_index(library: FakeNvml, collector: NvidiaCollector) -> None:
    library.play(gpus=2, busy__gpu1=97, memory__gpu1=40 << 30, temperature__gpu1=71, milliwatts__gpu1=650_500)

    reading = collector.sample()

    assert reading.problems == ()
    assert reading.values["host.gpu.0.utilization.percent"] == 50
    assert {name: value for name, value in reading.values.items() if ".1." in name} == {
        "host.gpu.1.utilization.percent": 97,
        "host.gpu.1.memory_controller.percent": 20,
        "host.gpu.1.memory.used.bytes": 40 << 30,
        "host.gpu.1.memory.total.bytes": 80 << 30,
        "host.gpu.1.memory.percent": 50,
        "host.gpu.1.temperature.celsius": 71,
        "host.gpu.1.power.watts": 650.5,
        "host.gpu.1.power_limit.watts": 700,
        "host.gpu.1.clock.sm.mhz": 1980,
        "host.gpu.1.clock.memory.mhz": 2619,
    }
    declared = {metric.name for metric in collector.metrics}
    assert {name.replace(".0.", ".#.").replace(".1.", ".#.") for name in reading.values} == declared


def test_inventory_names_driver_and_gpus(library: FakeNvml, collector: NvidiaCollector) -> None:
    library.play(gpus=1)

    reading = collector.sample()

    gpu = {"index": 0, "uuid": "GPU-played-0", "name": "Played GPU", "memory_bytes": 80 << 30}
    assert reading.inventory == {"gpus": [gpu], "gpu_driver": "999.10.2", "cuda": "12.4"}


def test_what_a_gpu_does_not_offer_is_left_out_and_never_zero(
    library: FakeNvml, collector: NvidiaCollector
) -> None:
    not_supported = 3
    library.play(
        fail__nvmlDeviceGetUtilizationRates=not_supported, fail__nvmlDeviceGetPowerUsage=not_supported
    )

    reading = collector.sample()

    assert reading.problems == ()
    assert "host.gpu.0.utilization.percent" not in reading.values
    assert "host.gpu.0.power.watts" not in reading.values
    assert reading.values["host.gpu.0.temperature.celsius"] == 40


def test_driver_without_second_version_of_memory_info_is_asked_for_the_first(
    library: FakeNvml, collector: NvidiaCollector
) -> None:
    function_not_found = 13
    library.play(fail__nvmlDeviceGetMemoryInfo_v2=function_not_found, memory__gpu0=1 << 30)

    reading = collector.sample()

    # The first version counts what the driver keeps for itself as used.
    assert reading.values["host.gpu.0.memory.used.bytes"] == (1 << 30) + (512 << 20)


def test_lost_gpu_is_named_and_the_others_go_on(library: FakeNvml, collector: NvidiaCollector) -> None:
    library.play(gpus=3)
    collector.sample()
    library.play(gpus=3, fail__gpu1=15)

    reading = collector.sample()

    assert reading.problems == ("GPU 1: GpuIsLost (15)",)
    assert "host.gpu.0.utilization.percent" in reading.values
    assert "host.gpu.2.utilization.percent" in reading.values
    assert not [name for name in reading.values if name.startswith("host.gpu.1.")]
    assert reading.inventory is not None
    assert [gpu["uuid"] for gpu in reading.inventory["gpus"]] == [f"GPU-played-{n}" for n in range(3)]


def test_gpu_that_is_lost_when_the_agent_starts_does_not_hide_the_others(
    library: FakeNvml, collector: NvidiaCollector
) -> None:
    library.play(gpus=2, fail__gpu0=15)

    reading = collector.sample()

    assert reading.problems == ("GPU 0: GpuIsLost (15)",)
    assert reading.values["host.gpu.1.utilization.percent"] == 50


def test_hung_driver_costs_one_deadline_and_heals(
    library: FakeNvml, collector: NvidiaCollector, clock: MovedClock
) -> None:
    collector.sample()
    (child,) = children()
    library.play(sleep__nvmlDeviceGetTemperature=60_000)

    with pytest.raises(CollectorError, match="did not answer within 1 s"):
        collector.sample()

    assert not child.is_running()
    assert children() == [], "neither a process nor a zombie is left"
    library.play()
    assert sample_until_it_works(collector, clock).values["host.gpu.0.temperature.celsius"] == 40


def test_hanging_driver_is_not_asked_by_new_processes_in_a_loop(
    library: FakeNvml, collector: NvidiaCollector, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    original = nvidia.Child.__init__
    monkeypatch.setattr(
        nvidia.Child,
        "__init__",
        lambda self, command: (started.append(clock.now), original(self, command))[1],
    )
    library.play(fail__nvmlInit=17)  # the devices were taken away from this process

    for _ in range(60):
        with pytest.raises(CollectorError, match=r"OperatingSystem \(17\)"):
            collector.sample()
        clock.now += 2.0

    # 120 s at one sample each 2 s: after 1, 2, 4, 8, 16, 32 s and 60 s, not 60 times.
    assert 5 <= len(started) <= 8
    assert children() == []


def test_child_that_cannot_be_killed_is_not_replaced(
    library: FakeNvml, collector: NvidiaCollector, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.sample()
    (child,) = children()
    # A process in an uninterruptible sleep ignores SIGKILL; here the signal is not sent.
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen.kill", lambda self: None)
        library.play(sleep__nvmlDeviceGetTemperature=60_000)
        with pytest.raises(CollectorError):
            collector.sample()
        clock.now += 3600

        with pytest.raises(CollectorError, match="does not let go"):
            collector.sample()

        assert children() == [child]
    library.play()
    child.send_signal(signal.SIGKILL)
    assert sample_until_it_works(collector, clock).values
    assert len(children()) == 1


def test_driver_changed_under_the_library_gets_a_new_process(
    library: FakeNvml, collector: NvidiaCollector, clock: MovedClock
) -> None:
    collector.sample()
    (before,) = children()
    library.play(fail__nvmlDeviceGetCount_v2=18)
    with pytest.raises(CollectorError, match=r"LibRmVersionMismatch \(18\)"):
        collector.sample()
    library.play()

    sample_until_it_works(collector, clock)

    (after,) = children()
    assert after.pid != before.pid


def test_machine_without_library_has_nothing_here_and_is_looked_at_seldom(
    tmp_path: Path, collector: NvidiaCollector, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not even where the machine that runs this test has the real one.
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    started = []
    original = nvidia.Child.__init__
    monkeypatch.setattr(
        nvidia.Child,
        "__init__",
        lambda self, command: (started.append(clock.now), original(self, command))[1],
    )

    for _ in range(100):
        with pytest.raises(NothingHere):
            collector.sample()
        clock.now += 2.0
    assert len(started) == 1
    clock.now += nvidia.ABSENT_RECHECK_S
    library = FakeNvml(tmp_path)
    monkeypatch.setenv("FAKE_NVML", library.environment["FAKE_NVML"])

    assert collector.sample().values["host.gpu.0.utilization.percent"] == 50


def test_machine_without_driver_has_nothing_here(library: FakeNvml, collector: NvidiaCollector) -> None:
    library.play(fail__nvmlInit=9)

    with pytest.raises(NothingHere, match="DriverNotLoaded"):
        collector.sample()


def test_what_the_child_prints_by_accident_is_no_answer(
    collector: NvidiaCollector, clock: MovedClock
) -> None:
    for reply in ("hello", "[1]", '{"gpus": 5'):
        script = f"input(); print({reply!r}); input()"
        strange = NvidiaCollector((sys.executable, "-c", script), 5.0, 5.0, clock)

        with pytest.raises(CollectorError, match="ended"):
            strange.sample()

        strange.close()
    assert children() == []


def test_child_ends_when_the_agent_is_killed(library: FakeNvml, tmp_path: Path) -> None:
    script = (
        "import os, signal\nfrom tracker_agent.collectors.nvidia import NvidiaCollector\n"
        "collector = NvidiaCollector(); collector.sample()\n"
        "print(collector._child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    read, write = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", script],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)],
    )
    os.close(write)
    with open(read) as output:
        child = int(output.readline())
    os.waitpid(pid, 0)

    def gone() -> bool:
        try:
            return psutil.Process(child).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(gone, what="the end of the child")
