"""`tracker cat`: what a run holds, for people and for programs."""

import csv
import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.shim.command import succeeds, tracker_command
from tests.shim.scripts import environment, run_script, start_script
from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header
from tracker.protocol.layout import segment_name
from tracker.protocol.writer import StreamWriter

SECOND = 10**9
START = 1_700_000_000 * SECOND
STREAM = bytes(range(16))

#: One record of every kind, in the order of their times; what a person and what a program is shown of it.
RECORDS: list[tuple[int, bytes, str, dict[str, Any]]] = [
    (
        kinds.RUN,
        bodies.Run(START + 1, {"project": "p", "name": "a b"}).encode(),
        'RUN       project=p name="a b"',
        {"fields": {"project": "p", "name": "a b"}},
    ),
    (
        kinds.CONFIG,
        bodies.Patch(START + 2, {"lr": 0.1, "deep": {"x": [1, None, True]}}, ["old"]).encode(),
        'CONFIG    lr=0.1 deep={"x": [1, null, true]} old removed',
        {"set": {"lr": 0.1, "deep": {"x": [1, None, True]}}, "removed": ["old"]},
    ),
    (
        kinds.METRICS,
        bodies.Metrics(START + 3, 7, {"loss": 0.5, "bad": float("nan"), "worse": float("-inf")}).encode(),
        "METRICS   step 7  loss=0.5 bad=nan worse=-inf",
        {"step": 7, "values": {"loss": 0.5, "bad": "NaN", "worse": "-Infinity"}},
    ),
    (
        kinds.METRICS,
        bodies.Metrics(START + 4, None, {"n": 2**62}).encode(),
        f"METRICS   step next  n={2**62}",
        {"step": None, "values": {"n": 2**62}},
    ),
    (
        kinds.VALUE,
        bodies.Value(START + 5, 7, "note", "text", "a\x1b[31mb").encode(),
        'VALUE     step 7  note (text): "a\\u001b[31mb"',
        {"step": 7, "name": "note", "type": "text", "data": "a\x1b[31mb"},
    ),
    (
        kinds.CONSOLE,
        bodies.Console(START + 6, "stderr", ["one", "two\x1b[0m"]).encode(),
        "CONSOLE   stderr  one ⏎ two\\x1b[0m",
        {"output": "stderr", "lines": ["one", "two\x1b[0m"]},
    ),
    (
        kinds.SUMMARY,
        bodies.Patch(START + 7, {"best": 1}).encode(),
        "SUMMARY   best=1",
        {"set": {"best": 1}, "removed": []},
    ),
    (
        kinds.FILE,
        bodies.File(START + 8, "model.pt", bytes(32), 12, "now").encode(),
        "FILE      model.pt  12 bytes, now, SHA-256 000000000000…",
        {"path": "model.pt", "sha256": "00" * 32, "size": 12, "policy": "now"},
    ),
    (
        kinds.ALERT,
        bodies.Alert(START + 9, "Title", "It\nbroke", "warn").encode(),
        "ALERT     warn: Title: It\\nbroke",
        {"title": "Title", "text": "It\nbroke", "level": "warn", "facts": None},
    ),
    (
        kinds.SAMPLE,
        bodies.Sample(START + 10, 2 * SECOND, {"cpu": (1.5, 1, 2, 2, 3)}).encode(),
        "SAMPLE    2 s  cpu=1.5",
        {"window": 2 * SECOND, "values": {"cpu": [1.5, 1, 2, 2, 3]}, "about": None},
    ),
    (
        kinds.HOST,
        bodies.Host(START + 11, {"cores": 8}).encode(),
        'HOST      inventory={"cores": 8}',
        {"inventory": {"cores": 8}},
    ),
    (
        kinds.OBSERVED,
        bodies.Observed(START + 12, 1000, STREAM, "gone", {"cause": "oom"}).encode(),
        "OBSERVED  00010203  gone  cause=oom",
        {"uid": 1000, "about": STREAM.hex(), "state": "gone", "facts": {"cause": "oom"}},
    ),
    (
        kinds.LOST,
        bodies.Lost(START + 13, 3, "No space left").encode(),
        "LOST      3 records: No space left",
        {"records": 3, "reason": "No space left"},
    ),
    (
        kinds.EXIT,
        bodies.Exit(START + 14, 137, {"type": "E", "message": "m", "traceback": "t"}, {"signal": 9}).encode(),
        "EXIT      code 137  signal=9  E: m",
        {
            "code": 137,
            "exception": {"type": "E", "message": "m", "traceback": "t"},
            "facts": {"signal": 9},
        },
    ),
]


