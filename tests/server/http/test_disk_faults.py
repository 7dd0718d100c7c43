"""The server's disk fails under it: agents are told to come back (503), nothing is lost or stored twice.

The faults are real ones: a full file system, another process with the database's lock, errors and kills
injected into the server's own system calls.
"""

from __future__ import annotations

import http.client
import resource
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import require
from tests.support.agent_process import wait_until
from tests.support.faulty_disks import LoopDisk, SmallDisk
from tests.support.http_client import Answer, ask
from tests.support.injected import injected
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess
from tracker_server.logs import UnfailingStream

MIB = 1 << 20
WRITES = "pwrite64,write,ftruncate"
SYNCS = "fdatasync,fsync"
RUN = "/api/v1/runs/default/disks/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


def record(stream: RecordStream, step: int) -> None:
    stream.log(step, {"loss": float(step)})
    stream.print(f"line {step} " + "x" * 2000)


def stored_steps(server: ServerProcess, run: str) -> list[int]:
    points = server.get(f"{RUN}{run}/points", {"metric": "loss"})["points"]
    return points["loss"]["step"] if points else []


def check_told_to_come_back(answer: Answer) -> None:
    assert answer.status == 503, answer.body
    assert answer.error == "store_unavailable"
    assert answer.json["reason"]
    assert int(answer.headers["Retry-After"]) >= 1


def check_no_surprise(log: str) -> None:
    assert "Traceback" not in log
    assert "request failed" not in log
    assert '"internal"' not in log


def send_until_taken(server: ServerProcess, entry: Any) -> Answer:
    return wait_until(
        lambda: (answer := send(server.url, server.ingest_key, entry)).status == 200 and answer,
        what="the server taking records again",
    )


@contextmanager
def lock_held(database: Path) -> Iterator[None]:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def injection(*rules: str) -> Callable[[ServerProcess], AbstractContextManager[Any]]:
    def inject(server: ServerProcess) -> AbstractContextManager[Any]:
        require.root()
        assert server.process is not None
        data = server.data
        return injected(server.process.pid, list(rules), [data / "tracker.db", data / "tracker.db-wal"])

    return inject


