"""Writes tests/golden/v1 with today's code: `python tests/golden/generate.py DIRECTORY`.

The committed files were written once and never change: they are what version 1 of the record
format means. A test runs this into a temporary directory and compares every byte. Run it on the
committed directory only to add a case.
"""

import hashlib
import json
import os
import sys
import tempfile

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, encode_line
from tracker.protocol.header import Header, encode_header
from tracker.protocol.layout import segment_name
from tracker.protocol.verify import verify_directory

STREAM = bytes(range(16))
OTHER = bytes(range(16, 32))
THIRD = bytes(range(32, 48))
START = 1700000000000000000
HEADER = Header(
    stream=STREAM,
    run="golden-1",
    segment=0,
    base=0,
    machine="0123456789abcdef0123456789abcdef",
    boot="6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    pid=4242,
    started=START,
    clock=5000000000,
    writer="golden/1",
    host="node01",
    rank=0,
)


def every_kind():
    """Return (kind, body) of one line of each kind, and of the shapes at the edges of each form."""
    t = START
    return [
        (kinds.RUN, bodies.Run(t, {"project": "digits", "name": "first", "tags": ["a", "b"]}).encode()),
        (kinds.CONFIG, bodies.Patch(t + 1, {"lr": 0.5, "model": {"depth": 3}}, ["old"]).encode()),
        (kinds.METRICS, bodies.Metrics(t + 2, 0, {"loss": 2.5, "epoch": 1, "ok": True}).encode()),
        (kinds.METRICS, bodies.Metrics(t + 3, None, {"loss": float("nan"), "up": float("inf")}).encode()),
        (kinds.METRICS, bodies.Metrics(t + 4, -1, {"low": -(2**63), "high": 2**64 - 1, "": -0.0}).encode()),
        (kinds.VALUE, bodies.Value(t + 5, 7, "note", "text", "gr\u00fc\u00df \U0001f600").encode()),
        (
            kinds.VALUE,
            bodies.Value(t + 6, None, "h", "histogram", {"edges": [0, 1, 2], "counts": [3, 4]}).encode(),
        ),
        (
            kinds.CONSOLE,
            bodies.Console(t + 7, "stderr", ["first line", "", "\u001b[1mthird\u001b[0m"]).encode(),
        ),
        (kinds.SUMMARY, bodies.Patch(t + 8, {"best": 0.25}).encode()),
        (kinds.FILE, bodies.File(t + 9, "out/model.bin", bytes(range(32)), 2**40, "end").encode()),
        (kinds.ALERT, bodies.Alert(t + 10, "slow", "loader is slow", "warn").encode()),
        (kinds.SAMPLE, bodies.Sample(t + 11, 30 * 10**9, {"cpu.percent": (1.5, 0.0, 3.0, 2.0, 15)}).encode()),
        (kinds.HOST, bodies.Host(t + 12, {"cpus": 2, "memory_bytes": 2**34}).encode()),
        (kinds.OBSERVED, bodies.Observed(t + 13, 1000, OTHER, "gone", {"pid": 77}).encode()),
        (kinds.LOST, bodies.Lost(t + 14, 3, "disk full").encode()),
        (127, b""),
        (128, b"\xc0"),
        (255, b"\x2a"),
        (256, bytes(255)),
        (0xFFFF, bytes(256)),
        (kinds.CONSOLE, bodies.Console(t + 15, "stdout", ["x" * 65521]).encode()),
        (kinds.CONSOLE, bodies.Console(t + 15, "stdout", ["x" * 65522]).encode()),
        (
            kinds.EXIT,
            bodies.Exit(t + 16, 1, {"type": "ValueError", "message": "no", "traceback": ""}).encode(),
        ),
    ]


def optional_elements():
    """Return (kind, body) of the elements that writers may leave out, and of what is none of them."""
    t = START
    window = {"gpu.memory.used.bytes": (2.0**33, 0.0, 2.0**34, 2.0**34, 15)}
    facts = {"xid": 79, "gpu": "GPU-0", "lost": True}
    return [
        (kinds.SAMPLE, bodies.Sample(t + 1, 30 * 10**9, window, (1000, OTHER)).encode()),
        (kinds.SAMPLE, bodies.Sample(t + 2, 30 * 10**9, window).encode()),
        (kinds.SAMPLE, bodies.pack([t + 3, 30 * 10**9, window, [1000, OTHER, "later"], "later"])),
        (kinds.SAMPLE, bodies.pack([t + 4, 30 * 10**9, window, {"uid": 1000}])),
        (
            kinds.ALERT,
            bodies.Alert(t + 5, "Xid 79", "the GPU has fallen off the bus", "error", facts).encode(),
        ),
        (kinds.ALERT, bodies.Alert(t + 6, "Xid 79", "the GPU has fallen off the bus", "error").encode()),
        (kinds.ALERT, bodies.pack([t + 7, "slow", "loader is slow", "warn", "not a map"])),
        (kinds.EXIT, bodies.Exit(t + 8, 137, None, {"signal": 9, "pid": 4242}).encode()),
    ]


