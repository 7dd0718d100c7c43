"""StreamWriter against a file system that refuses: what was acknowledged is kept, once, in order."""

import contextlib
import errno
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import require
from tracker.protocol import writer as writer_module
from tracker.protocol.codec import line_bytes
from tracker.protocol.errors import HeaderError
from tracker.protocol.header import Header, read_header
from tracker.protocol.layout import live_name, segment_name
from tracker.protocol.lock import lock_holder, path_lock_holder
from tracker.protocol.stream import Hole, Record, Segment, StreamReader
from tracker.protocol.verify import verify_stream
from tracker.protocol.writer import StreamWriter

STREAM = bytes(range(16))
HEADER = Header(STREAM, "run", 0, 0, "m", "b", 1, 2, 3, "test/1")


class Interrupted(BaseException):
    """Stands for Ctrl-C between two instructions."""


class FaultyOs:
    """The os module, but for the calls that a plan makes fail."""

    def __init__(self) -> None:
        self.before: Callable[[str, tuple[Any, ...]], tuple[Any, ...] | None] = lambda name, arguments: None
        self.after: Callable[[str], None] = lambda name: None
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "ftruncate", "unlink", "fstat", "close"):
            return real

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            changed = self.before(name, arguments)
            result = real(*(arguments if changed is None else changed))
            self.after(name)
            return result

        return call


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> FaultyOs:
    double = FaultyOs()
    monkeypatch.setattr(writer_module, "os", double)
    return double


def read(directory: Path) -> tuple[list[tuple[int, bytes]], list[Hole], list[Segment]]:
    """Return (records without HEADERs, gaps, segments) of a sealed stream."""
    items = list(StreamReader(str(directory), STREAM).read())
    records = [(item.kind, item.body) for item in items if isinstance(item, Record) and item.kind]
    return records, [x for x in items if isinstance(x, Hole)], [x for x in items if isinstance(x, Segment)]


def sealed(directory: Path) -> dict[Path, int]:
    """Return the sizes of the segments that readers take for ended: a later one has a whole HEADER."""
    sizes = {}
    paths = sorted(directory.glob("*.mpl"))
    for path, later in itertools.pairwise(paths):
        with contextlib.suppress(HeaderError):
            read_header(later.read_bytes())
            sizes[path] = path.stat().st_size
    return sizes


