"""The tap: whoever listens sees what servers take, and shipping never waits for him."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer
from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, encode_line
from tracker.protocol.header import encode_header
from tracker_agent.counters import Counters
from tracker_agent.passing_records import LINE_CHARACTERS_MAX, PassingRecord, PassingRecords
from tracker_agent.pieces import Data
from tracker_agent.tap import LISTENER_BYTES_PER_S, SLICE_BYTES, WAITING_BYTES_MAX, Tap

STREAM = bytes(range(16))


def stream(run: str = "run", number: int = 0) -> Any:
    header = SimpleNamespace(run=run)
    return SimpleNamespace(uid=1000, user="ada", id=bytes([number]) * 16, header=header)


def lines(*records: tuple[int, bytes]) -> bytes:
    seeds = Seeds(STREAM, 0)
    return b"".join(encode_line(kind, body, seeds[kind]) for kind, body in records)


def metrics(step: int, **values: float) -> tuple[int, bytes]:
    return kinds.METRICS, bodies.Metrics(1_700_000_000_000_000_000 + step, step, values).encode()


async def next_of(messages: Any) -> dict[str, Any]:
    async with asyncio.timeout(20):
        message: dict[str, Any] = await anext(messages)
        return message


def records_of(*messages: dict[str, Any]) -> list[PassingRecord]:
    reader = PassingRecords()
    return [record for message in messages for record in reader.take(message)]


class Now:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


async def test_listener_sees_what_passes_with_run_user_and_offset() -> None:
    tap = Tap(Now())
    messages = tap.listen()
    assert await next_of(messages) == {"listening": True}

    tap.passed(stream("k3v8"), Data(500, lines(metrics(1, loss=0.5), metrics(2, loss=0.25))))

    first, second = records_of(await next_of(messages))
    assert (first.run, first.user, first.uid, first.kind, first.offset) == (
        "k3v8",
        "ada",
        1000,
        "METRICS",
        500,
    )
    assert second.offset > 500
    assert second.body["values"] == {"loss": 0.25}
    await messages.aclose()
    assert tap.listeners == 0


async def test_listener_of_one_run_sees_no_other() -> None:
    tap = Tap(Now())
    messages = tap.listen("mine")
    await next_of(messages)

    tap.passed(stream("other"), Data(0, lines(metrics(1, loss=1))))
    tap.passed(stream("mine"), Data(0, lines(metrics(2, loss=2))))

    assert (await next_of(messages))["run"] == "mine"
    await messages.aclose()


async def test_line_longer_than_a_slice_is_put_together_again() -> None:
    tap = Tap(Now())
    messages = tap.listen()
    await next_of(messages)
    long = (kinds.CONSOLE, bodies.Console(1, "stdout", ["x" * (3 * SLICE_BYTES)]).encode())

    tap.passed(stream(), Data(0, lines(metrics(1, a=1), long, metrics(2, a=2))))

    found = records_of(*[await next_of(messages) for _ in range(4)])
    assert [record.kind for record in found] == ["METRICS", "CONSOLE", "METRICS"]
    await messages.aclose()


async def test_listener_who_is_too_slow_loses_and_is_told_how_much_while_memory_stays_bounded() -> None:
    tap = Tap(Now())
    slow, piece = tap.listen(), lines(*[metrics(n, loss=n) for n in range(1000)])
    await next_of(slow)
    offered = 0

    while offered < 5 * WAITING_BYTES_MAX:
        tap.passed(stream(), Data(offered, piece))
        offered += len(piece)

    (listener,) = tap._listeners
    assert listener._waiting_bytes <= WAITING_BYTES_MAX
    taken, message = 0, None
    while listener._waiting:
        message = await next_of(slow)
        taken += len(message["data"]) * 3 // 4
    tap._now.s += 10  # type: ignore[attr-defined]
    tap.passed(stream(), Data(offered, piece))
    while not (message := await next_of(slow))["dropped_bytes"]:
        pass
    assert message["dropped_bytes"] > 0
    assert message["offset"] == offered
    await slow.aclose()


async def test_listener_gets_no_more_than_his_share_of_the_loop() -> None:
    now = Now()
    tap = Tap(now)
    messages = tap.listen()
    await next_of(messages)
    piece = lines(*[metrics(n, loss=n) for n in range(1000)])
    taken = 0
    for tick in range(100):  # one second
        now.s = 1000 + tick / 100
        for _ in range(10):
            tap.passed(stream(), Data(0, piece))
        (listener,) = tap._listeners
        taken += listener._waiting_bytes
        listener._waiting.clear()
        listener._waiting_bytes = 0

    assert LISTENER_BYTES_PER_S <= taken <= 2 * LISTENER_BYTES_PER_S + len(piece)
    await messages.aclose()


def test_what_was_sent_twice_is_shown_once() -> None:
    shown: list[tuple[int, int]] = []
    counters = Counters(tap=lambda _, piece: shown.append((piece.offset, piece.end)))
    piece = Data(100, b"x" * 50)

    counters.add_shipped(stream(), piece, 100, 120)  # the server took a part of it
    counters.add_shipped(stream(), piece, 120, 150)
    counters.add_shipped(stream(), Data(150, b"x" * 10), 150, 160)

    assert shown == [(100, 120), (120, 150), (150, 160)]
    assert counters.bytes_shipped == 60


def test_without_a_listener_nobody_looks_at_what_passes() -> None:
    nothing: Any = object()

    Tap(time.monotonic).passed(nothing, nothing)


@pytest.mark.parametrize(
    ("kind", "body", "part"),
    [
        (*metrics(7, loss=0.1234567, bad=math.nan), "step 7  loss=0.123457 bad=nan"),
        (kinds.METRICS, bodies.Metrics(1, None, {"a": 1}).encode(), "step +1  a=1"),
        (kinds.CONSOLE, bodies.Console(1, "stderr", ["one", "two"]).encode(), "stderr: one ⏎ two"),
        (kinds.RUN, bodies.Run(1, {"project": "p"}).encode(), "fields={'project': 'p'}"),
        (kinds.EXIT, bodies.Exit(1, 3).encode(), "code=3"),
        (kinds.SAMPLE, bodies.Sample(1, 10**9, {"host.cpu": (5.0, 1, 9, 4, 15)}).encode(), "1 s  host.cpu=5"),
        (kinds.FILE, bodies.File(1, "a/b", b"\xab" * 32, 5, "end").encode(), "sha256=abab"),
        (kinds.METRICS, b"\x90", "problem="),
        (4711, b"whatever", "raw_bytes=8"),
    ],
)  # fmt: skip
def test_record_of_each_kind_is_one_line_for_people_and_valid_json_for_programs(
    kind: int, body: bytes, part: str
) -> None:
    seed = Seeds(STREAM, 0)[kind]
    data = base64.b64encode(encode_line(kind, body, seed)).decode()
    message = {"uid": 1, "user": "u", "run": "r", "stream": "s", "offset": 0, "data": data}

    (record,) = records_of(message)

    assert part in record.to_text()
    assert len(record.to_text()) <= LINE_CHARACTERS_MAX

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    shown = json.loads(json.dumps(record.to_json()), parse_constant=no_constant)
    assert shown["kind"] == kinds.NAMES.get(kind, str(kind))


def test_header_of_a_segment_is_decoded() -> None:
    data = base64.b64encode(encode_header(make_header("run", STREAM)) + lines(metrics(1, a=1))).decode()
    message = {"uid": 1, "user": "u", "run": "r", "stream": "s", "offset": 0, "data": data}

    header, record = records_of(message)

    assert (header.kind, header.to_json()["body"]["stream"]) == ("HEADER", STREAM.hex())
    assert record.kind == "METRICS"


async def test_everything_a_pipeline_ships_passes_the_tap_once(
    start: Start, spool: Spool, server: FakeTrackerServer
) -> None:
    tap = Tap(time.monotonic)
    messages = tap.listen()
    await next_of(messages)
    shipped = spool.write(records=50)

    async with start() as pipeline:
        pipeline.counters.tap = tap.passed
        reader, found = PassingRecords(), []
        while len(found) < 53:
            found += [r for r in reader.take(await next_of(messages)) if r.stream == shipped.hex()]

    await messages.aclose()
    assert [record.kind for record in found] == ["HEADER", "RUN", *["METRICS"] * 50, "EXIT"]
    assert [record.body["step"] for record in found if record.kind == "METRICS"] == list(range(50))


async def test_shipping_goes_on_at_full_speed_beside_a_listener_who_reads_nothing(
    start: Start, spool: Spool, server: FakeTrackerServer
) -> None:
    tap = Tap(time.monotonic)
    asleep = tap.listen()
    await next_of(asleep)
    streams = [spool.write(f"run{n}", records=2000) for n in range(20)]

    async with start() as pipeline:
        pipeline.counters.tap = tap.passed
        await eventually(lambda: pipeline.status()["streams"]["shipped"] == len(streams))

    await asleep.aclose()


@pytest.fixture
def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}


def test_unknown_kind_is_refused_with_those_there_are(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "tap", "--kind", "metric"],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "known: alert, config, console" in done.stderr


def test_other_users_may_not_listen(tmp_path: Path, environment: dict[str, str]) -> None:
    require.root()
    tmp_path.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir(mode=0o755)

    async def listen_as_someone_else() -> str:
        from tracker_agent.control import ControlServer

        control = ControlServer(state)
        control.stream("tap", lambda _: Tap(time.monotonic).listen())
        await control.start()
        (state / "agent.sock").chmod(0o666)
        code = (
            "import os, socket; os.setuid(54321); s = socket.socket(socket.AF_UNIX); "
            "s.connect(os.environ['SOCKET']); s.sendall(b'{\"command\": \"tap\"}\\n'); "
            "print(s.recv(1000).decode())"
        )
        link = Path(f"/tmp/tracker-tap-{os.getpid()}")
        link.symlink_to(state)
        try:
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                env={**environment, "SOCKET": f"{link}/agent.sock"}, check=False,
            )  # fmt: skip
        finally:
            link.unlink()
            await control.close()
        return done.stdout + done.stderr

    for parent in tmp_path.parents[:3]:
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    assert "only root and the agent's own user may ask" in asyncio.run(listen_as_someone_else())
