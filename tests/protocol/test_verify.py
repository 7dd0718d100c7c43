"""`tracker verify`: what it prints and what it returns."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header
from tracker.protocol.layout import segment_name
from tracker.protocol.verify import FAULTS_MAX, main, verify_directory, verify_stream
from tracker.protocol.writer import StreamWriter

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"
STREAM = bytes(range(16))
HEADER = Header(STREAM, "run", 0, 0, "m", "b", 1, 2, 3, "test/1")


def verify(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    return main(arguments, output), output.getvalue()


def test_a_whole_run_is_whole() -> None:
    status, text = verify(str(GOLDEN / "two_segments"))

    assert status == 0
    assert "000102030405060708090a0b0c0d0e0f  whole  (run golden-1, exit 0)" in text
    assert "2 segments, 851 bytes: 1 EXIT, 2 HEADER, 10 METRICS" in text


def test_a_torn_tail_is_no_failure_but_is_told() -> None:
    status, text = verify(str(GOLDEN / "torn_tail"))

    assert status == 0
    assert "torn_tail: 34 bytes at offset 379" in text
    assert "no EXIT" in text


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_the_status_says_whether_anything_is_missing(case: str) -> None:
    expected = json.loads((GOLDEN / case / "report.json").read_text())

    status, text = verify("--json", str(GOLDEN / case))

    report = json.loads(text)
    assert status == (1 if expected["state"] == "damaged" else 0)
    assert report["state"] == expected["state"]
    assert [stream["gaps"] for stream in report["streams"]] == [s["gaps"] for s in expected["streams"]]


def test_all_streams_of_a_spool_are_found(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "two_segments", tmp_path / "1000" / "run-a")
    shutil.copytree(GOLDEN / "flipped_body", tmp_path / "1000" / "run-b")
    (tmp_path / "1000" / "run-b" / "notes.txt").write_text("not ours")
    (tmp_path / "1000" / "run-b" / "x.mpl").write_text("not ours either")

    report = verify_directory(str(tmp_path))

    assert [Path(stream.directory).name for stream in report.streams] == ["run-a", "run-b"]
    assert [stream.state for stream in report.streams] == ["whole", "damaged"]
    assert len(report.problems) == 1


def test_no_streams_and_no_directory_are_an_answer(tmp_path: Path) -> None:
    assert verify(str(tmp_path)) == (2, f"no streams in {tmp_path}\n")
    status, text = verify(str(tmp_path / "absent"))
    assert status == 2
    assert "cannot be listed" in text


def test_what_is_no_file_does_not_block_the_verifier(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / segment_name(STREAM, 0))

    report = verify_stream(str(tmp_path), STREAM)

    assert report.state == "damaged"
    assert "not a regular file" in report.problems[0]


def test_a_segment_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / segment_name(STREAM, 0)).mkdir()

    assert verify(str(tmp_path))[0] in (1, 2)


def test_a_line_under_way_is_no_fault_of_a_live_stream(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom tests.protocol.test_verify import HEADER\n"
        "from tracker.protocol.writer import StreamWriter\n"
        "w = StreamWriter(sys.argv[1], HEADER)\nw.write(6, b'\\x92\\x01\\x81\\xa7project\\xa1p')\n"
        "os.write(w._fd, b'\\x93\\x01\\xce')\nprint('up', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "up\n"

        status, text = verify(str(tmp_path))
        writer.kill()

    assert status == 0
    assert "(run run, live)" in text
    assert "3 bytes at the end are still being written" in text
    writer.wait()
    assert "torn_tail: 3 bytes" in verify(str(tmp_path))[1]


def test_thousands_of_faults_are_counted_and_a_hundred_named(tmp_path: Path) -> None:
    writer = StreamWriter(str(tmp_path), HEADER)
    for _ in range(1000):
        writer.write(kinds.METRICS, b"\xc1")
    writer.write(kinds.LOST, bodies.Lost(1, 7, "disk full").encode())
    writer.close()

    report = verify_stream(str(tmp_path), STREAM)

    assert report.malformed_records == 1000
    assert len(report.malformed) == FAULTS_MAX
    assert report.lost == 7
    assert "the writer dropped 7 records" in "\n".join(report.lines())


def test_names_that_no_terminal_can_show_are_printed_all_the_same(tmp_path: Path) -> None:
    directory = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(directory)
    (Path(os.fsdecode(directory)) / "x.mpl").write_bytes(b"")

    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tracker.protocol.verify import main; raise SystemExit(main())",
            directory,
        ],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )

    assert result.returncode == 2
    assert b"is not named like a segment" in result.stdout