def short_by(size: int, truncates: bool) -> Callable[[str, tuple[Any, ...]], tuple[Any, ...] | None]:
    """Make the next write() take only the first `size` bytes; none: it fails, as the kernel has it."""
    done = False

    def before(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        nonlocal done
        if name == "ftruncate" and not truncates:
            raise OSError(errno.EIO, "Input/output error")
        if name != "write" or done:
            return None
        done = True
        if size == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return arguments[0], arguments[1][:size]

    return before


@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("body", [b"refused", b"r" * 300])
def test_a_write_cut_short_at_any_byte_loses_nothing_else(
    faulty: FaultyOs, tmp_path: Path, truncates: bool, body: bytes
) -> None:
    for cut in range(line_bytes(1, len(body))):
        directory = tmp_path / str(cut)
        directory.mkdir()
        faulty.before = lambda name, arguments: None
        stream = StreamWriter(str(directory), HEADER)
        stream.write(1, b"before")

        faulty.before = short_by(cut, truncates)
        with pytest.raises(OSError, match="space"):
            stream.write(1, body)
        stream.write(1, b"after")
        stream.write(9, b"end")
        stream.close()

        records, gaps, segments = read(directory)
        assert records == [(1, b"before"), (1, b"after"), (9, b"end")]
        torn = cut if cut and not truncates else 0
        assert [(gap.bytes, gap.reason) for gap in gaps] == ([(torn, "torn_tail")] if torn else [])
        assert len(segments) == (2 if torn else 1)
        assert verify_stream(str(directory), STREAM).bytes == stream.position


def test_every_call_may_fail_and_the_model_still_holds(faulty: FaultyOs, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    for case in range(300):
        rng = random.Random(seed + case)
        directory = tmp_path / str(case)
        directory.mkdir()
        faulty.before = lambda name, arguments: None
        stream = StreamWriter(str(directory), HEADER, segment_bytes=rng.choice([300, 400, 10**6]))
        faulty.before = random_faults(rng)
        acknowledged = []
        for number in range(30):
            body = b"%d-%d " % (case, number) * rng.choice([1, 1, 1, 40])
            try:
                stream.write(1, body)
            except OSError:
                continue
            acknowledged.append((1, body))
        faulty.before = lambda name, arguments: None
        stream.write(9, b"end")
        stream.close()

        records, gaps, _ = read(directory)
        assert records == [*acknowledged, (9, b"end")], f"seed {seed} case {case}"
        assert {gap.reason for gap in gaps} <= {"torn_tail"}, f"seed {seed} case {case}"
        assert verify_stream(str(directory), STREAM).problems == []


def random_faults(rng: random.Random) -> Callable[[str, tuple[Any, ...]], tuple[Any, ...] | None]:
    """Make one call in eight fail, in stretches as a full disk does."""
    failing = False

    def before(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        nonlocal failing
        if rng.random() < 0.125:
            failing = not failing
        if not failing or name in ("close", "fstat"):
            return None
        if name == "write" and len(arguments[1]) > 1 and rng.random() < 0.7:
            return arguments[0], arguments[1][: rng.randrange(1, len(arguments[1]))]
        if name in ("write", "open") or rng.random() < 0.5:
            raise OSError(rng.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT]), "injected")
        return None

    return before


def interrupting(
    nth: int, moment: str, short: bool
) -> tuple[Callable[[str, tuple[Any, ...]], tuple[Any, ...] | None], Callable[[str], None]]:
    """Interrupt before or after the nth call from now on; cut every fourth write short."""
    countdown = iter([*range(nth, -1, -1), *[-1] * 1000])
    writes = iter(range(1000))

    def before(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if moment == "before" and next(countdown) == 0:
            raise Interrupted
        if short and name == "write" and next(writes) % 4 == 3:
            return arguments[0], arguments[1][:5]
        return None

    def after(_name: str) -> None:
        if moment == "after" and next(countdown) == 0:
            raise Interrupted

    return before, after


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("short", [False, True])
def test_ctrl_c_at_any_call_costs_at_most_the_record_it_hit(
    faulty: FaultyOs, tmp_path: Path, moment: str, short: bool
) -> None:
    for nth in range(40):
        directory = tmp_path / str(nth)
        directory.mkdir()
        faulty.before, faulty.after = lambda name, arguments: None, lambda name: None
        stream = StreamWriter(str(directory), HEADER, segment_bytes=300)
        faulty.before, faulty.after = interrupting(nth, moment, short)
        acknowledged, interrupted = [], []
        ended: dict[Path, int] = {}
        for number in range(20):
            body = b"%d " % number * (1 + number % 3 * 9)
            try:
                stream.write(1, body)
            except OSError:
                continue
            except Interrupted:
                interrupted.append((1, body))
            else:
                acknowledged.append((1, body))
            for path, size in sealed(directory).items():
                assert ended.setdefault(path, size) == size, f"{nth}: {path} grew after it had ended"
        faulty.before, faulty.after = lambda name, arguments: None, lambda name: None
        stream.write(9, b"end")
        stream.close()

        records, gaps, _ = read(directory)
        expected = [*acknowledged, (9, b"end")]
        assert [record for record in records if record not in interrupted] == expected, nth
        assert len(records) - len(expected) <= 1, nth
        # A torn line may stay where the interrupt hit before it was taken back.
        assert len(gaps) <= (1 if short else 0), nth


def test_a_line_is_one_write(faulty: FaultyOs, tmp_path: Path) -> None:
    stream = StreamWriter(str(tmp_path), HEADER)
    faulty.calls.clear()

    for size in (0, 10, 300, 70000, 10**6):
        stream.write(1, bytes(size))

    assert faulty.calls == ["write"] * 5
    stream.close()


def test_segments_roll_at_their_size_and_a_larger_line_has_one_to_itself(tmp_path: Path) -> None:
    stream = StreamWriter(str(tmp_path), HEADER, segment_bytes=1000)
    bodies = [bytes([n]) * 100 for n in range(30)] + [bytes(5000), b"after"]
    for body in bodies:
        stream.write(1, body)
    stream.close()

    records, gaps, segments = read(tmp_path)

    assert [body for _, body in records] == bodies
    assert not gaps
    sizes = [(tmp_path / segment_name(STREAM, number)).stat().st_size for number in range(len(segments))]
    assert all(size <= 1000 for size in sizes if size < 5000)
    assert sum(sizes) == stream.position
    assert [segment.offset for segment in segments] == [sum(sizes[:n]) for n in range(len(sizes))]


def test_a_roll_that_fails_leaves_the_writer_in_its_segment(faulty: FaultyOs, tmp_path: Path) -> None:
    stream = StreamWriter(str(tmp_path), HEADER, segment_bytes=300)

    def before(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if name == "open":
            raise OSError(errno.EMFILE, "Too many open files")
        return None

    faulty.before = before
    for number in range(10):
        stream.write(1, b"%d" % number * 50)
    faulty.before = lambda name, arguments: None
    stream.write(1, b"rolled")
    stream.close()

    records, gaps, segments = read(tmp_path)
    assert len(records) == 11
    assert len(segments) == 2
    assert not gaps


def test_a_stream_that_cannot_start_leaves_nothing_behind(faulty: FaultyOs, tmp_path: Path) -> None:
    def before(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (arguments[0], arguments[1][:50]) if name == "write" else None

    faulty.before = before
    with pytest.raises(OSError, match="space"):
        StreamWriter(str(tmp_path), HEADER)

    assert os.listdir(tmp_path) == []


def test_files_are_created_for_owner_and_group_within_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o007)
    try:
        StreamWriter(str(tmp_path), HEADER).close()
    finally:
        os.umask(before)

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o660}


def child(directory: Path, code: str, *prefix: str) -> "subprocess.Popen[str]":
    """Start a process that has a StreamWriter `w` in directory and runs code."""
    start = (
        "import os, resource, signal, sys\n"
        "from tracker.protocol.header import Header\n"
        "from tracker.protocol.writer import StreamWriter\n"
        "HEADER = Header(bytes(range(16)), 'run', 0, 0, 'm', 'b', 1, 2, 3, 'test/1')\n"
        "directory = sys.argv[1]\n"
    )
    command = [*prefix, sys.executable, "-c", start + code, str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


LIMITED = """
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for cut in range(1, 60):
    place = os.path.join(directory, str(cut))
    os.mkdir(place)
    w = StreamWriter(place, HEADER)
    w.write(1, b'before')
    resource.setrlimit(resource.RLIMIT_FSIZE, (w.position + cut, hard))
    try:
        w.write(1, b'refused' * 8)
    except OSError:
        pass
    else:
        raise SystemExit('the limit was not felt')
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    w.write(1, b'after')
    w.close()
"""


def test_the_kernels_own_short_writes_are_taken_back(tmp_path: Path) -> None:
    finish(child(tmp_path, LIMITED))

    for directory in tmp_path.iterdir():
        records, gaps, segments = read(directory)
        assert [body for _, body in records] == [b"before", b"after"]
        assert not gaps
        # It keeps to the limit from then on, and the last line has 14 bytes.
        assert len(segments) == (1 if int(directory.name) >= 14 else 2)


def test_a_short_write_that_cannot_be_taken_back_goes_to_the_next_segment(tmp_path: Path) -> None:
    strace = require.program("strace")
    trace = (strace, "-qq", "-o", os.devnull, "-e", "trace=ftruncate", "-e", "inject=ftruncate:error=EIO")

    finish(child(tmp_path, LIMITED.replace("range(1, 60)", "range(1, 60, 9)"), *trace))

    for directory in tmp_path.iterdir():
        records, gaps, segments = read(directory)
        assert [body for _, body in records] == [b"before", b"after"]
        assert [(gap.bytes, gap.reason) for gap in gaps] == [(int(directory.name), "torn_tail")]
        assert len(segments) == 2


FULL_DISK = """
import shutil, subprocess
place = os.path.join(directory, 'disk')
os.mkdir(place)
if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', place]).returncode:
    raise SystemExit(77)
w = StreamWriter(place, HEADER, segment_bytes=20000)
ballast = os.path.join(place, 'ballast')
kept = []
for round in range(6):
    refused = 0
    number = 0
    while refused < 5:
        body = b'%d.%d ' % (round, number) * (1 + number % 200)
        number += 1
        try:
            w.write(1, body)
        except OSError:
            refused += 1
        else:
            kept.append(body)
    # Room again: the oldest segment is gone, as if shipped and deleted; keep a copy to read later.
    names = sorted(n for n in os.listdir(place) if n.endswith('.mpl'))
    for name in names[:-1]:
        shutil.copy(os.path.join(place, name), directory)
        os.unlink(os.path.join(place, name))
w.close()
for name in os.listdir(place):
    shutil.copy(os.path.join(place, name), directory)
with open(os.path.join(directory, 'kept'), 'wb') as file:
    file.write(b'\\n'.join(kept))
"""


def test_a_full_disk_loses_only_what_was_refused(tmp_path: Path) -> None:
    unshare = require.program("unshare", "util-linux")
    process = child(tmp_path, FULL_DISK, unshare, "--user", "--map-root-user", "--mount")
    process.communicate(timeout=60)
    if process.returncode == 77:
        require.absent("tmpfs", "a tmpfs cannot be mounted in a user namespace")
    assert process.returncode == 0

    records, gaps, segments = read(tmp_path)

    assert [body for _, body in records] == (tmp_path / "kept").read_bytes().split(b"\n")
    assert not gaps
    assert len(segments) > 3


@pytest.fixture
def holder(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    code = "w = StreamWriter(directory, HEADER)\n"
    code += "pid = os.fork()\nif pid == 0:\n    w.forget()\n    os._exit(0)\nos.waitpid(pid, 0)\n"
    code += "print('up', flush=True)\nsys.stdin.readline()\nw.close()\n"
    code += "print('closed', flush=True)\nsys.stdin.read()\n"
    process = child(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.communicate()


def test_the_live_lock_names_the_writer_and_survives_a_forked_child(
    holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    path = str(tmp_path / live_name(STREAM))

    assert path_lock_holder(path) == holder.pid
    with open(path, "rb") as file:
        assert lock_holder(file.fileno()) == holder.pid
    assert verify_stream(str(tmp_path), STREAM, live=True).unfinished == 0


def test_the_live_lock_goes_with_close(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "closed\n"

    assert path_lock_holder(str(tmp_path / live_name(STREAM))) is None


def test_the_live_lock_goes_with_a_killed_writer(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert path_lock_holder(str(tmp_path / live_name(STREAM))) is None
    assert path_lock_holder(str(tmp_path / "absent")) is None


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 65535), st.binary(max_size=400)), max_size=20), st.integers(250, 2000)
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[int, bytes]], segment_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("written")
    stream = StreamWriter(str(directory), HEADER, segment_bytes=segment_bytes)
    for kind, body in records:
        stream.write(kind, body)
    stream.close()

    assert read(directory)[:2] == (records, [])
