"""Disks that refuse: training goes on, the loss is counted, and reported when writing works again."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.scripts import reading, run_script
from tests.support import require
from tracker.protocol import kinds


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    require.root()
    mount = require.program("mount")
    directory = tmp_path / "disk"
    directory.mkdir()
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        require.absent("mount", made.stderr.strip(), "run the tests where tmpfs may be mounted")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture
def quota(tmp_path: Path) -> Iterator[Path]:
    """A directory that may hold 2 MiB, on a file system that has room for more."""
    require.root()
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(128 * 2**20)
    disk.mkdir()
    run(require.program("mkfs.btrfs", "btrfs-progs"), "-q", str(image))
    mounted(run("mount", "-o", "loop", str(image), str(disk), check=False))
    place = disk / "limited"
    run("btrfs", "quota", "enable", str(disk))
    run("btrfs", "subvolume", "create", str(place))
    run("btrfs", "qgroup", "limit", "2M", str(place))
    yield place
    run("umount", "-l", str(disk))


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A file system, and a file: a write to that has the kernel find an error, and mount it read-only."""
    require.root()
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(32 * 2**20)
    disk.mkdir()
    run(require.program("mkfs.ext4", "e2fsprogs"), "-q", str(image))
    mounted(run("mount", "-o", "loop,errors=remount-ro", str(image), str(disk), check=False))
    device = os.stat(disk).st_dev
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
    assert name.startswith("loop"), name
    yield disk, Path(f"/sys/fs/ext4/{name}/trigger_fs_error")
    run("umount", "-l", str(disk))


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=check)


def mounted(made: subprocess.CompletedProcess[str]) -> None:
    if made.returncode:
        require.absent("mount", made.stderr.strip(), "run the tests where loop devices may be mounted")


def test_a_quota_costs_counted_records_until_there_is_room_again(quota: Path) -> None:
    script = """
        import errno, os, sys, time, tracker
        run = tracker.init(id="run", config={"a": 1})
        tracker.log({"n": 0})
        with open(sys.argv[1], "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(os.urandom(16384))
            except OSError as error:
                assert error.errno == errno.EDQUOT, error
        step = 0
        while run.lost < 50:
            step += 1
            tracker.log({"n": step, "pad/" + "x" * 200: 1.0})
            assert step < 50000
        os.unlink(sys.argv[1])
        deadline = time.monotonic() + 60
        lost = run.lost - 1
        while run.lost != lost and time.monotonic() < deadline:
            os.sync()
            lost = run.lost
            step += 1
            tracker.log({"n": step})
        print(step, run.lost)
        sys.exit(3)
    """

    out, err = run_script(script, str(quota / "filler"), code=3, TRACKER_DIR=str(quota / "spool"))

    last, lost = map(int, out.split())
    assert err.count("warning") == 1 and "quota exceeded" in err
    (stream,) = reading(quota)
    steps = [values["n"] for _, values in stream.metrics]
    assert steps == sorted(set(steps)) and steps[-1] == last
    assert len(steps) + lost == last + 1
    assert sum(each.records for each in stream.of(kinds.LOST)) == lost
    assert {each.reason for each in stream.of(kinds.LOST)} == {"Disk quota exceeded"}
    assert stream.exits == [3]


def test_a_disk_that_becomes_read_only_costs_what_is_logged_from_then_on(
    failing_disk: tuple[Path, Path],
) -> None:
    disk, trigger = failing_disk
    script = """
        import errno, os, sys, tracker
        run = tracker.init(id="run")
        for step in range(100):
            tracker.log({"n": step})
        assert run.lost == 0
        os.sync()
        with open(sys.argv[1], "w") as trigger:
            trigger.write("1")
        try:
            open(sys.argv[2], "w")
        except OSError as error:
            assert error.errno == errno.EROFS, error
        else:
            raise AssertionError("the disk can still be written")
        for step in range(100, 300):
            tracker.log({"n": step})
        tracker.config.late = 1
        tracker.summary["late"] = 2
        print("lost", run.lost)
        sys.exit(3)
    """

    out, err = run_script(script, str(trigger), str(disk / "probe"), code=3, TRACKER_DIR=str(disk / "spool"))

    assert out == "lost 202\n"
    assert err.count("warning") == 1 and "Read-only file system" in err
    (stream,) = reading(disk)
    assert [values["n"] for _, values in stream.metrics] == list(range(100))
    assert stream.exits == []  # which the agent will call a crash: nothing could be written that says more


def test_a_full_disk_costs_counted_records_and_one_warning(small_disk: Path) -> None:
    script = """
        import os, sys, tracker
        run = tracker.init(id="run", config={"a": 1})
        for step in range(5000):
            tracker.log({"n": step, "pad/" + "x" * 200: 1.0})
        lost = run.lost
        assert 0 < lost < 5000, lost
        tracker.config.late = 2
        assert run.lost == lost + 1
        tracker.summary["best"] = 3
        os.unlink(sys.argv[1])
        tracker.log({"after": 1})
        assert run.lost == lost + 2
        tracker.finish()
    """
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 100_000)

    _, err = run_script(script, str(filler), TRACKER_DIR=str(small_disk / "spool"))

    assert err.count("warning") == 1
    assert "No space left on device" in err and "TRACKER_DIR" in err
    (stream,) = reading(small_disk)
    (lost,) = stream.of(kinds.LOST)
    assert "No space left" in lost.reason
    steps = [values["n"] for _, values in stream.metrics if "n" in values]
    assert len(steps) + lost.records == 5000 + 2
    assert stream.metrics[-1] == (5000, {"after": 1})
    assert stream.of(kinds.CONFIG)[-1].set == {"a": 1, "late": 2}
    assert stream.of(kinds.SUMMARY)[-1].set == {"best": 3}
    assert stream.exits == [0]


