"""The body of a request: any msgpack library reads back what was put in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
import zstandard

from tracker_agent.batch import Part, encode, merge_gaps
from tracker_agent.pieces import Data, Missing

STREAM: Any = SimpleNamespace(id=bytes(range(16)), uid=1000, user="ada")


@pytest.mark.parametrize("size", [1, 0xFF, 0x100, 0xFFFF, 0x10000, 300_000])
def test_request_reads_back_whatever_the_size_of_its_records(size: int) -> None:
    parts = [Part(STREAM, Data(7, b"x" * size)), Part(STREAM, Missing(7 + size, 3, "torn"))]

    body = msgpack.unpackb(zstandard.ZstdDecompressor().decompress(encode(parts, "0.1", "m", "h", 5)))

    owner = {"uid": 1000, "user": "ada"}
    entries = [[STREAM.id, 7, b"x" * size, owner], [STREAM.id, 7 + size, {"gap": 3, "reason": "torn"}, owner]]
    assert body == {"agent": "0.1", "machine": "m", "host": "h", "time": 5, "entries": entries}


def test_gaps_that_touch_and_have_one_reason_are_one() -> None:
    pieces = [
        Missing(0, 3, "torn"),
        Missing(3, 4, "torn"),
        Missing(7, 1, "damaged"),
        Missing(9, 1, "damaged"),
        Data(10, b"x"),
        Missing(11, 2, "damaged"),
    ]

    assert merge_gaps(pieces) == [
        Missing(0, 7, "torn"),
        Missing(7, 1, "damaged"),
        Missing(9, 1, "damaged"),
        Data(10, b"x"),
        Missing(11, 2, "damaged"),
    ]
