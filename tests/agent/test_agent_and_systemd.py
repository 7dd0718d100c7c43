"""The agent and the service manager: readiness, reload, watchdog, and an end in time."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_alone import AgentAlone
from tests.support.agent_process import wait_until
from tests.support.fake_nvml import FakeNvml
from tests.support.live_writer import LiveWriter
from tracker.protocol import kinds

#: Loops that stand still for so long are stuck, in these tests.
TURN_S = 1.5
#: Runs the command line with something broken in it.
BROKEN = f"""
import asyncio, sys, threading, time
from tracker_agent import cli, sampler, shipping_status
shipping_status.SCAN_TURN_S = sampler.TURN_S = {TURN_S}
sampler.FIRST_READING_WAIT_S = sampler.FIRST_WINDOW_WAIT_S = {TURN_S} / 5
shipping_status.LANE_TURN_S = {TURN_S} - 60  # this goes on top of the time that a request may take

async def for_ever(*_):
    await asyncio.Event().wait()

{{}}
sys.exit(cli.main())
"""
#: Loops that will never come round again: a restart helps.
STUCK = {
    "scan": "from tracker_agent.root import Root; Root._arm = for_ever",
    "lane": "from tracker_agent.roster import Roster; Roster.wait = for_ever",
    "sampler": "from tracker_agent.sampler import Sampler; Sampler._stopped_within = for_ever",
}
#: What a restart would not mend.
SLOW = {
    "disk": "from tracker_agent import scanner; scanner.Scanner.scan = lambda *_: time.sleep(3600)",
    "cpu": "from tracker_agent.collectors import cpu; cpu.CpuCollector.sample = lambda _: time.sleep(9)",
    "nothing": "",
}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentAlone]:
    made = AgentAlone(tmp_path)
    yield made
    made.end()


@pytest.fixture
def manager(tmp_path: Path, agent: AgentAlone) -> Iterator[socket.socket]:
    """A service manager's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(30)
        before = Path.cwd()
        os.chdir(tmp_path)
        listener.bind("notify")
        os.chdir(before)
        short = Path(f"/tmp/tracker-notify-{os.getpid()}")  # the address of a socket has 107 bytes at most
        short.unlink(missing_ok=True)
        short.symlink_to(tmp_path)
        agent.environment["NOTIFY_SOCKET"] = f"{short}/notify"
        yield listener
        short.unlink()


def told(manager: socket.socket, wanted: str) -> list[str]:
    """Return what the service manager was told up to and including a line that starts with `wanted`."""
    heard: list[str] = []
    deadline = time.monotonic() + 30
    while not any(line.startswith(wanted) for line in heard):
        assert time.monotonic() < deadline, f"{wanted!r} never came, but {heard[-10:]}"
        heard += manager.recv(4096).decode().splitlines()
    return heard


def test_agent_stops_in_time_while_its_server_accepts_and_never_answers(agent: AgentAlone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        agent.write_config(f"http://127.0.0.1:{silent.getsockname()[1]}")
        process = agent.start()
        connection, _ = silent.accept()
        with connection:
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)

            assert process.wait(30) == 0
            assert time.monotonic() - began < 10, "the promise is 10 s"


