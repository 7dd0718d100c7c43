# ruff: noqa: E501 - a row of a table is a line
"""check-config finds each way to get a configuration wrong, says where it is and what to do, and nothing else.

A row: what is changed in a configuration that is well, the line (or other source) that has to be named, a part
of what is said to be wrong, a part of what is said to be done.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support import require
from tests.support.misconfigured import KEY, SECRET, Row, bare_environment, check_row, write_config
from tests.support.tls_server import write_authority, write_certificate
from tracker_agent import cli, places_check


def spool(mode: int) -> Any:
    def make(root: Path) -> None:
        (root / "spool").mkdir()
        (root / "spool").chmod(mode)

    return make


def file(name: str, text: str = "", mode: int = 0o600) -> Any:
    def write(root: Path) -> None:
        (root / name).write_text(text)
        (root / name).chmod(mode)

    return write


def directory(name: str, mode: int = 0o700) -> Any:
    def make(root: Path) -> None:
        (root / name).mkdir()
        (root / name).chmod(mode)

    return make


def encoded(text: bytes) -> Any:
    return lambda root: (root / "agent.toml").write_bytes(text + (root / "agent.toml").read_bytes())


def certificates(root: Path) -> None:
    """Leave an authority's certificate, two clients', one that has ended, and a key with a passphrase."""
    authority = trustme.CA()
    write_authority(authority, root / "ca.pem")
    write_certificate(authority.issue_cert("a"), root / "client.pem")
    other = authority.issue_cert("b")
    other.private_key_pem.write_to_path(str(root / "other.key"))
    past = datetime.now(UTC) - timedelta(days=3)
    write_certificate(authority.issue_cert("a", not_after=past), root / "ended.pem")
    subprocess.run(
        [
            *(require.program("openssl"), "pkey", "-aes128", "-passout", "pass:word"),
            *("-in", root / "other.key", "-out", root / "locked.key"),
        ],
        check=True,
    )
    for each in root.glob("*.*"):
        each.chmod(0o600)


SYNTAX = [
    Row("no value", {7: "[limits]", 8: "open_files ="}, 8, "not valid TOML: Invalid value", "texts stand in quotes"),
    Row("text without quotes", {5: "url = https://h"}, 5, "not valid TOML", "texts stand in quotes"),
    Row("quote left open", {5: 'url = "https://h'}, 5, "not valid TOML", "a text begins and ends with a quote"),
    Row("list left open", {7: "headers = ["}, 7, "not valid TOML: Invalid value (at the end)", "a list ends with ]"),
    Row("setting twice", {7: 'url = "https://b"'}, 7, "Cannot overwrite a value", "keep one"),
    Row("section twice", {7: "[server]"}, 7, "Cannot declare ('server',) twice", "put its settings together"),
    Row("two settings in a line", {7: "[limits]", 8: "open_files = 20 memory_bytes = 2"}, 8, "not valid TOML", "one setting in a line"),
    Row("byte order mark", {}, "agent.toml", "byte order mark", "UTF-8 without one", prepare=encoded(b"\xef\xbb\xbf")),
    Row("another encoding", {}, "agent.toml", "not UTF-8 text (byte 2)", "save the file as UTF-8", prepare=encoded(b"# \xe4\n")),
    Row("no such file", {}, "agent.toml", "no such config file", "check the path", prepare=lambda root: (root / "agent.toml").unlink()),
    Row("a directory", {}, "agent.toml", "Is a directory", "check path and permissions", prepare=lambda root: ((root / "agent.toml").unlink(), (root / "agent.toml").mkdir())),
    Row("file for everybody to write", {6: 'key_file = "ROOT/key"'}, "agent.toml", "every user can change ROOT/agent.toml", "chmod o= ROOT/agent.toml", "warning", prepare=lambda root: (file("key", KEY)(root), (root / "agent.toml").chmod(0o606))),
]  # fmt: skip

NAMES = [
    Row("misspelt section", {7: "[limit]"}, 7, "unknown section [limit]", "did you mean limits?"),
    Row("misspelt setting", {7: "[agent.x]"}, 7, "unknown setting agent.x", "known: state_dir, spools"),
    Row("misspelt setting with a guess", {7: "[sampler]", 9: "intervall_s = 2"}, 9, "unknown setting sampler.intervall_s", "did you mean interval_s?"),
    Row("setting of another section", {7: "[limits]", 8: "window_s = 20"}, 8, "unknown setting limits.window_s", "it belongs into [sampler]"),
    Row("setting above all sections", {1: "open_files = 20\n[agent]"}, 1, "open_files stands in no section", "put it below [limits]"),
    Row("value instead of a section", {1: "limits = 5\n[agent]"}, 1, "limits must be a section", "write [limits]"),
    Row("list of sections", {7: "[[limits]]", 8: "open_files = 20"}, 7, "limits must be a section", "write [limits]"),
    Row("misspelt variable", {}, None, "unknown environment variable TRACKER_AGENT_SERVER_ULR", "did you mean TRACKER_AGENT_SERVER_URL?", environment={"TRACKER_AGENT_SERVER_ULR": "https://h"}),
    Row("no such collector", {7: "[collectors.gpu]"}, 7, "there is no collector 'gpu'", "cpu"),
    Row("no such setting of a collector", {7: "[collectors.cpu]", 8: "devices = 1"}, 8, "unknown setting collectors.cpu.devices", "known: enabled, interval_s"),
]  # fmt: skip

VALUES = [
    Row("time with a unit", {7: "[sampler]", 8: 'interval_s = "5s"'}, 8, "sampler.interval_s is '5s'", "a number, in seconds and without a unit"),
    Row("text for a switch", {7: "[sampler]", 8: 'enabled = "yes"'}, 8, "sampler.enabled is 'yes'", "true or false"),
    Row("no such choice", {7: "[metrics]", 8: 'host = "maybe"'}, 8, "metrics.host is 'maybe'", "one of on, off"),
    Row("too often", {7: "[sampler]", 8: "interval_s = 0.01"}, 8, "sampler.interval_s is 0.01", "from 0.1 to 3600"),
    Row("not a number", {7: "[retention]", 8: "shipped_s = nan"}, 8, "retention.shipped_s is nan", "from 0 to 1e+09"),
    Row("unknown unit", {7: "[limits]", 8: 'memory_bytes = "1 GB"'}, 8, "limits.memory_bytes is '1 GB'", 'a size such as "64 MiB"'),
    Row("too little memory", {7: "[limits]", 8: 'memory_bytes = "1 MiB"'}, 8, "limits.memory_bytes is", "from 4 MiB to"),
    Row("number for a text", {2: "state_dir = 5"}, 2, "agent.state_dir is 5", "a string in quotes"),
    Row("text for a list", {3: 'spools = "ROOT/spool"'}, 3, "agent.spools is something else", "a list of strings"),
    Row("number for a key", {6: "key = 5"}, 6, "server.key is of another type", "a string in quotes"),
    Row("value of a variable", {}, "the variable TRACKER_AGENT_LIMITS_OPEN_FILES", "limits.open_files is 'many'", "a whole number", environment={"TRACKER_AGENT_LIMITS_OPEN_FILES": "many"}),
    Row("window below the interval", {7: "[sampler]", 8: "interval_s = 60"}, 8, "sampler.window_s (30) is below sampler.interval_s (60)", "a window must not be shorter"),
    Row("no uid map", {3: "spools = ['ROOT/spool']\nuid_map = ['0']"}, 4, "agent.uid_map cannot be used: '0' must look like", "100000-165535=1000"),
    Row("uid map overlaps", {3: "spools = ['ROOT/spool']\nuid_map = ['1-9=7', '5=8']"}, 4, "'1-9=7' and '5=8' overlap at uid 5", "one user of this host"),
    Row("tiny spool", {7: "[limits]", 8: "spool_bytes_per_user = 1000"}, 8, "limits.spool_bytes_per_user is 1000", "allow 128 MiB at least", "warning"),
    Row("limits the wrong way round", {7: "[limits]", 8: 'spool_bytes = "1 GiB"', 9: 'spool_bytes_per_user = "2 GiB"'}, 8, "limits.spool_bytes (1 GiB) is less", "the larger one", "warning"),
    Row("metrics without a port", {7: "[metrics]", 8: 'listen = "localhost"'}, 8, "metrics.listen is 'localhost'", "127.0.0.1:9464"),
    Row("metrics for everybody", {7: "[metrics]", 8: 'listen = "0.0.0.0:9464"'}, 8, "can be reached from other machines", "metrics.allow_remote = true"),
    Row("metrics elsewhere", {7: "[metrics]", 8: 'listen = "192.0.2.7:9464"', 9: "allow_remote = true"}, 8, "does not have that address", "127.0.0.1", "warning"),
    Row("metrics in no directory", {7: "[metrics]", 8: 'listen = "unix:ROOT/none/socket"'}, 8, "there is no directory ROOT/none", "make it", "warning"),
]  # fmt: skip

SERVER = [
    Row("no server", {5: ""}, None, "no server", "set url = "),
    Row("no scheme", {5: 'url = "tracker:8600"'}, 5, "server.url must begin with http:// or https://", "it is 'tracker:8600'"),
    Row("no host", {5: 'url = "https://"'}, 5, "server.url names no host", "https://tracker.example.org"),
    Row("impossible port", {5: 'url = "https://h:99999"'}, 5, "server.url is no address", "https://tracker.example.org"),
    Row("password in the address", {5: 'url = "https://u:geheim@h"'}, 5, "must not hold a user name or password (put the key into server.key_file)", "https://tracker.example.org"),
    Row("sign-in link as address", {5: 'url = "https://h/signin#tl_1"'}, 5, "must not have a query or fragment", "it should look like"),
    Row("path in the address", {5: 'url = "https://h/api/v1"'}, 5, "has the path /api/v1", "leave it out", "warning"),
    Row("keys in the clear", {5: 'url = "http://tracker.example.org:8600"'}, 5, "the key and all data cross the network in the clear", "https://", "warning"),
    Row("address for people", {7: 'public_url = "ftp://h"'}, 7, "server.public_url must begin with http://", "it is 'ftp://h'"),
    Row("proxy of a kind there is not", {7: 'proxy = "socks5://p"'}, 7, "server.proxy must begin with http://", "http://proxy.example.org:3128"),
    Row("password in the proxy's address", {7: 'proxy = "http://u:geheim@p"'}, 7, "must not hold a user name or password", "http://proxy.example.org:3128"),
    Row("proxy's user without proxy", {7: 'proxy_user = "u"'}, 7, "server.proxy_user is set, but server.proxy is not", "set both"),
    Row("proxy's password is not there", {7: 'proxy = "http://p"', 8: 'proxy_user = "u"', 9: 'proxy_password_file = "/no/p"'}, 9, "cannot use server.proxy_password_file /no/p: No such file", "the file must exist"),
    Row("proxy's password for all", {7: 'proxy = "http://p"', 8: 'proxy_user = "u"', 9: 'proxy_password_file = "ROOT/p"'}, 9, "every user can read the password in ROOT/p", "chmod o= ROOT/p", "warning", prepare=file("p", "word", 0o604)),
    Row("proxy of the environment", {5: 'url = "https://h"'}, "the variable HTTPS_PROXY", "the proxy's address must begin with http://", 'or to "none"', environment={"HTTPS_PROXY": "socks5://u:geheim@p"}),
    Row("server twice", {7: "[servers.b]", 8: 'url = "https://127.0.0.1:1/"'}, 8, "servers.b.url is that of [server], too", "keep one"),
    Row("name of a server", {7: "[servers.B_1]", 8: 'url = "https://b"'}, 7, "a further server cannot be called 'B_1'", "a-z 0-9 -"),
    Row("further server without address", {7: "[servers.b]", 8: f'key = "{KEY}"'}, 7, "[servers.b] has no url", "add url ="),
    Row("header without value", {7: 'headers = ["X-Door geheim"]'}, 7, "server.headers cannot be used", "X-Team: ml"),
    Row("header of the agent's", {7: 'headers = ["Authorization: geheim"]'}, 7, "the header Authorization is the agent's own", "X-Team: ml"),
]  # fmt: skip

KEYS = [
    Row("key and key file", {7: 'key_file = "/k"'}, 7, "both server.key and server.key_file are set", "keep one"),
    Row("key file is not there", {6: 'key_file = "ROOT/key"'}, 6, "cannot read server.key_file ROOT/key: No such file", "must exist and be readable"),
    Row("key file is a directory", {6: 'key_file = "ROOT"'}, 6, "cannot read server.key_file ROOT: Is a directory", "must exist and be readable"),
    Row("key file with more in it", {6: 'key_file = "ROOT/key"'}, 6, "spaces, line ends", "one line", prepare=file("key", f"key: {KEY}")),
    Row("key file that is too long", {6: 'key_file = "ROOT/key"'}, 6, "is too long", "one line", prepare=file("key", KEY * 100)),
    Row("key file for all to read", {6: 'key_file = "ROOT/key"'}, 6, "every user can read the key in ROOT/key", "chmod o= ROOT/key", "warning", prepare=file("key", KEY, 0o604)),
    Row("key file for all to write", {6: 'key_file = "ROOT/key"'}, 6, "every user can replace the key in ROOT/key", "chmod o= ROOT/key", "warning", prepare=file("key", KEY, 0o602)),
    Row("key file is empty", {6: 'key_file = "ROOT/key"'}, 6, "ROOT/key is empty: no key", "scope ingest", "warning", prepare=file("key")),
    Row("no key", {6: ""}, None, "no key: only runs whose owner stored a key", "server.key_file", "warning"),
    Row("half a key", {6: 'key = "tk_abcdefgh_abc"'}, 6, "server.key does not hold an API key", "copy the whole key", "warning"),
    Row("sign-in link as key", {6: f'key = "tl_abcdefgh_{SECRET}"'}, 6, "the secret of a sign-in link", "tracker-server key create", "warning"),
    Row("config file with a key for all", {}, 6, "every user can read the key in ROOT/agent.toml", "chmod o= ROOT/agent.toml", "warning", prepare=lambda root: (root / "agent.toml").chmod(0o644)),
]  # fmt: skip

CERTIFICATES = [
    Row("authorities are not there", {7: 'ca_file = "/no/ca"'}, 7, "cannot read server.ca_file: /no/ca: No such file", "must exist"),
    Row("authorities that are none", {7: 'ca_file = "ROOT/agent.toml"'}, 7, "holds no certificates in PEM form", "PEM"),
    Row("authorities of the environment", {}, "", "cannot read the variable SSL_CERT_FILE: /no/ca", "must exist", environment={"SSL_CERT_FILE": "/no/ca"}),
    Row("authorities without TLS", {5: 'url = "http://localhost"', 7: 'ca_file = "ROOT/ca.pem"'}, 7, "server.ca_file is of no use", "https://", "warning", prepare=certificates),
    Row("client certificate is not there", {7: 'client_cert = "/no/c"'}, 7, "cannot read server.client_cert: /no/c: No such file", "must exist"),
    Row("client key without certificate", {7: 'client_key = "ROOT/other.key"'}, 7, "server.client_key is set, but server.client_cert is not", "set both", prepare=certificates),
    Row("client key of another", {7: 'client_cert = "ROOT/client.pem"', 8: 'client_key = "ROOT/other.key"'}, 7, "ROOT/other.key is not the private key of the certificate ROOT/client.pem", "PEM", prepare=certificates),
    Row("client key with a passphrase", {7: 'client_cert = "ROOT/client.pem"', 8: 'client_key = "ROOT/locked.key"'}, 8, "ROOT/locked.key has a passphrase", "openssl pkey", prepare=certificates),
    Row("client certificate has ended", {7: 'client_cert = "ROOT/ended.pem"'}, 7, "the certificate in ROOT/ended.pem ended on", "renew it", "warning", prepare=certificates),
    Row("client key for all to read", {7: 'client_cert = "ROOT/client.pem"'}, 7, "every user can read the private key in ROOT/client.pem", "chmod o=", "warning", prepare=lambda root: (certificates(root), (root / "client.pem").chmod(0o644))),
]  # fmt: skip

PLACES = [
    Row("spool is a file", {}, 3, "the spool ROOT/spool is no directory", "choose another place", prepare=file("spool")),
    Row("state directory is a file", {}, 2, "agent.state_dir ROOT/state is no directory", "choose another place", prepare=file("state")),
    Row("state directory below a file", {2: 'state_dir = "ROOT/agent.toml/state"'}, 2, "Not a directory", "must be able to enter it"),
    Row("relative spool", {3: 'spools = ["spool"]'}, 3, "agent.spools: 'spool' is relative", "write the whole path", "warning"),
    Row("relative key file", {6: 'key_file = "no-key"'}, 6, "server.key_file: 'no-key' is relative", "write the whole path", "warning", prepare=lambda root: (os.chdir(root), file("no-key", KEY)(root))),
    Row("state directory is the spool", {2: 'state_dir = "ROOT/spool"'}, 2, "agent.state_dir and a spool are both ROOT/spool", "a directory of its own"),
    Row("state directory in the spool", {2: 'state_dir = "ROOT/spool/state"'}, 2, "lies in the spool ROOT/spool, where users write", "a directory of its own"),
    Row("spool in the state directory", {3: 'spools = ["ROOT/state/spool"]'}, 2, "the spool ROOT/state/spool lies in agent.state_dir", "a directory of its own"),
    Row("spool in a spool", {3: 'spools = ["ROOT/spool", "ROOT/spool/b"]'}, 3, "the spool ROOT/spool/b lies in the spool ROOT/spool", "keep the outer one"),
    Row("state directory for all to write", {}, 2, "others may write into agent.state_dir ROOT/state", "chmod go-w ROOT/state", "warning", prepare=directory("state", 0o733)),
    Row("spool without an ACL", {}, 3, "the spool ROOT/spool has no default ACL", "setfacl -m", "warning", prepare=spool(0o1733)),
]  # fmt: skip

ROWS = [*SYNTAX, *NAMES, *VALUES, *SERVER, *KEYS, *CERTIFICATES, *PLACES]


def check(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, row: Row | None = None
) -> tuple[dict[str, Any], int]:
    """Return what check-config --json says of a file, and its exit status."""
    environment = bare_environment(row.environment if row else {})
    monkeypatch.setattr(os, "environ", environment)
    status = cli.main(["check-config", "--json", str(path)])
    return json.loads(capsys.readouterr().out), status


def test_there_are_many_rows_and_no_two_are_the_same() -> None:
    assert len(ROWS) > 90
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_what_is_well_is_said_to_be_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document, status = check(write_config(tmp_path, {}), capsys, monkeypatch)

    assert (document["usable"], document["problems"], status) == (True, [], 0)
    assert document["settings"]["server.key"] == {
        "value": "(hidden)",
        "source": f"{tmp_path}/agent.toml, line 6",
    }
    assert document["settings"]["limits.open_files"] == {"value": 512, "source": None}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_misconfiguration_is_found_with_its_place_and_remedy(
    row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, row.lines)
    monkeypatch.chdir(tmp_path)
    row.prepare(tmp_path)

    document, status = check(path, capsys, monkeypatch, row)

    check_row(row, tmp_path, path, document, status)
    assert "geheim" not in json.dumps(document)


def test_everything_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {2: "state_dir = 5", 5: 'url = "h"', 6: 'key_file = "/no/key"', 7: "[limts]", 8: "[limits]"}
    path = write_config(tmp_path, {**wrong, 9: "open_files = 1", 10: "[collectors.cpuu]"})
    (tmp_path / "spool").write_text("")

    document, status = check(path, capsys, monkeypatch)

    assert status == 2
    assert sorted(each["line"] for each in document["problems"]) == [2, 3, 5, 6, 7, 9, 10]
    assert document["settings"] == {}


def test_port_that_is_taken_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        path = write_config(tmp_path, {7: "[metrics]", 8: f'listen = "127.0.0.1:{port}"'})
        document, _ = check(path, capsys, monkeypatch)

    row = Row("", {}, 8, "the port is in use", "choose another one", "warning")
    check_row(row, tmp_path, path, document, 0)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ("size=512k", "0 MiB left on its disk"),
        ("ro", "mounted read-only"),
        ("size=99m,nr_inodes=2", "0 inodes left"),
    ],
)
def test_disk_below_the_spool_that_cannot_take_more_is_said(
    options: str,
    cause: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require.root()
    path = write_config(tmp_path, {})
    (tmp_path / "spool").mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "none", tmp_path / "spool"], check=True
    )
    try:
        if "inodes" in options:
            (tmp_path / "spool/file").touch()
        document, _ = check(path, capsys, monkeypatch)
    finally:
        subprocess.run(["umount", tmp_path / "spool"], check=True)

    [problem] = document["problems"]
    assert cause in problem["problem"]
    assert (problem["line"], bool(problem["remedy"])) == (3, True)


def test_state_directory_on_a_network_file_system_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    # The kernels that tests run on often have no NFS.
    monkeypatch.setattr(places_check, "file_system_type", lambda path: "nfs4")
    path = write_config(tmp_path, {})

    document, _ = check(path, capsys, monkeypatch)

    row = Row("", {}, 2, "on a network file system (nfs4)", "a disk of this machine", "warning")
    check_row(row, tmp_path, path, document, 0)


def test_warnings_fail_a_strict_check_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, {6: ""})
    monkeypatch.setattr(os, "environ", bare_environment())

    assert cli.main(["check-config", str(path)]) == 0
    assert cli.main(["check-config", "--strict", str(path)]) == 1
    assert cli.main(["check-config", "--strict", str(write_config(tmp_path, {}))]) == 0
