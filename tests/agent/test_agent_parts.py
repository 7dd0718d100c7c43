"""Smaller parts of the agent: systemd, supervisor, announcement, log output, watchdog."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from tests.agent.test_sampler import until
from tests.support import require
from tracker_agent import systemd
from tracker_agent.agent_file import AgentFile
from tracker_agent.app import Agent
from tracker_agent.clock import Clock
from tracker_agent.config import load_config
from tracker_agent.control import Arguments, ControlServer, NotRunningError, ask
from tracker_agent.log_output import LogOutput
from tracker_agent.shipping_status import stuck_loops
from tracker_agent.state_lock import StateError, StateLock
from tracker_agent.supervisor import Supervisor
from tracker_agent.systemd import Systemd

# systemd


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0tracker-test-{os.getpid()}")
        bound.settimeout(20)
        yield bound


def test_abstract_notify_socket_is_reached(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"@tracker-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    Systemd({"NOTIFY_SOCKET": address}).status("two\nlines")

    assert listener.recv(4096) == b"STATUS=two lines"


def test_service_manager_that_went_away_is_no_fault() -> None:
    Systemd({"NOTIFY_SOCKET": "/no/such/socket"}).ready()
    Systemd({}).ready()


def test_systemd_python_is_used_where_it_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "systemd"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "daemon.py").write_text("def notify(message): print('library:', message)\n")
    listens = tmp_path / "notify"
    told = f"{{'NOTIFY_SOCKET': '{listens}'}}"
    script = f"from tracker_agent.systemd import Systemd\nSystemd({told}).feed_watchdog()"

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(listens))
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    assert done.stdout == "library: WATCHDOG=1\n"


def test_watchdog_of_another_process_is_not_fed() -> None:
    assert Systemd({"WATCHDOG_USEC": "6000000"}).watchdog_interval_s == pytest.approx(2)
    assert Systemd({"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "1"}).watchdog_interval_s is None
    assert Systemd({"WATCHDOG_USEC": "soon"}).watchdog_interval_s is None
    assert Systemd({}).watchdog_interval_s is None


def test_journal_is_known_by_device_and_inode() -> None:
    read, write = os.pipe()
    status = os.fstat(write)
    stream = f"{status.st_dev}:{status.st_ino}"

    assert systemd.journal_reads(write, {"JOURNAL_STREAM": stream})
    assert not systemd.journal_reads(write, {"JOURNAL_STREAM": "1:1"})
    assert not systemd.journal_reads(write, {})
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("library", [False, True])
def test_service_manager_that_does_not_listen_holds_up_nobody(
    library: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket has 107 bytes at most

    def notify(message: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), "notify")  # waits, as systemd-python does

    daemon = SimpleNamespace(notify=notify) if library else None
    monkeypatch.setitem(sys.modules, "systemd", SimpleNamespace(daemon=daemon) if library else None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("notify")
        told = Systemd({"NOTIFY_SOCKET": "notify"})

        for n in range(2000):
            told.status(f"{n}")

        assert manager.recv(100) == b"STATUS=0"
        manager.close()
        told.status("to nobody")


# The supervisor


async def test_crashing_task_is_restarted_while_the_others_go_on() -> None:
    runs = []
    turns = []

    async def crash() -> None:
        runs.append(1)
        raise RuntimeError("boom")

    async def steady() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0.001)

    with structlog.testing.capture_logs() as logs:
        supervisor = Supervisor(Clock(), structlog.get_logger(), restart_first_s=0.001)
        supervisor.start("crashing", crash)
        supervisor.start("steady", steady)
        await until(lambda: len(runs) >= 4)
        seen = len(turns)
        await until(lambda: len(turns) > seen)
        status = supervisor.status()
        await supervisor.cancel_all()

    assert status["crashing"]["crashes"] >= 3
    assert status["crashing"]["last_error"] == "RuntimeError: boom"
    assert status["steady"] == {"crashes": 0, "last_error": ""}
    assert [log["exc_info"] is not None for log in logs][:3] == [True, False, False], (
        "one traceback, not three"
    )


async def test_restarts_come_less_and_less_often() -> None:
    async def crash() -> None:
        raise RuntimeError("boom")

    with structlog.testing.capture_logs() as logs:
        supervisor = Supervisor(Clock(), structlog.get_logger(), restart_first_s=0.001)
        supervisor.start("crashing", crash)
        await until(lambda: len(logs) >= 5)
        await supervisor.cancel_all()

    assert [log["restart_in_s"] for log in logs][:5] == [0.001, 0.002, 0.004, 0.008, 0.016]


async def test_task_that_returns_is_done() -> None:
    supervisor = Supervisor(Clock(), structlog.get_logger())

    async def work() -> None:
        pass

    supervisor.start("short", work)

    assert await supervisor.wait("short", 10)
    assert supervisor.status() == {}, "tasks come and go, with every new key for one"


# The watchdog


class Told(Systemd):
    """Notes what a service manager would be told."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "3000"}, self.note)
        self.messages: list[str] = []

    def note(self, message: str) -> None:
        self.messages.append(message)