class NeverAcknowledges(http.server.BaseHTTPRequestHandler):
    """A Tracker server as far as the first batch, which it takes and keeps silent about."""

    took_a_batch = threading.Event()
    let_go = threading.Event()

    def do_GET(self) -> None:
        self.answer(
            {"server": "tracker", "version": "0", "protocol": [1, 1], "capabilities": [], "epoch": "e"}
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/ingest"):
            self.took_a_batch.set()
            self.let_go.wait(60)
            return
        streams = [{**each, "next": 0, "crc": None, "last": None} for each in json.loads(body)["streams"]]
        self.answer({"epoch": "e", "streams": streams})

    def answer(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def never_acknowledging() -> Iterator[str]:
    """Lend the address of such a server."""
    NeverAcknowledges.took_a_batch.clear()
    NeverAcknowledges.let_go.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NeverAcknowledges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            NeverAcknowledges.let_go.set()
            server.shutdown()


def test_agent_stops_in_time_with_a_batch_that_is_never_acknowledged(agent: AgentAlone) -> None:
    with never_acknowledging() as url:
        agent.write_config(url)
        process = agent.start()
        assert NeverAcknowledges.took_a_batch.wait(60)
        began = time.monotonic()

        process.send_signal(signal.SIGTERM)

        assert process.wait(50) == 0
        assert time.monotonic() - began < 10, "the promise is 10 s"


def test_service_manager_is_told_of_start_reload_watchdog_and_stop(
    agent: AgentAlone, manager: socket.socket
) -> None:
    agent.environment["WATCHDOG_USEC"] = "900000"
    process = agent.start()

    started = told(manager, "READY=1")
    running = told(manager, "WATCHDOG=1") + told(manager, "WATCHDOG=1")
    process.send_signal(signal.SIGHUP)
    reloading = told(manager, "RELOADING=1") + told(manager, "READY=1")
    process.send_signal(signal.SIGTERM)
    stopping = told(manager, "STOPPING=1")

    assert started[-1] == "READY=1"
    assert any(line.startswith("STATUS=") for line in running)
    assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in reloading)
    assert stopping[-1] == "STOPPING=1"
    assert process.wait(15) == 0


def has_broken(agent: AgentAlone, broken: str, server: str = "http://127.0.0.1:9") -> None:
    """Let the agent start with something broken in it, and with a watchdog that wants to be fed often."""
    agent.command = [sys.executable, "-c", BROKEN.format(broken)]
    agent.environment["WATCHDOG_USEC"] = "300000"
    agent.write_config(server, "[sampler]\ninterval_s = 0.1\n")


@pytest.mark.parametrize("loop", STUCK)
def test_watchdog_is_not_fed_once_a_loop_is_stuck(
    agent: AgentAlone, manager: socket.socket, loop: str
) -> None:
    with never_acknowledging() as url:
        has_broken(agent, STUCK[loop], url)
        agent.start()

        told(manager, f"STATUS=stuck: {loop}")

        after = [line for _ in range(10) for line in told(manager, "STATUS=")]
    assert {line.split("=")[0] for line in after} == {"STATUS"}
    assert "parts of the agent are stuck" in {line["message"] for line in agent.log()}


def test_watchdog_is_not_fed_while_the_event_loop_stands_still(
    agent: AgentAlone, manager: socket.socket
) -> None:
    broken = "sampler.Sampler._close_windows = lambda *_, **__: time.sleep(3600)"
    has_broken(agent, broken)
    agent.start()
    manager.settimeout(3 * TURN_S)

    with pytest.raises(TimeoutError):
        told(manager, "it comes round again")


@pytest.mark.parametrize("slow", SLOW)
def test_watchdog_is_fed_while_something_is_slow_that_a_restart_would_not_mend(
    agent: AgentAlone, manager: socket.socket, slow: str
) -> None:
    has_broken(agent, SLOW[slow])
    agent.start()

    check_it_is_fed(manager)


def test_watchdog_is_fed_while_a_gpu_driver_hangs(
    agent: AgentAlone, manager: socket.socket, tmp_path: Path
) -> None:
    library = FakeNvml(tmp_path / "nvml")
    library.play(gpus=1, sleep__nvmlInit=3_600_000)
    agent.environment.update(library.environment)
    has_broken(agent, "")
    agent.start()

    check_it_is_fed(manager)


def test_watchdog_is_fed_while_a_server_never_answers(agent: AgentAlone, manager: socket.socket) -> None:
    with never_acknowledging() as url:
        has_broken(agent, "", url)
        agent.start()
        assert NeverAcknowledges.took_a_batch.wait(60)

        check_it_is_fed(manager)


def check_it_is_fed(manager: socket.socket) -> None:
    """Fail unless the watchdog is fed for several times as long as a loop may stand still."""
    heard = [line for _ in range(40) for line in told(manager, "WATCHDOG=1")]
    assert not [line for line in heard if line.startswith("STATUS=stuck")]


def test_first_window_does_not_wait_for_a_gpu_that_hangs(agent: AgentAlone, tmp_path: Path) -> None:
    library = FakeNvml(tmp_path / "nvml")
    library.play(gpus=1, sleep__nvmlInit=3_600_000)
    agent.environment.update(library.environment)
    agent.start()
    wait_until(
        lambda: (agent.root / "log").read_text().count("\n") and agent.said("agent started"), what="its start"
    )
    began = time.monotonic()

    wait_until(lambda: kinds.SAMPLE in {kind for kind, _ in agent.own_records()}, what="a window")

    assert time.monotonic() - began < 4, "the promise is 5 s, with the start and the way to the server"


def test_agent_stops_in_time_while_a_name_is_never_looked_up(agent: AgentAlone) -> None:
    # The C library waits for a name server; only whether it does is played.
    agent.command = [
        sys.executable,
        "-c",
        BROKEN.format("import socket; socket.getaddrinfo = lambda *_, **__: time.sleep(3600)"),
    ]
    agent.write_config("http://tracker.example.org")
    with LiveWriter(make_run(agent.spool)):
        process = agent.start()
        wait_until(
            lambda: (s := agent.status()) and s["shipping"]["behind"]["unasked"], what="a stream that waits"
        )
        began = time.monotonic()

        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 0
        assert time.monotonic() - began < 10, "the promise is 10 s"


def make_run(spool: Path) -> Path:
    """Return a new run directory of ours."""
    run = spool / str(os.getuid()) / "a-run"
    run.mkdir(parents=True)
    return run


def test_start_loads_nothing_that_it_does_not_need(agent: AgentAlone) -> None:
    # A start takes less than a second, also on a small machine, and memory that is never given back.
    show = "import atexit, sys; atexit.register(lambda: print(sorted(sys.modules)))"
    agent.command = [sys.executable, "-c", f"{show}\nfrom tracker_agent import cli; sys.exit(cli.main())"]
    process = agent.start()
    agent.wait_for_status()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0

    loaded = (agent.root / "log").read_text()
    unneeded = ("rich", "prometheus_client", "aiohttp.web", "pynvml")
    assert [name for name in unneeded if f"'{name}'" in loaded] == []
