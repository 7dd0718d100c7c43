"""Files of runs over HTTP: told, sent in parts, listed, fetched; and who may do which of it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.server.http.conftest import Keys
from tests.support.http_client import Answer, ask
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess

RUN = "/api/v1/runs/default"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def new_run(server: ServerProcess, key: str, run: str, project: str, uid: int = 1000) -> RecordStream:
    stream = RecordStream(run, project, uid=uid)
    assert send(server.url, key, stream.take()).status == 200
    return stream


def told(path: str, content: bytes, revision: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "path": path, "sha256": sha(content), "size": len(content), "mtime": 5, "revision": revision, **more
    }  # fmt: skip


def tell(server: ServerProcess, key: str, stream: RecordStream, *files: dict[str, Any]) -> Any:
    body = {"uid": stream.uid, "stream": stream.stream.hex(), "files": list(files)}
    answer = ask(server.url, "POST", "/api/v1/files", key=key, json_body=body)
    assert answer.status == 200, answer
    return answer.json


def states(answer: Any) -> list[tuple[str, int]]:
    return [(each["state"], each["revision"]) for each in answer["files"]]


def blob(project: str, content: bytes, entity: str = "default") -> str:
    return f"/api/v1/projects/{entity}/{project}/blobs/{sha(content)}"


def give(
    server: ServerProcess, key: str, project: str, content: bytes, offset: int = 0, end: int | None = None
) -> Answer:
    headers = {"X-Tracker-Offset": str(offset), "X-Tracker-Size": str(len(content))}
    part = content[offset:end]
    return ask(server.url, "PATCH", blob(project, content), key=key, body=part, headers=headers)


def store(
    server: ServerProcess, key: str, stream: RecordStream, project: str, path: str, content: bytes
) -> None:
    assert give(server, key, project, content).json["done"]
    assert states(tell(server, key, stream, told(path, content)))[0][0] == "stored"


def fetch(server: ServerProcess, key: str, run: str, path: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(server.url, "GET", f"{RUN}/{run}/file", key=key, params={"path": path}, headers=named)


def listed(server: ServerProcess, key: str, run: str) -> list[tuple[str, str]]:
    answer = ask(server.url, "GET", f"{RUN}/{run}/files", key=key)
    return [(each["path"], each["sha256"]) for each in answer.json["files"]]


def test_a_file_told_sent_and_told_again_is_listed_and_comes_back(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "r1", "whole")
    content = b"weights" * 1000

    first = tell(server, keys.agent, stream, told("files/w.bin", content))
    given = give(server, keys.agent, "whole", content)
    second = tell(server, keys.agent, stream, told("files/w.bin", content))

    assert (first["project"], first["run"], states(first)) == ("whole", "r1", [("missing", 0)])
    assert given.json == {"offset": len(content), "done": True}
    assert states(second) == [("stored", 1)]
    assert listed(server, keys.read, "whole/r1") == [("files/w.bin", sha(content))]
    assert fetch(server, keys.read, "whole/r1", "files/w.bin").body == content


def test_an_empty_file_is_a_file(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "empty", "whole")

    store(server, keys.agent, stream, "whole", "files/nothing", b"")

    assert fetch(server, keys.read, "whole/empty", "files/nothing").body == b""


def test_an_upload_goes_on_where_it_broke_off_and_nowhere_else(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "r2", "parts")
    content = bytes(range(256)) * 1000

    begun = give(server, keys.agent, "parts", content, end=100_000)
    again = give(server, keys.agent, "parts", content, end=100_000)
    beyond = give(server, keys.agent, "parts", content, offset=200_000)
    asked = ask(server.url, "HEAD", blob("parts", content), key=keys.agent)
    missing = tell(server, keys.agent, stream, told("files/x", content))["files"][0]
    ended = give(server, keys.agent, "parts", content, offset=100_000)

    assert begun.json == {"offset": 100_000, "done": False}
    for refused in (again, beyond):
        assert (refused.status, refused.error, refused.headers["X-Tracker-Offset"]) == (
            409, "wrong_offset", "100000",
        )  # fmt: skip
    assert (asked.status, asked.headers["X-Tracker-Offset"]) == (404, "100000")
    assert (missing["state"], missing["offset"]) == ("missing", 100_000)
    assert ended.json == {"offset": len(content), "done": True}


def test_parts_that_make_up_something_else_are_thrown_away(server: ServerProcess, keys: Keys) -> None:
    content, other = b"a" * 1000, b"b" * 1000
    headers = {"X-Tracker-Offset": "0", "X-Tracker-Size": "1000"}

    answer = ask(server.url, "PATCH", blob("parts", content), key=keys.agent, body=other, headers=headers)

    assert (answer.status, answer.error) == (422, "wrong_digest")
    gone = ask(server.url, "HEAD", blob("parts", content), key=keys.agent)
    assert (gone.status, gone.headers["X-Tracker-Offset"]) == (404, "0")


@pytest.mark.parametrize(
    ("offset", "size", "body", "status"),
    [
        ("0", "5", b"123456", 400), ("3", "5", b"123", 400), ("0", "5", b"", 400), ("-1", "5", b"1", 400),
        ("x", "5", b"1", 400), ("0", "9" * 30, b"1", 400), ("0", str(2**50), b"1", 422),
        ("0", str(9 * 2**20), b"1" * (8 * 2**20 + 1), 413),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_one_is_refused(
    server: ServerProcess, keys: Keys, offset: str, size: str, body: bytes, status: int
) -> None:
    headers = {"X-Tracker-Offset": offset, "X-Tracker-Size": size}

    answer = ask(server.url, "PATCH", blob("odd", body), key=keys.agent, body=body, headers=headers)

    assert answer.status == status, answer


def test_nobody_sees_or_spoils_what_another_principal_has_sent_in_part(
    server: ServerProcess, keys: Keys
) -> None:
    content = b"secret" * 1000
    give(server, keys.agent, "shared", content, end=3000)

    seen = ask(server.url, "HEAD", blob("shared", content), key=keys.ingest)
    own = give(server, keys.ingest, "shared", content, end=10)
    ended = give(server, keys.agent, "shared", content, offset=3000)

    assert seen.headers["X-Tracker-Offset"] == "0"
    assert own.json["offset"] == 10
    assert ended.json["done"]


def test_a_digest_counts_only_in_the_project_that_holds_the_bytes(server: ServerProcess, keys: Keys) -> None:
    here = new_run(server, keys.agent, "here", "holds")
    there = new_run(server, keys.agent, "there", "holds-not")
    foreign = RecordStream("theirs", "holds")
    send(server.url, keys.foreign_ingest, foreign.take())
    content = b"only here" * 100
    store(server, keys.agent, here, "holds", "files/a", content)

    same_project = tell(server, keys.agent, here, told("files/copy", content))
    other_project = tell(server, keys.agent, there, told("files/stolen", content))
    other_entity = tell(server, keys.foreign_ingest, foreign, told("files/stolen", content))

    assert states(same_project) == [("stored", 1)]
    assert states(other_project) == states(other_entity) == [("missing", 0)]
    assert listed(server, keys.read, "holds-not/there") == []
    for path, key in (
        (blob("holds-not", content), keys.agent),
        (blob("holds", content), keys.foreign_ingest),
        (blob("holds", content, "other"), keys.foreign_ingest),
        (blob("no-such-project", content), keys.agent),
    ):
        assert ask(server.url, "HEAD", path, key=key).status == 404


def test_another_entity_neither_lists_nor_fetches(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "private", "hidden")
    store(server, keys.agent, stream, "hidden", "files/a", b"mine")

    for path in ("/files", "/file?path=files/a"):
        for key in (keys.foreign_read, keys.foreign_admin):
            assert ask(server.url, "GET", f"{RUN}/hidden/private{path}", key=key).status == 404
            theirs = f"/api/v1/runs/other/hidden/private{path}"
            assert ask(server.url, "GET", theirs, key=key).status == 404
        assert ask(server.url, "GET", f"{RUN}/hidden/private{path}", key=keys.ingest).status == 403


def test_files_of_another_ones_run_are_forbidden(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "owned", "guarded")
    store(server, keys.agent, stream, "guarded", "files/a", b"mine")
    guessed = RecordStream("owned", "guarded", uid=2000)
    send(server.url, keys.ingest, guessed.take())

    by_stream = tell(server, keys.ingest, stream, told("files/a", b"mine", 1))
    by_run = tell(server, keys.ingest, guessed, told("files/a", b"mine", 1))

    assert by_stream["error"] == "forbidden"
    assert by_run["error"] == "unknown"
    assert (by_stream["run"], by_stream["files"], by_run["files"]) == ("", [], [])
    assert listed(server, keys.read, "guarded/owned") == [("files/a", sha(b"mine"))]


def test_a_stream_that_has_not_arrived_has_no_files(server: ServerProcess, keys: Keys) -> None:
    assert tell(server, keys.agent, RecordStream("x"), told("files/a", b"x"))["error"] == "unknown"


def test_a_request_that_comes_late_does_not_bring_back_an_older_version(
    server: ServerProcess, keys: Keys
) -> None:
    stream = new_run(server, keys.agent, "late", "order")
    for content in (b"one", b"two", b"three"):
        give(server, keys.agent, "order", content)
    first = told("files/a", b"one")
    second = told("files/a", b"two", 1)

    done = [states(tell(server, keys.agent, stream, each)) for each in (first, second, first, second)]

    assert done == [[("stored", 1)], [("stored", 2)], [("changed", 2)], [("stored", 2)]]
    assert listed(server, keys.read, "order/late") == [("files/a", sha(b"two"))]
    assert states(tell(server, keys.agent, stream, told("files/a", b"three", 2))) == [("stored", 3)]


def test_two_hosts_with_one_path_keep_both_versions(server: ServerProcess, keys: Keys) -> None:
    one = new_run(server, keys.agent, "both", "hosts")
    two = RecordStream("both", "hosts", machine="machine-2")
    send(server.url, keys.agent, two.take())

    store(server, keys.agent, one, "hosts", "files/a", b"one")
    store(server, keys.agent, two, "hosts", "files/a", b"two")

    assert sorted(listed(server, keys.read, "hosts/both")) == sorted(
        [("files/a", sha(b"one")), ("files/a", sha(b"two"))]
    )
    assert fetch(server, keys.read, "hosts/both", "files/a").body == b"two"
    params = {"path": "files/a", "machine": "machine-1"}
    older = ask(server.url, "GET", f"{RUN}/hosts/both/file", key=keys.read, params=params)
    assert older.body == b"one"


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "/etc/passwd", "files/../../etc/passwd", "files//a", "files/", "./a", "files/a\x00b",
        "files/a\nb", "files/\x7f", "files/\u202egpj.exe", "files/\u2028", "a/" * 40 + "a", "x" * 1025,
        "\u00e9" * 513,
    ],
)  # fmt: skip
def test_paths_that_play_tricks_are_refused(server: ServerProcess, keys: Keys, path: str) -> None:
    stream = new_run(server, keys.agent, "tricks", "paths")
    give(server, keys.agent, "paths", b"x")

    answer = tell(server, keys.agent, stream, told(path, b"x"))["files"][0]

    assert answer["state"] == "refused"
    assert "path" in answer["reason"]


def test_case_and_unicode_forms_are_different_files(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "forms", "paths")
    names = ["files/a", "files/A", "files/\u00e9", "files/e\u0301", "files/\\..\\x", "files/%2e%2e"]
    for name in names:
        store(server, keys.agent, stream, "paths", name, name.encode())

    assert sorted(path for path, _ in listed(server, keys.read, "paths/forms")) == sorted(names)
    for name in names:
        assert fetch(server, keys.read, "paths/forms", name).body == name.encode()


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("sound.mp3", "audio/mpeg"),
        ("page.html", "application/octet-stream"),
        ("x.svg", "application/octet-stream"),
        ("i.PNG", "image/png"),
    ],
)
def test_what_users_wrote_is_a_download_and_never_a_page(
    server: ServerProcess, keys: Keys, name: str, media_type: str
) -> None:
    stream = new_run(server, keys.agent, name, "safe")
    store(server, keys.agent, stream, "safe", f'media/a"b;\u00fc{name}', b"<script>alert(1)</script>")

    headers = fetch(server, keys.read, f"safe/{name}", f'media/a"b;\u00fc{name}').headers

    assert headers["Content-Type"] == media_type
    assert headers["Content-Disposition"] == (
        f"attachment; filename=\"a_b__{name}\"; filename*=UTF-8''a%22b%3B%C3%BC{name}"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_a_range_of_a_file_can_be_fetched(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "ranges", "safe")
    store(server, keys.agent, stream, "safe", "files/a", b"0123456789")

    middle = fetch(server, keys.read, "safe/ranges", "files/a", Range="bytes=2-4")
    beyond = fetch(server, keys.read, "safe/ranges", "files/a", Range="bytes=20-")
    same = fetch(
        server, keys.read, "safe/ranges", "files/a",
        If_None_Match=fetch(server, keys.read, "safe/ranges", "files/a").headers["ETag"],
    )  # fmt: skip

    assert (middle.status, middle.body, middle.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert beyond.status == 416
    assert same.status == 304


def test_pages_of_the_list_follow_one_another(server: ServerProcess, keys: Keys) -> None:
    stream = new_run(server, keys.agent, "pages", "many")
    give(server, keys.agent, "many", b"same")
    paths = [f"files/{number:03}" for number in range(450)]
    assert {
        state for state, _ in states(tell(server, keys.agent, stream, *(told(p, b"same") for p in paths)))
    } == {"stored"}

    found: list[str] = []
    cursor = ""
    while cursor is not None:
        answer = ask(
            server.url,
            "GET",
            f"{RUN}/many/pages/files",
            key=keys.read,
            params={"limit": 200, "cursor": cursor},
        ).json
        found += [each["path"] for each in answer["files"]]
        cursor = answer["cursor"]

    assert found == paths
    assert (answer["total"], answer["bytes"]) == (450, 1800)