def test_a_process_whose_stream_could_not_be_created_reports_its_loss_at_its_end(small_disk: Path) -> None:
    script = """
        import os, sys, tracker
        run = tracker.init(id="run")
        with open(sys.argv[1], "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass
        child = os.fork()
        for step in range(7):
            if not child:
                tracker.log({"child": step})
        if child:
            os.waitpid(child, 0)
        else:
            os.unlink(sys.argv[1])
        tracker.finish()
        os._exit(0)
    """

    run_script(script, str(small_disk / "filler"), TRACKER_DIR=str(small_disk / "spool"))

    streams = reading(small_disk)
    assert [[lost.records for lost in stream.of(kinds.LOST)] for stream in streams].count([7]) == 1
    assert [stream.exits for stream in streams] == [[0], [0]]


def test_a_limit_on_the_size_of_files_costs_one_record_where_it_is_set_after_init(tmp_path: Path) -> None:
    script = """
        import resource, tracker
        run = tracker.init(id="run")
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        for step in range(200):
            tracker.log({"n": step})
        assert run.lost == 1, run.lost
    """

    _, err = run_script(script, TRACKER_DIR=str(tmp_path))

    assert err.count("warning") == 1
    (stream,) = reading(tmp_path)
    steps = [values["n"] for _, values in stream.metrics]
    assert len(steps) == 199
    assert [record.records for record in stream.of(kinds.LOST)] == [1]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.glob("*/run/*.mpl"))


def test_a_limit_on_the_size_of_files_that_was_there_before_costs_nothing(tmp_path: Path) -> None:
    script = """
        import resource, signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # one write too far would be the last
        import tracker
        run = tracker.init(id="run")
        for step in range(200):
            tracker.log({"n": step})
        assert run.lost == 0, run.lost
    """

    _, err = run_script(script, TRACKER_DIR=str(tmp_path))

    assert "warning" not in err
    (stream,) = reading(tmp_path)
    assert [values["n"] for _, values in stream.metrics] == list(range(200))


def test_a_read_only_spool_is_named_and_records_go_where_they_can(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    _, err = run_script(
        "import tracker; tracker.init().log({'a': 1})",
        TRACKER_DIR=str(small_disk),
        XDG_STATE_HOME=str(tmp_path / "state"),
    )

    assert "Read-only file system" in err and str(small_disk) in err
    (stream,) = reading(tmp_path / "state")
    assert stream.metrics == [(0, {"a": 1})]


def test_a_disk_full_from_the_start_costs_counted_records_and_recovers(
    small_disk: Path, tmp_path: Path
) -> None:
    script = """
        import os, sys, tracker, tracker._recorder
        tracker._recorder.REOPEN_INTERVAL_NS = 0
        run = tracker.init(id="run", name="n", config={"a": 1})
        for step in range(10):
            tracker.log({"n": step})
        assert run.lost == 10
        os.unlink(sys.argv[1])
        tracker.log({"n": 10})
        tracker.finish()
    """
    filler = small_disk / "filler"
    with pytest.raises(OSError) as raised, filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert raised.value.errno == errno.ENOSPC
    home = small_disk / "home"

    _, err = run_script(
        script, str(filler), TRACKER_DIR=str(small_disk / "spool"), XDG_STATE_HOME=str(home), HOME=str(home)
    )

    assert "nothing can be recorded" in err and "TRACKER_DIR" in err
    streams = reading(small_disk)
    (stream,) = streams
    assert stream.of(kinds.RUN)[0].fields["name"] == "n"
    assert stream.of(kinds.CONFIG)[0].set == {"a": 1}
    assert [record.records for record in stream.of(kinds.LOST)] == [10]
    assert stream.metrics == [(10, {"n": 10})]
    assert stream.exits == [0]


def test_descriptors_closed_by_others_cost_one_record_at_most(tmp_path: Path) -> None:
    script = """
        import os, tracker
        run = tracker.init(id="run", config={"a": 1})
        tracker.log({"n": 0})
        os.closerange(3, 4096)
        for step in range(1, 10):
            tracker.log({"n": step})
        assert run.lost == 1, run.lost
    """

    run_script(script, TRACKER_DIR=str(tmp_path))

    first, second = reading(tmp_path)
    assert [values["n"] for _, values in first.metrics + second.metrics] == [0, *range(2, 10)]
    assert [record.records for record in second.of(kinds.LOST)] == [1]
    assert second.of(kinds.CONFIG)[0].set == {"a": 1}
    assert os.listdir(tmp_path / str(os.geteuid()) / "run")
