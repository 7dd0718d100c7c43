"""docs/quick-start.md with packages: an operator types what stands there, then a user trains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.test_operations import block
from tests.packages.test_packages import build
from tests.support.agent_process import wait_until
from tests.support.booted import Machine, boot
from tests.support.booted_root import RELEASES
from tests.support.document_examples import steps_of
from tests.support.installed import AGENT, PACKAGES, SERVER, URL, Service, package
from tests.support.server_process import ServerError

PAGE = (Path(__file__).resolve().parents[2] / "docs/quick-start.md").read_text()
INSIDE = "/release"
#: The machine has no network: msgpack is the distribution's there, and pip is to fetch nothing.
NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PYTHONPATH": "/usr/lib/python3/dist-packages"}


def release_of_this_checkout(directory: Path, release: str) -> Path:
    """Put together what the page calls dist/: packages of one version, and the shim's wheel."""
    packages = directory / "dist/packages"
    packages.mkdir(parents=True)
    for name in (AGENT, SERVER):
        shutil.copy(PACKAGES / Path(package(name, release)).name, packages)
    wheel = build(PACKAGES.parents[1] / "shim", "wheel", directory / "wheel")
    shutil.copy(wheel, directory / "dist")
    for each in (directory, *directory.rglob("*")):
        each.chmod(0o755)
    return directory


@pytest.mark.parametrize(
    "release", [pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in RELEASES]
)
def test_with_packages_an_operator_and_a_user_reach_a_chart(release: str, tmp_path: Path) -> None:
    with boot(release, {release_of_this_checkout(tmp_path / "release", release): INSIDE}) as machine:
        said = [type_in(machine, step.text, step.user is not None) for step in steps_of(PAGE, "packages")]

        link = next(word for word in said[-1].split() if "/runs/" in word)
        run = link.partition("/runs/")[2].partition("?")[0]
        found = Service(machine).run_in_state("first", run, "finished")

        assert "Nothing needs attention" in said[1]
        assert "/signin#tl_" in said[2]
        assert found["project"] == "first"
        wait_until(lambda: points(machine, run) == 100, what="all points")

        type_in(machine, block("Backup"), as_user=False)
        type_in(machine, block("Restore"), as_user=False)

        wait_until(lambda: served(machine), what="the restored server")
        assert points(machine, run) == 100


def served(machine: Machine) -> bool:
    return machine.run("systemctl", "is-active", SERVER, check=False).returncode == 0 and ready(machine)


def ready(machine: Machine) -> bool:
    try:
        machine.request("GET", f"{URL}/readyz")
    except (OSError, ServerError):
        return False
    return True


def type_in(machine: Machine, text: str, as_user: bool) -> str:
    """Type a block, as root or as a user of the machine; return what it printed."""
    command = ("bash", "-euo", "pipefail", "-c", f"cd {INSIDE}\n{text}")
    if as_user:
        done = machine.run(*command, user="alice", environment=NO_INDEX | {"HOME": "/home/alice"})
    else:
        done = machine.run(*command, environment={"DEBIAN_FRONTEND": "noninteractive"})
    return done.stdout + done.stderr


def points(machine: Machine, run: str) -> int:
    answer = Service(machine).get(
        f"/api/v1/runs/default/first/{run}/points", {"metric": "loss", "after": "0"}
    )
    return len(answer["points"]["loss"]["step"])
