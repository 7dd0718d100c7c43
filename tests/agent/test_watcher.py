"""Hints: they come once, they may fail to come, and nothing depends on them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, Start, eventually
from tests.support.agent_process import wait_until
from tests.support.fake_tracker_server import FakeTrackerServer
from tracker_agent.watcher import Watcher, file_system_type, sends_events


@pytest.fixture
def changed() -> list[str]:
    return []


def test_armed_directory_gives_one_hint_and_then_none_until_armed_again(
    tmp_path: Path, changed: list[str]
) -> None:
    watcher = Watcher(changed.append)
    assert watcher.problem is None
    assert watcher.arm(str(tmp_path))

    (tmp_path / "file").write_text("1")
    wait_until(lambda: changed)
    (tmp_path / "file").write_text("2")
    other = tmp_path / "other"
    other.mkdir()
    assert watcher.arm(str(other))
    (other / "file").write_text("3")
    wait_until(lambda: str(other) in changed)

    assert changed == [str(tmp_path), str(other)]
    assert watcher.armed == 0
    watcher.close()


def test_out_of_watches_is_a_named_problem_and_no_exception(
    tmp_path: Path, changed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(changed.append)

    def full(*_: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watcher._inotify, "add_callback", full)

    assert not watcher.arm(str(tmp_path))
    assert watcher.problem is not None and "limit reached" in watcher.problem
    watcher.close()


def test_no_more_directories_than_allowed_are_watched(tmp_path: Path, changed: list[str]) -> None:
    watcher = Watcher(changed.append, watches_max=2)
    names = [tmp_path / name for name in "abc"]
    for name in names:
        name.mkdir()

    assert [watcher.arm(str(name)) for name in names] == [True, True, False]
    watcher.close()


def test_queue_overflow_is_a_hint_for_every_armed_directory(tmp_path: Path, changed: list[str]) -> None:
    watcher = Watcher(changed.append)
    names = [tmp_path / name for name in "ab"]
    for name in names:
        name.mkdir()
        assert watcher.arm(str(name))

    event = type("Overflow", (), {"is_queue_overflow": True})()
    watcher._inotify.handle_event(event)

    assert sorted(changed) == [str(name) for name in names]
    watcher.close()


def test_disarmed_directory_gives_no_hint(tmp_path: Path, changed: list[str]) -> None:
    watcher = Watcher(changed.append)
    quiet, noisy = tmp_path / "quiet", tmp_path / "noisy"
    for path in (quiet, noisy):
        path.mkdir()
        assert watcher.arm(str(path))

    watcher.disarm(str(quiet))
    (quiet / "file").write_text("1")
    (noisy / "file").write_text("1")
    wait_until(lambda: changed)

    assert changed == [str(noisy)]
    assert watcher.armed == 0
    watcher.close()


def test_network_file_systems_are_known_by_their_mount(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /home rw shared:1 - nfs4 server:/home rw\n"
        "31 22 0:41 / /home/with\\040space rw - fuse.sshfs x rw\n"
    )

    assert file_system_type("/home/user/spool", str(mountinfo)) == "nfs4"
    assert file_system_type("/homework", str(mountinfo)) == "ext4"
    assert file_system_type("/home/with space/x", str(mountinfo)) == "fuse.sshfs"
    assert sends_events(str(tmp_path))


async def test_hint_beats_the_scan_by_far(spool: Spool, server: FakeTrackerServer, start: Start) -> None:
    async with start(watch=True, scan_interval_s=30.0) as pipeline:
        await eventually(lambda: pipeline.status()["watch"] != "on, 0 directories")
        await eventually(lambda: server.requests)
        started = time.monotonic()
        stream = spool.write()

        await eventually(lambda: server.content(stream) == spool.content(stream), timeout_s=20)

        assert time.monotonic() - started < 20


async def test_everything_arrives_when_no_hint_ever_comes(
    spool: Spool, server: FakeTrackerServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watcher, "_fired", lambda self, path: None)

    async with start(watch=True):
        stream = spool.write()

        await eventually(lambda: server.content(stream) == spool.content(stream))
