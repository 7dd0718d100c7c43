"""The server as a process: first start, signals, and what it says when it cannot run."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.http_client import ask
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerError, ServerProcess, free_port


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRACKER_SERVER_")}
    return subprocess.run(
        [sys.executable, "-m", "tracker_server.cli", *arguments],
        env={**environment, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_first_start_shows_a_key_and_a_link_and_later_starts_do_not(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        first = server.log()
        key = server.admin_key
        assert server.get("/api/v1/me")["scopes"] == ["admin"]
        assert server.get("/api/v1/me")["entity"] == "default"
        assert server.stop() == 0
        server.start()
        later = server.log()[len(first) :]

    assert first.count(key) == 1
    assert f"{server.url}/signin#tl_" in first
    assert key not in later
    assert "/signin#" not in later
    assert stat.S_IMODE((tmp_path / "data" / "admin-key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_the_link_of_the_first_start_signs_in(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        token = server.log().partition("/signin#")[2].split()[0]

        assert ask(server.url, "POST", "/api/v1/signin", json_body={"token": token}).status == 200


def test_a_first_start_killed_at_any_moment_leaves_a_key_that_works(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    for _ in range(5):
        server.start(wait=False)
        while not server.data.exists():
            assert server.process is not None
            assert server.process.poll() is None
        server.kill()

    with server:
        assert server.get("/api/v1/me")["scopes"] == ["admin"]


def test_the_epoch_stays_over_restarts_and_differs_between_databases(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "a") as one, ServerProcess(tmp_path / "b") as other:
        epoch = one.get("/api/v1/server", key="")["epoch"]
        one.kill()
        one.start()

        assert one.get("/api/v1/server", key="")["epoch"] == epoch
        assert other.get("/api/v1/server", key="")["epoch"] != epoch


def test_a_database_put_back_from_a_backup_gets_a_new_epoch(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        assert server.stop() == 0
        backup = (server.data / "tracker.db").read_bytes()
        server.start()
        epoch = server.get("/api/v1/server", key="")["epoch"]
        assert server.stop() == 0
        for left in server.data.glob("tracker.db-*"):
            left.unlink()
        (server.data / "tracker.db").write_bytes(backup)
        server.start()

        assert server.get("/api/v1/server", key="")["epoch"] != epoch


def test_a_backup_taken_and_put_back_within_one_life_of_the_server_is_noticed_too(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        epoch = server.get("/api/v1/server", key="")["epoch"]
        kept = tmp_path / "backup.db"
        with (
            closing(sqlite3.connect(server.data / "tracker.db")) as live,
            closing(sqlite3.connect(kept)) as to,
        ):
            live.backup(to)
        later = RecordStream("later", "restored")
        later.log(0, {"loss": 1.0})
        assert send(server.url, server.ingest_key, later.take()).status == 200
        server.kill()
        for file in server.data.glob("tracker.db*"):
            file.unlink()
        kept.rename(server.data / "tracker.db")
        server.start()

        assert server.get("/api/v1/server", key="")["epoch"] != epoch


def test_sigterm_ends_open_event_streams_and_exits_zero(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        request = "GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        request += f"Authorization: Bearer {server.admin_key}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
            stream.sendall(request.encode())
            assert b"200 OK" in stream.recv(4096)

            assert server.stop() == 0

            while stream.recv(4096):
                pass


def test_a_port_in_use_is_one_clear_line_and_makes_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = run("run", "--data", str(tmp_path / "data"), "--port", str(port))

    assert done.returncode == 2
    assert done.stderr == (
        f"tracker-server: port {port} on 127.0.0.1 is in use; "
        "stop what uses it or choose another with --port\n"
    )
    assert not (tmp_path / "data" / "admin-key").exists()


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        done = run("run", "--data", str(server.data), "--port", str(free_port()))

        assert done.returncode == 2
        assert "another tracker-server is running" in done.stderr
        assert server.get("/api/v1/me")["principal"] == "admin"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "no data directory"),
        (("run", "--data", "/proc/nothing"), "cannot make the data directory"),
        (("run", "--data", "{tmp}/d", "--config", "{tmp}/none.toml"), "there is no such config file"),
        (("run", "--data", "{tmp}/d", "--port", "70000"), "from 0 to 65535"),
        (("run", "--data", "{tmp}/d", "--host", "no.such.host.invalid", "--port", "0"), "--host"),
        (
            ("run", "--data", "{tmp}/d", "--host", "203.0.113.7", "--port", "0"),
            "is no address of this machine",
        ),
        (("signin-link", "--data", "{tmp}"), "holds no Tracker data"),
        (("key", "list", "--data", "{tmp}"), "holds no Tracker data"),
        (("check-config", "--data", "{tmp}", "--config", "{tmp}/bad.toml"), "not valid TOML"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "bad.toml").write_text("][")

    done = run(*(each.replace("{tmp}", str(tmp_path)) for each in arguments))

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "d" / "tracker.db").exists()


def test_a_damaged_database_is_said_in_one_line(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        server.stop()
    (server.data / "tracker.db").write_bytes(b"not a database" * 1000)

    done = run("run", "--data", str(server.data), "--port", "0")

    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_listening_for_other_machines_warns_about_keys_in_the_clear(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, arguments=("--host", "0.0.0.0")) as server:
        assert "Warning" in server.log()
        assert "TLS" in server.log()


def test_a_key_for_a_service_account_makes_the_account_once(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        keys = [
            server.command("key", "create", "--name", "n", "--scopes", "ingest", "--service", "agents")
            for _ in range(2)
        ]

        assert [server.get("/api/v1/me", key=key)["principal"] for key in keys] == ["agents", "agents"]
        with pytest.raises(ServerError, match="is a user"):
            server.command("key", "create", "--name", "n", "--scopes", "read", "--service", "admin")
        with pytest.raises(ServerError, match="unknown scope"):
            server.command("key", "create", "--name", "n", "--scopes", "write")


def test_settings_are_checked_and_shown(tmp_path: Path) -> None:
    done = run("check-config", "--data", str(tmp_path), env={"TRACKER_SERVER_HTTP_PORT": "9999"})

    assert done.returncode == 0
    assert "port = 9999" in done.stdout


def test_the_version_is_shown() -> None:
    done = run("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("tracker-server ")
