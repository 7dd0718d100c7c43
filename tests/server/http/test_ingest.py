"""Ingest over HTTP: what is stored, what is refused, and that a flood is turned away, not swallowed."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgpack
import pytest
import zstandard
from aiohttp import StreamReader
from aiohttp.test_utils import make_mocked_request

from tests.server.http.conftest import Keys
from tests.support.agent_process import wait_until
from tests.support.http_client import Answer, ask
from tests.support.record_stream import START_NS, RecordStream, pack_request, send
from tests.support.server_process import ServerProcess
from tracker_server.web import endpoint
from tracker_server.web.byte_budget import ByteBudget
from tracker_server.web.errors import ApiError

HEADERS = {"Content-Type": "application/msgpack", "Content-Encoding": "zstd", "X-Tracker-Protocol": "1"}
MIB = 1 << 20

#: 3 MB for all requests in flight.
SMALL_BUDGET = """
[limits]
ingest_bytes_in_flight = 3_000_000
ingest_decompressed_bytes = 3_000_000
ingest_request_bytes = 1_500_000
"""


def post(server: ServerProcess, key: str, body: bytes, **headers: str) -> Answer:
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(server.url, "POST", "/api/v1/ingest", key=key, body=body, headers={**HEADERS, **renamed})


def offsets(server: ServerProcess, key: str, *streams: RecordStream) -> Any:
    asked = {"streams": [{"uid": each.uid, "stream": each.stream.hex()} for each in streams]}
    return server.request("POST", "/api/v1/streams/offsets", asked, key=key)


def test_what_was_sent_twice_is_stored_once(server: ServerProcess, keys: Keys) -> None:
    stream = RecordStream("twice", "ingest")
    for step in range(100):
        stream.log(step, {"loss": float(step)})
    entry = stream.take()

    answers = [send(server.url, keys.ingest, entry).json for _ in range(3)]

    assert [each["streams"][0]["next"] for each in answers] == [len(stream.data)] * 3
    points = server.get("/api/v1/runs/default/ingest/twice/points", {"metric": "loss"})
    assert points["points"]["loss"]["value"] == [float(step) for step in range(100)]


def test_offsets_say_where_streams_go_on(server: ServerProcess, keys: Keys) -> None:
    known, unknown = RecordStream("offsets", "ingest"), RecordStream("other", "ingest")
    known.log(0, {"loss": 1.0})
    epoch = send(server.url, keys.ingest, known.take()).json["epoch"]

    answer = offsets(server, keys.ingest, unknown, known)

    assert answer["epoch"] == epoch == server.get("/api/v1/server")["epoch"]
    first, second = answer["streams"]
    assert (first["next"], first["crc"], first["last"]) == (0, None, None)
    assert second["next"] == len(known.data)
    assert second["crc"] is not None
    assert second["last"] < second["next"]


def test_one_bad_stream_hinders_no_other(server: ServerProcess, keys: Keys) -> None:
    good, hole, damaged = (RecordStream(name, "ingest") for name in ("good", "hole", "damaged"))
    broken = damaged.take()
    broken[2] = broken[2][:-1] + bytes([broken[2][-1] ^ 1])

    ahead = [hole.stream, 5000, hole.data, {"uid": 1000, "user": "ada"}]

    answer = send(server.url, keys.ingest, ahead, broken, good.take())

    assert answer.status == 200
    by_stream = {each["stream"]: each for each in answer.json["streams"]}
    assert by_stream[hole.stream.hex()]["error"] == "hole"
    assert by_stream[damaged.stream.hex()]["error"] == "bad_lines"
    assert by_stream[damaged.stream.hex()]["at"] < len(damaged.data)
    assert by_stream[good.stream.hex()] == {
        "uid": 1000,
        "stream": good.stream.hex(),
        "next": len(good.data),
    }


def test_someone_elses_run_is_forbidden_and_stays_as_it_was(server: ServerProcess, keys: Keys) -> None:
    own = RecordStream("owned", "ingest")
    own.log(0, {"loss": 1.0})
    assert send(server.url, keys.ingest, own.take()).status == 200
    guess = RecordStream("owned", "ingest")
    guess.log(1, {"loss": 666.0})
    other = server.new_key("intruder", ("ingest",))

    answer = send(server.url, other, guess.take()).json["streams"][0]

    assert answer["error"] == "forbidden"
    run = "/api/v1/runs/default/ingest/owned"
    assert server.get(f"{run}/points", {"metric": "loss"})["points"]["loss"]["value"] == [1.0]
    server.request("POST", f"{run}/grants", {"principal": "intruder"})
    granted = send(server.url, other, [*guess.take()[:1], 0, guess.data, {"uid": 1000, "user": "x"}])
    assert "error" not in granted.json["streams"][0]


@pytest.mark.parametrize("scope", ["read", "ingest"])
def test_only_owner_or_admin_grants(server: ServerProcess, keys: Keys, scope: str) -> None:
    run = RecordStream(f"grant-{scope}", "ingest")
    assert send(server.url, keys.agent, run.take()).status == 200
    stranger = server.new_key(f"stranger-{scope}", (scope,))

    answer = ask(
        server.url,
        "POST",
        f"/api/v1/runs/default/ingest/grant-{scope}/grants",
        key=stranger,
        json_body={"principal": "reader"},
    )

    assert answer.status == (403 if scope == "read" else 404)


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"", {}, 400, "unparsable"),
        (b"no zstd", {}, 400, "unparsable"),
        (zstandard.compress(b"no msgpack"), {}, 400, "unparsable"),
        (zstandard.compress(msgpack.packb({"entries": 1})), {}, 400, "unparsable"),
        (pack_request([])[:-2], {}, 400, "unparsable"),
        (pack_request([]), {"Content_Type": "application/json"}, 415, "bad_media_type"),
        (pack_request([]), {"Content_Encoding": "gzip"}, 415, "bad_encoding"),
        (pack_request([]), {"X_Tracker_Protocol": "2"}, 400, "bad_protocol"),
        (pack_request([]), {"X_Tracker_Protocol": "x" * 100}, 400, "bad_protocol"),
    ],
)
def test_what_no_agent_sends_is_refused_with_a_reason(
    server: ServerProcess, keys: Keys, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    answer = post(server, keys.ingest, body, **headers)

    assert (answer.status, answer.error) == (status, error)


def test_an_uncompressed_request_and_a_newer_agent_are_fine(server: ServerProcess, keys: Keys) -> None:
    stream = RecordStream("plain", "ingest")
    entry = stream.take()
    body = msgpack.packb({"agent": "9", "machine": "m", "new": 1, "entries": [[*entry, "new"]]})

    answer = ask(
        server.url,
        "POST",
        "/api/v1/ingest",
        key=keys.ingest,
        body=body,
        headers={"Content-Type": "application/msgpack"},
    )

    assert answer.json["streams"][0]["next"] == len(stream.data)
    assert answer.headers["X-Tracker-Protocol"] == "1"


@pytest.mark.parametrize("says_its_size", [True, False])
def test_a_decompression_bomb_is_refused_and_costs_little(
    server: ServerProcess, keys: Keys, says_its_size: bool
) -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=says_its_size)
    bomb = compressor.compress(bytes(600 * MIB))
    assert len(bomb) < MIB
    before = peak_memory(server)

    answer = post(server, keys.ingest, bomb)

    assert (answer.status, answer.error) == (413, "too_large")
    assert peak_memory(server) - before < 150 * MIB
    assert server.get("/readyz", key="") == {"status": "ready"}


def test_samples_of_too_many_processes_at_once_are_asked_for_in_parts(
    server: ServerProcess, keys: Keys
) -> None:
    host = RecordStream(None, machine="many-writers")
    for _ in range(513):
        host.sample_about(RecordStream("unknown"), START_NS, rss=5.0)

    answer = send(server.url, keys.ingest, host.take())

    assert (answer.status, answer.error) == (413, "too_large")
    assert "512" in answer.body.decode()


def peak_memory(server: ServerProcess) -> int:
    """Return the most resident memory the server has had, in bytes."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_a_body_that_is_too_long_is_refused_before_it_is_read(server: ServerProcess, keys: Keys) -> None:
    head = (
        f"POST /api/v1/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {keys.ingest}\r\n"
        f"Content-Type: application/msgpack\r\nContent-Encoding: zstd\r\nContent-Length: {33 * MIB}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())

        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_counted_while_it_comes(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("[limits]\njson_request_bytes = 1000\ningest_request_bytes = 1000\n")
    with ServerProcess(tmp_path / "server", arguments=("--config", str(limits))) as server:
        for path, media_type in (("ingest", "application/msgpack"), ("streams/offsets", "application/json")):
            head = (
                f"POST /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Authorization: Bearer {server.ingest_key}\r\nContent-Encoding: "
                f"{'zstd' if path == 'ingest' else 'identity'}\r\n"
                f"Content-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                connection.sendall(head.encode() + b"800\r\n" + b"x" * 0x800 + b"\r\n")

                assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_more_than_the_budget_in_flight_is_turned_away_and_nothing_is_lost(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(SMALL_BUDGET)
    with ServerProcess(tmp_path / "server", arguments=("--config", str(limits))) as server:
        key = server.ingest_key
        streams = [RecordStream(f"flood-{n}", "ingest") for n in range(8)]
        for stream in streams:
            stream.print(*(f"{n:0100}" for n in range(6_000)))
        answers: list[list[int]] = [[] for _ in streams]

        def deliver(number: int) -> None:
            entry = streams[number].take()
            while answers[number][-1:] != [200]:
                answer = send(server.url, key, entry)
                answers[number].append(answer.status)
                assert answer.status == 200 or int(answer.headers["Retry-After"]) >= 1

        threads = [threading.Thread(target=deliver, args=(n,)) for n in range(len(streams))]
        holder = hold_budget(server, key, 1_200_000)
        for thread in threads:
            thread.start()
        wait_until(lambda: all(answers), what="an answer to each request")
        assert all(each[0] == 503 for each in answers)
        holder.close()
        for thread in threads:
            thread.join(60)

        assert all(each[-1:] == [200] for each in answers)
        for number in range(len(streams)):
            run = f"/api/v1/runs/default/ingest/flood-{number}"
            assert server.get(run)["console_lines"] == 6_000


def hold_budget(server: ServerProcess, key: str, size: int) -> socket.socket:
    """Send so many bytes of a body, but not its last; return once others are turned away."""
    while True:
        connection = announce_body(server, key, size + 1)
        connection.sendall(bytes(size))
        time.sleep(0.3)  # else a probe that comes first may have it turned away
        probe = RecordStream("probe", "ingest")
        probe.print("x" * 600_000)
        if send(server.url, key, probe.take()).status == 503:
            return connection
        connection.close()


def announce_body(server: ServerProcess, key: str, size: int) -> socket.socket:
    """Announce a body of that many bytes and send none of it yet."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(
        (
            f"POST /api/v1/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/msgpack\r\nContent-Encoding: zstd\r\nContent-Length: {size}\r\n\r\n"
        ).encode()
    )
    return connection


def test_a_slow_sender_holds_his_share_and_stops_nobody_else(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(SMALL_BUDGET)
    with ServerProcess(tmp_path / "server", arguments=("--config", str(limits))) as server:
        slow, other = server.new_key("slow"), server.new_key("other")
        holders = [announce_body(server, slow, 700_001) for _ in range(8)]
        for holder in holders:
            try:
                holder.sendall(bytes(700_000))
            except OSError:
                pass  # turned away: his share is taken
        wait_until(
            lambda: sum(is_open(holder) for holder in holders) <= 2, what="what is beyond his share refused"
        )
        stream = RecordStream("fast", "ingest")
        stream.print("x" * 600_000)

        answer = send(server.url, other, stream.take())
        more = RecordStream("slow", "ingest")
        more.print("x" * 900_000)
        refused = send(server.url, slow, more.take())

        assert answer.status == 200, answer.body
        assert refused.status == 503
        for holder in holders:
            holder.close()


def is_open(connection: socket.socket) -> bool:
    """Return whether the other side has answered nothing yet and keeps the connection."""
    connection.setblocking(False)
    try:
        connection.recv(1, socket.MSG_PEEK)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(30)


def test_shares_leave_room_for_one_more_and_come_back() -> None:
    budget = ByteBudget(1000)
    with budget.share(1) as first, budget.share(2) as second, budget.share(3) as third:
        first(500)
        with pytest.raises(ApiError):
            first(1)
        second(250)
        third(125)
        with pytest.raises(ApiError):
            second(1)
    with budget.share(1) as alone:
        alone(1000)
        with budget.share(2) as second, pytest.raises(ApiError):
            second(1)
    with budget.share(2) as again, budget.share(1):
        again(500)


def test_who_announces_much_and_sends_nothing_stops_nobody(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(SMALL_BUDGET)
    with ServerProcess(tmp_path / "server", arguments=("--config", str(limits))) as server:
        idle = [announce_body(server, server.ingest_key, 2_900_000) for _ in range(8)]
        time.sleep(0.5)  # the server has seen them
        stream = RecordStream("honest", "ingest")
        stream.print("x" * 600_000)

        assert send(server.url, server.ingest_key, stream.take()).status == 200
        for connection in idle:
            connection.close()


async def test_a_body_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BODY_S", 0.05)
    stream = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(b"some of it")
    request = make_mocked_request("POST", "/", payload=stream)

    with pytest.raises(ApiError, match="was not there") as raised:
        await endpoint.read_body(request, 1000)
    assert raised.value.status == 408


def test_an_agent_makes_its_host_known(server: ServerProcess, keys: Keys) -> None:
    body = {"streams": [], "machine": "machine-quiet", "host": "node-quiet", "agent": "0.1.0"}

    server.request("POST", "/api/v1/streams/offsets", body, key=keys.agent)

    hosts = {each["machine"]: each for each in server.get("/api/v1/hosts")["hosts"]}
    assert hosts["machine-quiet"]["host"] == "node-quiet"
    assert hosts["machine-quiet"]["seen"] > 0
