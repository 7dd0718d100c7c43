"""Drivers that fail: each fault costs what it must, nothing else, and 60 s after its end all is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.gpu_scene import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    OPERATING_SYSTEM,
    RESET_REQUIRED,
    GpuScene,
    absurdities,
    children,
    gpu_scene,
    of_gpu,
)
from tracker_agent.collectors.collector import CollectorError, NothingHere, Reading

MakeScene = Callable[..., GpuScene]

#: What one child calls in its life, in no order; test_all_calls_that_may_hang_are_listed keeps it whole.
CALLS = [
    "nvmlInit", "nvmlShutdown", "nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetName",
    "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetVbiosVersion", "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetComputeMode", "nvmlDeviceGetMigMode", "nvmlDeviceGetEccMode", "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperature",
    "nvmlDeviceGetMarginTemperature", "nvmlDeviceGetClockInfo", "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetFanSpeed", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkWidth",
    "nvmlDeviceGetGpuFabricInfoV", "nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc",
    "nvmlGpmSampleFree", "nvmlGpmSampleGet",
    "nvmlGpmMetricsGet", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId", "nvmlGpmMigSampleGet",
    "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetProcessUtilization", "nvmlEventSetCreate",
    "nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents", "nvmlEventSetWait_v2",
    "nvmlEventSetFree",
]  # fmt: skip
#: Without these an old driver is none at all.
INDISPENSABLE = {
    "nvmlInit",
    "nvmlShutdown",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
}
#: Called only by what stands in for something else.
STAND_INS = [
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetNvLinkState",
]
FULL = {"gpus": 2, "mig__gpu1": 2, "processes__gpu0": 1, "processes__gpu1__mig0": 1}
GPM_S = 0.15


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[MakeScene]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(gpu_scene(tmp_path / "nvml", **options))
    assert children() == [], "neither a process nor a zombie is left"


def names_of(reading: Reading, index: int) -> set[str]:
    return set(of_gpu(reading.values.items(), index))


# --- hangs ---


def test_all_calls_that_may_hang_are_listed(make_scene: MakeScene) -> None:
    scene = make_scene(slow_s=0.0)
    scene.play(**FULL, record=1)
    for _ in range(3):
        scene.sample()
        time.sleep(GPM_S)
    # A device more: the driver is opened anew.
    scene.play(**{**FULL, "gpus": 3}, record=1)
    for _ in range(3):
        scene.sample()

    scene.collector.close()

    assert set(scene.library.calls()) == set(CALLS)


#: Called only when the driver is closed.
AT_CLOSE = ("nvmlShutdown", "nvmlGpmSampleFree", "nvmlEventSetFree")


@pytest.mark.parametrize("function", [each for each in CALLS if each not in AT_CLOSE])
def test_hang_in_any_call_costs_one_deadline_and_heals(make_scene: MakeScene, function: str) -> None:
    scene = make_scene(deadline_s=0.4, first_deadline_s=1.5, slow_s=0.0)
    scene.play(**FULL, **{f"sleep__{function}": 30_000})

    # What needs a second sample (GPM) or a process hangs there.
    with pytest.raises(CollectorError, match="did not answer within"):
        for _ in range(3):
            scene.sample()
            time.sleep(GPM_S)

    assert children() == []
    scene.play(**FULL)
    reading = scene.recovered()
    assert "temperature.celsius" in names_of(reading, 0)
    assert "mig.1.memory.used.bytes" in names_of(reading, 1)
    assert len(children()) == 1


@pytest.mark.parametrize("function", AT_CLOSE)
def test_hang_at_the_end_does_not_outlast_the_collector(make_scene: MakeScene, function: str) -> None:
    scene = make_scene()
    scene.sample()
    time.sleep(GPM_S)
    scene.sample()
    scene.play(**{f"sleep__{function}": 30_000})

    scene.collector.close()

    assert children() == []


def test_hang_that_lasts_starts_few_processes_one_at_a_time(make_scene: MakeScene) -> None:
    scene = make_scene(first_deadline_s=1.0)
    scene.play(sleep__nvmlInit=30_000)
    began = scene.clock.now

    while scene.clock.now < began + 300:
        assert scene.try_sample() is None
        assert len(children()) <= 1

    # Five minutes, a sample each two seconds: not 150 but after 1, 2, 4 … seconds, then one each 45 s.
    assert len(set(scene.library.openings())) <= 12


# --- drivers of other ages ---


@pytest.mark.parametrize("function", [each for each in CALLS if each not in INDISPENSABLE] + STAND_INS)
def test_driver_without_a_function_has_all_other_values(make_scene: MakeScene, function: str) -> None:
    name = "nvmlInitWithFlags" if function == "nvmlInit" else function
    scene = make_scene(without=[name], slow_s=0.0)
    scene.play(**FULL)
    scene.sample()
    time.sleep(GPM_S)

    reading = scene.sample()

    assert reading.problems == ()
    names = names_of(reading, 0)
    basic = {"memory.used.bytes", "temperature.celsius", "utilization.percent", "power.watts", "clock.sm.mhz"}
    own = {
        "nvmlDeviceGetTemperature": {"temperature.celsius"},
        "nvmlDeviceGetUtilizationRates": {"utilization.percent"},
        "nvmlDeviceGetClockInfo": {"clock.sm.mhz"},
    }
    assert basic - names == own.get(function, set())
    assert absurdities(reading.values.items()) == []
    assert len(set(scene.library.openings())) == 1


def test_driver_with_nothing_new_has_the_basics(make_scene: MakeScene) -> None:
    basics = {
        "nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature",
        "nvmlDeviceGetClockInfo",
    }  # fmt: skip
    scene = make_scene(without=[each for each in CALLS if each not in basics], slow_s=0.0)
    scene.sample()

    reading = scene.sample()

    assert reading.problems == ()
    assert {
        "utilization.percent", "temperature.celsius", "power.watts", "power.mean.watts", "memory.used.bytes",
        "throttle.power_cap.percent", "processes.count",
    } <= names_of(reading, 0)  # fmt: skip


def test_upgraded_driver_gets_a_new_process(make_scene: MakeScene) -> None:
    scene = make_scene()
    before = scene.sample()
    (old,) = children()
    scene.play(driver=2)

    after = scene.recovered()

    (new,) = children()
    assert new.pid != old.pid
    assert before.inventory is not None
    assert after.inventory is not None
    assert (before.inventory["gpu_driver"], after.inventory["gpu_driver"]) == ("999.10.2", "999.10.4")


@pytest.mark.parametrize("minutes", [1, 10])
def test_upgrade_that_takes_minutes_heals(make_scene: MakeScene, minutes: int) -> None:
    scene = make_scene()
    scene.sample()
    scene.play(driver=1, fail__nvmlInit=DRIVER_NOT_LOADED, fail__nvmlDeviceGetCount_v2=DRIVER_NOT_LOADED)
    began = scene.clock.now
    while scene.clock.now < began + 60 * minutes:
        assert scene.try_sample() is None

    scene.play(driver=2)

    assert "utilization.percent" in names_of(scene.recovered(), 0)
    assert len(set(scene.library.openings())) <= 8 + 2 * minutes


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount_v2", "nvmlDeviceGetFieldValues"])
@pytest.mark.parametrize("error", [1, DRIVER_NOT_LOADED, OPERATING_SYSTEM, 18, 999])
def test_error_of_the_whole_driver_heals_however_long_it_lasted(
    make_scene: MakeScene, function: str, error: int
) -> None:
    scene = make_scene(retry_s=0.0)
    scene.play(gpus=2)
    whole = names_of(scene.sample(), 1)
    scene.play(gpus=2, **{f"fail__{function}": error})
    began = scene.clock.now
    while scene.clock.now < began + 200:
        scene.try_sample()
        assert len(children()) <= 1
    started = len(set(scene.library.openings()))
    assert started <= 15, "new processes in a loop"

    scene.play(gpus=2)

    assert whole <= names_of(scene.recovered(lambda reading: whole <= names_of(reading, 1)), 1)


# --- single GPUs ---


@pytest.mark.parametrize("error", [GPU_IS_LOST, RESET_REQUIRED])
def test_gpu_that_falls_out_is_named_the_others_stay_and_it_comes_back(
    make_scene: MakeScene, error: int
) -> None:
    scene = make_scene()
    scene.play(gpus=8)
    whole = scene.sample()
    scene.play(gpus=8, fail__gpu3=error)

    for _ in range(5):
        reading = scene.sample()

        assert names_of(reading, 3) == set()
        assert [problem for problem in reading.problems if not problem.startswith("GPU 3: ")] == []
        assert f"({error})" in reading.problems[0]
        for index in (0, 1, 2, 4, 5, 6, 7):
            assert names_of(whole, index) <= names_of(reading, index)
        assert reading.inventory is not None
        assert [gpu["index"] for gpu in reading.inventory["gpus"]] == list(range(8))

    assert len(set(scene.library.openings())) == 1, "no new process for one lost GPU"
    scene.play(gpus=8)
    assert names_of(whole, 3) <= names_of(scene.recovered(), 3)


def test_lost_gpu_reopens_the_driver_no_more_often_than_it_may(make_scene: MakeScene) -> None:
    scene = make_scene(reopen_s=3600)
    scene.play(gpus=2, fail__gpu1=GPU_IS_LOST)

    for _ in range(20):
        assert scene.sample().problems

    assert len(scene.library.openings()) == 1


def test_all_gpus_lost_is_no_end_of_the_collector(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=2, fail__gpu0=GPU_IS_LOST, fail__gpu1=GPU_IS_LOST)

    assert len(scene.sample().problems) == 2

    scene.play(gpus=2)
    assert names_of(scene.recovered(), 1)


def test_unplugged_gpus_vanish_and_come_back(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=4)
    scene.sample()
    scene.play(gpus=2)

    reading = scene.recovered()

    assert [bool(names_of(reading, index)) for index in range(4)] == [True, True, False, False]
    assert reading.inventory is not None
    assert len(reading.inventory["gpus"]) == 2
    scene.play(gpus=4)
    # A moment passes until the driver is opened anew for the two.
    reading = scene.recovered(lambda reading: bool(names_of(reading, 3)))
    assert all(names_of(reading, index) for index in range(4))


def test_call_that_fails_for_one_gpu_costs_that_value_and_is_named(make_scene: MakeScene) -> None:
    scene = make_scene(retry_s=0.0)
    unknown = 999
    scene.play(gpus=2, fail__nvmlDeviceGetTemperature__gpu1=unknown)

    reading = scene.sample()

    assert names_of(reading, 0) - names_of(reading, 1) == {"temperature.celsius"}
    assert len(reading.problems) == 1
    assert "(999)" in reading.problems[0]
    scene.play(gpus=2)
    assert "temperature.celsius" in names_of(scene.recovered(), 1)


# --- the process ---


def test_child_that_is_killed_by_somebody_is_replaced(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.sample()
    (child,) = children()
    child.kill()
    psutil.wait_procs([child], timeout=0.2)

    scene.recovered()

    assert [each.pid for each in children()] != [child.pid]


def test_machine_without_a_driver_starts_no_processes(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(fail__nvmlInit=DRIVER_NOT_LOADED)

    for _ in range(140):
        with pytest.raises(NothingHere):
            scene.sample()

    assert len(set(scene.library.openings())) == 1
