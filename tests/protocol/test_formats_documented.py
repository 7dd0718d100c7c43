"""docs/record-format.md and docs/protocol.md say what the code does: kinds, keys, limits, codes, statuses."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from tracker.protocol import bodies, header, kinds
from tracker_server.config import LimitSettings
from tracker_server.ingest import decode, files, writer
from tracker_server.store import observed_rows, uploads
from tracker_server.web import blobs_api, ingest_api, server_api, stop_api

ROOT = Path(__file__).resolve().parents[2]
FORMAT = (ROOT / "docs/record-format.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
SERVER = ROOT / "server/src/tracker_server"
MIB = 1024 * 1024


def column(document: str, heading: str) -> list[str]:
    """Return the first cells of the table below a head row."""
    table = document.partition(f"\n| {heading}")[2].partition("\n\n")[0]
    return [row.split("|")[1].strip(" `") for row in table.splitlines()[2:]]


def test_keys_of_header_are_those_of_the_code() -> None:
    assert sorted(column(FORMAT, "key | type | meaning |")) == sorted(header.Header._fields)


def test_kinds_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z]+) \|", FORMAT, re.MULTILINE)

    assert {int(kind): name for kind, name in rows} | {kinds.HEADER: "HEADER"} == kinds.NAMES


@pytest.mark.parametrize("role", ["helper", "again", "supervisor", "aside"])
def test_roles_are_those_of_the_code(role: str) -> None:
    assert f"- `{role}`:" in FORMAT
    assert role in [value for name, value in vars(header).items() if name.isupper()]


def as_text(number: int) -> str:
    return f"{number:,}"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (FORMAT, f"line has at most {as_text(kinds.LINE_BYTES_MAX)} bytes"),
        (FORMAT, f"whole line has at most {as_text(header.HEADER_BYTES_MAX)} bytes"),
        (FORMAT, f"integer 0 … {kinds.SEGMENT_NUMBER_MAX}"),
        (FORMAT, f"larger than {kinds.SEGMENT_BYTES // MIB} MiB"),
        (FORMAT, f"has more than {as_text(bodies.ELEMENTS_MAX)} elements"),
        (FORMAT, f"string, 1 … {header.SERVER_CHARACTERS_MAX} characters"),
        (FORMAT, f"string, 1 … {header.ROLE_CHARACTERS_MAX} characters"),
        (FORMAT, f"{header.GPU_VARIABLES_MAX} variables of {header.GPU_CHARACTERS_MAX} characters"),
        (PROTOCOL, f"at most {LimitSettings().ingest_request_bytes // MIB} MiB as sent"),
        (PROTOCOL, f"{LimitSettings().ingest_decompressed_bytes // MIB} MiB unpacked"),
        (PROTOCOL, f"a window of at most {decode.WINDOW_BYTES_MAX // MIB} MiB"),
        (PROTOCOL, f"most {as_text(decode.ENTRIES_MAX)} entries"),
        (PROTOCOL, f"at most {as_text(ingest_api.OFFSETS_MAX)}"),
        (PROTOCOL, f"samples of more than {writer.SAMPLED_WRITERS_MAX} processes"),
        (PROTOCOL, f"at most {blobs_api.PART_BYTES_MAX // MIB} MiB"),
        (PROTOCOL, f"A run has at most {as_text(files.FILES_PER_RUN_MAX)} files"),
        (PROTOCOL, f"of at most {as_text(files.PATH_BYTES_MAX)} bytes and {files.PATH_DEPTH_MAX} parts"),
        (PROTOCOL, f"(at most {stop_api.WAIT_MAX_S:.0f})"),
        (PROTOCOL, f"the last {as_text(observed_rows.REMEMBERED_MAX)} that each"),
    ],
    ids=lambda value: value if len(value) < 80 else "",
)
def test_limits_are_those_of_the_code(document: str, text: str) -> None:
    assert text in " ".join(document.split())


def test_uploads_are_kept_for_the_week_that_the_page_says() -> None:
    assert uploads.KEEP_S == 7 * 86400
    assert "Uploads that nobody goes on with for a week are thrown away" in PROTOCOL


def test_codes_about_single_streams_are_those_that_the_server_gives() -> None:
    given = {
        node.args[0].value
        for file in (SERVER / "ingest").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "RefusedError"
        and isinstance(node.args[0], ast.Constant)
    }

    assert set(column(PROTOCOL, "error | meaning | agent |")) == given


def test_every_status_that_the_server_answers_with_is_explained() -> None:
    raised = {
        str(node.args[0].value)
        for file in SERVER.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "ApiError"
        and isinstance(node.args[0], ast.Constant)
    }
    explained = {each for cell in column(PROTOCOL, "status | meaning |") for each in cell.split(", ")}

    # 409 says where streams or parts go on: an answer, told where it is given.
    assert raised - {"409"} <= explained


def test_capabilities_are_those_that_the_server_names() -> None:
    named = re.findall(r'"capabilities": (\[.*?\])', PROTOCOL)

    assert all(each in inspect.getsource(server_api) for each in ast.literal_eval(named[0]))