#: Contents of the files that rich_values() refers to: kind, extension, bytes.
MEDIA = {
    "picture": ("images", "png", bytes.fromhex("89504e470d0a1a0a0000000d49484452000000070000000508")),
    "mask": ("masks", "png", b"mask"),
    "sound": ("audio", "wav", b"RIFF"),
    "movie": ("videos", "mp4", b"movie"),
    "long_page": ("html", "html", b"<p>" + b"x" * 32768),
    "long_table": ("tables", "msgpack", b"table"),
    "model": ("object3d", "obj", b"v 0 0 0"),
    "points": ("object3d", "f32", bytes(12)),
    "molecule": ("molecules", "pdb", b"ATOM"),
}


def kept(content_name, label=None, **more):
    """Return what a record at step 7 says of one of these files. label: of the value it belongs to."""
    kind, extension, content = MEDIA[content_name]
    digest = hashlib.sha256(content).hexdigest()
    path = "media/%s/%s_7_%s.%s" % (kind, label or content_name, digest[:20], extension)
    return dict(more, path=path, sha256=digest, size=len(content))


def rich_values():
    """Return name -> (type, data) of a rich value of each type, in each of its forms."""
    page = {"html": "<b>hi</b>"}
    table = {"columns": ["a", "b"], "types": ["number", "text"], "rows": 2, "data": [[1, 2.5], ["x", None]]}
    cells = dict(table, types=["number", "any"], data=[[1, 2.5], ["x", dict(page, _type="html")]])
    boxes = {"truth": {"boxes": [{"position": {"minX": 0.5}, "class_id": 1}], "classes": {"1": "cat"}}}
    picture = {"format": "png", "width": 7, "height": 5, "caption": "seven", "grouping": 2, "boxes": boxes}
    picture["classes"] = [{"id": 1, "name": "cat"}]
    picture["masks"] = {"truth": kept("mask", "picture", classes={"1": "cat"})}
    return {
        "note": ("text", "gr\u00fc\u00df"),
        "picture": ("image", kept("picture", **picture)),
        "sound": ("audio", kept("sound", format="wav", caption="hm")),
        "movie": ("video", kept("movie", format="mp4", caption="c")),
        "page": ("html", page),
        "long_page": ("html", kept("long_page")),
        "histogram": ("histogram", {"edges": [0, 1, 2], "counts": [3, 4]}),
        "values": ("histogram", {"edges": [0.0, 1.0, 2.0], "counts": [1, 2], "not_finite": 1}),
        "table": ("table", table),
        "cells": ("table", cells),
        "increment": ("table", dict(table, log_mode="INCREMENTAL", dropped=1, **{"from": 0})),
        "long_table": ("table", kept("long_table", columns=["n"], types=["number"], rows=20000)),
        "joined": ("joined_table", {"tables": [table, table], "key": ["a", "b"]}),
        "model": ("object3d", kept("model", format="obj", caption="c")),
        "points": ("object3d", kept("points", format="points", points=1, columns=["x", "y", "z"])),
        "molecule": ("molecule", kept("molecule", format="pdb")),
        "figure": ("plotly", {"json": '{"data": []}'}),
        "chart": (
            "chart",
            {"chart": "line", "fields": {"x": "a", "y": "a"}, "strings": {"title": "t"}, "table": table},
        ),
        "list": ("list", {"items": [dict(page, _type="html")] * 2}),
    }


def rich_value_lines():
    """Return VALUE lines of rich_values() at step 7."""
    values = enumerate(sorted(rich_values().items()))
    return [
        (kinds.VALUE, bodies.Value(START + at, 7, name, type_, sort_keys(data)).encode())
        for at, (name, (type_, data)) in values
    ]


def sort_keys(data):
    """Return data with the keys of its maps in order, so that its bytes do not depend on how it was made."""
    if isinstance(data, dict):
        return {name: sort_keys(data[name]) for name in sorted(data)}
    return [sort_keys(each) for each in data] if isinstance(data, list) else data


def segment(lines, header=HEADER):
    """Return the bytes of one segment as a list: its HEADER line, then one element per line."""
    seeds = Seeds(header.stream, header.segment)
    return [encode_header(header)] + [encode_line(kind, body, seeds[kind]) for kind, body in lines]


def metrics(first, count):
    """Return METRICS lines that differ from each other."""
    steps = range(first, first + count)
    return [(kinds.METRICS, bodies.Metrics(START + i, i, {"loss": 1 / (i + 1)}).encode()) for i in steps]


