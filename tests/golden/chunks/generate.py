"""Golden chunks: bytes of every kind of version 1, and what they say in JSON. Written once, read for ever.

    python -m tests.golden.chunks.generate

writes files that are missing; one that exists is never written again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tracker_server.store.chunk import (
    AxisBlock,
    ValueBlock,
    decode_axis,
    decode_tail,
    decode_values,
    encode_axis,
    encode_tail,
    encode_values,
    tail_from_points,
)
from tracker_server.store.console import ConsoleLine, decode_console, encode_console

GOLDEN = Path(__file__).parent


class Chunk(NamedTuple):
    """How a golden file was made, and how what it says is written down."""

    make: Callable[[], bytes]
    describe: Callable[[bytes], Any]


def _axis() -> AxisBlock:
    steps = [0, 1, 1, 5, -3, 2**63 - 1, -(2**63)]
    return AxisBlock(
        np.array(steps, np.int64),
        np.array([1_700_000_000_000_000_000 + i * 10**6 for i in range(7)], np.int64),
        np.array([0, 0, 1, 1, 0, 4_294_967_295, 0], np.int64),
        np.array([200, 300, 200, 300, 400, 2**62, 500], np.int64),
    )


def _tail() -> bytes:
    column = np.array([0, 1, 2, 0, 1, 0, 2], np.uint32)
    record = np.array([0, 0, 0, 1, 2, 3, 6], np.uint32)
    value = np.array([0.5, 0.1, math.nan, -0.0, 1e300, math.inf, -math.inf])
    return encode_tail(tail_from_points(_axis(), np.array([7, 300, 12]), column, record, value))


def _numbers(values: Any) -> list[Any]:
    return [float.hex(float(each)) for each in values]


def _describe_axis(axis: AxisBlock) -> dict[str, list[int]]:
    return {name: getattr(axis, name).tolist() for name in ("step", "time", "ordinal", "offset")}


def _describe_values(data: bytes) -> dict[str, Any]:
    block = decode_values(data)
    return {
        "record": None if block.record is None else block.record.tolist(),
        "value": _numbers(block.value),
    }


def _describe_tail(data: bytes) -> dict[str, Any]:
    tail = decode_tail(data)
    return {
        "axis": _describe_axis(tail.axis),
        "metric": tail.metric.tolist(),
        "count": tail.count.tolist(),
        "record": tail.record.tolist(),
        "value": _numbers(tail.value),
    }


CHUNKS = {
    "axis": Chunk(lambda: encode_axis(_axis()), lambda data: _describe_axis(decode_axis(data))),
    "values-dense-float32": Chunk(
        lambda: encode_values(ValueBlock(None, np.array([1.5, -0.0, math.nan, math.inf])), 4),
        _describe_values,
    ),
    "values-sparse-float64": Chunk(
        lambda: encode_values(ValueBlock(np.array([0, 9]), np.array([0.1, 1e300])), 10), _describe_values
    ),
    "tail": Chunk(_tail, _describe_tail),
    "console": Chunk(
        lambda: encode_console([ConsoleLine(1, "stdout", "héllo", 0), ConsoleLine(2, "stderr", "", 3)]),
        lambda data: [list(line.__dict__.values()) for line in decode_console(data)],
    ),
}


def main() -> None:
    """Write the files that are missing."""
    for name, chunk in CHUNKS.items():
        path = GOLDEN / f"{name}.bin"
        if not path.exists():
            path.write_bytes(chunk.make())
            path.with_suffix(".json").write_text(
                json.dumps(chunk.describe(path.read_bytes()), indent=1) + "\n"
            )


if __name__ == "__main__":
    main()
