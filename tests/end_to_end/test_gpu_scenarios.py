"""GPUs that fail under a real agent: everything else keeps coming, and the GPUs come back within a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fake_nvml import FakeNvml
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.gpu_scene import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    OPERATING_SYSTEM,
    RECOVERY_S,
    RESET_REQUIRED,
    absurdities,
    children,
)
from tests.support.live_writer import LiveWriter
from tests.support.server_process import ServerProcess
from tracker.protocol import bodies, kinds

SAMPLER = "[sampler]\ninterval_s = 0.2\nwindow_s = 0.4\n"
#: How long each fault is looked at.
FAULT_S = 5.0
#: In that time there are about 12 windows and 50 records.
WINDOWS_MIN = 5
RECORDS_MIN = 20
#: A child that has ended is reaped at once, or when it is next asked.
ZOMBIE_S_MAX = 2.0
OTHERS = ("host.cpu.percent", "host.memory.used.bytes", "host.disk.", "host.network.")
GPUS = {"gpus": 8, "memory": 40 << 30}
#: A training that logs ten times a second.
TRAINING = """
step = 0
while True:
    writer.write(kinds.METRICS, bodies.Metrics(time.time_ns(), step, {"loss": 1.0 / (step + 1)}).encode())
    step += 1
    time.sleep(0.1)
"""


class Watch:
    """Looks at an agent's children all the time: how many there are, and how long one stays a zombie."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0
        self.longest_zombie_s = 0.0
        self.pids: set[int] = set()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _look(self) -> None:
        zombies: dict[int, float] = {}
        while not self._stopping.wait(0.05):
            try:
                found = children(self._pid)
                dead = {each.pid for each in found if each.status() == psutil.STATUS_ZOMBIE}
            except psutil.NoSuchProcess:
                continue
            zombies = {pid: zombies.get(pid, time.monotonic()) for pid in dead}
            ages = [time.monotonic() - since for since in zombies.values()]
            self.longest_zombie_s = max(self.longest_zombie_s, *ages, 0.0)
            self.most = max(self.most, len(found) - len(dead))
            self.pids |= {each.pid for each in found}


class Machine:
    """A server, an agent on the stand-in for NVIDIA's library, and a training beside it."""

    def __init__(self, agent: AgentProcess, server: FakeTrackerServer, library: FakeNvml) -> None:
        self.agent = agent
        self.server = server
        self.library = library

    @property
    def pid(self) -> int:
        assert self.agent.process is not None
        return self.agent.process.pid

    def own_records(self, kind: int) -> list[bytes]:
        """Return the bodies of one kind that the agent sent about this machine."""
        streams = list(self.server.streams.get("key", {}).values())
        records = [each for stream in streams if stream.header and stream.header.run is None
                   for each in stream.records()]  # fmt: skip
        return [body for found, body in records if found == kind]

    def windows(self) -> list[bodies.Sample]:
        samples = (bodies.decode_sample(body) for body in self.own_records(kinds.SAMPLE))
        return [sample for sample in samples if sample.about is None]

    def alerts(self) -> list[bodies.Alert]:
        return [bodies.decode_alert(body) for body in self.own_records(kinds.ALERT)]

    def points(self) -> int:
        """Return how many points of the training have arrived."""
        return sum(
            kind == kinds.METRICS for each in self.server.run_streams("run") for kind, _ in each.records()
        )

    def has_gpu(self, index: int = 0) -> bool:
        """Return whether the newest window has values of a GPU."""
        windows = self.windows()
        return bool(windows) and f"host.gpu.{index}.memory.used.bytes" in windows[-1].values

    def wait_for_gpus(self, *indexes: int) -> None:
        wait_until(
            lambda: all(self.has_gpu(index) for index in indexes), RECOVERY_S, f"values of GPUs {indexes}"
        )

    def check_that_all_else_arrives(self, seconds: float = FAULT_S) -> list[bodies.Sample]:
        """Look for some seconds; return the windows that came."""
        windows, points = len(self.windows()), self.points()
        time.sleep(seconds)
        new = self.windows()[windows:]
        assert len(new) >= WINDOWS_MIN, "windows stopped coming"
        for name in OTHERS:
            have = [window for window in new if any(each.startswith(name) for each in window.values)]
            assert len(have) >= WINDOWS_MIN, f"{name} stopped coming"
        assert self.points() >= points + RECORDS_MIN, "the run's records stopped coming"
        return new


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    library = FakeNvml(tmp_path / "nvml")
    library.play(**GPUS)
    yield from run_machine(tmp_path, library)


