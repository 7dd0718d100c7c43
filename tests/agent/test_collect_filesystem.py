"""The collector filesystem: on machines made of files, on a real ext4 and on mounts that really hang."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.agent_process import wait_until
from tests.support.faulty_disks import LoopDisk
from tests.support.fixture_host import MACHINES, FixtureHost
from tests.support.fuse_mount import passthrough
from tests.support.metric_table import undeclared
from tracker_agent.collectors.collector import Context, NothingHere
from tracker_agent.collectors.filesystem import AUTOMOUNTED_S, FilesystemCollector
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.mount_questions import RETRY_MAX_S, RETRY_S, THREADS_MAX, MountQuestions
from tracker_agent.collectors.mounts import find_process, read_mounts, with_space

Ask = Callable[[str], Any]


def space(percent: float = 50.0, read_only: bool = False, **more: int) -> Any:
    used = round(10 * percent)
    values = {
        "f_blocks": 1000,
        "f_bfree": 1000 - used,
        "f_bavail": 1000 - used,
        "f_frsize": 4096,
        "f_files": 200,
        "f_ffree": 150,
        "f_flag": os.ST_RDONLY if read_only else 0,
    }
    return SimpleNamespace(**(values | more))


class Mounts:
    """Answers for mounts: with space, an error, or not until they are let go."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.under_way: dict[str, int] = {}
        self.most_under_way: dict[str, int] = {}
        self.delay_s = 0.0
        self._hanging: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def hang(self, path: str) -> None:
        self._hanging[path] = threading.Event()

    def let_go(self, path: str) -> None:
        self._hanging.pop(path).set()

    def let_all_go(self) -> None:
        for path in list(self._hanging):
            self.let_go(path)

    def statvfs(self, path: str) -> Any:
        with self._lock:
            self.asked.append(path)
            now = self.under_way[path] = self.under_way.get(path, 0) + 1
            self.most_under_way[path] = max(now, self.most_under_way.get(path, 0))
        try:
            if path in self._hanging:
                self._hanging[path].wait()
            time.sleep(self.delay_s)
            answer = self.answers.get(path, space())
            if isinstance(answer, OSError):
                raise answer
            return answer
        finally:
            with self._lock:
                self.under_way[path] -= 1


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    mounts = Mounts()
    yield mounts
    mounts.let_all_go()


def host_with(tmp_path: Path, *lines: str) -> FixtureHost:
    """A machine with these mounts: "POINT TYPE SOURCE"."""
    host = FixtureHost("empty", tmp_path / "host")
    table = ""
    for number, line in enumerate(lines, 30):
        point, kind, source = line.split()
        table += f"{number} 1 0:{number} / {point} rw - {kind} {source} rw\n"
    host.write("proc/self/mountinfo", table)
    return host


#: How long a sample waits for a mount that hangs; for others it is never that long, however busy the machine.
HANGING_S, ANSWERING_S = 1.0, 60.0


def collector_of(host: FixtureHost, mounts: Mounts, wait_s: float = ANSWERING_S) -> FilesystemCollector:
    return FilesystemCollector(host.context(), mounts.statvfs, wait_s)


def points(host: FixtureHost) -> list[str]:
    return [mount.point for mount in with_space(read_mounts(host.kernel, find_process(host.kernel)))]


# Which mounts there are.


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (
            "intel-2s",
            [
                *(
                    "/",
                    "/auto/ada",
                    "/boot/efi",
                    "/data",
                    "/mnt/images",
                    "/mnt/nfs share",
                    "/scratch",
                    "/tmp",
                ),
            ],
        ),
        ("container", ["/", "/models", "/workspace"]),
        ("hybrid", ["/"]),
        ("slurm-v1", ["/", "/scratch"]),
        ("empty", []),
    ],
)
def test_mounts_with_space_of_their_own(machine: str, expected: list[str], tmp_path: Path) -> None:
    assert points(FixtureHost(machine, tmp_path / "host")) == expected