FAULTS = {
    "locked": lambda server: lock_held(server.data / "tracker.db"),
    "write_enospc": injection(f"{WRITES}:error=ENOSPC"),
    "write_eio": injection(f"{WRITES}:error=EIO"),
    "write_erofs": injection(f"{WRITES}:error=EROFS"),
    "write_edquot": injection(f"{WRITES}:error=EDQUOT"),
    "some_write_eio": injection("pwrite64:error=EIO:when=3+4"),
    "sync_eio": injection(f"{SYNCS}:error=EIO"),
    "sync_enospc": injection(f"{SYNCS}:error=ENOSPC"),
    "read_eio": injection("pread64:error=EIO"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_agents_are_told_to_come_back_and_records_are_stored_once_when_the_disk_is_well_again(
    server: ServerProcess, fault: str
) -> None:
    stream = RecordStream(fault, "disks")
    record(stream, 0)
    assert send(server.url, server.ingest_key, stream.take()).status == 200
    start_of_log = len(server.log())
    for step in range(1, 200):
        record(stream, step)
    entry = stream.take()

    with FAULTS[fault](server):
        answers = [send(server.url, server.ingest_key, entry) for _ in range(1 if fault == "locked" else 3)]

    failed = [answer for answer in answers if answer.status != 200]
    for answer in failed:
        check_told_to_come_back(answer)
    assert failed or fault in ("read_eio", "some_write_eio"), "the fault did not bite"
    taken = send_until_taken(server, entry)
    assert taken.json["streams"][0]["next"] == len(stream.data)
    assert stored_steps(server, fault) == list(range(200))
    check_no_surprise(server.log()[start_of_log:])


def test_full_disk_stores_what_it_acknowledged_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 8 * MIB) as disk, ServerProcess(tmp_path / "disk" / "server") as server:
        key = server.ingest_key
        stream = RecordStream("full", "disks")
        acknowledged, answers = 0, []
        disk.fill(leave_bytes=256 * 1024)
        step, entry = 0, None
        while len(answers) < 30:  # enough for the log, which is on this disk, to fail too
            if entry is None:
                for _ in range(50):
                    record(stream, step)
                    step += 1
                entry = stream.take()
            answer = send(server.url, key, entry)
            if answer.status == 200:
                acknowledged, entry = step, None
            else:
                answers.append(answer)

        for answer in answers:
            check_told_to_come_back(answer)
        assert stored_steps(server, "full") == list(range(acknowledged)), "reading goes on"
        assert ask(server.url, "GET", "/readyz").status == 200
        disk.free()
        send_until_taken(server, entry)

        assert stored_steps(server, "full") == list(range(step))
        check_no_surprise(server.log())


def test_server_killed_at_any_step_of_a_commit_has_all_of_it_or_nothing(tmp_path: Path) -> None:
    require.root()
    stream = RecordStream("killed", "disks")
    record(stream, 0)
    with ServerProcess(tmp_path / "server") as server:
        key = server.ingest_key
        assert send(server.url, key, stream.take()).status == 200
        for call in ("pwrite64:signal=KILL:when=1", "pwrite64:signal=KILL:when=4", "fdatasync:signal=KILL"):
            before = len(stored_steps(server, "killed"))
            for step in range(before, before + 20):
                record(stream, step)
            entry = stream.take()
            assert server.process is not None

            with injected(server.process.pid, [call]):
                with pytest.raises((OSError, http.client.HTTPException)):
                    send(server.url, key, entry)
                server.process.wait(30)
            server.start()

            assert len(stored_steps(server, "killed")) in (before, before + 20), "all or nothing"
            assert send(server.url, key, entry).status == 200
            assert stored_steps(server, "killed") == list(range(before + 20))


def test_power_cut_takes_nothing_acknowledged_not_even_on_a_database_put_back_a_moment_ago(
    tmp_path: Path,
) -> None:
    stream = RecordStream("power", "disks")
    record(stream, 0)
    with LoopDisk(tmp_path / "disk", 64 * MIB) as disk:
        server = ServerProcess(disk.path / "server")
        server.log_path = tmp_path / "server.log"
        with server:
            key = server.ingest_key
            assert send(server.url, key, stream.take()).status == 200
            server.stop()
            content = (server.data / "tracker.db").read_bytes()
            for file in server.data.glob("tracker.db*"):
                file.unlink()
            (server.data / "tracker.db").write_bytes(content)
            server.start()
            record(stream, 1)
            assert send(server.url, key, stream.take()).status == 200

            disk.cut_power()
            record(stream, 2)
            entry = stream.take()
            check_told_to_come_back(send(server.url, key, entry))
            server.kill()
            disk.unmount()
            disk.mount()
            server.start()

            assert stored_steps(server, "power") == [0, 1]
            assert send(server.url, key, entry).status == 200
            assert stored_steps(server, "power") == [0, 1, 2]
        check_no_surprise(server.log())


def test_keys_do_not_get_into_the_log_with_a_failure_nobody_foresaw() -> None:
    script = (
        "import structlog; from tracker_server.config import LogSettings; "
        "from tracker_server.logs import configure_logs\n"
        "configure_logs(LogSettings(format='json'))\n"
        "def serve(key):\n    raise ZeroDivisionError\n"
        "try: serve('tk_' + 'secret')\n"
        "except ZeroDivisionError: structlog.get_logger().exception('request failed')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert "ZeroDivisionError" in done.stderr
    assert "tk_secret" not in done.stderr


def test_want_of_descriptors_is_a_line_a_second_and_passes(server: ServerProcess) -> None:
    assert server.process is not None
    start_of_log = len(server.log())
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used, hard))
    waiting = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(20)]
    wait_until(lambda: "Too many open files" in server.log()[start_of_log:], what="the complaint")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))

    assert wait_until(lambda: ask(server.url, "GET", "/readyz").status == 200, what="an answer")
    for connection in waiting:
        connection.close()
    said = server.log()[start_of_log:]
    check_no_surprise(said)
    assert said.count("Too many open files") < 5


def test_log_on_a_full_disk_is_counted_and_goes_on_later(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", MIB) as disk, (disk.path / "log").open("w") as file:
        stream = UnfailingStream(file)
        stream.write("first\n")
        disk.fill()
        for number in range(1000):
            stream.write(f"{number} {'x' * 100}\n")
        dropped = stream.dropped
        disk.free()
        stream.write("last\n")

        assert 900 < dropped < 1000
        assert f"[{dropped} lines of the log could not be written]\n" in (disk.path / "log").read_text()
        assert (disk.path / "log").read_text().endswith("last\n")
