"""What is in the .debs: rights, dependencies, compiled modules, libraries, and what lintian thinks of it."""

import re
import struct
import subprocess
from pathlib import Path

import pytest

from tests.packages.built.conftest import NAMES, PYTHON, VERSION, deb
from tests.support import require

CASES = [(name, release) for name in NAMES for release in PYTHON]
#: What lintian may warn of.
WARNINGS = {
    "executable-in-usr-lib",
}
#: Libraries from outside the package, which its dependencies bring.
LIBRARIES = {
    *("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
    *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libgcc_s.so.1", "libstdc++.so.6"),
    "libz.so.1",  # Python's own
}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def package(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="module")
def unpacked(package: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", deb(*package), directory], check=True)
    return directory


def field(package: tuple[str, str], name: str) -> str:
    asked = ["dpkg-deb", "--field", deb(*package), name]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def listed(package: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """Return mode and owner of every file."""
    told = subprocess.run(
        ["dpkg-deb", "--contents", deb(*package)], capture_output=True, text=True, check=True
    )
    rows = (line.split(None, 5) for line in told.stdout.splitlines())
    return {row[5].split(" -> ")[0].removeprefix("."): (row[0], row[1]) for row in rows}


def test_lintian_has_no_errors_and_no_new_warnings(package: tuple[str, str]) -> None:
    program = require.program("lintian")

    said = subprocess.run(
        [program, "--allow-root", "--fail-on", "error", deb(*package)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stdout + said.stderr
    warned = set(re.findall(r"^W: \S+: (\S+)", said.stdout, re.MULTILINE))
    assert warned <= WARNINGS, said.stdout


def test_depends_on_the_python_it_was_made_with(package: tuple[str, str]) -> None:
    release = package[1]
    minor = int(PYTHON[release].split(".")[1])

    depends = field(package, "Depends").split(", ")

    assert {f"python3 (>= 3.{minor}~)", f"python3 (<< 3.{minor + 1})", "python3-systemd"} <= set(depends)
    assert field(package, "Version") == f"{VERSION}-1~{release}"


def test_all_belongs_to_root_and_nothing_is_for_others_to_write(package: tuple[str, str]) -> None:
    files = listed(package)

    assert {owner for _, owner in files.values()} == {"root/root"}
    assert not [
        path for path, (mode, _) in files.items() if mode[0] != "l" and (mode[5] == "w" or mode[8] == "w")
    ]
    assert not [path for path, (mode, _) in files.items() if set(mode[1:]) & set("sStT")]


def test_settings_are_for_root_until_the_group_exists(package: tuple[str, str], unpacked: Path) -> None:
    settings = f"/etc/tracker/{package[0].removeprefix('tracker-')}.toml"

    assert listed(package)[settings][0] == "-rw-r-----"
    assert (unpacked / "DEBIAN/conffiles").read_text().split() == [settings]


def test_brings_unit_users_manual_and_completions(package: tuple[str, str]) -> None:
    name = package[0]
    wanted = {
        f"/usr/bin/{name}",
        f"/usr/lib/systemd/system/{name}.service",
        f"/usr/lib/sysusers.d/{name}.conf",
        f"/usr/share/man/man1/{name}.1.gz",
        f"/usr/share/bash-completion/completions/{name}",
        f"/usr/share/zsh/vendor-completions/_{name}",
        f"/usr/share/fish/vendor_completions.d/{name}.fish",
        f"/usr/share/doc/{name}/copyright",
        f"/usr/share/doc/{name}/changelog.gz",
        f"/usr/share/doc/{name}/changelog.Debian.gz",
    }

    assert wanted <= set(listed(package))


def test_only_the_agent_brings_a_spool(package: tuple[str, str]) -> None:
    assert (f"/usr/lib/tmpfiles.d/{package[0]}.conf" in listed(package)) == (package[0] == "tracker-agent")


def test_every_module_is_compiled_and_stays_so_whatever_its_time(
    package: tuple[str, str], unpacked: Path
) -> None:
    tag = PYTHON[package[1]].replace(".", "")
    sources = list((unpacked / "opt").rglob("*.py"))

    assert len(sources) > 500
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-{tag}.pyc"
        assert compiled.is_file(), f"{source} is compiled at each start"
        [flags] = struct.unpack("<4xI", compiled.read_bytes()[:8])
        assert flags == 0b01, f"{compiled}: not by an unchecked hash"


def test_nothing_tells_where_it_was_built(unpacked: Path) -> None:
    traces = re.compile(rb"tracker-packages-|[\"'/]build/wheels")

    told = [path for path in unpacked.rglob("*") if path.is_file() and not path.is_symlink()]

    assert not [path for path in told if traces.search(path.read_bytes())]


def test_libraries_need_nothing_that_is_not_depended_on(unpacked: Path) -> None:
    readelf = require.program("readelf", "binutils")
    carried = {path.name for path in (unpacked / "opt").rglob("*.so*")}
    wanted: dict[str, str] = {}
    for library in (unpacked / "opt").rglob("*.so*"):
        told = subprocess.run(
            [readelf, "--dynamic", "--wide", library], capture_output=True, text=True, check=True
        )
        wanted |= {name: str(library) for name in re.findall(r"\(NEEDED\).*\[(.+)\]", told.stdout)}

    assert wanted
    assert not {name: by for name, by in wanted.items() if name not in LIBRARIES | carried}


def test_finds_systemds_module_where_the_distribution_puts_it(
    package: tuple[str, str], unpacked: Path
) -> None:
    link = unpacked / f"opt/{package[0]}/lib/python{PYTHON[package[1]]}/site-packages/systemd"

    assert link.is_symlink()
    assert str(link.readlink()) == "/usr/lib/python3/dist-packages/systemd"