def write_stream(directory: Path, records: list[tuple[int, bytes]], stream: bytes = STREAM) -> Path:
    """Write a stream as a writer would that is gone; return its segment."""
    header = Header(stream, "run", 0, 0, "0" * 32, "", 1, START, 1, "test/1", host="box")
    directory.mkdir(exist_ok=True)
    writer = StreamWriter(str(directory), header)
    for kind, body in records:
        writer.write(kind, body)
    writer.close()
    return directory / segment_name(stream, 0)


def cat(*arguments: object, **more: str) -> list[str]:
    return succeeds(tracker_command("cat", *arguments, **{"TZ": "UTC", **more})).splitlines()


def objects(*arguments: object) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in cat(*arguments, "--json")]


def test_every_kind_is_a_line_for_people(tmp_path: Path) -> None:
    write_stream(tmp_path, [(kind, body) for kind, body, _, _ in RECORDS])

    header, *lines = cat(tmp_path)

    assert header == "2023-11-14 22:13:20.000  HEADER    writer=test/1 pid=1 host=box segment=0"
    assert lines == ["2023-11-14 22:13:20.000  " + text for _, _, text, _ in RECORDS]


def test_every_kind_is_an_object_for_programs(tmp_path: Path) -> None:
    segment = write_stream(tmp_path, [(kind, body) for kind, body, _, _ in RECORDS])

    header, *found = objects(tmp_path)

    assert (header["kind"], header["stream"], header["offset"], header["run"]) == (
        "HEADER",
        STREAM.hex(),
        0,
        "run",
    )
    assert [each.pop("stream") for each in found] == [STREAM.hex()] * len(RECORDS)
    assert [each.pop("kind") for each in found] == [kinds.NAMES[kind] for kind, _, _, _ in RECORDS]
    assert [each.pop("time") - START for each in found] == list(range(1, len(RECORDS) + 1))
    assert all(segment.read_bytes()[each.pop("offset")] == 0x93 for each in found)
    assert found == [fields for _, _, _, fields in RECORDS]


def test_kinds_can_be_chosen(tmp_path: Path) -> None:
    write_stream(tmp_path, [(kind, body) for kind, body, _, _ in RECORDS])

    found = [each["kind"] for each in objects(tmp_path, "--kind", "exit,metrics", "--kind", "RUN")]
    wrong = tracker_command("cat", tmp_path, "--kind", "metric")

    assert found == ["RUN", "METRICS", "METRICS", "EXIT"]
    assert wrong.returncode == 2
    assert "there is no kind METRIC" in wrong.stderr


def test_damage_stands_where_it_is_and_nothing_behind_it_is_lost(tmp_path: Path) -> None:
    records = [(kinds.METRICS, bodies.Metrics(START + n, n, {"n": n}).encode()) for n in range(5)]
    records.insert(4, (kinds.METRICS, bodies.pack([1, 2])))
    records.append((4711, b"\xc0"))
    segment = write_stream(tmp_path, records)
    offsets = [each["offset"] for each in objects(tmp_path)]
    data = bytearray(segment.read_bytes())
    data[offsets[3] + 20] ^= 1
    segment.write_bytes(data + b"\x93\x01")

    found = objects(tmp_path)
    lines = cat(tmp_path)

    gone = {"stream": STREAM.hex(), "offset": offsets[3], "kind": "GAP", "reason": "damaged"}
    assert found[3] == {**gone, "bytes": offsets[4] - offsets[3]}
    assert [each["kind"] for each in found[4:]] == ["METRICS", "MALFORMED", "METRICS", "KIND 4711", "GAP"]
    assert f"GAP       damaged: {offsets[4] - offsets[3]} bytes are no records" in lines[3]
    assert "MALFORMED  a METRICS of 3 bytes: not an array of 3" in lines[5]
    assert lines[8].endswith("GAP       torn_tail: 2 bytes are no records")


