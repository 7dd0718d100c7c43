"""The systemd units, and the users and directories they need, checked by systemd's own tools."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support import require

PACKAGING = Path(__file__).parents[2] / "packaging"
SYSTEM_UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
#: Part of the agent's wheel, as it is for people who have no packages.
USER_UNIT = Path(__file__).parents[2] / "agent/systemd/tracker-agent.service"
UNITS = [*SYSTEM_UNITS, USER_UNIT]


def unit_id(path: Path) -> str:
    return f"user/{path.name}" if path == USER_UNIT else path.name


def settings_of(unit: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("unit", UNITS, ids=unit_id)
def test_unit_is_accepted_by_systemd(unit: Path, tmp_path: Path) -> None:
    # systemd wants the program to exist; the packages put it there.
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    scope = ["--user"] if unit == USER_UNIT else []

    done = subprocess.run(
        [
            require.program("systemd-analyze", "systemd"),
            *scope,
            "verify",
            "--man=no",
            "--recursive-errors=yes",
            copy,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )

    ours = [line for line in done.stderr.splitlines() if unit.name in line]
    assert ours == []


@pytest.mark.parametrize("unit", SYSTEM_UNITS, ids=unit_id)
def test_unit_is_hardened(unit: Path) -> None:
    done = subprocess.run(
        [require.program("systemd-analyze", "systemd"), "security", "--offline=yes", "--threshold=25", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-200:]


def test_watchdog_reload_and_stop_fit_the_agent() -> None:
    for unit in UNITS:
        if unit.name != "tracker-agent.service":
            continue
        settings = settings_of(unit)
        assert settings["Type"] == "notify"
        assert int(settings["WatchdogSec"]) >= 30
        assert settings["ExecReload"] == "/bin/kill -HUP $MAINPID"
        assert settings["Restart"] == "always"
        assert settings["RestartPreventExitStatus"] == "2"
        assert int(settings["TimeoutStopSec"]) > 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with the package's users and directories, made by systemd's own tools."""
    require.root()
    made = tmp_path / "root"
    for directory in ("etc", "var/spool", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d"):
        (made / directory).mkdir(parents=True)
    make(
        require.program("systemd-sysusers", "systemd"),
        f"--root={made}",
        PACKAGING / "sysusers.d/tracker-agent.conf",
    )
    # Names in an ACL are looked up in this system, not in the root: a number says the same.
    _, tracker = ids(made, "tracker-agent")
    directories = tmp_path / "tracker.conf"
    text = (PACKAGING / "tmpfiles.d/tracker-agent.conf").read_text()
    assert "group:tracker:" in text
    directories.write_text(text.replace("group:tracker:", f"group:{tracker}:"))
    make(require.program("systemd-tmpfiles", "systemd"), "--create", f"--root={made}", directories)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    return made


def make(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Failed" not in done.stderr, done.stderr


def ids(root: Path, user: str) -> tuple[int, int]:
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise AssertionError(f"no user {user}")


def run_as(uid: int, gid: int, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", script],
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_spool_lets_the_agent_read_and_remove_what_users_write_and_users_only_their_own(root: Path) -> None:
    spool = root / "var/spool/tracker"
    agent, users = ids(root, "tracker-agent"), [(54321, 54321), (54322, 54322)]

    for uid, gid in users:
        # 027, 077: no umask shuts the agent out; the writer's own modes are 0770 and 0660.
        made = run_as(
            uid, gid, f"umask 077; mkdir -m 770 {spool}/{uid} && cd {spool}/{uid} && (umask 007; echo x > f)"
        )
        assert made.returncode == 0, made.stderr

    assert stat.S_IMODE(spool.stat().st_mode) == 0o1733
    assert run_as(*users[0], f"ls {spool}").returncode != 0, "users cannot list the spool"
    assert run_as(*users[0], f"cat {spool}/54322/f").returncode != 0, "nor read another's runs"
    assert run_as(*users[0], f"rm -r {spool}/54322").returncode != 0, "nor remove them"
    assert run_as(*agent, f"cat {spool}/54321/f").stdout == "x\n"
    assert run_as(*agent, f"rm -r {spool}/54321 {spool}/54322").returncode == 0
    assert list(spool.iterdir()) == []
