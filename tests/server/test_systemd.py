"""What the server tells a service manager and journald."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import wait_until
from tests.support.server_process import ServerProcess
from tracker_server import journal
from tracker_server.systemd import Systemd


class Manager:
    """A service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(30)

    def next(self) -> list[str]:
        return self._socket.recv(4096).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(tmp_path / "notify")
    yield listening
    listening.close()


def test_server_says_when_it_serves_that_it_lives_and_when_it_stops(tmp_path: Path, manager: Manager) -> None:
    server = ServerProcess(tmp_path / "server")
    server.environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "300000"}

    server.start(wait=False)
    try:
        # Fed from the loop that serves, so there may be a word of it before the first of readiness.
        said = [manager.next()]
        while said[-1] == ["WATCHDOG=1"]:
            said.append(manager.next())
        assert said[-1] == ["READY=1", f"STATUS=serving at {server.url}"]
        server.get("/readyz", key="")
        assert manager.next() == ["WATCHDOG=1"]
        assert manager.next() == ["WATCHDOG=1"]
    finally:
        assert server.stop() == 0
    last = manager.next()
    while last == ["WATCHDOG=1"]:
        last = manager.next()
    assert last[0] == "STOPPING=1"


def test_without_a_service_manager_nothing_is_said() -> None:
    nobody = Systemd({})
    nobody.ready("here")
    nobody.feed_watchdog()
    assert nobody.watchdog_interval_s is None


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_fed_three_times_in_its_time(
    environment: dict[str, str], interval_s: float | None
) -> None:
    assert Systemd(environment).watchdog_interval_s == interval_s


def test_a_service_manager_that_is_gone_hinders_nothing(tmp_path: Path) -> None:
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("here")


def test_first_start_keeps_the_admin_key_out_of_the_journal(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "server")
    server.log_path.touch()
    status = server.log_path.stat()
    assert stat.S_ISREG(status.st_mode)
    server.environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

    with server:
        key = server.admin_key
    # This Python has no systemd-python: so lines with priorities.
    log = server.log()

    assert key not in log
    assert str(server.data / "admin-key") in log
    assert "/signin#" not in log
    assert f"tracker-server signin-link --data {server.data}" in log
    assert '<6>{"' in log


def test_entries_have_a_priority_and_fields() -> None:
    event = {"event": "it broke", "level": "error", "run id": "a b", "count": 3, "exception": "Traceback\n …"}

    ((entry,), _) = journal.render_entry(None, "error", event)

    assert entry == [
        'MESSAGE=it broke run id="a b" count=3\nTraceback\n …'.encode(),
        b"PRIORITY=3",
        b"SYSLOG_IDENTIFIER=tracker-server",
        b"TRACKER_EVENT=it broke",
        b"TRACKER_RUN_ID=a b",
        b"TRACKER_COUNT=3",
    ]


def test_a_journal_that_stands_still_hinders_nothing_and_what_is_dropped_is_counted() -> None:
    goes_on, sent = threading.Event(), []

    def send(entry: object) -> None:
        goes_on.wait(30)
        sent.append(entry)

    logger = journal.JournalLogger(send)
    for _ in range(journal.ENTRIES_MAX + 100):
        logger.msg([b"MESSAGE=x"])
    goes_on.set()
    wait_until(lambda: len(sent) >= journal.ENTRIES_MAX, what="journald to catch up")
    logger.msg([b"MESSAGE=y"])
    logger.close()

    assert sent[-1][0] == b"MESSAGE=y"
    (dropped,) = sent[-1][1:]
    assert int(dropped.split(b"=")[1]) in (99, 100)
