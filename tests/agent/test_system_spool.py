"""The system's spool: users cannot read one another, and an agent without privileges reads and cleans it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.forked_agent import forked_agent
from tests.support.other_user import make_system_spool, open_directory, run_as_user
from tracker.protocol import kinds
from tracker_agent import caretaker
from tracker_agent.settings import FileSettings, RetentionSettings

AGENT, GROUP, ADA, BOB = 42001, 42000, 42002, 42003
TRAIN = """
os.umask(int(sys.argv[1], 8))
tracker.init(project="p", id=sys.argv[2]); tracker.log({"loss": 0.5})
"""


@pytest.fixture
def root() -> Iterator[Path]:
    require.root()
    with open_directory() as directory:
        make_system_spool(directory / "spool", GROUP)
        os.chown(directory / "spool", AGENT, GROUP)
        yield directory


def train(spool: Path, uid: int, run: str, umask: str = "022", more: str = "tracker.finish()") -> str:
    """Train as a user, who is in no group of the agent's."""
    said = run_as_user(uid, TRAIN + more, umask, run, gid=100, TRACKER_DIR=str(spool))
    assert "Traceback" not in said, said
    return said


def wait_for(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)
    return value


def settings(server: FakeTrackerServer, spool: Path) -> dict[str, Any]:
    return {"spools": [str(spool)], "servers": {"url": server.url, "key": "key"}}


def test_packaged_acl_is_the_one_that_is_tested() -> None:
    packaged = Path(__file__).parents[2] / "packaging" / "tmpfiles.d" / "tracker-agent.conf"
    lines = [line.split() for line in packaged.read_text().splitlines() if line and line[0] != "#"]

    assert lines[0][:5] == ["d", "/var/spool/tracker", "1733", "tracker-agent", "tracker"]
    assert lines[1][0] == "a+"
    short = lines[1][-1].replace("default:", "d:").replace("user:", "u:").replace("group:", "g:")
    short = short.replace("mask:", "m:").replace("other:", "o:").replace("tracker", "GROUP")
    assert short == "d:u::rwx,d:g::---,d:g:GROUP:rwx,d:m::rwx,d:o::---"


def test_tmpfiles_makes_the_spool_as_it_is_tested(tmp_path: Path) -> None:
    require.root()
    tmpfiles = require.program("systemd-tmpfiles", "systemd")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(
        f"root:x:0:0::/:/bin/sh\ntracker-agent:x:{AGENT}:{GROUP}::/:/bin/false\n"
    )
    (tmp_path / "etc" / "group").write_text(f"root:x:0:\ntracker:x:{GROUP}:\n")
    config = Path(__file__).parents[2] / "packaging" / "tmpfiles.d" / "tracker-agent.conf"

    done = subprocess.run(
        [tmpfiles, "--create", f"--root={tmp_path}", str(config)], capture_output=True, text=True, check=False
    )

    status = (tmp_path / "var" / "spool" / "tracker").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1733, AGENT, GROUP), done.stderr


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_agent_without_privileges_ships_and_removes_what_users_wrote_under_any_umask(
    root: Path, umask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caretaker, "ROUND_S", 0.1)
    spool = root / "spool"
    directory = spool / str(ADA) / "ada"
    save = "os.makedirs(sys.argv[3] + '/files/x'); open(sys.argv[3] + '/files/x/model', 'w').write('x')"
    train(spool, ADA, "ada", umask, f"tracker.finish(); sys.argv[3:] = [{str(directory)!r}]; {save}")
    keep = {"retention": RetentionSettings(shipped_s=0.0), "files": FileSettings(enabled=False)}
    with (
        FakeTrackerServer() as server,
        forked_agent(AGENT, GROUP, root / "state", **settings(server, spool), **keep),
    ):
        wait_for(lambda: server.run_streams("ada"))

        wait_for(lambda: not directory.exists())

    (stored,) = server.run_streams("ada")
    assert stored.records()[-1][0] == kinds.EXIT


def test_users_can_neither_list_nor_read_nor_remove_one_anothers_runs(root: Path) -> None:
    spool = root / "spool"
    train(spool, ADA, "ada", "000")
    before = sorted(str(path) for path in (spool / str(ADA)).rglob("*"))
    attempts = """
def attempt(what, *arguments):
    try:
        what(*arguments); print("DONE", what, arguments)
    except OSError as error:
        print(type(error).__name__)
import shutil
spool, ada = sys.argv[1:3]
attempt(os.listdir, spool)
attempt(os.listdir, ada)
attempt(os.listdir, ada + "/ada")
attempt(os.stat, ada + "/ada")
attempt(os.rename, ada, ada + "-mine")
attempt(os.rmdir, ada)
attempt(shutil.rmtree, ada)
attempt(os.mkdir, ada + "/x")
attempt(open, ada + "/credentials")
attempt(os.chmod, ada, 0o777)
"""

    said = run_as_user(BOB, attempts, str(spool), str(spool / str(ADA)), gid=100).split()

    assert "DONE" not in said and len(said) == 10, said
    assert sorted(str(path) for path in (spool / str(ADA)).rglob("*")) == before


def test_user_whose_name_was_taken_is_shipped_from_a_directory_of_his_own(root: Path) -> None:
    spool = root / "spool"
    taken = "os.mkdir(sys.argv[1]); os.chmod(sys.argv[1], 0o777)"
    run_as_user(BOB, taken, str(spool / str(ADA)), gid=100)

    for run in ("first", "second"):
        train(spool, ADA, run)

    directories = [path for path in spool.iterdir() if path.is_dir() and path.stat().st_uid == ADA]
    # The second training cannot list the spool, and finds the first one's directory all the same.
    assert len(directories) == 1 and directories[0].name.startswith(f"{ADA}-")
    assert not list((spool / str(ADA)).iterdir())
    with (
        FakeTrackerServer() as server,
        forked_agent(AGENT, GROUP, root / "state", **settings(server, spool)) as agent,
    ):
        wait_for(lambda: server.run_streams("first") and server.run_streams("second"))
        foreign = agent.status()["foreign"]
    assert [each["path"] for each in foreign] == [str(spool / str(ADA))]
    assert f"belongs to uid {BOB}" in foreign[0]["reason"]


@pytest.mark.parametrize("what", ["run directory", "segment"])
def test_mode_that_shuts_the_agent_out_is_named_with_what_to_do(root: Path, what: str) -> None:
    spool = root / "spool"
    train(spool, ADA, "shut")
    directory = spool / str(ADA) / "shut"
    (segment,) = directory.glob("*.mpl")
    shut = directory if what == "run directory" else segment
    os.chmod(shut, 0o700)
    train(spool, BOB, "open")
    with (
        FakeTrackerServer() as server,
        forked_agent(AGENT, GROUP, root / "state", **settings(server, spool)) as agent,
    ):
        wait_for(lambda: server.run_streams("open"))
        foreign = wait_for(lambda: agent.status()["foreign"])
        assert foreign[0]["path"] == str(shut)
        assert "chmod -R g+rwX" in foreign[0]["reason"]
        os.chmod(shut, 0o770)

        wait_for(lambda: server.run_streams("shut"))
