"""From a request to a training's KeyboardInterrupt, and from a death to its cause, with everything real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess, training_environment, wait_until
from tests.support.http_client import ask
from tests.support.memory_cgroup import memory_cgroup
from tests.support.server_process import ServerProcess
from tracker_agent.evidence import KILLED_FOR_MEMORY
from tracker_agent.exit_status import pidfds_tell

TRAINING = """
import os, sys, time, tracker
if len(sys.argv) > 3:
    open(sys.argv[3], "w").write(str(os.getpid()))
run = tracker.init(project="ends", id=sys.argv[1], allow_stop=sys.argv[2] == "stoppable")
eaten = []
try:
    while True:
        tracker.log({"a": 1.0})
        time.sleep(0.02)
        if os.path.exists(os.path.join(run.dir, "eat")):
            while True:
                eaten.append(bytearray(1 << 20))
except KeyboardInterrupt:
    tracker.log({"saved": 1.0})
    raise
"""


class Bench:
    """One server and one agent, and trainings beside them."""

    def __init__(self, server: ServerProcess, agent: AgentProcess) -> None:
        self.server = server
        self.agent = agent

    def train(self, run: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TRAINING), run, *(arguments or ("plain",))],
            env=training_environment(self.agent.spool),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: self.detail(run), what="the run appears", timeout_s=60)
        wait_until(
            lambda: self.detail(run)["streams"][0]["observed"], what="its writer is seen", timeout_s=60
        )
        return process

    def path(self, run: str) -> str:
        return f"/api/v1/runs/default/ends/{run}"

    def detail(self, run: str) -> Any:
        answer = ask(self.server.url, "GET", self.path(run), key=self.server.admin_key)
        return answer.json if answer.status == 200 else None

    def state(self, run: str) -> str:
        return str(self.detail(run)["state"])

    def crash(self, run: str) -> Any:
        return ask(self.server.url, "GET", self.path(run) + "/crash", key=self.server.admin_key).json


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("ends")
    with (
        ServerProcess(root / "server") as server,
        AgentProcess(root, server.url, server.ingest_key) as agent,
    ):
        yield Bench(server, agent)


@pytest.fixture
def end() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that do not outlive their test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_run_that_allows_it_is_stopped_from_the_server(bench: Bench, end: list[Any]) -> None:
    training = bench.train("asked", "stoppable")
    end.append(training)
    assert bench.detail("asked")["can_stop"] is True

    answer = ask(bench.server.url, "POST", bench.path("asked") + "/stop", key=bench.server.admin_key)

    assert answer.status == 202
    assert training.wait(60) == -signal.SIGINT
    wait_until(lambda: bench.state("asked") == "failed", what="its end is known", timeout_s=60)
    detail = bench.detail("asked")
    assert (detail["cause"], detail["exit_code"]) == ("stopped by admin", 130)
    assert detail["summary"]["saved"] == 1.0
    assert [each["result"] for each in detail["stop"]["deliveries"]] == ["written"]
    assert detail["stop"]["done"] is not None
    stop = json.loads(next(bench.agent.spool.glob("*/asked/stop")).read_text())
    assert (stop["by"], stop["request"]) == ("admin", detail["stop"]["id"])


def test_a_run_that_does_not_allow_it_goes_on(bench: Bench, end: list[Any]) -> None:
    training = bench.train("unasked")
    end.append(training)

    answer = ask(bench.server.url, "POST", bench.path("unasked") + "/stop", key=bench.server.admin_key)

    assert (answer.status, answer.error) == (409, "not_allowed")
    assert not list(bench.agent.spool.glob("*/unasked/stop"))
    assert training.poll() is None


def test_a_silent_agent_is_no_crash_and_a_crash_behind_a_dead_agent_is_told_later(
    bench: Bench, end: list[Any]
) -> None:
    lives, dies = bench.train("lives"), bench.train("dies")
    end += [lives, dies]
    bench.agent.kill()

    dies.kill()
    dies.wait()

    assert bench.state("lives") == "running"
    assert bench.state("dies") == "running"  # nobody has said otherwise
    bench.agent.start()
    wait_until(lambda: bench.state("dies") == "crashed", what="the crash is told", timeout_s=60)
    assert "no agent ran" in bench.crash("dies")["writers"][0]["evidence"]["missing"]
    assert bench.state("lives") == "running"


def test_a_training_killed_while_the_server_was_away_has_its_cause(bench: Bench, end: list[Any]) -> None:
    training = bench.train("behind")
    end.append(training)
    bench.server.kill()

    training.kill()
    training.wait()
    bench.server.start()
    bench.server.wait_until_ready()

    wait_until(lambda: bench.state("behind") == "crashed", what="the crash is told", timeout_s=60)
    if pidfds_tell(os.uname().release):
        assert bench.detail("behind")["cause"] == "killed by SIGKILL"


def test_a_training_killed_for_memory_shows_that_and_its_host(bench: Bench, end: list[Any]) -> None:
    with memory_cgroup(128 * 2**20) as cgroup:
        training = bench.train("hungry", "plain", str(cgroup / "cgroup.procs"))
        end.append(training)
        next(bench.agent.spool.glob("*/hungry")).joinpath("eat").touch()
        assert training.wait(60) == -signal.SIGKILL
        wait_until(lambda: bench.state("hungry") == "crashed", what="the crash is told", timeout_s=60)

    crash = bench.crash("hungry")
    assert crash["cause"] == KILLED_FOR_MEMORY
    assert cgroup.name in crash["writers"][0]["evidence"]["cgroup"]
    assert any(name.startswith("host.memory") for name in crash["samples"])
