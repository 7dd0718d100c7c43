"""The agent in an operator's hands: real processes asked, watched, reloaded, filled up and cut off."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fake_tracker_server import FakeTrackerServer, Status
from tests.support.faulty_disks import SmallDisk
from tracker.protocol import bodies, kinds
from tracker.protocol.writer import StreamWriter
from tracker_agent.health import PROGRESS_S, Health
from tracker_agent.log_flood import SIMILAR_MAX

COMMAND = [sys.executable, "-m", "tracker_agent.cli"]
INGEST = "/api/v1/ingest"


@pytest.fixture
def agents(tmp_path: Path, server: FakeTrackerServer) -> Iterator[Callable[..., AgentProcess]]:
    started: list[AgentProcess] = []

    def start(extra_config: str = "", state: Path | None = None) -> AgentProcess:
        agent = AgentProcess(tmp_path / "agent", server.url, "key", extra_config=extra_config)
        if state is not None:
            agent.config.write_text(agent.config.read_text().replace(str(agent.state), str(state)))
            agent.state = state
        started.append(agent)
        agent.start()
        wait_until(agent.status, what="a status")
        return agent

    yield start
    for agent in started:
        agent.kill()


def run(agent: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments, "--state-dir", str(agent.state)],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def reload(agent: AgentProcess) -> None:
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_tap_of_a_running_agent_shows_one_runs_metrics_as_they_pass(
    agents: Callable[..., AgentProcess], tmp_path: Path
) -> None:
    agent = agents()
    spool = Spool(agent.spool)
    command = [
        *COMMAND,
        "tap",
        "--run",
        "mine",
        "--kind",
        "metrics",
        "--json",
        "--state-dir",
        str(agent.state),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tap:
        assert tap.stdout is not None and tap.stderr is not None
        assert "listening" in tap.stderr.readline()

        spool.write("other", records=5)
        spool.write("mine", records=3)

        shown = [json.loads(tap.stdout.readline()) for _ in range(3)]
        agent.stop()
        assert tap.wait(30) == 1
        assert "stopped in the middle" in tap.stderr.read()

    assert [(each["run"], each["kind"], each["body"]["step"]) for each in shown] == [
        ("mine", "METRICS", step) for step in range(3)
    ]


def test_top_of_a_running_agent_names_its_runs(agents: Callable[..., AgentProcess]) -> None:
    agent = agents()
    writer = StreamWriter(str(Spool(agent.spool).run("run1")), make_header("run1"), 2**26)
    writer.write(kinds.RUN, bodies.Run(1, {"project": "p"}).encode())

    def shown() -> str | None:
        text = run(agent, "top", "--interval", "0.2").stdout
        return text if "run1" in text else None

    text = wait_until(shown, what="the run in top")
    writer.close()

    assert "CPU" in text
    assert "shipping" in text


def test_metrics_follow_a_reload_and_readiness_follows_the_work(agents: Callable[..., AgentProcess]) -> None:
    first, second = free_port(), free_port()
    agent = agents(f'[metrics]\nlisten = "127.0.0.1:{first}"\n')
    spool = Spool(agent.spool)
    spool.write("run1", records=100)

    def shipped() -> float:
        text = get(f"http://127.0.0.1:{first}/metrics")[1]
        return max(
            float(line.split()[1]) for line in text.splitlines() if line.startswith("tracker_agent_shipped")
        )

    wait_until(lambda: shipped() > 1000, what="shipped bytes in the metrics")
    wait_until(lambda: get(f"http://127.0.0.1:{first}/readyz")[0] == 200, what="readiness")
    assert get(f"http://127.0.0.1:{first}/healthz")[0] == 200

    agent.config.write_text(agent.config.read_text().replace(str(first), str(second)))
    reload(agent)

    wait_until(lambda: _answers(second), what="metrics at the new address")
    assert not _answers(first)
    agent.config.write_text(agent.config.read_text().replace(f'"127.0.0.1:{second}"', '""'))
    reload(agent)
    wait_until(lambda: not _answers(second), what="metrics to be off")
    status = agent.status()
    assert status is not None and status["metrics"] is None


def _answers(port: int) -> bool:
    try:
        return get(f"http://127.0.0.1:{port}/metrics")[0] == 200
    except OSError:
        return False


def test_what_was_lost_stays_counted_over_a_reload(agents: Callable[..., AgentProcess]) -> None:
    agent = agents()
    torn = Spool(agent.spool).write("run1", exit_code=None)
    (segment,) = (agent.spool / str(os.getuid()) / "run1").glob(f"{torn.hex()}.*.mpl")
    with segment.open("ab") as file:
        file.write(b"\x93\x01\xce")

    wait_until(lambda: _losses(agent), what="the torn tail")
    agent.config.write_text(agent.config.read_text() + "[limits]\nmemory_bytes = 16777216\n")
    reload(agent)
    wait_until(lambda: (agent.status() or {})["shipping"].get("in_flight", {}).get("bytes_max") == 1 << 24)

    assert _losses(agent) == ["torn_tail"]
    assert "lost: 3 bytes in 1 gap: torn_tail" in run(agent, "status").stdout


def _losses(agent: AgentProcess) -> list[str]:
    status: dict[str, Any] = agent.status() or {"shipping": {}}
    return [loss["code"] for loss in status["shipping"].get("losses", {}).values()]


def test_full_state_directory_is_said_a_few_times_and_not_for_every_stream(
    agents: Callable[..., AgentProcess], tmp_path: Path
) -> None:
    with SmallDisk(tmp_path / "small", 1 << 20) as disk:
        agent = agents(state=disk.path / "state")
        disk.fill()
        spool = Spool(agent.spool)
        streams = [spool.write(f"run{n}", records=3) for n in range(200)]
        wait_until(
            lambda: (agent.status() or {})["shipping"]["streams"]["shipped"] >= len(streams),
            what="shipping, which needs no disk",
        )
        wait_until(
            lambda: (agent.status() or {})["shipping"]["unobserved"] > SIMILAR_MAX, what="unwritten ends"
        )
        text = run(agent, "status").stdout
        log = agent.log_path.read_text()
        agent.kill()

    complaints = [line for line in log.splitlines() if "cannot write" in line]
    assert 0 < len(complaints) <= 3 * SIMILAR_MAX
    assert "cannot be written down" in text


async def test_health_is_that_of_the_pipelines_own_progress(
    start: Start, spool: Spool, server: FakeTrackerServer
) -> None:
    server.faults[INGEST] = [Status(503)] * 10_000
    health = Health()
    spool.write(records=20)
    async with start() as pipeline:
        await eventually(lambda: any(lane["behind_bytes"] for lane in pipeline.status()["lanes"]))
        await eventually(lambda: pipeline.status()["lanes"][0]["state"] == "retrying")

        assert health.observe(pipeline.status()["lanes"], pipeline.stuck(), 0.0).ready
        stalled = health.observe(pipeline.status()["lanes"], pipeline.stuck(), PROGRESS_S + 1)
        server.faults[INGEST] = []
        await eventually(lambda: not any(lane["behind_bytes"] for lane in pipeline.status()["lanes"]))
        healed = health.observe(pipeline.status()["lanes"], pipeline.stuck(), 2 * PROGRESS_S)

    assert (stalled.state, stalled.ready) == ("stalled", False)
    assert "503" in stalled.reasons[0]
    assert (healed.state, healed.ready) == ("idle", True)
