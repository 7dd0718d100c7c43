"""What shims of other versions write goes the whole way: older ones are understood, newer ones kept raw."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support.agent_process import AgentProcess, wait_until
from tests.support.server_process import ServerProcess
from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, encode_line, scan_lines
from tracker.protocol.header import read_header
from tracker.protocol.identity import boot_id, machine_id
from tracker.protocol.kinds import FORMAT_VERSION
from tracker.protocol.layout import segment_name

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"
#: What version 1 of the format had from its first day: nobody may require more of a HEADER.
FIRST_KEYS = (
    "version", "stream", "run", "segment", "base", "machine", "boot", "pid", "started", "clock", "writer",
)  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, AgentProcess]]:
    root = tmp_path_factory.mktemp("both")
    with (
        ServerProcess(root / "server") as server,
        AgentProcess(root, server.url, server.ingest_key, watch=False) as agent,
    ):
        yield server, agent


def header_of(run: str, stream: bytes, **fields: Any) -> dict[str, Any]:
    """The HEADER of a writer that is gone, as a map."""
    return {
        "version": FORMAT_VERSION, "stream": stream, "run": run, "segment": 0, "base": 0,
        "machine": machine_id(), "boot": boot_id(), "pid": 2**22 - 1, "started": time.time_ns(), "clock": 0,
        "writer": "other/0", **fields,
    }  # fmt: skip


def put(spool: Path, run: str, stream: bytes, segment: bytes) -> None:
    """Put a stream of one segment into a spool, at once."""
    directory = spool / str(os.getuid()) / run
    directory.mkdir(parents=True)
    temporary = directory / "being-written"
    temporary.write_bytes(segment)
    temporary.rename(directory / segment_name(stream, 0))


def stored_offset(server: ServerProcess, stream: bytes) -> int:
    asked = {"streams": [{"uid": os.getuid(), "stream": stream.hex()}]}
    answer = server.request("POST", "/api/v1/streams/offsets", asked, key=server.ingest_key)
    offset: int = answer["streams"][0]["next"]
    return offset


def raw_records(server: ServerProcess, stream: bytes) -> list[tuple[int, bytes]]:
    """Kind and body of the records that the server keeps as they came."""
    query = (
        "select kind, body from raw_records join streams on streams.id = stream_id "
        "where stream = ? order by offset"
    )
    with closing(sqlite3.connect(server.data / "tracker.db")) as connection:
        return list(connection.execute(query, (stream,)))


def test_stream_of_a_shim_that_knew_only_the_first_header_keys_is_shipped_and_understood(
    both: tuple[ServerProcess, AgentProcess],
) -> None:
    server, agent = both
    golden = next((GOLDEN / "every_kind").glob("*.mpl")).read_bytes()
    old, start = read_header(golden)
    fields = header_of("older", old.stream)
    assert set(fields) == set(FIRST_KEYS)
    segment = encode_line(kinds.HEADER, msgpack.packb(fields), 0) + golden[start:]

    put(agent.spool, "older", old.stream, segment)

    wait_until(lambda: stored_offset(server, old.stream) == len(segment), what="all of it stored")
    page = server.get("/api/v1/runs/default/digits/older")
    assert page["state"] == "failed", "its EXIT says 1"
    lines = scan_lines(golden[start:], Seeds(old.stream, 0)).lines
    unknown = [(kind, body) for kind, _, body in lines if kind >= 127]
    assert unknown
    kept = raw_records(server, old.stream)
    assert [record for record in kept if record[0] >= 127] == unknown, "kinds of the future, byte for byte"


def test_header_and_records_of_a_newer_shim_are_stored_as_they_came(
    both: tuple[ServerProcess, AgentProcess],
) -> None:
    server, agent = both
    stream = secrets.token_bytes(16)
    fields = header_of(
        "newer", stream, version=FORMAT_VERSION + 1, colour={"deep": [1, {"er": None}]}, lr=0.5
    )
    seeds = Seeds(stream, 0)
    records = [
        (kinds.RUN, bodies.Run(1, {"project": "future"}).encode()),
        (kinds.METRICS, b"\xc1 not what METRICS is today"),
        (4711, secrets.token_bytes(300)),
        (kinds.KIND_MAX, b""),
    ]
    body = msgpack.packb(fields)
    segment = encode_line(kinds.HEADER, body, 0) + b"".join(
        encode_line(kind, record, seeds[kind]) for kind, record in records
    )

    put(agent.spool, "newer", stream, segment)

    wait_until(lambda: stored_offset(server, stream) == len(segment), what="all of it stored")
    status = wait_until(agent.status)
    assert status["shipping"]["losses"] == {}
    kept = raw_records(server, stream)
    # What can be read is understood, the rest is kept as it came.
    assert [record for record in kept if record[0] != kinds.HEADER] == records[1:]
    assert server.get("/api/v1/runs/default/future/newer")["run"] == "newer"
