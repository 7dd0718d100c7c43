"""What check-config finds: places that the agent cannot use, or in which users are not safe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require
from tests.support.other_user import make_system_spool
from tracker_agent.config import load_config
from tracker_agent.places_check import Viewer, place_problems
from tracker_agent.settings import Config

AGENT_UID, AGENT_GROUP = 4321, 4242
AGENT = Viewer(AGENT_UID, frozenset([AGENT_GROUP]))
ROOT = Viewer(0, frozenset([0]))


def config(root: Path, spool: Path | None = None) -> Config:
    flags = {
        ("server", "url"): "http://h",
        ("server", "key"): "tk",
        ("agent", "state_dir"): str(root / "state"),
        ("agent", "spools"): [str(spool or root / "spool")],
    }
    return load_config(None, {"HOME": str(root)}, flags, 1000)


def problems(root: Path, viewer: Viewer | None = None, spool: Path | None = None) -> str:
    return "\n".join(place_problems(config(root, spool), viewer or Viewer.current()))


def test_places_that_do_not_exist_but_can_be_made_are_well(tmp_path: Path) -> None:
    assert problems(tmp_path) == ""


def test_spool_as_the_package_sets_it_up_is_well_for_its_agent(tmp_path: Path) -> None:
    require.root()
    make_system_spool(tmp_path / "spool", AGENT_GROUP)
    os.chown(tmp_path / "spool", AGENT_UID, AGENT_GROUP)

    assert problems(tmp_path, AGENT) == ""
    assert problems(tmp_path, ROOT) == ""


def test_shared_spool_whose_acl_names_another_group_shuts_the_agent_out(tmp_path: Path) -> None:
    require.root()
    make_system_spool(tmp_path / "spool", AGENT_GROUP + 1)

    said = problems(tmp_path, AGENT)

    assert f"does not let the agent (uid {AGENT_UID}) read and remove" in said
    assert f"setfacl -m d:u::rwx,d:g::---,d:g:GROUP:rwx,d:m::rwx,d:o::--- {tmp_path}/spool" in said


def test_shared_spool_with_an_acl_that_lets_others_in_is_said(tmp_path: Path) -> None:
    require.root()
    make_system_spool(tmp_path / "spool", AGENT_GROUP)
    subprocess.run([require.program("setfacl", "acl"), "-m", "d:o::r-x", str(tmp_path / "spool")], check=True)

    assert "lets other users in" in problems(tmp_path, AGENT)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o1733, ["has no default ACL", "setfacl"]),
        (0o733, ["remove each other's directories", "chmod +t"]),
        (0o1777, ["every user can list the spool", "chmod o-r"]),
        (0o700, []),
    ],
)
def test_spool_that_users_share_without_protection_is_said_with_what_to_do(
    tmp_path: Path, mode: int, said: list[str]
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(mode)

    found = problems(tmp_path)

    for part in said:
        assert part in found
    assert bool(found) == bool(said)


def test_places_that_are_no_directories_or_somebody_elses_are_said(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    (tmp_path / "state").write_text("")
    files = problems(tmp_path)
    (tmp_path / "state").unlink()
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    stranger = problems(tmp_path, Viewer(os.geteuid() + 1, frozenset()))

    assert f"agent.state_dir {tmp_path}/state is no directory" in files
    assert f"the spool {tmp_path}/spool is no directory" in files
    assert f"belongs to uid {os.geteuid()}" in stranger
    assert f"chmod go-w {tmp_path}/state" in stranger


def test_command_shows_all_servers_and_where_values_come_from_and_hides_what_is_secret(
    tmp_path: Path,
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[agent]\nstate_dir = "{tmp_path}/state"\nspools = ["{tmp_path}/spool"]\n'
        '[server]\nurl = "https://a"\nkey = "tk_a_geheim1"\nheaders = ["X-Door: geheim2"]\n'
        '[servers.physics]\nurl = "https://b"\nkey = "tk_b_geheim3"\n[limits]\nmemory_bytes = "8 MiB"\n'
    )
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)

    done = subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "check-config", str(file)],
        env={
            "PATH": os.environ["PATH"],
            "HTTPS_PROXY": "http://me:geheim4@proxy:3128",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "geheim" not in done.stdout + done.stderr
    assert 'server.proxy = "http://proxy:3128"   (from HTTPS_PROXY)' in done.stdout
    assert 'servers.physics.url = "https://b"\n' in done.stdout
    assert 'limits.memory_bytes = "8 MiB"\n' in done.stdout
    assert "limits.spool_bytes = 0   (default)" in done.stdout
    assert f"warning: {file}, line 3: users may remove each other's directories" in done.stdout
    assert (
        f"warning: {file}, line 6: every user can read the key in {file}; run: chmod o= {file}" in done.stdout
    )
