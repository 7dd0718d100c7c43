"""Installing, upgrading, removing and purging the .debs where no systemd runs, as in an image build.

Booted systems are in tests/booted.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packages.built.conftest import NEXT, PYTHON, Installed, deb

KEY = "/etc/tracker/agent-key"
SETTINGS = "/etc/tracker/agent.toml"
SPOOL = "/var/spool/tracker"
WANTED = "/etc/systemd/system/multi-user.target.wants/tracker-agent.service"


@pytest.fixture(params=PYTHON)
def release(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(release: str, root_of: Callable[[str], Installed]) -> Installed:
    return root_of(release)


def who(root: Installed, path: str) -> str:
    return root.run("stat", "--format", "%a %U:%G", path).strip()


def edited(root: Installed, line: str) -> str:
    """Change the settings as an operator does; return what they are then."""
    path = root.path(SETTINGS)
    text = path.read_text().replace('url = "http://127.0.0.1:8600"', line)
    path.write_text(text)
    return text


def test_installation_sets_up_user_spool_and_rights(root: Installed, release: str) -> None:
    said = root.dpkg("--install", deb("tracker-agent", release), deb("tracker-server", release))

    assert "not started yet, since it has no key" in said
    assert root.run("id", "--name", "--groups", "tracker-agent").split() == ["tracker"]
    assert who(root, SETTINGS) == "640 root:tracker"
    assert who(root, "/etc/tracker/server.toml") == "640 root:tracker-server"
    assert who(root, SPOOL) == "1733 tracker-agent:tracker"
    acl = root.run("getfacl", "--absolute-names", SPOOL)
    assert "default:group:tracker:rwx" in acl and "default:other::---" in acl
    assert root.path(WANTED).is_symlink(), "it starts with the machine"
    assert not root.path(KEY).exists()
    for name in ("tracker-agent", "tracker-server"):
        assert root.run("su", "-s", "/bin/sh", "nobody", "-c", f"{name} --version").split()[0] == name
    python = f"/opt/tracker-agent/lib/python{PYTHON[release]}/site-packages"
    assert root.run(
        "/opt/tracker-agent/bin/python", "-c", "import systemd.daemon, systemd; print(systemd.__file__)"
    )
    assert not list(root.path(python).rglob("*.pyc.*")), "nothing is written while it runs"
    assert "0 upgraded" not in said


def test_what_users_of_the_system_set_does_not_change_the_program(root: Installed, release: str) -> None:
    root.dpkg("--install", deb("tracker-agent", release))
    root.path("/tmp/aiohttp.py").write_text("raise SystemExit('somebody else's')")
    root.path("/tmp/tracker_agent.py").write_text("raise SystemExit('somebody elses')")

    assert root.run("env", "PYTHONPATH=/tmp", "tracker-agent", "--version").startswith("tracker-agent ")


def test_upgrade_keeps_settings_key_rights_and_what_is_in_the_spool(root: Installed, release: str) -> None:
    root.dpkg("--install", deb("tracker-agent", release))
    settings = edited(root, 'url = "https://tracker.example.org"')
    root.path(KEY).write_text("secret\n")
    root.path(SETTINGS).chmod(0o644)
    run = root.path(f"{SPOOL}/1001/runs/one")
    run.mkdir(parents=True)

    said = root.dpkg("--install", deb("tracker-agent", release, NEXT))

    assert "not started yet" not in said
    assert root.path(SETTINGS).read_text() == settings
    assert root.path(KEY).read_text() == "secret\n"
    assert who(root, SETTINGS) == "644 root:tracker", "rights that the operator chose"
    assert run.is_dir()
    assert root.path(WANTED).is_symlink()
    assert f"{NEXT}-1" in root.run("dpkg-query", "--show", "tracker-agent")


def test_disabled_unit_stays_disabled_over_an_upgrade(root: Installed, release: str) -> None:
    root.dpkg("--install", deb("tracker-agent", release))
    root.run("systemctl", "disable", "tracker-agent.service")

    root.dpkg("--install", deb("tracker-agent", release, NEXT))

    assert not root.path(WANTED).is_symlink()


def test_removal_keeps_settings_key_state_and_spool_and_installing_again_takes_them(
    root: Installed, release: str
) -> None:
    root.dpkg("--install", deb("tracker-agent", release))
    settings = edited(root, 'url = "https://tracker.example.org"')
    root.path(KEY).write_text("secret\n")
    state = root.path("/var/lib/tracker-agent/agent.lock")
    state.parent.mkdir(exist_ok=True)
    state.touch()

    root.dpkg("--remove", "tracker-agent")

    assert not root.path("/opt/tracker-agent").exists(), "no module stays behind"
    assert not os.path.lexists(root.path("/usr/bin/tracker-agent"))
    assert root.path(SETTINGS).read_text() == settings
    assert root.path(KEY).exists() and state.exists() and root.path(SPOOL).is_dir()

    said = root.dpkg("--install", deb("tracker-agent", release))

    assert "not started yet" not in said
    assert root.path(SETTINGS).read_text() == settings
    assert root.path(WANTED).is_symlink()


def test_purge_leaves_nothing_but_the_users(root: Installed, release: str) -> None:
    before = files_in(root)
    root.dpkg("--install", deb("tracker-agent", release), deb("tracker-server", release))
    root.path(KEY).write_text("secret\n")
    for state in ("/var/lib/tracker-agent/agent.lock", f"{SPOOL}/agent.json", f"{SPOOL}/agent.lock"):
        root.path(state).parent.mkdir(exist_ok=True)
        root.path(state).touch()
    root.path(f"{SPOOL}/1001/runs").mkdir(parents=True)
    root.path("/var/lib/tracker-server").mkdir(exist_ok=True)

    root.dpkg("--purge", "tracker-agent", "tracker-server")

    left = {
        path
        for path in files_in(root) - before
        if not path.startswith(("/tmp/", "/var/lib/dpkg/", "/var/log/"))
    }
    assert left <= {"/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock"} | backups(), left


def test_purge_keeps_what_belongs_to_users(root: Installed, release: str) -> None:
    root.dpkg("--install", deb("tracker-agent", release), deb("tracker-server", release))
    record = root.path(f"{SPOOL}/1001/runs/one/000001.mpl")
    record.parent.mkdir(parents=True)
    record.write_bytes(b"not shipped yet")
    root.path(f"{SPOOL}/agent.json").touch()
    store = root.path("/var/lib/tracker-server/tracker.db")
    store.parent.mkdir(exist_ok=True)
    store.write_bytes(b"everybody's runs")

    said = root.dpkg("--purge", "tracker-agent", "tracker-server")

    assert record.read_bytes() == b"not shipped yet"
    assert not root.path(f"{SPOOL}/agent.json").exists()
    assert store.exists()
    assert f"kept {SPOOL}" in said and "kept /var/lib/tracker-server" in said


def backups() -> set[str]:
    return {f"/etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow")}


def files_in(root: Installed) -> set[str]:
    found = set()
    for directory, names, files in os.walk(root.directory):
        inside = "/" + os.path.relpath(directory, root.directory)
        if inside.startswith("/proc"):
            continue
        found |= {os.path.normpath(f"{inside}/{name}") for name in names + files}
    return found


def test_a_package_of_another_release_is_refused(root: Installed, release: str) -> None:
    other = next(each for each in PYTHON if each != release)

    said = root.dpkg("--install", deb("tracker-agent", other), code=1)

    assert "depends on python3" in said


def test_spool_that_cannot_be_set_up_is_said_and_does_not_fail_the_installation(
    root: Installed, release: str
) -> None:
    Path(root.path("/var/spool/tracker")).write_text("a file where a directory should be")

    said = root.dpkg("--install", deb("tracker-agent", release))

    assert "systemd-tmpfiles --create tracker-agent.conf" in said
