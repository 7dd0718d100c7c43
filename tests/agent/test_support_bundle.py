"""The support bundle: everything one needs to find out what is wrong, and not one secret."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import wait_until
from tests.support.fake_tracker_server import FakeTrackerServer
from tracker_agent.config import load_config
from tracker_agent.redaction import REMOVED, Redactor, config_without_secrets, secrets_of
from tracker_agent.support_facts import machine_facts, process_facts, spool_facts

COMMAND = [sys.executable, "-m", "tracker_agent.cli"]
KEY = "tk_abcdefgh_" + "s" * 43
SECRETS = {
    "the agent's key": KEY,
    "a further server's key": "tk_secondkk_" + "t" * 43,
    "proxy password in a file": "proxy-pass-9f8e7d",
    "header": "gate-secret-31415",
    "user's key": "tk_usersown_" + "u" * 43,
    "user's key of another form": "some-odd-credential-2718",
    "environment": "env-secret-161803",
    "password in an address": "url-pass-577215",
    "server's words": "tk_echoedxx_" + "e" * 43,
    "record": "a-value-only-the-run-knows",
    "name of a run's file": "diary-of-the-user.txt",
}


class Host:
    """An agent with a secret in every place where there can be one."""

    def __init__(self, root: Path, server: str) -> None:
        self.root = root
        self.state, self.spool = root / "state", root / "spool"
        self.config = root / "agent.toml"
        run = self.spool / str(os.getuid()) / "run1"
        run.mkdir(parents=True)
        (run / SECRETS["name of a run's file"]).write_text(SECRETS["record"])
        (run / f"{'00' * 16}.000000.mpl").write_text(SECRETS["record"] + SECRETS["server's words"])
        # Status tells the path of what is no stream, so that a secret in one would come into the bundle.
        foreign = run.parent / SECRETS["user's key of another form"]
        foreign.mkdir()
        (foreign / f"{'11' * 16}.000000.mpl").write_text("no stream at all" * 100)
        credentials = {server: SECRETS["user's key"], "http://other": SECRETS["user's key of another form"]}
        (run.parent / "credentials").write_text(json.dumps(credentials))
        (run.parent / "credentials").chmod(0o600)
        (root / "proxy-password").write_text(SECRETS["proxy password in a file"] + "\n")
        far, header = SECRETS["a further server's key"], SECRETS["header"]
        self.config.write_text(
            f"# a remark: {header}\n"
            f'[agent]\nstate_dir = "{self.state}"\nspools = ["{self.spool}"]\nlog_format = "json"\n'
            f'[server]\nurl = "{server}"\nkey = "{KEY}"\nheaders = ["X-Gate: {header}"]\n'
            f'[servers.far]\nurl = "http://127.0.0.1:9"\nproxy = "http://127.0.0.1:9"\nkey = "{far}"\n'
            f'proxy_user = "someone"\nproxy_password_file = "{root}/proxy-password"\n'
        )
        self.config.chmod(0o600)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TRACKER_", "XDG_"))},
            "TRACKER_API_KEY": SECRETS["environment"],
            "NO_PROXY": "127.0.0.1",
            "HTTPS_PROXY": f"http://someone:{SECRETS['password in an address']}@127.0.0.1:9",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            command = [*COMMAND, "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments, "--config", str(self.config)],
            env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def bundle(self, name: str = "bundle.tar.gz") -> dict[str, str]:
        done = self.run("support-bundle", name)
        assert done.returncode == 0, done.stderr
        with tarfile.open(self.root / name) as archive:
            return {
                member.name.partition("/")[2]: archive.extractfile(member).read().decode()  # type: ignore[union-attr]
                for member in archive.getmembers()
            }


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with FakeTrackerServer() as server:
        made = Host(tmp_path, server.url)
        yield made
        if made.process is not None:
            made.process.kill()
            made.process.wait()


def assert_no_secret(contents: dict[str, str]) -> None:
    for what, secret in SECRETS.items():
        found = [member for member, text in contents.items() if secret in text]
        assert not found, f"{what} is in {found}"


def test_bundle_of_a_running_agent_holds_what_helps_and_no_secret(host: Host) -> None:
    host.start()
    wait_until(lambda: host.run("status").returncode == 0, what="a status")

    contents = host.bundle()

    assert_no_secret(contents)
    assert set(contents) == {
        "machine.json", "directories.json", "spools.json", "status.json", "status.txt", "process.json",
        "config.json", "tasks.json", "threads.json", "log.txt", "metrics.txt", "manifest.json",
    }  # fmt: skip
    assert json.loads(contents["status.json"])["server"]["url"].startswith("http://127.0.0.1")
    assert json.loads(contents["config.json"])["server"]["key"] == REMOVED
    assert [REMOVED in each["path"] for each in json.loads(contents["status.json"])["shipping"]["foreign"]]
    assert "agent started" in contents["log.txt"]
    assert "tracker_agent_shipped_bytes_total" in contents["metrics.txt"]
    assert "Max open files" in json.loads(contents["process.json"])["limits"]
    assert json.loads(contents["process.json"])["descriptors"]["socket"] >= 1
    assert any("pipeline" in name for name in json.loads(contents["tasks.json"]))
    (spool,) = json.loads(contents["spools.json"])
    user = spool["users"][str(os.getuid())]
    assert (user["segments"], user["other_files"], user["directories"]) == (2, 2, 2)
    assert json.loads(contents["manifest.json"])["could_not_be_had"] == {}


def test_bundle_is_for_its_maker_only_and_never_replaces_a_file(host: Host) -> None:
    host.bundle("one.tar.gz")

    again = host.run("support-bundle", "one.tar.gz")

    assert stat.S_IMODE((host.root / "one.tar.gz").stat().st_mode) == 0o600
    assert again.returncode == 1
    assert "name another FILE" in again.stderr


def test_bundle_of_an_agent_that_does_not_run_says_what_is_missing(host: Host) -> None:
    contents = host.bundle()

    assert_no_secret(contents)
    missing = json.loads(contents["manifest.json"])["could_not_be_had"]
    assert "no agent has run" in missing["the running agent"]
    assert {"machine.json", "spools.json", "directories.json", "config.json"} <= set(contents)


def test_bundle_of_a_broken_configuration_names_what_is_broken(host: Host) -> None:
    host.config.write_text(f'[server]\nurl = "http://x"\nkeyy = "{KEY}"\n')

    contents = host.bundle()

    assert_no_secret(contents)
    assert "unknown setting server.keyy" in contents["manifest.json"]


def test_pipe_in_the_place_of_a_users_credentials_does_not_hang_the_bundle(host: Host) -> None:
    other = host.spool / "4711"
    other.mkdir()
    os.mkfifo(other / "credentials")
    (host.spool / "4712").mkdir()
    (host.spool / "4712" / "credentials").symlink_to("/etc/passwd")

    assert "spools.json" in host.bundle()


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdef0123456789",
        '{"Authorization": "Basic c29tZW9uZTpwYXNz"}',
        "proxy-authorization: Basic c29tZW9uZTpwYXNz",
        "https://someone:c29tZW9uZTpwYXNz@proxy.example.org:3128/x",
        "password=c29tZW9uZTpwYXNz",
        '"api_key": "c29tZW9uZTpwYXNz"',
        "TRACKER_API_KEY=c29tZW9uZTpwYXNz",
        "tk_abcdefgh_c29tZW9uZTpwYXNzc29tZW9uZTpwYXNzc29tZW9",
        "-----BEGIN RSA PRIVATE KEY-----\nc29tZW9uZTpwYXNz\n-----END RSA PRIVATE KEY-----",
        "Set-Cookie: session=c29tZW9uZTpwYXNz",
    ],
)
def test_whatever_looks_like_a_secret_is_removed_though_nobody_knows_it(text: str) -> None:
    shown = Redactor().text(text)

    assert REMOVED in shown
    assert "c29tZW9uZTpwYXNz" not in shown
    assert "abcdef0123456789" not in shown


def test_what_is_no_secret_stays() -> None:
    text = "401: unknown key; server https://tracker.example.org:8600/a@b, 52 tokens, monkey=1, tk_abcdefgh_…"

    assert Redactor(["", "key"]).text(text) == text


def test_known_secret_is_removed_however_it_is_spelt() -> None:
    secret = 'pä"ss\\word'
    redactor = Redactor([secret, secret[:6] + "longer"])

    shown = redactor.text(json.dumps({"a": secret}) + json.dumps(secret, ensure_ascii=False) + secret)

    assert "word" not in shown
    assert redactor.value({secret: [secret, 1, None]}) == {REMOVED: [REMOVED, 1, None]}


def test_every_secret_setting_is_hidden(host: Host) -> None:
    config = load_config(host.config, {"HOME": str(host.root)}, {}, os.getuid())

    shown = json.dumps(config_without_secrets(config), default=str)

    for secret in (
        KEY,
        SECRETS["header"],
        SECRETS["a further server's key"],
        SECRETS["proxy password in a file"],
    ):
        assert secret not in shown
        assert secret in secrets_of(config)
    assert "servers.far" in shown


def test_facts_of_a_huge_spool_are_cut_instead_of_taking_for_ever(tmp_path: Path) -> None:
    (tmp_path / "1000" / "run").mkdir(parents=True)
    (tmp_path / "1000" / "run" / "file").write_text("x")
    clock = iter([0.0, *[1000.0] * 10])

    facts = spool_facts(tmp_path, lambda: next(clock))

    assert facts["cut"]


def test_facts_can_be_read_by_whoever_runs_it() -> None:
    machine: dict[str, Any] = machine_facts({"TRACKER_API_KEY": "secret", "PATH": "/bin"})

    assert machine["variables"] == ["TRACKER_API_KEY"]
    assert machine["packages"]["tracker-agent"]
    assert process_facts(os.getpid())["descriptors"]
    assert process_facts(2**22 + 1)["status"] is None