def test_a_hostile_writers_times_and_sizes_are_shown_all_the_same(tmp_path: Path) -> None:
    records = [
        (kinds.METRICS, bodies.pack([2**63 - 1, 1, {"x": 1}])),
        (kinds.METRICS, bodies.pack([-(2**63), 1, {"": 1, "a=b": 2, "\x1b]0;x\x07": 3}])),
        (kinds.VALUE, bodies.pack([1, None, "v", "text", "y" * 100_000])),
        (kinds.METRICS, bodies.pack([1, 1, {f"name{n}": n for n in range(10_000)}])),
    ]
    write_stream(tmp_path, records)

    lines = cat(tmp_path)

    assert len(lines) == 5
    assert '""=1 "a=b"=2 \\x1b]0;x\\x07=3' in lines[2]
    assert max(map(len, lines)) < 700
    assert [each["time"] for each in objects(tmp_path)[1:3]] == [2**63 - 1, -(2**63)]


def test_streams_of_a_run_are_merged_by_time(tmp_path: Path) -> None:
    for part in range(3):
        records = [
            (kinds.METRICS, bodies.Metrics(START + 3 * n + part, n, {"n": 3 * n + part}).encode())
            for n in range(50)
        ]
        write_stream(tmp_path, records, bytes([part]) * 16)

    found = [each["values"]["n"] for each in objects(tmp_path, "--kind", "metrics")]
    lines = cat(tmp_path, "--kind", "metrics")

    assert found == list(range(150))
    assert [line.split("  ")[1] for line in lines[:4]] == ["00000000", "01010101", "02020202", "00000000"]


def test_clocks_that_go_back_do_not_reorder_a_stream(tmp_path: Path) -> None:
    times = [5, 3, 9, 1]
    records = [(kinds.METRICS, bodies.Metrics(START + t, n, {"n": n}).encode()) for n, t in enumerate(times)]
    write_stream(tmp_path, records)
    write_stream(tmp_path, [(kinds.METRICS, bodies.Metrics(START + 4, 0, {"n": 9}).encode())], b"\1" * 16)

    found = [each["values"]["n"] for each in objects(tmp_path, "--kind", "metrics")]

    assert found == [9, 0, 1, 2, 3]


def test_csv_has_every_metric_and_exact_values(tmp_path: Path) -> None:
    values: list[dict[str, float]] = [{"a": 0.1, "b, c": 2**60}, {"a": float("nan")}, {"new\nline": -1e-300}]
    records = [
        (kinds.METRICS, bodies.Metrics(START + n, step, row).encode())
        for n, (step, row) in enumerate(zip((10, None, 3), values, strict=True))
    ]
    write_stream(tmp_path, records)

    rows = list(csv.reader(io.StringIO(succeeds(tracker_command("cat", tmp_path, "--csv")))))

    assert rows == [
        ["step", "time", "a", "b, c", "new\nline"],
        ["10", "1700000000.000000000", "0.1", str(2**60), ""],
        ["11", "1700000000.000000001", "nan", "", ""],
        ["3", "1700000000.000000002", "", "", "-1e-300"],
    ]


def test_csv_tells_several_streams_apart(tmp_path: Path) -> None:
    for part in range(2):
        records = [(kinds.METRICS, bodies.Metrics(START + part, None, {"n": part}).encode())]
        write_stream(tmp_path, records, bytes([part]) * 16)

    rows = list(csv.reader(io.StringIO(succeeds(tracker_command("cat", tmp_path, "--csv")))))

    assert [row[:1] + row[2:] for row in rows] == [
        ["step", "stream", "n"],
        ["0", "00" * 16, "0"],
        ["0", "01" * 16, "1"],
    ]


@pytest.mark.parametrize("more", [["--follow"], ["--kind", "exit"], ["--json"]])
def test_csv_goes_with_nothing_else(tmp_path: Path, more: list[str]) -> None:
    assert tracker_command("cat", tmp_path, "--csv", *more).returncode == 2


def test_a_run_is_meant_by_directory_id_or_name(tmp_path: Path) -> None:
    script = "import tracker; tracker.init(project='p', id='the-id', name='brisk-otter').log({'a': 1})"
    run_script(script, TRACKER_DIR=str(tmp_path))
    directory = tmp_path / str(os.geteuid()) / "the-id"

    shown = [cat(each, TRACKER_DIR=str(tmp_path)) for each in (directory, "the-id", "brisk-otter")]

    assert shown[0] == shown[1] == shown[2] != []


