"""tracker-agent pause-gpu: nothing of the agent holds the GPUs' driver, and measuring goes on by itself."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fake_nvml import FakeNvml
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.gpu_scene import GpuScene, MovedClock, children, gpu_scene
from tracker_agent.collectors.collector import CollectorError, NothingHere
from tracker_agent.collectors.gpu_pause import PAUSE_S_MAX, GpuPause
from tracker_agent.commands.pause_gpu import parse_time

HOUR_S = 3600.0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[GpuScene]:
    with gpu_scene(tmp_path / "nvml") as made:
        yield made


@pytest.fixture
def pause(scene: GpuScene) -> GpuPause:
    return scene.collector.context.gpu_pause


def test_pause_ends_the_process_that_asks_and_says_so(scene: GpuScene, pause: GpuPause) -> None:
    scene.sample()
    (child,) = children()

    problems = pause.begin(HOUR_S)

    assert problems == []
    assert not child.is_running()
    assert children() == []
    for _ in range(3):
        with pytest.raises(NothingHere, match=r"paused until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"):
            scene.sample()
    assert len(scene.library.openings()) == 1


def test_process_lets_go_of_the_driver_by_itself(scene: GpuScene, pause: GpuPause) -> None:
    scene.play(record=1)
    scene.sample()

    pause.begin(HOUR_S)

    assert scene.library.calls()[-1] == "nvmlShutdown"
    assert "nvmlEventSetFree" in scene.library.calls()


def test_end_of_a_pause_brings_the_values_back_at_once(scene: GpuScene, pause: GpuPause) -> None:
    scene.sample()
    pause.begin(HOUR_S)

    assert pause.end()
    assert not pause.end(), "there is none any more"

    assert scene.sample().values["host.gpu.0.utilization.percent"] == 50


def test_driver_that_hangs_is_let_go_of_by_force(tmp_path: Path) -> None:
    with gpu_scene(tmp_path, deadline_s=60.0) as scene:
        scene.sample()
        scene.play(sleep__nvmlDeviceGetTemperature=60_000)
        outcome: list[Exception] = []

        def ask() -> None:
            try:
                scene.collector.sample()
            except CollectorError as error:
                outcome.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: scene.collector._lock.locked(), what="a sample under way")

        problems = scene.collector.context.gpu_pause.begin(HOUR_S)

        asking.join(30)
        assert problems == []
        assert len(outcome) == 1
        assert children() == []


def test_process_that_cannot_be_killed_is_named(
    scene: GpuScene, pause: GpuPause, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.sample()
    (child,) = children()
    # A process in an uninterruptible sleep neither ends nor dies; here the signal is not sent.
    scene.play(sleep__nvmlShutdown=60_000)
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen.kill", lambda self: None)
        patch.setattr("tracker_agent.collectors.asked_child.RELEASE_WAIT_S", 0.2)

        (problem,) = pause.begin(HOUR_S)

        assert "does not let go" in problem
        assert children() == [child]
        with pytest.raises(NothingHere, match="paused"):
            scene.sample()
    child.kill()
    scene.play()
    pause.end()
    wait_until(scene.try_sample, what="a sample")
    assert len(children()) == 1


def test_pause_ends_by_itself() -> None:
    clock = MovedClock()
    pause = GpuPause(clock, lambda: 0.0)

    pause.begin(600.0)
    lasting = [pause.left_s()]
    clock.now += 599.0
    lasting.append(pause.left_s())
    clock.now += 1.0

    assert lasting == [600.0, 1.0]
    assert pause.left_s() == 0.0
    assert pause.until() == "1970-01-01 00:10:00 UTC"
    assert not pause.end()


def test_second_pause_replaces_the_first() -> None:
    clock = MovedClock()
    pause = GpuPause(clock)

    pause.begin(600.0)
    pause.begin(5.0)

    assert pause.left_s() == 5.0


def test_collector_that_was_closed_is_asked_no_more(scene: GpuScene, pause: GpuPause) -> None:
    released: list[str] = []

    def release() -> str:
        released.append("asked")
        return "held"

    pause.hold(release)
    scene.collector.close()

    assert pause.begin(1.0) == ["held"]
    pause.drop(release)
    pause.drop(release)
    assert pause.begin(1.0) == []
    assert released == ["asked"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("45", 45), ("1.5m", 90)]
)
def test_times_are_understood(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "0", "-5m", "10x", "nan", "inf", "1e999h", "25h", f"{PAUSE_S_MAX + 1}"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_time(text)


@pytest.fixture
def agent(tmp_path: Path, server: FakeTrackerServer) -> Iterator[AgentProcess]:
    library = FakeNvml(tmp_path / "nvml")
    made = AgentProcess(tmp_path / "agent", server.url, "key", extra_config="[sampler]\ninterval_s = 0.2\n")
    made.environment = library.environment
    with made:
        yield made


def command(agent: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "pause-gpu", *arguments, "--state-dir", str(agent.state)],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def nvidia(agent: AgentProcess) -> dict[str, Any]:
    status = agent.status()
    return {} if status is None or not status["sampler"] else status["sampler"]["collectors"]["nvidia"]


def test_operator_pauses_and_resumes_a_running_agent(agent: AgentProcess) -> None:
    wait_until(lambda: nvidia(agent).get("state") == "ok", what="GPU values")
    assert agent.process is not None
    assert len(children(agent.process.pid)) == 1

    paused = command(agent, "--for", "30m")

    assert (paused.returncode, paused.stderr) == (0, "")
    assert "let go of" in paused.stdout
    assert children(agent.process.pid) == []
    wait_until(lambda: nvidia(agent).get("state") == "nothing here", what="the pause in status")
    assert nvidia(agent)["reason"].startswith("paused until ")
    status = agent.status()
    assert status is not None
    assert status["gpu_paused_until"] in paused.stdout

    resumed = command(agent, "--resume")

    assert (resumed.returncode, resumed.stdout) == (0, "GPUs are measured again.\n")
    wait_until(lambda: nvidia(agent).get("state") == "ok", what="GPU values again")
    assert command(agent, "--resume").stdout == "GPUs were not paused.\n"


def test_pause_ends_by_itself_in_a_running_agent_and_outlasts_a_reload(agent: AgentProcess) -> None:
    wait_until(lambda: nvidia(agent).get("state") == "ok", what="GPU values")
    assert agent.process is not None
    command(agent, "--for", "30m")
    agent.config.write_text(agent.config.read_text().replace("interval_s = 0.2", "interval_s = 0.3"))

    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in agent.log(), what="the reload")

    wait_until(lambda: nvidia(agent).get("state") == "nothing here", what="the pause in a new sampler")
    command(agent, "--for", "1s")
    wait_until(lambda: nvidia(agent).get("state") == "ok", what="GPU values after the pause")


def test_agent_that_does_not_run_cannot_be_paused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "pause-gpu", "--state-dir", str(tmp_path)],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip

    assert done.returncode == 3
