"""Places that change under a running training: rights, roots, mounts, and network file systems."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.shim.scripts import reading, run_script
from tests.support import require
from tests.support.other_user import open_directory, run_as_user
from tracker._spool import network_filesystem
from tracker.protocol import kinds

USER = 12345


def mount(directory: Path, options: str) -> None:
    require.root()
    done = subprocess.run(
        [require.program("mount"), "-t", "tmpfs", "-o", options, "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        require.absent(f"tmpfs with {options}", done.stderr.strip(), "a Linux from 6.6 on, and root")


def test_rights_that_are_taken_away_stop_nothing_that_is_open() -> None:
    require.root()
    script = """
        directory = sys.argv[1]
        run = tracker.init(id="run", dir=directory)
        run._recorder._writer.segment_bytes = 4000
        os.chmod(run.dir, 0)
        os.chmod(directory, 0)
        for step in range(300):
            tracker.log({"n": step})
        os.closerange(3, 4096)
        for step in range(3):
            tracker.log({"refused": step})
        lost = run.lost
        os.chmod(directory, 0o755)
        os.chmod(run.dir, 0o755)
        run._recorder._refused_at = 0
        tracker.log({"again": 1})
        print(lost, run.lost)
    """
    with open_directory() as place:
        (place / "mine").mkdir()
        os.chown(place / "mine", USER, USER)
        out = run_as_user(USER, script, str(place / "mine"))
        first, second = reading(place)

    assert out.splitlines()[-1] == "3 3"
    assert [values["n"] for _, values in first.metrics] == list(range(300))
    assert second.metrics == [(303, {"again": 1})]
    assert [lost.records for lost in second.of(kinds.LOST)] == [3]


def test_another_root_directory_stops_nothing_that_is_open(tmp_path: Path) -> None:
    require.root()
    (tmp_path / "jail").mkdir()
    script = """
        import os, sys, tracker
        run = tracker.init(id="run")
        run._recorder._writer.segment_bytes = 4000
        os.chroot(sys.argv[1])
        os.chdir("/")
        for step in range(300):
            tracker.log({"n": step})
        tracker.config["late"] = 1
        tracker.log({"odd": object(), "n": 300})
        assert run.lost == 1, run.lost
        sys.exit(3)
    """

    run_script(script, str(tmp_path / "jail"), code=3, TRACKER_DIR=str(tmp_path / "spool"))

    (stream,) = reading(tmp_path / "spool")
    assert [values["n"] for _, values in stream.metrics] == list(range(301))
    assert stream.exits == [3]


def test_a_spool_that_is_unmounted_stops_nothing_that_is_open(tmp_path: Path) -> None:
    script = """
        import os, subprocess, sys, tracker
        run = tracker.init(id="run")
        tracker.log({"n": 0})
        subprocess.run(["umount", "-l", sys.argv[1]], check=True)
        for step in range(1, 100):
            tracker.log({"n": step})
        tracker.config["noticed"] = 1  # its files are there still, but not here
        assert run.lost == 0, run.lost
    """
    place = tmp_path / "place"
    place.mkdir()
    mount(place, "size=1m")

    _, err = run_script(script, str(place), TRACKER_DIR=str(place))

    assert "warning" not in err


MOUNTS = """\
{line}
23 1 0:99999 / /other rw - nfs4 server:/other rw
"""


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("30 1 {device} / /home rw,relatime shared:12 master:3 - nfs4 server:/export rw,hard", "nfs4"),
        ("30 1 {device} / /home rw - fuse.sshfs me@there:/ rw", "fuse.sshfs"),
        ("30 1 {device} /sub\\040dir /mnt/a\\040b rw - lustre 10.0.0.1@tcp:/l rw", "lustre"),
        ("30 1 {device} / /home rw - tmpfs tmpfs rw", None),
        ("30 1 {device} / /home rw - fuse.portal x rw", None),
        ("30 1 {device} / /home", None),
        ("", None),
    ],
)
def test_a_network_file_system_is_known_by_its_type(tmp_path: Path, line: str, kind: str | None) -> None:
    device = os.stat("/proc").st_dev  # no disk has it, as no network file system has
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(line=line.format(device=f"{os.major(device)}:{os.minor(device)}")))

    assert network_filesystem("/proc", str(mounts)) == kind


def test_local_and_missing_directories_are_on_no_network(tmp_path: Path) -> None:
    assert network_filesystem("/proc") is None
    assert network_filesystem(str(tmp_path)) is None
    assert network_filesystem(str(tmp_path / "none")) is None
    assert network_filesystem("/proc", str(tmp_path / "none")) is None
