# ruff: noqa: E501 - a row of a table is a line
"""check-config sees what a unit makes of a configuration, what already runs, and what the servers say to it."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.agent.test_misconfigurations import check
from tests.support import require
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.misconfigured import KEY, SECRET, Row, bare_environment, check_row, write_config
from tests.support.other_user import open_directory
from tests.support.server_process import ServerProcess, free_port
from tests.support.tls_server import NotingServer
from tracker_agent import cli
from tracker_agent.settings import AgentSettings, Config
from tracker_agent.unit_check import Unit, look_at_unit, parse_credentials

USER = "nobody"
#: As `systemctl show` prints the package's unit; ROOT is the test's directory.
SHOWN = {
    "LoadState": "loaded",
    "NeedDaemonReload": "no",
    "ExecStart": "{ path=/usr/bin/tracker-agent ; argv[]=/usr/bin/tracker-agent run --config ROOT/agent.toml ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }",
    "User": USER,
    "LoadCredential": "key:ROOT/agent-key",
    "StateDirectory": "tracker-agent",
    "ProtectSystem": "strict",
    "ReadWritePaths": "-/var/spool/tracker ROOT/spool ROOT/state",
    "ProtectHome": "read-only",
    "PrivateDevices": "no",
    "MemoryMax": "536870912",
    "LimitNOFILE": "16384",
    "AmbientCapabilities": "",
    "Environment": "",
}

UNIT = [
    Row("no credential", {}, "the unit tracker-agent.service", "it hands over no key", "LoadCredential=key:/etc/tracker/agent-key", "warning", environment={"LoadCredential": ""}),
    Row("credential is not there", {}, "the unit", "LoadCredential=key:ROOT/none: No such file", "install -m 600 /dev/stdin ROOT/none", environment={"LoadCredential": "key:ROOT/none"}),
    Row("credential for all to read", {}, "the unit", "others than root can get at the key in ROOT/agent-key", "chmod 600 ROOT/agent-key", "warning", prepare=lambda root: (root / "agent-key").chmod(0o640)),
    Row("credential that is none", {}, "the unit", "spaces, line ends", "one line", prepare=lambda root: (root / "agent-key").write_text("a b")),
    Row("key file that only root can read", {6: 'key_file = "ROOT/agent-key"'}, 6, "cannot read server.key_file ROOT/agent-key: Permission denied", "readable for the agent's user"),
    Row("config file that only root can read", {}, "ROOT/agent.toml", "cannot read the config file: Permission denied", "permissions", prepare=lambda root: os.chown(root / "agent.toml", 0, 0)),
    Row("spool of somebody else", {}, 3, "cannot list the spool ROOT/spool", "run: chown", prepare=lambda root: os.chown(root / "spool", 12345, 12345)),
    Row("state directory of somebody else", {}, 2, "agent.state_dir ROOT/state belongs to uid 12345", "run: chown -R", prepare=lambda root: os.chown(root / "state", 12345, 12345)),
    Row("place that cannot be made", {2: 'state_dir = "ROOT/closed/state"'}, 2, "does not exist and cannot be made in ROOT/closed", "create it for the agent's user", environment={"ReadWritePaths": "ROOT"}, prepare=lambda root: (root / "closed").mkdir()),
    Row("spool that the unit makes read-only", {}, "the unit", "ProtectSystem=strict makes ROOT/spool read-only", "add ReadWritePaths=ROOT/spool", "warning", environment={"ReadWritePaths": "ROOT/state"}),
    Row("GPUs that the unit hides", {}, "the unit", "PrivateDevices=yes hides the GPUs", "take it out", "warning", environment={"PrivateDevices": "yes"}),
    Row("too little memory", {7: "[limits]", 8: 'memory_bytes = "512 MiB"'}, "the unit", "MemoryMax=512 MiB is too little for limits.memory_bytes = 512 MiB", "allow 640 MiB", "warning"),
    Row("too few files", {7: "[limits]", 8: "open_files = 20000"}, "the unit", "LimitNOFILE=16384 is too little", "allow 20256", "warning"),
    Row("unit changed on disk", {}, "the unit", "its files were changed since systemd read them", "systemctl daemon-reload", "warning", environment={"NeedDaemonReload": "yes"}),
    Row("no such user", {}, "the unit", "there is no user tracker-nowhere", "systemd-sysusers", environment={"User": "tracker-nowhere"}),
    Row("unit with another file", {}, "the unit", "it starts the agent with another file: /etc/other.toml", "ExecStart=", "note", environment={"ExecStart": "{ argv[]=/usr/bin/tracker-agent run --config /etc/other.toml ; }"}),
]  # fmt: skip


def check_as_root(row: Row, root: Path, *arguments: str) -> tuple[dict[str, Any], int]:
    """Run check-config in a process of its own, beside a systemctl that shows the row's unit."""
    properties = {**SHOWN, **row.environment}
    cat = f"[Service]\nLoadCredential={properties.pop('LoadCredential')}"
    shown = "\n".join(f"{name}={text}" for name, text in properties.items())
    script = f"#!/bin/sh\n[ $2 = show ] && cat <<'END' || cat <<'END2'\n{shown}\nEND\n{cat}\nEND2\n"
    (root / "bin").mkdir()
    (root / "bin/systemctl").write_text(script.replace("ROOT", str(root)))
    (root / "bin/systemctl").chmod(0o755)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tracker_agent.cli",
            "check-config",
            "--json",
            *arguments,
            root / "agent.toml",
        ],
        env={**bare_environment(), "PATH": f"{root}/bin:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr
    return json.loads(done.stdout), done.returncode


@pytest.mark.parametrize("row", UNIT, ids=str)
def test_unit_that_does_not_fit_is_said_with_what_to_do(row: Row) -> None:
    require.root()
    user = pwd.getpwnam(USER)
    with open_directory() as root:
        path = write_config(root, {6: "", **row.lines})
        path.chmod(0o640)
        os.chown(path, 0, user.pw_gid)
        (root / "agent-key").write_text(KEY + "\n")
        (root / "agent-key").chmod(0o600)
        for name in ("spool", "state"):
            (root / name).mkdir(mode=0o700)
            os.chown(root / name, user.pw_uid, user.pw_gid)
        row.prepare(root)

        document, status = check_as_root(row, root, "--unit", "tracker-agent")

        check_row(row, root, path, document, status)


def test_unit_that_fits_is_well_and_hands_over_the_key() -> None:
    require.root()
    user = pwd.getpwnam(USER)
    with open_directory() as root:
        write_config(root, {6: ""}).chmod(0o644)
        (root / "agent-key").write_text(KEY + "\n")
        (root / "agent-key").chmod(0o600)
        for name in ("spool", "state"):
            (root / name).mkdir(mode=0o700)
            os.chown(root / name, user.pw_uid, user.pw_gid)

        document, status = check_as_root(Row("", {}, None, "", ""), root, "--unit", "tracker-agent")

    assert (document["problems"], status) == ([], 0)
    assert document["settings"]["server.key"]["value"] == "(hidden)"


def test_spool_that_the_unit_hides_is_said() -> None:
    config = Config(agent=AgentSettings(state_dir="/state", spools=("/home/user/spool",)))
    unit = Unit("a.service", {"ProtectHome": "yes", "User": "root"}, {"key": "/k"})

    [problem] = look_at_unit(unit, config)

    assert problem.what == "ProtectHome=yes hides /home/user/spool"
    assert problem.todo == "set ProtectHome=read-only (systemctl edit a.service)"


def test_drop_in_takes_credentials_back() -> None:
    files = "# a\n[Service]\nLoadCredential=key:/a\n# LoadCredential=no:/n\n"

    assert parse_credentials(files + "LoadCredential=key-b:/b") == {"key": "/a", "key-b": "/b"}
    assert parse_credentials(files + "LoadCredential=\n") == {}
    assert parse_credentials(files + "LoadCredential=\nLoadCredential = key:/c\n") == {"key": "/c"}


def test_unit_that_there_is_not_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", bare_environment())

    status = cli.main(["check-config", "--unit", "tracker-nothing", str(write_config(tmp_path, {}))])

    assert status == 2
    assert "systemd has no unit tracker-nothing" in capsys.readouterr().err


# What runs already.


def test_agent_that_runs_with_the_file_is_a_note_and_with_another_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with AgentProcess(tmp_path, "https://127.0.0.1:1", KEY) as agent:
        other = tmp_path / "other.toml"
        other.write_text(agent.config.read_text())
        other.chmod(0o600)
        wait_until(agent.status, what="the agent's answer")
        same, _ = check(agent.config, capsys, monkeypatch)
        stranger, status = check(other, capsys, monkeypatch)

    [note], [error] = same["problems"], stranger["problems"]
    assert (note["level"], same["usable"]) == ("note", True)
    assert "systemctl reload tracker-agent" in note["remedy"]
    assert (error["level"], error["line"], status) == ("error", 2, 2)
    assert f"an agent with another configuration ({agent.config}, pid " in error["problem"]


# What the servers say.


@contextlib.contextmanager
def answering(status: int, body: bytes, ahead: timedelta = timedelta()) -> Iterator[str]:
    """Lend the address of a server that always answers this, with a clock of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


def online(
    root: Path,
    lines: dict[int, str | None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[dict[str, Any]], int]:
    """Return what a check of the servers found, and its exit status."""
    path = write_config(root, lines)
    monkeypatch.setattr(os, "environ", bare_environment())
    status = cli.main(["check-config", "--json", "--online", "--timeout", "20", str(path)])
    document = json.loads(capsys.readouterr().out)
    assert SECRET not in json.dumps(document)
    return document["problems"], status


def test_server_that_takes_the_key_is_well_and_keeps_nothing_of_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServerProcess(tmp_path / "server") as server:
        lines = {5: f'url = "{server.url}"', 6: f'key = "{server.ingest_key}"'}
        problems, status = online(tmp_path, lines, capsys, monkeypatch)
        hosts = server.get("/api/v1/hosts")

    assert (problems, status) == ([], 0)
    assert not hosts["hosts"] if isinstance(hosts, dict) else not hosts


@pytest.mark.parametrize(
    ("scopes", "cause", "remedy"),
    [
        (("read",), "does not take the key: 403", "--scopes ingest"),
        (None, "does not take the key: 401", "a new one"),
    ],
)
def test_key_that_the_server_refuses_is_said(
    scopes: tuple[str, ...] | None,
    cause: str,
    remedy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ServerProcess(tmp_path / "server") as server:
        key = KEY if scopes is None else server.new_key("reader", scopes)
        lines = {5: f'url = "{server.url}"', 6: f'key = "{key}"'}
        problems, status = online(tmp_path, lines, capsys, monkeypatch)

    [problem] = problems
    assert (problem["line"], status) == (6, 1)
    assert cause in problem["problem"]
    assert remedy in problem["remedy"]


@pytest.mark.parametrize(
    ("url", "cause", "remedy"),
    [
        ("http://127.0.0.1:PORT", "refuses connections: nothing listens there", "check server.url"),
        ("https://tracker.invalid", "its name cannot be resolved", "check server.url and this machine's DNS"),
    ],
)
def test_server_that_is_not_there_is_said(
    url: str,
    cause: str,
    remedy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = url.replace("PORT", str(free_port()))

    [problem], status = online(tmp_path, {5: f'url = "{url}"'}, capsys, monkeypatch)

    assert (problem["line"], problem["level"], status) == (5, "error", 1)
    assert cause in problem["problem"]
    assert remedy in problem["remedy"]


def test_certificate_that_is_not_trusted_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with NotingServer(trustme.CA().issue_cert("localhost")) as server:
        url = f"https://localhost:{server.port}"
        [problem], status = online(tmp_path, {5: f'url = "{url}"'}, capsys, monkeypatch)

    assert (problem["line"], status) == (5, 1)
    assert "comes from an authority that this machine does not trust" in problem["problem"]
    assert "put that authority's certificate into server.ca_file" in problem["problem"]


def test_server_that_is_no_tracker_server_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(200, b"<html>welcome</html>") as url:
        [problem], status = online(tmp_path, {5: f'url = "{url}"'}, capsys, monkeypatch)

    assert (problem["line"], status) == (5, 1)
    assert "not a Tracker server" in problem["problem"]
    assert "server.url leads to a Tracker server" in problem["remedy"]


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(90, "s behind that of"), (-90, "s ahead of that of"), (5, None)]
)
def test_clock_that_differs_from_the_servers_is_said(
    ahead_s: int,
    said: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = json.dumps(
        {
            "server": "tracker",
            "version": "1",
            "protocol": [1, 1],
            "epoch": "e",
            "capabilities": [],
            "streams": [],
        }
    )
    with answering(200, body.encode(), timedelta(seconds=ahead_s)) as url:
        problems, status = online(tmp_path, {5: f'url = "{url}"'}, capsys, monkeypatch)

    assert [said in each["problem"] for each in problems if said] == ([True] if said else [])
    assert [(each["level"], each["line"]) for each in problems] == ([("warning", 5)] if said else [])
    assert status == 0