async def test_watchdog_is_not_fed_while_a_loop_is_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(
        None,
        {},
        {
            ("server", "url"): "http://127.0.0.1:9",
            ("agent", "state_dir"): str(tmp_path / "state"),
            ("agent", "spools"): [str(tmp_path / "spool")],
        },
        1000,
    )
    told = Told()
    log = SimpleNamespace(logger=structlog.get_logger(), output=LogOutput())
    agent = Agent(config, lambda: config, log, told, {})  # type: ignore[arg-type]
    stuck: list[str] = []
    monkeypatch.setattr(agent, "_stuck", lambda: stuck)
    with structlog.testing.capture_logs() as logs:
        beating = asyncio.create_task(agent._beat())
        await until(lambda: told.messages.count("WATCHDOG=1") >= 2)

        stuck = ["lane default"]
        await until(lambda: told.messages[-1] == "STATUS=stuck: lane default")
        told.messages.clear()
        await until(lambda: len(told.messages) >= 3)
        fed_while_stuck = told.messages.count("WATCHDOG=1")
        stuck = []
        await until(lambda: "WATCHDOG=1" in told.messages)

        beating.cancel()
    assert fed_while_stuck == 0
    assert [log["stuck"] for log in logs] == [["lane default"]]


def stuck_at_1000(roots: Sequence[Any] = (), lanes: Sequence[Any] = ()) -> list[str]:
    return stuck_loops(roots, lanes, now=1000.0, scan_interval_s=0.5, request_timeout_s=60.0)


def test_scan_that_waits_for_no_disk_and_does_not_turn_is_stuck() -> None:
    def root(busy: bool, turned_at: float) -> Any:
        return SimpleNamespace(path="/p", thread=SimpleNamespace(busy=busy), turned_at=turned_at)

    assert stuck_at_1000([root(False, 0.0)]) == ["scan /p"]
    assert stuck_at_1000([root(True, 0.0)]) == [], "a dead mount is no reason to restart"
    assert stuck_at_1000([root(False, 999.0)]) == []


def test_lane_with_work_that_does_not_turn_is_stuck() -> None:
    def lane(has_work: bool, turned_at: float) -> Any:
        return SimpleNamespace(credential=SimpleNamespace(name="d"), has_work=has_work, turned_at=turned_at)

    assert stuck_at_1000(lanes=[lane(True, 0.0)]) == ["lane d"]
    assert stuck_at_1000(lanes=[lane(False, 0.0)]) == [], "an absent server is no reason"
    assert stuck_at_1000(lanes=[lane(True, 900.0)]) == []


# The state lock and the announcement


def test_lock_can_be_taken_again_once_it_is_let_go(tmp_path: Path) -> None:
    first = StateLock.take(tmp_path)
    with pytest.raises(StateError, match=f"pid {os.getpid()}"):
        StateLock.take(tmp_path)

    first.close()

    StateLock.take(tmp_path).close()


