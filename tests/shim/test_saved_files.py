"""Files kept with a run on file systems that share blocks, that are full, or that refuse; and large ones."""

import errno
import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.portable.leftovers import wait_until_gone
from tests.shim.scripts import reading, run_script
from tests.support import require
from tracker import _copying
from tracker._copies import Copies
from tracker.protocol import kinds


def mounted(directory: Path, *arguments: str) -> None:
    """Mount a file system, or go without the test where that cannot be done."""
    require.root()
    directory.mkdir()
    made = subprocess.run(
        [require.program("mount"), *arguments, str(directory)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        require.absent("mount", made.stderr.strip(), "run the tests where file systems may be mounted")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


@pytest.fixture
def sharing_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(128 * 2**20)
    subprocess.run(
        [require.program("mkfs.btrfs", "btrfs-progs"), "-q", str(image)], check=True, capture_output=True
    )
    mounted(tmp_path / "disk", "-o", "loop", str(image))
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


def run_helped(script: str, spool: Path) -> str:
    """Run a script that has a helper process; return its stderr."""
    more = {"TRACKER_DIR": str(spool), "TRACKER_DISABLE_CODE": "0", "TRACKER_DISABLE_GIT": "1"}
    return run_script(textwrap.dedent(script), **more)[1]  # type: ignore[arg-type]  # none is called "code"


def losses(spool: Path) -> list[str]:
    return [lost.reason for stream in reading(spool) for lost in stream.of(kinds.LOST)]


def kept(spool: Path) -> Path:
    wait_until_gone(f"TRACKER_DIR={spool}")
    return next(spool.glob("*/*/files"))


def unfinished(spool: Path) -> list[Path]:
    return list(spool.rglob(".tracker-*"))


def test_blocks_are_shared_where_the_file_system_can(sharing_disk: Path) -> None:
    source = sharing_disk / "source"
    source.write_bytes(os.urandom(40 * 2**20))
    os.sync()
    before = os.statvfs(sharing_disk).f_bavail

    for number in range(4):  # in full they would not fit
        _copying.copy_file(str(source), str(sharing_disk / f"copy-{number}"))

    os.sync()
    assert before - os.statvfs(sharing_disk).f_bavail < 10 * 2**20 // os.statvfs(sharing_disk).f_frsize
    with source.open("r+b") as file:
        file.write(b"changed")
    copy = sharing_disk / "copy-3"
    assert copy.read_bytes()[7:] == source.read_bytes()[7:] and copy.read_bytes()[:7] != b"changed"
    assert copy.stat().st_ino != source.stat().st_ino and copy.stat().st_nlink == 1


def test_copies_are_equal_holes_and_all(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"a" * 1000)
        file.seek(5 * 2**20)
        file.write(os.urandom(3 * 2**20 + 17))
        file.truncate(20 * 2**20 + 5)

    _copying.copy_file(str(source), str(tmp_path / "copy"))

    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks < 12 * 2**20 // 512


def test_ten_gigabytes_keep_nobody_waiting(tmp_path: Path) -> None:
    # The helper is stopped: whatever waited for it, or copied in its place, would be noticed.
    script = """
        import os, signal, sys, tracker
        sys.path.insert(0, %r)
        from leftovers import helpers_with
        run = tracker.init(id="run")
        with open("large", "wb") as file:
            file.truncate(10 * 10**9)
        helpers = []
        while len(helpers) != 1:
            helpers = helpers_with("TRACKER_DIR=" + os.environ["TRACKER_DIR"])
        (helper,) = helpers
        os.kill(helper, signal.SIGSTOP)
        tracker.save("large", policy="now")
        os.unlink("large")
        for number in range(1000):
            tracker.save("script", policy="live")
        assert not os.path.exists(os.path.join(run.directory, "files", "large"))
        tracker.finish()
        os.kill(helper, signal.SIGCONT)
    """ % str(Path(__file__).parent / "portable")
    (tmp_path / "script").write_text("s")

    run_helped(f"import os; os.chdir(r'{tmp_path}')\n" + textwrap.dedent(script), tmp_path / "spool")

    files = kept(tmp_path / "spool")
    assert (files / "large").stat().st_size == 10 * 10**9
    assert (files / "script").read_text() == "s"
    assert not unfinished(tmp_path / "spool")


def test_no_process_holds_a_file_that_was_copied(tmp_path: Path) -> None:
    script = f"""
        import os, time, tracker
        run = tracker.init(id="run", settings={{"console": "redirect"}})
        os.chdir(r"{tmp_path}")
        with open("a", "w") as file:
            file.write("a")
        tracker.save("a", policy="now")
        os.unlink("a")
        deadline = time.time() + 60
        holders = ["?"]
        while holders and time.time() < deadline:
            time.sleep(0.02)
            holders = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    for name in os.listdir("/proc/%s/fd" % pid):
                        if os.readlink("/proc/%s/fd/%s" % (pid, name)).startswith(os.getcwd() + "/a "):
                            holders.append(pid)
                except OSError:
                    pass
        assert not holders, holders
    """

    run_helped(script, tmp_path / "spool")

    assert (kept(tmp_path / "spool") / "a").read_text() == "a"


@pytest.mark.parametrize("block", ["True", "False"])
def test_a_full_disk_costs_a_counted_file_and_no_torn_one(small_disk: Path, block: str) -> None:
    script = f"""
        import os, tracker
        run = tracker.init(id="run")
        with open(r"{small_disk}/../large", "wb") as file:
            file.write(b"x" * 2 * 2**20)
        with open(r"{small_disk}/../small", "wb") as file:
            file.write(b"s")
        tracker.save(r"{small_disk}/../large", policy="now", block={block})
        tracker.save(r"{small_disk}/../small", policy="now", block={block})
        tracker.log({{"a": 1}})
    """

    err = run_helped(script, small_disk / "spool")

    files = kept(small_disk / "spool")
    assert not (files / "large").exists() and (files / "small").read_bytes() == b"s"
    assert not unfinished(small_disk)
    (reason,) = losses(small_disk)
    assert "large was not kept as files/large: No space left on device" in reason
    assert block == "False" or "No space left" in err


def test_a_live_file_is_kept_at_the_end_when_there_is_room_again(small_disk: Path) -> None:
    script = f"""
        import os, sys, time, tracker
        run = tracker.init(id="run")
        with open(r"{small_disk}/filler", "wb") as file:
            file.write(b"x" * 700 * 1024)
        with open(r"{small_disk}/../state", "wb") as file:
            file.write(b"y" * 500 * 1024)
        tracker.save(r"{small_disk}/../state")
        deadline = time.time() + 60
        while not run.helper.problems() and time.time() < deadline:
            time.sleep(0.01)
        os.unlink(r"{small_disk}/filler")
    """

    run_helped(script, small_disk / "spool")

    assert (kept(small_disk / "spool") / "state").read_bytes() == b"y" * 500 * 1024
    assert len(losses(small_disk)) == 1


def test_live_follows_a_file_until_the_last_word(tmp_path: Path) -> None:
    script = f"""
        import os, time, tracker
        os.chdir(r"{tmp_path}")
        run = tracker.init(id="run")
        def write(text):
            with open("log", "w") as file:
                file.write(text)
        def wait_for(text):
            deadline = time.time() + 60
            while time.time() < deadline:
                try:
                    with open(os.path.join(run.directory, "files", "log")) as file:
                        if file.read() == text:
                            return
                except OSError:
                    pass
                time.sleep(0.01)
            raise SystemExit(text)
        write("1")
        tracker.save("log")
        wait_for("1")
        write("2")
        wait_for("2")
        write("3")
    """

    run_helped(script, tmp_path / "spool")

    assert (kept(tmp_path / "spool") / "log").read_text() == "3"


def test_a_read_only_directory_costs_a_counted_file(small_disk: Path, tmp_path: Path) -> None:
    script = f"""
        import os, subprocess, tracker
        run = tracker.init(id="run")
        os.makedirs(os.path.join(run.directory, "files"))
        files = os.path.join(run.directory, "files")
        subprocess.run(["mount", "-o", "bind", r"{small_disk}", files], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", files], check=True)
        with open(r"{tmp_path}/a", "w") as file:
            file.write("a")
        tracker.save(r"{tmp_path}/a", policy="now", block=True)
        tracker.save(r"{tmp_path}/a", policy="end")
        tracker.log({{"a": 1}})
    """

    try:
        err = run_helped(script, tmp_path / "spool")
        files = kept(tmp_path / "spool")
    finally:
        subprocess.run(["umount", *map(str, (tmp_path / "spool").glob("*/run/files"))], check=False)

    assert os.strerror(errno.EROFS) in err
    assert not list(files.iterdir())
    reasons = losses(tmp_path / "spool")
    assert sum("/a was not kept as files/a: Read-only" in reason for reason in reasons) == 2
    assert any("files/requirements.txt was not kept" in reason for reason in reasons)


class Counting:
    """Stands for a recorder and a training: notes what is lost."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def report(self, text: str) -> None:
        self.told.append(text)


def test_a_file_that_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"1" * 3 * 2**20)
    read = os.read
    blocks = 0

    def write_in_between(fd: int, size: int) -> bytes:
        nonlocal blocks
        blocks += 1
        data = read(fd, size)
        if blocks == 2:
            source.write_bytes(b"2" * 3 * 2**20)
        return data

    monkeypatch.setattr("tracker._copying.os.read", write_in_between)
    monkeypatch.setattr(_copying, "_clone", lambda source, target: False)

    _copying.copy_file(str(source), str(tmp_path / "copy"))

    assert set((tmp_path / "copy").read_bytes()) == {ord("2")}


def test_a_copy_that_fails_midway_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(b"2" * 3 * 2**20)
    copy.write_bytes(b"1")
    monkeypatch.setattr(_copying, "_clone", lambda source, target: False)
    write = os.write

    for refused in range(1, 4):
        left = [refused]

        def fail(fd: int, data: bytes, left: list[int] = left) -> int:
            left[0] -= 1
            if not left[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(fd, data)

        monkeypatch.setattr("tracker._copying.os.write", fail)
        with pytest.raises(OSError, match="No space"):
            _copying.copy_file(str(source), str(copy))

        assert copy.read_bytes() == b"1" and sorted(path.name for path in tmp_path.iterdir()) == [
            "copy",
            "source",
        ]


def test_a_busy_file_is_left_until_it_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("tracker._copies.time.monotonic", lambda: clock[0])
    copied: list[bytes] = []

    def copy(source: str, target: str, opened: int | None = None) -> _copying.Signature:
        copied.append(Path(source).read_bytes())
        found = _copying.signature_of(source)
        assert found is not None
        return found

    monkeypatch.setattr("tracker._copies.copy_file", copy)
    log = tmp_path / "log"
    log.write_bytes(b"0")
    copies = Copies(None, Counting().report, [])  # type: ignore[arg-type]  # nothing is lost here
    copies.take({"files": [[str(log), "log", None]], "root": str(tmp_path / "files"), "policy": "live"}, [])
    assert copied == [b"0"]

    for second in range(2, 30, 2):
        clock[0] = float(second)
        log.write_bytes(b"x" * second)
        copies.look()
    assert copied == [b"0"], "it never rested"
    for second in range(30, 36, 2):
        clock[0] = float(second)
        log.write_bytes(b"x" * second)
        copies.look()
    assert copied == [b"0", b"x" * 32], "after half a minute it is copied as it is"
    copies.look()
    copies.look()
    assert copied == [b"0", b"x" * 32, b"x" * 34], "it rests"
    copies.look()
    copies.finish()
    assert len(copied) == 3, "nothing has changed"