def cases():
    """Return {case: {file name: bytes}}."""
    end = (kinds.EXIT, bodies.Exit(START + 99, 0).encode())
    first = segment(metrics(0, 5))
    size = len(b"".join(first))
    second_header = HEADER._replace(segment=1, base=size)
    second = segment(metrics(5, 5) + [end], second_header)
    third = segment(metrics(10, 2) + [end], HEADER._replace(segment=2, base=size + len(b"".join(second))))
    other = b"".join(segment(metrics(0, 3), HEADER._replace(stream=OTHER)))

    def files(*segments):
        return {
            segment_name(STREAM, n): b"".join(lines) for n, lines in enumerate(segments) if lines is not None
        }

    def changed(line, at, value):
        return line[:at] + bytes([line[at] ^ value]) + line[at + 1 :]

    embedding = (kinds.VALUE, bodies.Value(START, None, "stream", "bytes", other).encode())
    holding = segment(metrics(0, 1) + [embedding, end])
    newer = HEADER._replace(version=2)
    return {
        "every_kind": files(segment(every_kind())),
        "optional_elements": files(segment(optional_elements())),
        "rich_values": files(segment(rich_value_lines() + [end])),
        "two_segments": files(first, second),
        "no_exit": files(first),
        "empty_segment": files([b""]),
        "newer_version": files(segment(metrics(0, 2) + [(14, b"\x91\x01"), end], newer)),
        "stream_as_data": files(holding),
        "stream_as_data_in_damaged_line": files(holding[:2] + [changed(holding[2], 4, 1)] + holding[3:]),
        "stream_as_data_cut_short": files(holding[:2] + [holding[2][:-40]]),
        "flipped_body": files(first[:3] + [changed(first[3], 12, 0x20)] + first[4:], second),
        "flipped_kind": files(first[:3] + [changed(first[3], 1, 0x03)] + first[4:], second),
        "flipped_length": files(first[:3] + [changed(first[3], 8, 0x40)] + first[4:], second),
        "zeroed_block": files(first[:2] + [bytes(len(first[2]) + 11), first[3][11:]] + first[4:], second),
        "lost_bytes": files(first[:2] + [first[2][:-9]] + first[3:]),
        "torn_tail": files(first[:5] + [first[5][:-1]]),
        "torn_header": files([first[0][:100]]),
        "zero_tail": files(first[:5] + [first[5][:20] + bytes(200)]),
        "torn_then_rolled": files(
            first[:5] + [first[5][:-1]], segment(metrics(5, 2) + [end], second_header._replace(base=size - 1))
        ),
        "damaged_header": files([changed(first[0], 60, 0x01)] + first[1:]),
        "missing_first_segment": files(None, second),
        "missing_middle_segment": files(first, None, third),
        "shortened_segment": files(first[:4], second),
        "overlapping_segments": files(first, segment(metrics(5, 1), second_header._replace(base=size - 7))),
        "foreign_segment": {
            segment_name(STREAM, 0): b"".join(first),
            segment_name(STREAM, 1): other,
        },
        "server_and_account": files(
            segment(
                metrics(0, 1) + [end],
                HEADER._replace(server="https://tracker.example.org", account="4f8a1c22"),
            )
        ),
        "parent_and_role": {
            segment_name(STREAM, 0): b"".join(
                segment(metrics(0, 1) + [end], HEADER._replace(role="supervisor"))
            ),
            segment_name(OTHER, 0): b"".join(
                segment(metrics(0, 1), HEADER._replace(stream=OTHER, parent=STREAM, role="helper"))
            ),
            segment_name(THIRD, 0): b"".join(
                segment(metrics(0, 1), HEADER._replace(stream=THIRD, parent=STREAM[:4], role=""))
            ),
        },
        "malformed_bodies": files(segment([(kinds.METRICS, b"\xc1"), (kinds.RUN, b"\x90"), end])),
    }


def report(directory):
    """Return what the verifier says of a case, without its path."""
    found = verify_directory(directory).to_json()
    del found["path"]
    for stream in found["streams"]:
        del stream["directory"]
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def generate():
    """Return {relative path: bytes} of the whole golden directory."""
    made = {}
    with tempfile.TemporaryDirectory() as scratch:
        for case, files in cases().items():
            directory = os.path.join(scratch, case)
            os.mkdir(directory)
            for name, data in files.items():
                with open(os.path.join(directory, name), "wb") as file:
                    file.write(data)
                made["%s/%s" % (case, name)] = data
            made["%s/report.json" % case] = report(directory).encode("ascii")
    return made


def main(target):
    """Write the golden directory."""
    for path, data in generate().items():
        path = os.path.join(target, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


if __name__ == "__main__":
    main(sys.argv[1])
