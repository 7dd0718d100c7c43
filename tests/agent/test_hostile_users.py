"""A user who writes whatever he likes into his own directory hinders nobody and speaks for nobody."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.conftest import UID, Spool, Start, eventually, make_header
from tests.support.fake_tracker_server import FakeTrackerServer
from tracker.protocol import bodies, kinds
from tracker.protocol.header import encode_header
from tracker.protocol.layout import live_name
from tracker.protocol.writer import StreamWriter
from tracker_agent.settings import LimitSettings

_HOLD = (
    "import fcntl, sys, time\nf = open(sys.argv[1], 'a')\nfcntl.lockf(f, fcntl.LOCK_EX)\n"
    "print('locked', flush=True)\ntime.sleep(600)"
)


@contextmanager
def held_lock(directory: Path, stream: bytes) -> Iterator[None]:
    """Let another process hold a stream's live lock."""
    arguments = [sys.executable, "-c", _HOLD, str(directory / live_name(stream))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield
        finally:
            process.kill()


def states(server: FakeTrackerServer, stream: bytes) -> list[str]:
    """Return what was observed of a stream's writer, in order."""
    return [record.state for record in server.observed if record.stream == stream]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"1" * 60_000,
        b"\xff\xfe",
        b"",
        b'"x"',
        b"{",
        b'{"URL": ["tk_a"]}',
        b'{"URL": "tk_a\\r\\nX-Evil: 1"}',
        b'{"URL": "tk_\\u0000"}',
        b'{"URL": "tk_\\ud800"}',
    ],
)
async def test_run_whose_owners_credentials_cannot_be_used_waits_for_them(
    spool: Spool, server: FakeTrackerServer, start: Start, content: bytes
) -> None:
    """Shipped with the operator's key, it would end up with somebody else."""
    stream = spool.write()
    credentials = spool.user / "credentials"
    credentials.write_bytes(content.replace(b"URL", server.url.encode()))
    server.keys.add("his")

    async with start() as pipeline:
        parked = await eventually(lambda: pipeline.status()["parked"])
        assert server.stored(stream) is None
        assert str(credentials) in parked[0]["reason"]
        assert pipeline.status()["failures"] == {}
        credentials.write_text(json.dumps({server.url: "his"}))

        await eventually(lambda: server.content(stream, key="his") == spool.content(stream))


async def test_fault_in_one_users_directory_stops_no_other(
    spool: Spool, server: FakeTrackerServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault nobody thought of")

    (spool.root / f"{UID}-a").mkdir()
    (spool.root / f"{UID}-a" / "credentials").write_text("{}")
    monkeypatch.setattr("tracker_agent.spool_users.read_user_keys", fail)
    stream = spool.write()

    async with start() as pipeline:
        await eventually(lambda: server.content(stream) == spool.content(stream))
        foreign = await eventually(lambda: pipeline.status()["foreign"])
    assert [(each["path"], "a fault nobody thought of" in each["reason"]) for each in foreign] == [
        (str(spool.root / f"{UID}-a"), True)
    ]


async def test_stream_about_the_host_is_the_agents_alone_to_write(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    """The server believes what an agent's streams say of hosts and of other people's writers."""
    victim = spool.write(run="victim")
    header = make_header(None)
    writer = StreamWriter(str(spool.run("forged")), header)
    gone = bodies.Observed(time.time_ns(), UID, victim, "gone", {"cause": "forged"})
    writer.write(kinds.OBSERVED, gone.encode())
    writer.close()

    async with start() as pipeline:
        await eventually(lambda: server.content(victim) == spool.content(victim))
        foreign = await eventually(lambda: pipeline.status()["foreign"])
        await eventually(lambda: pipeline.status()["streams"]["shipped"] >= 1)

    assert server.stored(header.stream) is None
    assert "about the machine" in foreign[0]["reason"]


async def test_segment_about_the_host_hides_behind_no_segment_of_a_run(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    """The first segment is read only after the stream was announced by its second one."""
    stream = secrets.token_bytes(16)
    first = StreamWriter(str(spool.run("first")), make_header(None, stream))
    first.write(kinds.OBSERVED, bodies.Observed(1, UID, secrets.token_bytes(16), "gone", {}).encode())
    first.close()
    (path,) = spool.segments(stream)
    head = path.read_bytes()
    path.unlink()
    run = spool.run("second")
    (run / f"{stream.hex()}.000000.mpl").write_bytes(head)
    second = encode_header(make_header("second", stream, segment=1, base=len(head)))
    (run / f"{stream.hex()}.000001.mpl").write_bytes(second)

    async with start() as pipeline:
        foreign = await eventually(lambda: pipeline.status()["foreign"])
    assert "about the machine" in foreign[0]["reason"]
    assert server.stored(stream) is None


async def test_header_overwritten_while_the_file_was_closed_stops_no_other(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    hostile = spool.write(run="hostile", exit_code=None)
    (path,) = spool.segments(hostile)
    with held_lock(path.parent, hostile):
        async with start(limits=LimitSettings(open_files=1)) as pipeline:
            await eventually(lambda: server.content(hostile) == path.read_bytes())
            first = spool.write(run="first")
            await eventually(lambda: server.content(first) == spool.content(first))

            with path.open("r+b") as file:
                file.write(os.urandom(64))
                file.seek(0, os.SEEK_END)
                file.write(b"more")
            # Only one file is held open: reading another one closes it, if it was opened again meanwhile.
            second = spool.write(run="second")
            await eventually(lambda: server.content(second) == spool.content(second))
            parked = await eventually(lambda: pipeline.status()["parked"])

            assert parked[0]["code"] == "diverged"
            assert pipeline.status()["failures"] == {}


async def test_run_whose_files_are_deleted_while_it_runs_does_not_run_for_ever(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(run="deleted", exit_code=None)
    async with start():
        with held_lock(spool.run("deleted"), stream):
            await eventually(lambda: server.content(stream) == spool.content(stream))
            await eventually(lambda: states(server, stream) == ["live"])
            shutil.move(spool.run("deleted"), spool.user / "renamed")
            await eventually(lambda: states(server, stream)[-2:] == ["gone", "live"])
            shutil.rmtree(spool.user / "renamed")
        # Whether its process still writes cannot be seen any more; that it ended can.
        await eventually(lambda: states(server, stream)[-1] == "gone")
