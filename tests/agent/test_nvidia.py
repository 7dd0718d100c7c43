"""The process that asks NVIDIA's driver: one at a time, never in a loop, never left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.support.agent_process import wait_until
from tests.support.fake_nvml import FakeNvml
from tests.support.gpu_scene import (
    DRIVER_NOT_LOADED,
    OPERATING_SYSTEM,
    GpuScene,
    MovedClock,
    children,
    gpu_scene,
    of_gpu,
)
from tracker_agent.collectors import asked_child, nvidia_process
from tracker_agent.collectors.collector import CollectorError, NothingHere
from tracker_agent.collectors.nvidia import NvidiaCollector


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[GpuScene]:
    with gpu_scene(tmp_path / "nvml") as made:
        yield made


def test_driver_without_second_version_of_memory_info_is_asked_for_the_first(scene: GpuScene) -> None:
    function_not_found = 13
    scene.play(fail__nvmlDeviceGetMemoryInfo_v2=function_not_found, memory__gpu0=1 << 30)

    values = of_gpu(scene.sample().values.items(), 0)

    # The first version counts what the driver keeps for itself as used.
    assert values["memory.used.bytes"] == (1 << 30) + (512 << 20)


def test_hanging_driver_is_not_asked_by_new_processes_in_a_loop(scene: GpuScene) -> None:
    scene.play(fail__nvmlInit=OPERATING_SYSTEM)

    for _ in range(60):
        with pytest.raises(CollectorError, match=r"OperatingSystem \(17\)"):
            scene.sample()

    # 120 s at one sample each 2 s: after 1, 2, 4, 8, 16, 32 s and then its longest wait, not 60 times.
    assert 5 <= len(scene.library.openings()) <= 9
    assert children() == []


def test_child_that_cannot_be_killed_is_not_replaced(tmp_path: Path) -> None:
    with gpu_scene(tmp_path / "nvml", deadline_s=0.5) as scene:
        scene.sample()
        (child,) = children()
        # A process in an uninterruptible sleep ignores SIGKILL; here the signal is not sent.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("subprocess.Popen.kill", lambda self: None)
            scene.play(sleep__nvmlDeviceGetTemperature=60_000)
            with pytest.raises(CollectorError):
                scene.sample()
            for _ in range(20):
                scene.clock.now += 60

                with pytest.raises(CollectorError, match="does not let go"):
                    scene.sample()

                assert children() == [child]
        scene.play()
        child.send_signal(signal.SIGKILL)
        assert scene.recovered().values
        assert len(children()) == 1


def test_machine_without_library_has_nothing_here_and_is_looked_at_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gpu_scene(tmp_path / "nvml") as scene:
        # Not even where the machine that runs this test has the real one.
        library = scene.library.library_path / "libnvidia-ml.so.1"
        library.unlink()
        library.write_text("not a library")
        started: list[float] = []

        class CountedChild(nvidia_process.Child):
            def __init__(self, command: Sequence[str]) -> None:
                started.append(scene.clock.now)
                super().__init__(command)

        monkeypatch.setattr(asked_child, "Child", CountedChild)
        for _ in range(100):
            with pytest.raises(NothingHere):
                scene.sample()
        assert len(started) == 1
        scene.clock.now += asked_child.ABSENT_RECHECK_S
        FakeNvml(scene.library.library_path)

        assert of_gpu(scene.sample().values.items(), 0)["utilization.percent"] == 50


def test_machine_without_driver_has_nothing_here(scene: GpuScene) -> None:
    scene.play(fail__nvmlInit=DRIVER_NOT_LOADED)

    with pytest.raises(NothingHere, match="DriverNotLoaded"):
        scene.sample()


@pytest.mark.parametrize("reply", ["hello", "[1]", '{"gpus": 5'])
def test_what_the_child_prints_by_accident_is_no_answer(reply: str) -> None:
    script = f"input(); print({reply!r}); input()"
    strange = NvidiaCollector(
        command=(sys.executable, "-c", script), deadline_s=5.0, first_deadline_s=5.0, monotonic=MovedClock()
    )

    with pytest.raises(CollectorError, match="ended"):
        strange.sample()

    strange.close()
    assert children() == []


def test_child_ends_when_the_agent_is_killed(scene: GpuScene) -> None:
    script = (
        "import os, signal\nfrom tracker_agent.collectors.nvidia import NvidiaCollector\n"
        "collector = NvidiaCollector(); collector.sample()\n"
        "print(collector._keeper.child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    scene.play()
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
