# ruff: noqa: E501 - a row of a table is a line
"""tracker-server check-config finds each way to get the settings wrong, with the line and what to do."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - another user may not be able to read it when it is wanted
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import require
from tests.support.misconfigured import Row, bare_environment, check_row, write_config
from tests.support.other_user import open_directory
from tests.support.server_process import ServerProcess
from tracker_server import cli, config_check

#: Lines 1 to 3.
WELL = ('data = "ROOT/data"', "[http]", "port = 0")


def data(mode: int) -> Any:
    def make(root: Path) -> None:
        (root / "data").mkdir()
        (root / "data").chmod(mode)

    return make


def encoded(text: bytes) -> Any:
    return lambda root: (root / "agent.toml").write_bytes(text + (root / "agent.toml").read_bytes())


def admin_key(root: Path) -> None:
    data(0o700)(root)
    (root / "data/admin-key").write_text("")
    (root / "data/admin-key").chmod(0o644)


ROWS = [
    Row("text without quotes", {1: "data = /var/lib"}, 1, "not valid TOML", "texts stand in quotes"),
    Row("setting twice", {4: "port = 1"}, 4, "Cannot overwrite a value", "keep one"),
    Row("byte order mark", {}, "agent.toml", "byte order mark", "UTF-8 without one", prepare=encoded(b"\xef\xbb\xbf")),
    Row("no such file", {}, "agent.toml", "no such config file", "check the path", prepare=lambda root: (root / "agent.toml").unlink()),
    Row("file for everybody to write", {}, "agent.toml", "every user can change", "chmod o= ROOT/agent.toml", "warning", prepare=lambda root: (root / "agent.toml").chmod(0o606)),
    Row("misspelt section", {4: "[limit]"}, 4, "unknown section 'limit'", "did you mean limits?"),
    Row("misspelt setting", {4: "prot = 1"}, 4, "unknown setting http.prot", "did you mean port?"),
    Row("setting of another section", {4: "blob_bytes = 5"}, 4, "unknown setting http.blob_bytes", "it belongs into [limits]"),
    Row("data in a section", {4: 'data = "/d"'}, 4, "unknown setting http.data", "above all sections"),
    Row("setting above all sections", {1: 'host = "::1"\ndata = "ROOT/data"'}, 1, "host stands in no section", "put it below [http]"),
    Row("value instead of a section", {2: "limits = 5\n[http]"}, 2, "[limits] must be a section", "write [limits]"),
    Row("misspelt variable", {}, None, "unknown variable TRACKER_SERVER_HTTP_PROT", "did you mean TRACKER_SERVER_HTTP_PORT?", environment={"TRACKER_SERVER_HTTP_PROT": "1"}),
    Row("text for a number", {3: 'port = "8600"'}, 3, "http.port is '8600'", "a whole number"),
    Row("port there is not", {3: "port = 70000"}, 3, "http.port is 70000", "from 0 to 65535"),
    Row("time with a unit", {4: 'shutdown_s = "5s"'}, 4, "http.shutdown_s is '5s'", "in seconds and without a unit"),
    Row("size with a unit", {4: "[limits]", 5: 'blob_bytes = "1 GiB"'}, 5, "limits.blob_bytes is '1 GiB'", "a whole number of bytes"),
    Row("nothing allowed", {4: "[limits]", 5: "read_threads = 0"}, 5, "limits.read_threads is 0", "from 1 to 1024"),
    Row("no such choice", {4: "[log]", 5: 'level = "loud"'}, 5, "log.level is 'loud'", "one of debug, info, warning, error"),
    Row("text for a list", {4: 'allowed_hosts = "h"'}, 4, "http.allowed_hosts is 'h'", "a list of strings"),
    Row("address as a host name", {4: 'allowed_hosts = ["https://h"]'}, 4, "'https://h' is no host name", "names alone"),
    Row("empty host", {4: 'host = ""'}, 4, "http.host is empty", "127.0.0.1"),
    Row("host without an address here", {4: 'host = "192.0.2.7"', 5: 'public_url = "https://h"'}, 4, "'192.0.2.7' is no address of this machine", "--host"),
    Row("reachable without TLS", {4: 'host = "0.0.0.0"'}, 4, "lets other machines in, without TLS", "TLS proxy", "warning"),
    Row("address for people without a scheme", {4: 'public_url = "tracker.example"'}, 4, "http.public_url is 'tracker.example'", "https://tracker.example.org"),
    Row("address for people without TLS", {4: 'public_url = "http://tracker.example"'}, 4, "sessions cross the network in the clear", "https://", "warning"),
    Row("no data directory", {1: ""}, None, "no data directory", "--data DIR"),
    Row("data directory is a number", {1: "data = 3"}, 1, "data is 3", "text in quotes"),
    Row("data directory is a file", {1: 'data = "ROOT/agent.toml"'}, 1, "is no directory", "choose another place"),
    Row("data directory below a file", {1: 'data = "ROOT/agent.toml/data"'}, 1, "Not a directory", "able to enter it"),
    Row("relative data directory", {1: 'data = "data"'}, 1, "data = 'data' is relative", "the whole path", "warning"),
    Row("data directory for others", {}, 1, "other users may enter the data directory ROOT/data", "chmod go= ROOT/data", "warning", prepare=data(0o755)),
    Row("admin key for others", {}, 1, "other users may read the admin key ROOT/data/admin-key", "chmod go= ROOT/data/admin-key", "warning", prepare=admin_key),
    Row("disk almost full", {4: "[limits]", 5: f"blob_reserve_bytes = {2**59}"}, 1, "below limits.blob_reserve_bytes", "make room", "warning", prepare=data(0o700)),
    Row("less in flight than one request", {4: "[limits]", 5: "ingest_bytes_in_flight = 1000"}, 5, "limits.ingest_bytes_in_flight is less than limits.ingest_decompressed_bytes", "one request at least"),
    Row("decompressed less than compressed", {4: "[limits]", 5: "ingest_decompressed_bytes = 10000000"}, 5, "limits.ingest_decompressed_bytes is less than limits.ingest_request_bytes", "twice as much"),
    Row("requests smaller than agents send", {4: "[limits]", 5: "ingest_decompressed_bytes = 1000000", 6: "ingest_request_bytes = 1000000"}, 5, "less than what agents send at once", "allow 4194304", "warning"),
    Row("one principal more than all", {4: "[limits]", 5: "uploads_per_principal = 20000"}, 5, "limits.uploads_per_principal is more than limits.uploads", "than all together"),
    Row("more threads than processors", {4: "[limits]", 5: "read_threads = 1024"}, 5, "limits.read_threads is 1024", "wait for each other", "warning"),
]  # fmt: skip


def check(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *more: str,
    **variables: str,
) -> tuple[dict[str, Any], int]:
    """Return what check-config --json says of a file, and its exit status."""
    monkeypatch.setattr(os, "environ", bare_environment(variables))
    monkeypatch.setattr(
        sys, "argv", ["tracker-server", "check-config", "--json", "--config", str(path), *more]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return json.loads(capsys.readouterr().out), int(ended.value.code or 0)


def test_what_is_well_is_said_to_be_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document, status = check(write_config(tmp_path, {}, WELL), capsys, monkeypatch)

    assert (document["usable"], document["problems"], status) == (True, [], 0)
    assert document["settings"]["http.port"] == {"value": 0, "source": f"{tmp_path}/agent.toml, line 3"}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_misconfiguration_is_found_with_its_place_and_remedy(
    row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, row.lines, WELL)
    monkeypatch.chdir(tmp_path)
    row.prepare(tmp_path)

    document, status = check(path, capsys, monkeypatch, **row.environment)

    check_row(row, tmp_path, path, document, status)


def test_everything_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(
        tmp_path, {1: "data = 3", 3: "port = -1", 4: "prot = 1", 5: "[lg]", 6: "[log]", 7: "level = 1"}, WELL
    )

    document, status = check(path, capsys, monkeypatch)

    assert sorted(each["line"] for each in document["problems"]) == [1, 3, 4, 5, 7]
    assert status == 2


def test_port_that_is_taken_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        path = write_config(tmp_path, {3: f"port = {port}"}, WELL)
        document, status = check(path, capsys, monkeypatch)

    check_row(
        Row("", {}, 3, f"port {port} on 127.0.0.1 is in use", "--port"), tmp_path, path, document, status
    )


def test_server_that_runs_there_is_a_note_and_its_port_is_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServerProcess(tmp_path) as server:
        path = write_config(tmp_path, {3: f"port = {server.port}"}, WELL)
        document, status = check(path, capsys, monkeypatch, "--strict")

    [note] = document["problems"]
    assert (note["level"], note["line"], status) == ("note", 1, 0)
    assert "restart it to put changes" in note["remedy"]


def test_data_directory_of_another_user_is_an_error() -> None:
    require.root()
    with open_directory() as root:
        path = write_config(root, {}, WELL)
        path.chmod(0o644)
        (root / "data").mkdir(mode=0o700)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writer, 1)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            sys.argv = ["tracker-server", "check-config", "--json", "--config", str(path)]
            sys.stdout = os.fdopen(1, "w")
            try:
                cli.main()
            except SystemExit:
                sys.stdout.flush()
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as said:
            document = json.loads(said.read())
        os.waitpid(child, 0)

    [problem] = document["problems"]
    assert "uid 65534 may not write into the data directory" in problem["problem"]
    assert "chown -R" in problem["remedy"]


@pytest.mark.parametrize("options", ["ro"])
def test_disk_that_is_mounted_read_only_is_an_error(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require.root()
    path = write_config(tmp_path, {4: "[limits]", 5: "blob_reserve_bytes = 1"}, WELL)
    (tmp_path / "data").mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "none", tmp_path / "data"], check=True
    )
    try:
        document, status = check(path, capsys, monkeypatch)
    finally:
        subprocess.run(["umount", tmp_path / "data"], check=True)

    check_row(Row("", {}, 1, "mounted read-only", "mount it writable"), tmp_path, path, document, status)


def test_data_directory_on_a_network_file_system_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, {}, WELL)
    (tmp_path / "data").mkdir(mode=0o700)
    # The kernels that tests run on often have no NFS.
    monkeypatch.setattr(config_check, "_file_system_type", lambda path: "nfs4")

    document, status = check(path, capsys, monkeypatch)

    row = Row("", {}, 1, "on a network file system (nfs4)", "a disk of this machine", "warning")
    check_row(row, tmp_path, path, document, status)


def test_warnings_fail_a_strict_check_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, {4: 'host = "0.0.0.0"'}, WELL)

    assert check(path, capsys, monkeypatch)[1] == 0
    assert check(path, capsys, monkeypatch, "--strict")[1] == 1


def test_agent_and_server_read_their_files_with_the_same_code() -> None:
    server = Path(config_check.__file__).with_name("config_file.py")
    agent = Path(__file__).parents[3] / "agent/src/tracker_agent/config_file.py"

    assert server.read_text() == agent.read_text()