def test_second_agent_on_a_spool_is_told_of_the_first(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tracker_agent.agent_file import AgentFile\n"
        "file = AgentFile(Path(sys.argv[1])); file.announce({'pid': 1})\n"
        "print(file.problem, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "\n"
        second = AgentFile(tmp_path)

        second.announce({"pid": 2})

        assert "another agent serves" in second.problem
        assert json.loads((tmp_path / "agent.json").read_text()) == {"pid": 1}
        first.communicate("\n", timeout=30)
    second.announce({"pid": 2})
    assert second.problem == ""
    second.close()


def test_read_lock_of_a_user_does_not_keep_the_agent_from_announcing_itself(tmp_path: Path) -> None:
    AgentFile(tmp_path).announce({"pid": 1})
    script = (
        "import fcntl, sys\nf = open(sys.argv[1])\nfcntl.lockf(f, fcntl.LOCK_SH)\nprint(flush=True)\ninput()"
    )
    (tmp_path / "agent.lock").unlink()
    (tmp_path / "agent.lock").write_text("")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "agent.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as rude:
        assert rude.stdout is not None
        rude.stdout.readline()
        ours = AgentFile(tmp_path)

        ours.announce({"pid": 2})

        assert ours.problem == ""
        rude.communicate("\n", timeout=30)
    ours.close()


def test_names_taken_by_someone_else_are_taken_back(tmp_path: Path) -> None:
    require.root()
    (tmp_path / "target").write_text("precious")
    (tmp_path / "agent.json").symlink_to(tmp_path / "target")
    (tmp_path / "agent.lock").write_text("")
    os.chown(tmp_path / "agent.lock", 54321, 54321)
    ours = AgentFile(tmp_path)

    ours.announce({"pid": 2})

    assert ours.problem == ""
    assert (tmp_path / "agent.lock").stat().st_uid == 0
    assert (tmp_path / "target").read_text() == "precious"
    assert json.loads((tmp_path / "agent.json").read_text()) == {"pid": 2}
    ours.close()


def test_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "agent.lock").symlink_to(tmp_path / "target")
    ours = AgentFile(tmp_path)

    ours.announce({"pid": 2})

    assert ours.problem == ""
    assert not (tmp_path / "agent.lock").is_symlink()
    locked = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    free = subprocess.run([sys.executable, "-c", locked, str(tmp_path / "target")], check=False, timeout=60)
    assert free.returncode == 0
    ours.close()


# The log


def test_full_pipe_costs_lines_and_not_the_agent() -> None:
    read, write = os.pipe()
    output = LogOutput(write)

    for _ in range(100):
        output.msg("x" * 4000)
        if output.dropped:
            break

    assert output.dropped == 1
    os.close(read)
    output.msg("nobody reads this")
    assert output.dropped == 2
    os.close(write)


# The control socket


def control_server(state_dir: Path, answer: dict[str, Any]) -> ControlServer:
    async def status(_: Arguments) -> dict[str, Any]:
        return answer

    server = ControlServer(state_dir)
    server.answer("status", status)
    return server


async def test_control_socket_works_below_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    server = control_server(deep, {"fine": True})
    await server.start()

    answer = await asyncio.to_thread(ask, deep, "status")

    await server.close()
    assert answer == {"fine": True}
    with pytest.raises(NotRunningError):
        ask(deep, "status")


async def test_caller_who_says_nothing_holds_nobody_up(tmp_path: Path) -> None:
    server = control_server(tmp_path, {"fine": True})
    await server.start()
    directory = os.open(tmp_path, os.O_PATH)
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(f"/proc/self/fd/{directory}/agent.sock")
    os.close(directory)

    answer = await asyncio.to_thread(ask, tmp_path, "status")

    assert answer == {"fine": True}
    silent.close()
    await server.close()


async def test_other_users_are_refused_whatever_the_sockets_mode(tmp_path: Path) -> None:
    require.root()
    server = control_server(tmp_path, {"secret": True})
    await server.start()
    (tmp_path / "agent.sock").chmod(0o666)
    said = []

    def ask_as_someone_else() -> None:
        directory = os.open(tmp_path, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as connection:
            # Credentials are those of connect(): this thread's own.
            _set_thread_uid(54321)
            connection.connect(f"/proc/self/fd/{directory}/agent.sock")
            connection.sendall(b'{"command": "status"}\n')
            said.append(connection.makefile().readline())
        os.close(directory)

    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    thread = threading.Thread(target=ask_as_someone_else)
    thread.start()
    await asyncio.to_thread(thread.join)
    await server.close()
    assert "only root and the agent's own user" in said[0]


def _set_thread_uid(uid: int) -> None:
    """Change the user of this thread alone, as the bare system call does."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    setresuid = 117  # x86-64
    if os.uname().machine == "aarch64":
        setresuid = 147
    assert libc.syscall(setresuid, uid, uid, uid) == 0