def run_machine(tmp_path: Path, library: FakeNvml) -> Iterator[Machine]:
    with FakeTrackerServer() as server:
        agent = AgentProcess(tmp_path / "agent", server.url, "key", extra_config=SAMPLER)
        agent.environment = dict(library.environment)
        directory = agent.spool / str(os.getuid()) / "run"
        directory.mkdir(parents=True)
        with agent, LiveWriter(directory, end=TRAINING) as training:
            training.go_on()
            made = Machine(agent, server, library)
            wait_until(lambda: made.points() and made.windows(), what="the first records")
            with Watch(made.pid) as watch:
                yield made
                left = children(made.pid)
                assert agent.stop() == 0
            assert [each for each in left if each.is_running()] == [], "the child outlived the agent"
        assert watch.most <= 1, "two processes asked the driver at a time"
        assert watch.longest_zombie_s < ZOMBIE_S_MAX, "a zombie was left"
        values = ((name, value) for window in made.windows() for name, numbers in window.values.items()
                  if name.startswith("host.gpu.") for value in numbers[:4])  # fmt: skip
        assert absurdities(values) == []
        assert "Traceback" not in agent.log()


FAULTS: dict[str, dict[str, float]] = {
    "lost": {**GPUS, "fail.gpu3": GPU_IS_LOST},
    "reset required": {**GPUS, "fail.gpu3": RESET_REQUIRED},
    "all lost": {**GPUS, "fail": GPU_IS_LOST},
    "hang": {**GPUS, "sleep.nvmlDeviceGetTemperature": 30_000},
    "hang at the fields": {**GPUS, "sleep.nvmlDeviceGetFieldValues": 30_000},
    "hang at GPM": {**GPUS, "sleep.nvmlGpmMetricsGet": 30_000},
    "driver upgraded": {**GPUS, "driver": 1, "fail.nvmlInit": 18},
    "driver unloaded": {**GPUS, "fail.nvmlInit": DRIVER_NOT_LOADED, "fail.nvmlDeviceGetCount_v2": 9},
    "taken away": {**GPUS, "fail.nvmlInit": OPERATING_SYSTEM, "fail.nvmlDeviceGetCount_v2": 17},
    "unplugged": {**GPUS, "gpus": 5},
    "Xid storm": {**GPUS, "events": 5000, "event_data": 63},
    "MIG": {**GPUS, "mig.gpu3": 2},
    "slow": {**GPUS, "sleep": 1},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_everything_else_keeps_coming_while_gpus_fail(machine: Machine, fault: str) -> None:
    machine.wait_for_gpus(0, 7)
    before = len(set(machine.library.openings()))

    machine.library.play(**FAULTS[fault])

    machine.check_that_all_else_arrives()
    # At once, after 1 s, after 2 s more: three at most in these five seconds.
    assert len(set(machine.library.openings())) - before <= 3, "new processes in a loop"
    if fault in ("lost", "reset required", "unplugged", "MIG", "Xid storm", "slow"):
        assert machine.has_gpu(0), "the healthy GPUs have no values"


@pytest.mark.parametrize("fault", ["lost", "hang", "driver unloaded"])
def test_gpus_are_back_within_a_minute(machine: Machine, fault: str) -> None:
    machine.wait_for_gpus(0, 3, 7)
    machine.library.play(**FAULTS[fault])
    wait_until(lambda: not machine.has_gpu(3), what="the loss of GPU 3")
    time.sleep(8)

    machine.library.play(**{**GPUS, "driver": FAULTS[fault].get("driver", 0)})

    machine.wait_for_gpus(0, 3, 7)


def test_hang_at_the_start_delays_gpus_alone(tmp_path: Path) -> None:
    library = FakeNvml(tmp_path / "nvml")
    library.play(**GPUS, sleep__nvmlInit=30_000)
    scene = run_machine(tmp_path, library)
    machine = next(scene)

    machine.check_that_all_else_arrives()

    assert not machine.has_gpu()
    library.play(**GPUS)
    machine.wait_for_gpus(0, 7)
    assert next(scene, None) is None


def test_old_driver_brings_what_it_has(tmp_path: Path) -> None:
    lacks = [
        "nvmlDeviceGetFieldValues", "nvmlDeviceGetMemoryInfo_v2", "nvmlEventSetWait_v2", "nvmlGpmSampleGet",
        "nvmlGpmQueryDeviceSupport", "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetMarginTemperature", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMigMode",
    ]  # fmt: skip
    library = FakeNvml(tmp_path / "nvml", without=lacks)
    library.play(**GPUS)
    scene = run_machine(tmp_path, library)
    machine = next(scene)

    machine.wait_for_gpus(0, 7)
    machine.check_that_all_else_arrives()

    assert "host.gpu.7.power.watts" in machine.windows()[-1].values
    assert next(scene, None) is None


def test_xids_arrive_as_records_with_their_time_once_each(machine: Machine) -> None:
    machine.wait_for_gpus(0, 7)
    began = time.time_ns()
    played = {**GPUS, "event_data": 46, "event_data_step": 1, "event_gpu_step": 1}
    machine.library.play(**played)
    time.sleep(1)
    machine.library.play(**played, events=6)

    wait_until(lambda: len(machine.alerts()) >= 6, what="the Xids")
    time.sleep(2)

    alerts = machine.alerts()
    told = Counter((alert.facts or {}).get("xid") for alert in alerts)
    assert told == {46 + number: 1 for number in range(6)}
    assert {(alert.facts or {})["gpu"] for alert in alerts} == {f"GPU-played-{number}" for number in range(6)}
    assert all(began <= alert.time <= time.time_ns() for alert in alerts)


def test_xid_shows_at_the_server_as_an_event_of_the_machine(tmp_path: Path) -> None:
    library = FakeNvml(tmp_path / "nvml")
    library.play(**GPUS)
    with ServerProcess(tmp_path / "server") as server:
        agent = AgentProcess(tmp_path / "agent", server.url, server.ingest_key, extra_config=SAMPLER)
        agent.environment = dict(library.environment)
        with agent:
            hosts = wait_until(lambda: server.get("/api/v1/hosts")["hosts"], what="the machine")
            path = f"/api/v1/hosts/{hosts[0]['machine']}"
            wait_until(lambda: children(agent.process.pid), what="the child")  # type: ignore[union-attr]
            wait_until(library.openings, what="the driver opened")
            time.sleep(2)

            library.play(**GPUS, events=1, event_data=79, event_gpu=5)

            def events() -> list[dict[str, Any]]:
                found = server.get(f"{path}/events")["events"]
                return [each for each in found if (each.get("facts") or {}).get("xid") == 79]

            (event,) = wait_until(events, what="the event")
            time.sleep(2)
            assert len(events()) == 1
    assert event["facts"]["gpu"] == "GPU-played-5"
    assert event["level"] == "error"


def test_pause_leaves_nothing_of_the_driver_open_and_resume_goes_on(machine: Machine) -> None:
    machine.wait_for_gpus(0, 7)
    assert holders(machine) == {child.pid for child in children(machine.pid)}

    paused = pause_gpu(machine, "--for", "10m")

    assert paused.returncode == 0, paused.stderr
    assert holders(machine) == set()
    assert children(machine.pid) == []
    openings = len(machine.library.openings())
    new = machine.check_that_all_else_arrives(3 * FAULT_S / 5 + 2)
    assert len(machine.library.openings()) == openings, "the driver was opened while paused"
    assert not [name for name in new[-1].values if name.startswith("host.gpu.")]
    assert (machine.agent.status() or {})["sampler"]["collectors"]["nvidia"]["state"] == "nothing here"
    resumed = pause_gpu(machine, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    machine.wait_for_gpus(0, 7)


def pause_gpu(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "pause-gpu", *arguments]
        + ["--state-dir", str(machine.agent.state)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def holders(machine: Machine) -> set[int]:
    """Return the processes of the agent's family that have the library mapped or a file of it open."""
    agent = psutil.Process(machine.pid)
    found = set()
    for process in (agent, *agent.children(recursive=True)):
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        opened = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
        where = str(machine.library.library_path)
        if where in maps or any(name.startswith((where, "/dev/nvidia")) for name in opened):
            found.add(process.pid)
    return found


def test_sample_command_shows_the_gpus(tmp_path: Path) -> None:
    library = FakeNvml(tmp_path / "nvml")
    library.play(**GPUS)

    done = subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "sample", "nvidia", "--json"],
        env=os.environ | library.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "host.gpu.7.power.watts" in json.dumps(json.loads(line))