def test_whole_file_system_is_named_rather_than_a_part_with_a_shorter_path(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    host.write(
        "proc/self/mountinfo",
        "1 0 8:1 /sub /a rw - ext4 /dev/sda1 rw\n2 0 8:1 / /long rw - ext4 /dev/sda1 rw\n",
    )

    assert points(host) == ["/long"]


def test_mount_that_covers_another_is_the_one_that_is_seen(tmp_path: Path) -> None:
    host = host_with(tmp_path, "/data ext4 /dev/sda1", "/data xfs /dev/sdb1")

    (mount,) = read_mounts(host.kernel, "proc/self")

    assert (mount.kind, mount.source) == ("xfs", "/dev/sdb1")


def test_password_in_a_source_is_not_shown(tmp_path: Path) -> None:
    host = host_with(tmp_path, "/data fuse.rclone https://ada:geheim@store/w")

    (mount,) = read_mounts(host.kernel, "proc/self")

    assert mount.source == "https://store/w"


def test_mounts_of_the_first_process_are_read_where_it_has_others(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/own ext4 /dev/sda1")
    for process, namespace in (("self", 1), ("1", 2)):
        (host.root / "proc" / process / "ns").mkdir(parents=True)
        (host.root / "proc" / process / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
    host.write("proc/1/mountinfo", "5 0 8:2 / /machine rw - ext4 /dev/sda2 rw\n")

    values = collector_of(host, mounts).sample().values

    assert "host.filesystem.machine.percent" in values
    assert mounts.asked == [str(host.root / "proc/1/root") + "/machine"]


# Values.


def test_values_are_those_of_df(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data ext4 /dev/sda1")
    mounts.answers["/data"] = space(f_bfree=600, f_bavail=400)

    reading = collector_of(host, mounts).sample()

    assert reading.values == {
        "host.filesystem.fullest.percent": 50,
        "host.filesystem.fullest_inodes.percent": 25,
        "host.filesystem.stuck.count": 0,
        "host.filesystem.data.total.bytes": 1000 * 4096,
        "host.filesystem.data.used.bytes": 400 * 4096,
        "host.filesystem.data.free.bytes": 600 * 4096,
        "host.filesystem.data.available.bytes": 400 * 4096,
        "host.filesystem.data.percent": 50,
        "host.filesystem.data.inodes.total.count": 200,
        "host.filesystem.data.inodes.free.count": 150,
        "host.filesystem.data.inodes.percent": 25,
        "host.filesystem.data.read_only.count": 0,
    }
    assert reading.inventory == {
        "filesystems": [
            {"name": "data", "mount": "/data", "type": "ext4", "device": "/dev/sda1", "readonly": False}
        ]
    }


def test_file_system_without_a_limit_of_inodes_or_without_space(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data btrfs /dev/sda1", "/odd fuse.odd odd")
    mounts.answers |= {"/data": space(f_files=0, f_ffree=0), "/odd": space(f_blocks=0, f_bfree=0, f_bavail=0)}

    values = collector_of(host, mounts).sample().values

    assert not [name for name in values if "inodes" in name or "odd" in name]
    assert values["host.filesystem.data.percent"] == 50


def test_image_that_nobody_can_write_to_is_not_the_fullest(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data ext4 /dev/sda1", "/image ext4 /dev/sdb1")
    mounts.answers |= {"/data": space(30), "/image": space(100, read_only=True)}

    assert collector_of(host, mounts).sample().values["host.filesystem.fullest.percent"] == 30


def test_only_the_fullest_have_values_of_their_own(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, *(f"/d{number} ext4 /dev/d{number}" for number in range(20)))
    mounts.answers |= {f"/d{number}": space(number) for number in range(20)}

    values = collector_of(host, mounts).sample().values

    named = {name.split(".")[2] for name in values if name.endswith("used.bytes")}
    assert named == {f"d{number}" for number in range(4, 20)}
    assert values["host.filesystem.fullest.percent"] == 19


def test_mounts_that_are_not_ours_to_see_are_no_problem(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/theirs fuse.sshfs x", "/data ext4 /dev/sda1")
    mounts.answers["/theirs"] = PermissionError(errno.EACCES, "no")

    reading = collector_of(host, mounts).sample()

    assert reading.problems == ()
    assert not [name for name in reading.values if "theirs" in name]


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_bring_only_what_the_table_says(machine: str, tmp_path: Path, mounts: Mounts) -> None:
    host = FixtureHost(machine, tmp_path / "host")
    collector = collector_of(host, mounts)
    if not points(host):
        with pytest.raises(NothingHere):
            collector.sample()
        return

    values = collector.sample().values

    assert undeclared(FilesystemCollector, values) == []
    assert len([name for name in values if name.endswith(".total.bytes")]) == len(points(host))


# Mounts that do not answer.


def test_dead_mount_is_named_and_the_others_are_measured(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data nfs4 filer:/export", "/home ext4 /dev/sda1")
    collector = collector_of(host, mounts, HANGING_S)
    mounts.hang("/data")

    reading = collector.sample()

    assert reading.problems == ("/data (nfs4, filer:/export) does not answer",)
    assert reading.values["host.filesystem.stuck.count"] == 1
    assert "host.filesystem.home.percent" in reading.values
    assert not [name for name in reading.values if ".data." in name]
    (event,) = reading.events
    assert (event.title, event.level) == ("/data does not answer", "warn")
    assert event.facts["state"] == "stuck"


def test_dead_mount_is_asked_by_one_thread_only(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data nfs4 filer:/export", "/home ext4 /dev/sda1")
    collector = collector_of(host, mounts, HANGING_S)
    mounts.hang("/data")

    readings = []
    for _ in range(5):
        readings.append(collector.sample())
        host.advance(30)

    assert mounts.asked.count("/data") == 1
    assert mounts.asked.count("/home") == 5
    assert mounts.most_under_way == {"/data": 1, "/home": 1}
    assert len({reading.problems for reading in readings}) == 1, "a text that changes is logged each time"
    assert [len(reading.events) for reading in readings] == [1, 0, 0, 0, 0]


def test_mount_known_to_be_dead_is_not_waited_for(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data nfs4 filer:/export")
    questions = MountQuestions(mounts.statvfs, wait_s=0.05)
    mounts.hang("/data")
    questions.ask({"d": "/data"}, {}, host.now)
    question = questions._subjects["d"].question
    assert question is not None
    waited: list[float | None] = []
    really = question.done.wait

    def wait(timeout: float | None = None) -> bool:
        waited.append(timeout)
        return really(timeout)

    question.done.wait = wait  # type: ignore[method-assign]
    questions.ask({"d": "/data"}, {}, host.now + 30)

    assert waited == [0.0]


def test_mount_that_comes_back_is_measured_again(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data nfs4 filer:/export")
    collector = collector_of(host, mounts, HANGING_S)
    mounts.hang("/data")
    collector.sample()

    mounts.let_go("/data")
    wait_until(lambda: mounts.under_way["/data"] == 0, what="the thread to come back")
    reading = wait_until(lambda: _healthy(collector, host), what="the mount to be measured")

    assert reading.values["host.filesystem.stuck.count"] == 0
    assert [(event.title, event.level) for event in reading.events] == [("/data answers again", "info")]


def test_mount_that_healed_is_waited_for_again(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data nfs4 filer:/export")
    collector = collector_of(host, mounts, HANGING_S)
    mounts.hang("/data")
    collector.sample()
    mounts.let_go("/data")
    wait_until(lambda: _healthy(collector, host), what="the mount to be measured")
    mounts.delay_s = 0.2

    assert collector.sample().problems == ()


def _healthy(collector: FilesystemCollector, host: FixtureHost) -> Any:
    host.advance(30)
    reading = collector.sample()
    return None if reading.problems else reading


def test_mount_that_fails_is_asked_again_less_and_less_often(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data fuse.sshfs ada@store:/w")
    collector = collector_of(host, mounts)
    mounts.answers["/data"] = OSError(errno.ENOTCONN, "gone")
    asked_at = []
    for _ in range(200):
        count = len(mounts.asked)
        reading = collector.sample()
        assert "Transport endpoint is not connected" in reading.problems[0]
        if len(mounts.asked) > count:
            asked_at.append(host.now)
        host.advance(30)

    gaps = [after - before for before, after in itertools.pairwise(asked_at)]
    assert gaps[:4] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S]
    assert set(gaps[5:]) == {RETRY_MAX_S}


def test_mount_that_healed_is_asked_as_often_as_before(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data fuse.sshfs ada@store:/w")
    collector = collector_of(host, mounts)
    broken = OSError(errno.EIO, "broken")
    mounts.answers["/data"] = broken
    collector.sample()
    mounts.answers["/data"] = space()
    host.advance(RETRY_S)

    healed = collector.sample()
    mounts.answers["/data"] = broken
    host.advance(1)
    again = collector.sample()
    mounts.answers["/data"] = space()
    host.advance(RETRY_S)
    at_last = collector.sample()

    assert healed.problems == at_last.problems == ()
    assert "host.filesystem.data.percent" in healed.values
    assert again.problems == ("/data (fuse.sshfs, ada@store:/w) fails: Input/output error",)
    assert mounts.asked == ["/data"] * 4


def test_threads_under_way_have_a_bound(tmp_path: Path, mounts: Mounts) -> None:
    names = [f"/d{number:03}" for number in range(THREADS_MAX + 10)]
    host = host_with(tmp_path, *(f"{name} nfs x:{name}" for name in names))
    for name in names:
        mounts.hang(name)

    reading = collector_of(host, mounts, HANGING_S).sample()

    assert len(mounts.asked) == THREADS_MAX
    assert reading.values["host.filesystem.stuck.count"] == THREADS_MAX
    assert len(reading.problems) == len(names)


def test_mount_that_was_unmounted_while_it_hung_keeps_its_thread_counted(
    tmp_path: Path, mounts: Mounts
) -> None:
    host = host_with(tmp_path, "/data nfs x:/y", "/home ext4 /dev/sda1")
    collector = collector_of(host, mounts, HANGING_S)
    mounts.hang("/data")
    collector.sample()
    whole = host.read("proc/self/mountinfo")

    host.write("proc/self/mountinfo", whole.splitlines()[1] + "\n")
    gone = collector.sample()
    host.write("proc/self/mountinfo", whole)
    collector.sample()

    assert gone.problems == ()
    assert gone.values["host.filesystem.stuck.count"] == 0
    assert mounts.most_under_way["/data"] == 1


def test_automounted_file_system_is_left_alone_long_enough_to_expire(tmp_path: Path, mounts: Mounts) -> None:
    host = FixtureHost("intel-2s", tmp_path / "host")
    collector = collector_of(host, mounts)
    for _ in range(int(AUTOMOUNTED_S / 30)):
        values = collector.sample().values
        assert "host.filesystem.auto_ada.percent" in values
        host.advance(30)

    assert mounts.asked.count("/auto/ada") == 1
    assert mounts.asked.count("/") == AUTOMOUNTED_S / 30


def test_file_system_that_became_read_only_is_told(tmp_path: Path, mounts: Mounts) -> None:
    host = host_with(tmp_path, "/data ext4 /dev/sda1", "/image ext4 /dev/sdb1")
    collector = collector_of(host, mounts)
    mounts.answers["/image"] = space(read_only=True)
    first = collector.sample()
    mounts.answers["/data"] = space(read_only=True)

    second, third = collector.sample(), collector.sample()
    mounts.answers["/data"] = space()
    fourth = collector.sample()

    assert first.events == third.events == ()
    assert [event.title for event in second.events] == ["/data became read-only"]
    assert [(event.title, event.level) for event in fourth.events] == [
        ("/data can be written to again", "info")
    ]


# Real ones.


def only(tmp_path: Path, *places: Path) -> Context:
    """A context in which these alone are mounted, as the kernel says."""
    lines = [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split(" ")[4] in map(str, places)
    ]
    assert len(lines) == len(places)
    table = tmp_path / "kernel/proc/self/mountinfo"
    table.parent.mkdir(parents=True)
    table.write_text("\n".join(lines) + "\n")
    return Context(kernel=Kernel(str(tmp_path / "kernel")))


def test_figures_of_a_real_ext4_are_those_of_statvfs(tmp_path: Path) -> None:
    with LoopDisk(tmp_path / "disk", 32 * 2**20) as disk:
        (disk.path / "file").write_bytes(os.urandom(5 * 2**20))
        os.sync()
        collector = FilesystemCollector(only(tmp_path, disk.path))

        values = collector.sample().values

        found = os.statvfs(disk.path)
        own = {name.rpartition("disk.")[2]: value for name, value in values.items() if "disk." in name}
        assert own["total.bytes"] == found.f_blocks * found.f_frsize
        assert own["free.bytes"] == found.f_bfree * found.f_frsize
        assert own["available.bytes"] == found.f_bavail * found.f_frsize
        assert own["used.bytes"] == (found.f_blocks - found.f_bfree) * found.f_frsize > 5 * 2**20
        assert own["inodes.total.count"] == found.f_files
        assert own["inodes.free.count"] == found.f_ffree


def test_real_mount_that_hangs_is_named_and_heals(tmp_path: Path) -> None:
    (tmp_path / "behind").mkdir()
    with (
        LoopDisk(tmp_path / "disk", 8 * 2**20) as disk,
        passthrough(tmp_path / "behind", tmp_path / "mounted") as fuse,
    ):
        collector = FilesystemCollector(only(tmp_path, disk.path, tmp_path / "mounted"), wait_s=2.0)
        before = collector.sample()
        fuse.send_signal(signal.SIGSTOP)

        hung = [collector.sample() for _ in range(3)]
        threads = [each.name for each in threading.enumerate() if each.name.startswith("statvfs")]
        fuse.send_signal(signal.SIGCONT)
        healed = wait_until(lambda: _without_problems(collector), what="the mount to answer")

        assert before.problems == ()
        for reading in hung:
            assert [text.partition(" (")[0] for text in reading.problems] == [str(tmp_path / "mounted")]
            assert reading.values["host.filesystem.stuck.count"] == 1
            assert [name for name in reading.values if name.endswith("disk.percent")]
            assert not [name for name in reading.values if name.endswith("mounted.percent")]
        assert len(threads) == 1
        assert [name for name in healed.values if name.endswith("mounted.percent")]


def _without_problems(collector: FilesystemCollector) -> Any:
    reading = collector.sample()
    return None if reading.problems else reading