def test_what_is_no_run_or_several_is_said(tmp_path: Path) -> None:
    script = "import sys, tracker; tracker.init(project='p', id=sys.argv[1], name='twin').log({'a': 1})"
    for run in ("one", "two"):
        run_script(script, run, TRACKER_DIR=str(tmp_path))
    none = str(tmp_path / "state")

    for given, said in (
        ("nosuch", "no run has the id or name nosuch"),
        ("twin", "several runs are called twin"),
        (str(tmp_path), "is a directory, but no run's"),
        (str(tmp_path / "x"), "there is no directory"),
        ("../one", "there is no directory"),
        ("", "no run has the id or name"),
    ):
        result = tracker_command("cat", given, TRACKER_DIR=str(tmp_path), XDG_STATE_HOME=none, cwd=tmp_path)
        assert result.returncode == 1
        assert said in result.stderr, result.stderr


def test_follow_shows_what_is_written_until_the_writers_have_ended(tmp_path: Path) -> None:
    script = """
        import sys, tracker
        tracker.init(project="p", id="run")
        for line in sys.stdin:
            tracker.log({"n": int(line)})
            print("logged", flush=True)
    """
    training = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(TRACKER_DIR=str(tmp_path)),
    )
    assert training.stdin is not None
    assert training.stdout is not None
    training.stdin.write("0\n")
    training.stdin.flush()
    training.stdout.readline()
    following = subprocess.Popen(
        [sys.executable, "-m", "tracker", "cat", "run", "--follow", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TRACKER_DIR=str(tmp_path), PYTHONUNBUFFERED=""),
    )
    assert following.stdout is not None

    seen: list[Any] = []
    for number in (1, 2):
        while not seen or seen[-1].get("values") != {"n": number - 1}:
            seen.append(json.loads(following.stdout.readline()))
        training.stdin.write(f"{number}\n")
        training.stdin.flush()
    training.stdin.close()
    rest, err = following.communicate(timeout=60)
    training.wait(60)
    training.stdout.close()

    seen += [json.loads(line) for line in rest.splitlines()]
    assert err == ""
    assert following.returncode == 0
    assert [each["values"]["n"] for each in seen if each["kind"] == "METRICS"] == [0, 1, 2]
    assert seen[-1]["kind"] == "EXIT"


def test_a_run_under_way_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    script = (
        "import signal, tracker; tracker.init(id='run').log({'a': 1}); print('', flush=True); signal.pause()"
    )
    training = start_script(script, TRACKER_DIR=str(tmp_path))
    assert training.stdout is not None
    training.stdout.readline()

    found = objects(tmp_path / str(os.geteuid()) / "run")
    training.kill()
    training.communicate()

    assert [each["kind"] for each in found] == ["HEADER", "RUN", "METRICS"]


def test_more_streams_than_files_may_be_open(tmp_path: Path) -> None:
    for number in range(300):
        stream = number.to_bytes(16, "big")
        write_stream(tmp_path, [(kinds.METRICS, bodies.Metrics(START, 0, {"n": number}).encode())], stream)
    command = f"ulimit -n 256; exec {sys.executable} -m tracker cat --json {tmp_path}"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment(), timeout=60
    )

    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(each["values"]["n"] for each in found if each["kind"] == "METRICS") == list(range(300))
    assert {each["kind"] for each in found} == {"HEADER", "METRICS"}


def test_damage_in_a_run_under_way_hides_nothing_behind_it(tmp_path: Path) -> None:
    script = """
        import signal, tracker
        tracker.init(id="run")
        for n in range(5):
            tracker.log({"n": n})
        print("up", flush=True)
        signal.pause()
    """
    training = start_script(script, TRACKER_DIR=str(tmp_path))
    assert training.stdout is not None
    training.stdout.readline()
    run = tmp_path / str(os.geteuid()) / "run"
    damaged = [each["offset"] for each in objects(run) if each["kind"] == "METRICS"][2]
    (segment,) = run.glob("*.mpl")
    with segment.open("r+b") as file:
        file.seek(damaged + 20)
        file.write(b"\xff")

    found = objects(run, "--kind", "metrics,gap")
    table = cat(run, "--csv")
    training.kill()
    training.communicate()

    assert [each["values"]["n"] for each in found if each["kind"] == "METRICS"] == [0, 1, 3, 4]
    assert [each["offset"] for each in found if each["kind"] == "GAP"] == [damaged]
    assert [row.rpartition(",")[2] for row in table] == ["n", "0", "1", "3", "4"]
