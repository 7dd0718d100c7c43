"""What a spool costs has a bound, however many directories, files and names someone puts into it."""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import UID, Spool, Start, eventually
from tests.support.fake_tracker_server import FakeTrackerServer
from tracker_agent import scanner as scanner_module
from tracker_agent import spool_users
from tracker_agent.disk import Disk
from tracker_agent.open_files import OpenFiles
from tracker_agent.scanner import DIRECTORIES_PER_SCAN, Scanner
from tracker_agent.spool_users import NEW_NAMES_PER_SCAN, USERS_PER_SCAN
from tracker_agent.user_names import UserNames


class CountingDisk(Disk):
    """Counts what scans ask of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def status(self, path: str, follow: bool = False) -> os.stat_result:
        self.calls["status"] += 1
        return super().status(path, follow)

    def names(self, path: str) -> list[str]:
        self.calls["names"] += 1
        return super().names(path)

    def check_user_directory(self, root: str, user: str, uid: int) -> None:
        self.calls["check"] += 1
        super().check_user_directory(root, user, uid)

    def directories(self, root: str, user: str, uid: int) -> Any:
        self.calls["directories"] += 1
        return super().directories(root, user, uid)


class Scans:
    """A scanner and the time it is told."""

    def __init__(self, root: Path) -> None:
        self.disk = CountingDisk()
        self.scanner = Scanner(str(root), self.disk, OpenFiles(self.disk, 8), 0.5, lambda: 0)
        self.now = 1000.0
        self.found: set[bytes] = set()

    def scan(self, times: int = 1, step_s: float = 0.5) -> Counter[str]:
        """Scan some times; return the most that one scan asked of the disk."""
        most: Counter[str] = Counter()
        for _ in range(times):
            self.disk.calls.clear()
            self.found |= {entry.stream for entry in self.scanner.scan(self.now).found}
            self.now += step_s
            most |= self.disk.calls
        return most


async def test_run_arrives_beside_more_directories_of_another_than_count(
    spool: Spool, server: FakeTrackerServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_users, "RUNS_PER_USER_MAX", 10_000)
    crowd = spool.root / f"{UID}-crowd"
    crowd.mkdir()
    for number in range(11_000):
        os.mkdir(crowd / f"{number:05d}")
    async with start() as pipeline:
        await eventually(lambda: pipeline.status()["spools"])
        await eventually(lambda: pipeline.status()["spools"][0]["runs"] >= 10_000, timeout_s=60)
        stream = spool.write(run="good")

        await eventually(lambda: server.content(stream) == spool.content(stream), timeout_s=60)

        foreign = await eventually(lambda: pipeline.status()["foreign"])
        assert pipeline.status()["spools"][0]["runs"] <= 10_001
    assert "more than 10000 run directories: 1000 are left alone" in foreign[0]["reason"]


def test_one_scan_looks_at_no_more_directories_than_its_bound(tmp_path: Path) -> None:
    for number in range(1000):
        os.makedirs(tmp_path / str(UID) / f"run{number}")
    scans = Scans(tmp_path)

    most = scans.scan(30)

    # The user, his credentials and the root come on top.
    assert most["status"] <= DIRECTORIES_PER_SCAN + 10


def test_directory_with_very_many_names_is_listed_seldom_while_it_changes(tmp_path: Path) -> None:
    user = tmp_path / str(UID)
    for number in range(5000):
        os.makedirs(user / f"run{number}")
    scans = Scans(tmp_path)
    listings = 0
    for number in range(40):  # 4 seconds, a new directory at each scan
        os.mkdir(user / f"new{number}")
        listings += scans.scan(1, step_s=0.1)["directories"]

    assert 10 <= listings <= 4.0 / (5000 / spool_users.NAMES_PER_S) + 1


def test_crowd_of_names_in_the_spool_is_looked_at_little_by_little(tmp_path: Path) -> None:
    """Everyone may put names there; who comes late is found all the same."""
    for number in range(1500):
        (tmp_path / f"{UID + 1}-x{number}").mkdir()  # named after somebody else
    scans = Scans(tmp_path)
    assert scans.scan(1)["check"] == NEW_NAMES_PER_SCAN
    late = Spool(tmp_path / "late")
    stream = late.write()
    os.rename(late.user, tmp_path / str(UID))

    most = scans.scan(20)

    assert stream in scans.found
    assert most["check"] <= NEW_NAMES_PER_SCAN
    assert len(scans.scanner.foreign) <= scanner_module.FOREIGN_MAX


def test_one_user_has_a_bounded_number_of_directories_in_the_spool(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{UID}-{number}").mkdir()
    scans = Scans(tmp_path)

    most = scans.scan(20)

    assert most["status"] <= 2 * USERS_PER_SCAN + 10
    reasons = set(scans.scanner.foreign.values())
    assert reasons == {f"uid {UID} has 64 directories already"} and len(scans.scanner.foreign) == 136


def test_quiet_users_are_looked_at_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_users, "USERS_PER_SCAN", 5)
    for number in range(40):
        (tmp_path / f"{UID}-{number}").mkdir()
    scans = Scans(tmp_path)
    scans.scan(30)
    quiet = scans.scan(10)
    other = Spool(tmp_path / "elsewhere")
    stream = other.write()
    os.rename(other.user / "run", tmp_path / f"{UID}-17" / "run")

    scans.scan(10)

    assert quiet["status"] <= 2 * 5 + 2
    assert stream in scans.found


def test_streams_of_one_user_are_bounded_and_the_rest_is_named(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner_module, "STREAMS_PER_USER_MAX", 10)
    streams = [spool.write(run=f"run{number % 2}") for number in range(15)]
    scans = Scans(spool.root)

    scans.scan(10)

    assert len(scans.found) == 10
    assert any("has 10 streams already" in reason for reason in scans.scanner.foreign.values())
    for entry in scans.scanner.entries():
        entry.finished = True  # else what is open would be read to its end first
    for stream in sorted(scans.found)[:5]:
        spool.segments(stream)[0].unlink()
    scans.scan(20, step_s=70.0)
    assert len(scans.found) == 15 and scans.found == set(streams)


def test_very_many_files_in_a_directory_leave_room_for_the_stream_among_them(spool: Spool) -> None:
    stream = spool.write()
    run = spool.run("run")
    for number in range(20_000):
        os.close(os.open(run / f"{number}.mpl", os.O_CREAT | os.O_WRONLY))
    scans = Scans(spool.root)

    scans.scan(5)

    assert scans.found == {stream}
    assert len(scans.scanner.foreign) == scanner_module.ODD_MAX


def test_noise_that_was_refused_is_not_read_again_before_it_changes(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spool.run("run") / f"{secrets.token_hex(16)}.000000.mpl"
    path.write_bytes(os.urandom(1000))
    disk = CountingDisk()
    opened: list[str] = []
    real = Disk.open_file
    monkeypatch.setattr(
        Disk, "open_file", lambda self, place, name: (opened.append(name), real(self, place, name))[1]
    )
    later = os.stat(path).st_ctime_ns + 10 * spool_users.SETTLED_NS
    scanner = Scanner(str(spool.root), disk, OpenFiles(disk, 8), 0.5, lambda: later)
    for second in range(100):
        scanner.scan(1000.0 + second)
    assert opened.count(path.name) == 1
    assert "no valid HEADER" in scanner.foreign[str(path)]


def test_user_database_that_hangs_costs_the_name_only_and_once() -> None:
    answer = threading.Event()

    def look_up(uid: int) -> str:
        answer.wait(30)
        return f"user{uid}"

    names = UserNames(look_up)

    assert [names.name(uid) for uid in range(300)] == [str(uid) for uid in range(300)]
    answer.set()
    while names.name(5) == "5":
        answer.wait(0.01)
    assert names.name(5) == "user5"


def test_user_without_a_name_goes_by_his_number() -> None:
    assert UserNames().name(4_000_000_000) == "4000000000"
    assert UserNames().name(0) == "root"
