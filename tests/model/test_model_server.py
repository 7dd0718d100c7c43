"""The simulator's server gives the answers that the real one gives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model.simulator.model_server import ModelServer
from tests.support.stores import Committer, add_principal, open_in
from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, encode_line
from tracker.protocol.header import Header, encode_header
from tracker_server.ingest.commit import GapEntry, Lines
from tracker_server.store.store import Store

SEEDS = 60
REQUESTS = 25
UID = 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    opened = open_in(tmp_path)
    yield opened
    opened.close()


class Stream:
    """The bytes of a stream of several segments, and where its lines and segments begin."""

    def __init__(self, draw: random.Random) -> None:
        self.id = draw.randbytes(16)
        self.lines: list[tuple[int, bytes, int]] = []  # (offset, line, segment)
        offset = 0
        for segment in range(draw.randint(1, 4)):
            header = Header(
                stream=self.id, run="run", segment=segment, base=offset, machine="m", boot="b", pid=1,
                started=1, clock=1, writer="tests/1",
            )  # fmt: skip
            seeds = Seeds(self.id, segment)
            for number in range(draw.randint(1, 5)):
                if number == 0:
                    line = encode_header(header)
                else:
                    body = bodies.Metrics(1, number, {"x": draw.random()}).encode()
                    line = encode_line(kinds.METRICS, body, seeds[kinds.METRICS])
                self.lines.append((offset, line, segment))
                offset += len(line)
        self.end = offset

    def part(self, first: int, count: int) -> tuple[int, bytes]:
        """Return the offset and the bytes of some lines of one segment."""
        segment = self.lines[first][2]
        chosen = [line for _, line, of in self.lines[first : first + count] if of == segment]
        return self.lines[first][0], b"".join(chosen)


def draw_entry(draw: random.Random, stream: Stream, at: int) -> tuple[int, Any]:
    """Return the offset and content of an entry: mostly what comes next, otherwise anything."""
    following = [index for index, (offset, _, _) in enumerate(stream.lines) if offset >= at]
    if following and draw.random() < 0.7:
        offset, data = stream.part(following[0], draw.randint(1, 4))
    else:
        offset, data = stream.part(draw.randrange(len(stream.lines)), draw.randint(1, 4))
    fate = draw.random()
    if fate < 0.12:
        start = draw.choice((offset, at, max(0, at - 5), at + 3))
        return start, {"gap": draw.choice((1, 20, len(data))), "reason": "a test"}
    if fate < 0.2:
        data = data[: draw.randrange(len(data))]
    elif fate < 0.27:
        place = draw.randrange(len(data))
        data = data[:place] + bytes([data[place] ^ draw.randint(1, 255)]) + data[place + 1 :]
    elif fate < 0.32:
        offset = max(0, offset + draw.choice((-3, 3, 100)))
    elif fate < 0.36:
        data += draw.randbytes(draw.randint(1, 20))
    return offset, data


def test_model_server_answers_as_the_real_one_does(store: Store) -> None:
    errors = set()
    for seed in range(SEEDS):
        errors |= compare(store, seed)

    assert errors == {None, "hole", "diverged", "bad_lines", "bad_stream"}


def compare(store: Store, seed: int) -> set[str | None]:
    """Send the same requests to both; return what kinds of answers there were."""
    draw = random.Random(seed)
    model = ModelServer()
    client = Committer(store, add_principal(store, entity=f"entity-{seed}"), UID)
    streams = [Stream(draw) for _ in range(2)]
    at = {stream.id: 0 for stream in streams}
    errors = set()
    for number in range(REQUESTS):
        stream = draw.choice(streams)
        offset, content = draw_entry(draw, stream, at[stream.id])
        expected = model.commit("entity", UID, stream.id, offset, content)
        if isinstance(content, bytes):
            entry: Any = Lines(UID, "ada", stream.id, offset, content)
        else:
            entry = GapEntry(UID, "ada", stream.id, offset, content["gap"], content["reason"])
        (outcome,) = client.commit(entry).outcomes
        found = (outcome.error, outcome.next, outcome.at)
        assert found == (expected.get("error"), expected["next"], expected.get("at")), (
            f"seed {seed}, request {number}: {offset} {content!r:.80}: {outcome.reason}"
        )
        errors.add(outcome.error)
        at[stream.id] = outcome.next or 0
    return errors
