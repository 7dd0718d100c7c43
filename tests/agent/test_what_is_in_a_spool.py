"""Whatever lies in a spool:

damage, strangers, hostile neighbours. What can be shipped is, the rest is named.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer, Stored
from tracker.protocol import bodies, kinds
from tracker.protocol.writer import StreamWriter
from tracker_agent.losses import LossReason
from tracker_agent.settings import LimitSettings


async def shipped(spool: Spool, server: FakeTrackerServer, stream: bytes) -> Stored:
    """Wait until a stream is stored to its end, and check that what is no gap is what the files hold."""

    def whole() -> Stored | None:
        stored = server.stored(stream)
        return stored if stored and stored.next >= len(spool.content(stream)) else None

    stored: Stored = await eventually(whole)
    return stored


async def test_damage_in_the_middle_costs_the_damaged_record_only(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(records=400)
    (path,) = spool.segments(stream)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    async with start() as pipeline:
        stored = await shipped(spool, server, stream)
        await eventually(lambda: pipeline.status()["losses"])

    ((offset, size, reason),) = stored.gaps
    assert "damage" in reason
    assert offset <= len(content) // 2 < offset + size < offset + 60
    assert stored.content() == bytes(content[:offset] + content[offset + size :])


async def test_torn_tail_of_a_dead_writer_is_a_gap_and_of_a_live_one_is_waited_for(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    dead = spool.write(run="dead", records=20, exit_code=None)
    (path,) = spool.segments(dead)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\x93\x01\xce1234\xc4\x40" + b"x" * 14)
    header = make_header("alive")
    writer = StreamWriter(str(spool.run("alive")), header)
    (live_path,) = spool.segments(header.stream)
    next_line = StreamWriter(str(spool.run("other")), header)
    next_line.write(kinds.METRICS, bodies.Metrics(1, 1, {"a": 1.0}).encode())
    next_line.close()
    line = (spool.run("other") / live_path.name).read_bytes()[writer.position :]
    shutil.rmtree(spool.run("other"))
    half = live_path.read_bytes() + line[: len(line) // 2]
    live_path.write_bytes(half)
    lock = _hold_lock_elsewhere(writer, spool.run("alive"), header.stream)

    async with start():
        stored = await eventually(lambda: (s := server.stored(dead)) and s.gaps and s)
        assert [(o, n) for o, n, _ in stored.gaps] == [(len(whole), 23)]
        assert "torn_tail" in stored.gaps[0][2]
        assert stored.content() == whole
        await eventually(lambda: server.content(header.stream) == half[: len(half) - len(line) // 2])
        live_path.write_bytes(half + line[len(line) // 2 :])

        await eventually(lambda: server.content(header.stream) == live_path.read_bytes())
    stored_live = server.stored(header.stream)
    assert stored_live is not None and stored_live.gaps == []
    lock.kill()
    lock.wait()


def _hold_lock_elsewhere(writer: StreamWriter, directory: Path, stream: bytes):
    """Let another process hold a stream's live lock."""
    import subprocess

    writer.close()
    code = (
        "import fcntl, sys, time\nf = open(sys.argv[1], 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\ntime.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(directory / f"{stream.hex()}.live")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    process.stdout.close()
    return process


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_missing_segment_is_a_gap_of_the_bytes_it_had(
    spool: Spool, server: FakeTrackerServer, start: Start, missing: int
) -> None:
    stream = spool.write(records=500, segment_bytes=4000)
    paths = spool.segments(stream)
    assert len(paths) > 3
    sizes = [path.stat().st_size for path in paths]
    before = [path.read_bytes() for path in paths]
    paths[missing].unlink()

    async with start():
        stored = await eventually(lambda: (s := server.stored(stream)) and s.next == sum(sizes) and s)

    ((offset, size, reason),) = stored.gaps
    assert (offset, size) == (sum(sizes[:missing]), sizes[missing])
    assert "missing" in reason
    assert stored.content() == b"".join(b for number, b in enumerate(before) if number != missing)


async def test_segment_without_a_header_is_one_gap(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    middle = spool.write(run="middle", records=300, segment_bytes=4000)
    last = spool.write(run="last", records=300, segment_bytes=4000)
    for stream, number in ((middle, 1), (last, -1)):
        path = spool.segments(stream)[number]
        content = bytearray(path.read_bytes())
        content[30] ^= 1
        path.write_bytes(content)

    async with start() as pipeline:
        for stream in (middle, last):
            stored = await shipped(spool, server, stream)
            assert len(stored.gaps) == 1
            assert "HEADER" in stored.gaps[0][2]
        # The agent's own stream may be the third.
        await eventually(lambda: pipeline.status()["streams"]["shipped"] >= 2)
    async with start() as pipeline:
        await eventually(lambda: pipeline.status()["streams"]["shipped"] >= 2)
        assert pipeline.status()["parked"] == []


async def test_cut_file_is_parked_as_diverged_and_not_shipped_again(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(records=300, exit_code=None)
    (path,) = spool.segments(stream)
    async with start():
        await shipped(spool, server, stream)
    before = server.content(stream)
    path.write_bytes(path.read_bytes()[:2000])

    async with start() as pipeline:
        parked = await eventually(lambda: pipeline.status()["parked"])

        assert parked[0]["code"] == "diverged"
    assert server.content(stream) == before


async def test_strangers_are_named_and_never_shipped(
    spool: Spool, server: FakeTrackerServer, start: Start, tmp_path: Path
) -> None:
    good = spool.write(run="good")
    run = spool.run("good")
    secret = tmp_path / "secret"
    shutil.copy(spool.segments(spool.write(run="elsewhere"))[0], secret)
    shutil.rmtree(spool.run("elsewhere"))
    names = {kind: f"{secrets.token_hex(16)}.000000.mpl" for kind in ("noise", "link", "hard", "fifo", "dir")}
    (run / names["noise"]).write_bytes(os.urandom(4096))
    (run / names["link"]).symlink_to(secret)
    os.link(secret, run / names["hard"])
    os.mkfifo(run / names["fifo"])
    (run / names["dir"]).mkdir()
    (run / "odd.mpl").write_text("odd")
    (run / "notes.txt").write_text("mine")
    (spool.user / "linked-run").symlink_to(run)
    (spool.root / "not-a-user").mkdir()
    (spool.root / "99999").symlink_to(spool.user)

    async with start() as pipeline:
        await eventually(lambda: server.content(good) == spool.content(good))
        foreign = await eventually(
            lambda: (
                (f := {Path(x["path"]).name: x["reason"] for x in pipeline.status()["foreign"]})
                and len(f) >= 7
                and f
            )
        )

        assert "no valid HEADER" in foreign[names["noise"]]
        assert "symbolic link" in foreign[names["link"]]
        assert "2 links" in foreign[names["hard"]]
        assert "not a regular file" in foreign[names["fifo"]]
        assert "not a regular file" in foreign[names["dir"]]
        assert "not named like a segment" in foreign["odd.mpl"]
        assert "99999" in foreign
    assert {stream for _, stream in server.streams["key"]} >= {good}
    assert len([s for s in server.streams["key"].values() if s.header and s.header.run]) == 1


async def test_files_and_directories_of_another_owner_are_refused(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    require.root()
    good = spool.write(run="good")
    planted = spool.write(run="planted")
    os.chown(spool.segments(planted)[0], 12345, 12345)
    taken = spool.root / "4242"
    shutil.copytree(spool.run("good"), taken / "run")
    device = spool.run("good") / f"{secrets.token_hex(16)}.000000.mpl"
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    other = Spool(spool.root / "x", uid=4343)
    theirs = other.write(run="theirs")
    content = other.content(theirs)
    shutil.move(other.user, spool.root / "4343-abc")
    for path in [spool.root / "4343-abc", *(spool.root / "4343-abc").rglob("*")]:
        os.chown(path, 4343, 4343)

    async with start() as pipeline:
        await eventually(lambda: server.content(good) == spool.content(good))
        await eventually(lambda: (s := server.stored(theirs, uid=4343)) and s.content() == content)
        foreign = {x["path"]: x["reason"] for x in pipeline.status()["foreign"]}

        assert "belongs to uid 12345" in foreign[str(spool.segments(planted)[0])]
        assert "belongs to uid 0" in foreign[str(taken)]
        assert "not a regular file" in foreign[str(device)]
    assert server.stored(planted) is None


async def test_offline_streams_and_those_of_other_machines_stay_and_are_listed(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    offline = spool.write(run="offline", header=make_header("offline", offline=True))
    elsewhere = spool.write(run="elsewhere", header=make_header("elsewhere", machine="other", boot="other"))
    contained = spool.write(run="contained", header=make_header("contained", machine="other"))

    async with start() as pipeline:
        await eventually(lambda: server.content(contained) == spool.content(contained))
        kept = {x["stream"]: x["reason"] for x in pipeline.status()["kept"]}

        assert "offline" in kept[offline.hex()]
        assert "another machine" in kept[elsewhere.hex()]
    assert server.stored(offline) is None and server.stored(elsewhere) is None


async def test_runs_may_appear_and_vanish_at_any_time(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    async with start() as pipeline:
        first = spool.write(run="first")
        await eventually(lambda: server.content(first) == spool.content(first))
        await eventually(lambda: pipeline.status()["streams"]["shipped"] == 1)
        second = spool.write(run="second")
        await eventually(lambda: server.content(second) == spool.content(second))
        shutil.rmtree(spool.user)
        await eventually(lambda: pipeline.status()["streams"]["known"] <= 1)
        spool.user.mkdir()
        third = spool.write(run="third")
        await eventually(lambda: server.content(third) == spool.content(third))

        assert pipeline.status()["losses"] == {}


async def test_unshipped_stream_that_is_deleted_while_it_is_closed_is_a_counted_loss(
    spool: Spool, server: FakeTrackerServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker_agent.open_files.HELD_MAX", 0)
    server.keys.clear()
    stream = spool.write()
    size = len(spool.content(stream))

    async with start() as pipeline:
        await eventually(lambda: pipeline.status()["behind"]["bytes"] == size)
        shutil.rmtree(spool.run("run"))

        losses = await eventually(lambda: pipeline.status()["losses"])
        assert losses == {LossReason.DELETED.text: {"code": "deleted", "gaps": 1, "bytes": size}}


async def test_descriptors_stay_bounded_with_many_streams(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    streams = [spool.write(run=f"run{number}", records=2) for number in range(300)]
    before = len(os.listdir("/proc/self/fd"))

    async with start(limits=LimitSettings(open_files=32)) as pipeline:
        await eventually(lambda: all(server.content(s) == spool.content(s) for s in streams), timeout_s=30)

        assert max(each["open_files"] for each in pipeline.status()["spools"]) <= 16
        assert len(os.listdir("/proc/self/fd")) < before + 60


async def test_same_stream_in_two_directories_is_shipped_once(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(run="one")
    shutil.copytree(spool.run("one"), spool.user / "two")

    async with start() as pipeline:
        kept = await eventually(lambda: pipeline.status()["kept"])
        await eventually(lambda: (s := server.stored(stream)) and s.next == len(spool.content(stream)) // 2)

        assert "duplicate" in kept[0]["reason"]
