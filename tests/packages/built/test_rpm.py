"""The .rpms without a Red Hat: rpm installs them into roots whose python3.11 and systemd are Debian's."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packages.built.conftest import NAMES, NEXT, Installed, rpm
from tests.support import require


def ask(path: Path, *query: str) -> str:
    program = require.program("rpm")
    done = subprocess.run([program, "-qp", *query, path], capture_output=True, text=True, check=True)
    return done.stdout


class Red:
    """A root with an empty database of packages."""

    def __init__(self, root: Installed) -> None:
        self.root = root
        self("--initdb")

    def __call__(self, *arguments: str | Path) -> str:
        program = require.program("rpm")
        done = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
                *("/bin/sh", "-c", 'mount -t proc proc "$1/proc" && exec "$0" --root "$@"'),
                *(program, self.root.directory, *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}"
        return done.stdout


@pytest.fixture
def red(root_of: Callable[[str], Installed]) -> Red:
    require.program("rpm")
    return Red(root_of("bookworm"))


@pytest.mark.parametrize("name", NAMES)
def test_depends_on_python_and_systemd(name: str) -> None:
    needed = set(ask(rpm(name), "--requires").splitlines())

    assert {"/usr/bin/python3.11", "systemd >= 250", "glibc >= 2.28", "libgcc", "libstdc++"} <= needed
    strange = {each for each in needed if not each.startswith(("/", "systemd", "glibc", "lib", "rpmlib("))}
    assert not strange


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_shell_and_nothing_of_debian(name: str, tmp_path: Path) -> None:
    scripts = ask(rpm(name), "--scripts")

    for which in ("preinstall", "postinstall", "preuninstall", "postuninstall", "posttrans"):
        assert f"{which} scriptlet (using /bin/sh)" in scripts
    assert "deb-systemd" not in scripts
    assert "@" not in re.sub(r"\S*@\S*\.(service|invalid)", "", scripts), "a name without a value"
    for number, script in enumerate(
        re.split(r"^\w+ scriptlet \(using /bin/sh\):$", scripts, flags=re.MULTILINE)
    ):
        path = tmp_path / str(number)
        path.write_text(script)
        subprocess.run(["sh", "-n", path], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_roots_and_settings_are_for_the_group(name: str) -> None:
    format_ = r"[%{FILENAMES}|%{FILEMODES:perms}|%{FILEUSERNAME}:%{FILEGROUPNAME}|%{FILEFLAGS:fflags}\n]"
    rows = [row.split("|") for row in ask(rpm(name), "--queryformat", format_).splitlines()]
    files = {row[0]: row[1:] for row in rows}
    settings = f"/etc/tracker/{name.removeprefix('tracker-')}.toml"
    group = "tracker" if name == "tracker-agent" else "tracker-server"

    assert files[settings] == ["-rw-r-----", f"root:{group}", "cn"]
    assert {owner for path, (_, owner, _) in files.items() if path != settings} == {"root:root"}
    assert not [
        path for path, (mode, *_) in files.items() if mode[0] != "l" and (mode[5] == "w" or mode[8] == "w")
    ]
    assert files[f"/usr/share/licenses/{name}/LICENSE"][2] == "l"
    wanted = {
        f"/usr/bin/{name}",
        f"/usr/lib/systemd/system/{name}.service",
        f"/usr/lib/sysusers.d/{name}.conf",
        f"/usr/share/man/man1/{name}.1.gz",
        f"/usr/share/bash-completion/completions/{name}",
        f"/usr/share/zsh/site-functions/_{name}",
        f"/usr/share/fish/vendor_completions.d/{name}.fish",
    }
    assert wanted <= set(files)
    own = ("/opt/", "/etc/tracker", f"/usr/share/doc/{name}")
    directories = {path for path, (mode, *_) in files.items() if mode[0] == "d"}
    assert not [path for path in directories if not path.startswith(own)], "directories of the system"
    parents = {os.path.dirname(path) for path in files if path.startswith("/opt/")} - {"/opt"}
    assert parents <= directories, "a directory that removal would leave behind"
    assert not [path for path in files if path.endswith("site-packages/systemd")], (
        "Red Hat's is for another Python"
    )


def test_installs_upgrades_and_goes(red: Red) -> None:
    root = red.root

    red("-i", "--nodeps", rpm("tracker-agent"), rpm("tracker-server"))

    assert not [line for line in red("-V", "--nodeps", "tracker-agent").splitlines() if line]
    assert root.run("stat", "--format", "%a %U:%G", "/etc/tracker/agent.toml").strip() == "640 root:tracker"
    assert (
        root.run("stat", "--format", "%a %U:%G", "/var/spool/tracker").strip() == "1733 tracker-agent:tracker"
    )
    for name in NAMES:
        assert root.run("su", "-s", "/bin/sh", "nobody", "-c", f"{name} --version").split()[0] == name

    settings = root.path("/etc/tracker/agent.toml")
    text = settings.read_text().replace("127.0.0.1:8600", "tracker.example.org")
    settings.write_text(text)
    red("-U", "--nodeps", rpm("tracker-agent", NEXT))

    assert settings.read_text() == text
    assert red("-q", "tracker-agent").startswith(f"tracker-agent-{NEXT}-1.el9")
    assert root.run("tracker-agent", "--version")

    record = root.path("/var/spool/tracker/1001/runs/one/000001.mpl")
    record.parent.mkdir(parents=True)
    record.write_bytes(b"not shipped yet")
    red("-e", "tracker-agent", "tracker-server")

    assert (
        not os.path.lexists(root.path("/opt/tracker-agent")) and not root.path("/opt/tracker-server").exists()
    )
    assert settings.with_suffix(".toml.rpmsave").read_text() == text
    assert record.read_bytes() == b"not shipped yet"
