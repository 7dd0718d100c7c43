"""Every route: who gets in, what a stranger learns, and that answers are what openapi.json says."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import jsonschema
import pytest

from tests.server.http.conftest import Keys
from tests.support.http_client import Answer, ask, sign_in
from tests.support.record_stream import START_NS, RecordStream, send
from tests.support.server_process import ServerProcess

BLOB = b"the bytes of a file"
DIGEST = hashlib.sha256(BLOB).hexdigest()
MARK = "secret-of-the-default-entity"


class Examples:
    """A request for each route that succeeds for a key of entity default with the right scope."""

    def __init__(self, server: ServerProcess, keys: Keys) -> None:
        self.server = server
        self.agent = keys.agent
        stream = RecordStream("walk", f"project-{MARK}", stop=True)
        stream.configure(lr=0.1, name=MARK, odd=float("nan"))
        for step in range(20):
            stream.log(step, {"loss": 1.0 / (step + 1), "bad": float("nan"), f"m-{MARK}": float("inf")})
        stream.print(MARK, "second line \udc80")
        stream.summarize(best=float("-inf"), note=MARK)
        stream.show("text", MARK)
        host = RecordStream(None)
        host.inventory(cpu=MARK)
        host.sample(START_NS, cpu=0.5)
        host.sample_about(stream, START_NS, rss=5.0)
        host.alert(START_NS, MARK, "fell off the bus", xid=79)
        answer = send(server.url, keys.agent, stream.take(), host.take())
        assert answer.status == 200, answer
        assert all("error" not in each for each in answer.json["streams"]), answer
        blob = f"/api/v1/projects/default/project-{MARK}/blobs/{DIGEST}"
        assert ask(server.url, "PUT", blob, key=keys.agent, body=BLOB).status == 200
        self.stream = stream.stream.hex()
        told = {"path": "files/a", "sha256": DIGEST, "size": len(BLOB), "mtime": 5}
        body = {"uid": 1000, "stream": self.stream, "files": [told]}
        answer = ask(server.url, "POST", FILES, key=keys.agent, json_body=body)
        assert answer.json["files"][0]["state"] == "stored", answer
        self.parts = {
            "entity": "default",
            "project": f"project-{MARK}",
            "run": "walk",
            "machine": "machine-1",
            "sha256": DIGEST,
        }
        self.queries: dict[str, dict[str, Any]] = {
            "/api/v1/find": {"run": "walk"},
            "/api/v1/runs/{entity}/{project}/{run}/series": {"metric": ["loss", "bad", f"m-{MARK}"]},
            "/api/v1/runs/{entity}/{project}/{run}/points": {"metric": ["loss", "bad"]},
            "/api/v1/hosts/{machine}/series": {"metric": "cpu"},
            "/api/v1/runs/{entity}/{project}/{run}/system/series": {"metric": "system.0.rss"},
            "/api/v1/hosts/{machine}/events": {"level": "warn", "limit": 5},
            "/api/v1/hosts/{machine}/requests": {"wait_s": 0},
            "/api/v1/runs/{entity}/{project}/{run}/file": {"path": "files/a"},
        }
        self.made = 0

    def ask(
        self,
        method: str,
        path: str,
        key: str | None = None,
        cookie: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send the example request of a route."""
        parts = dict(self.parts)
        body: bytes | None = None
        json_body: Any = None
        headers = dict(headers or {})
        self.made += 1
        match (method, path):
            case ("POST", "/api/v1/ingest"):
                return send(self.server.url, key or "", RecordStream(f"own-{self.made}", "own").take())
            case ("POST", "/api/v1/streams/offsets"):
                json_body = {"streams": [{"uid": 1000, "stream": "00" * 16}], "machine": "machine-1"}
            case ("POST", "/api/v1/runs/{entity}/{project}/{run}/grants"):
                json_body = {"principal": "writer"}
            case ("POST", "/api/v1/signin"):
                json_body = {"token": self.server.signin_link().partition("#")[2]}
            case ("POST", "/api/v1/principals"):
                json_body = {"name": f"made-{self.made}"}
            case ("POST", "/api/v1/keys"):
                json_body = {"name": "made", "scopes": ["ingest"], "principal": "reader"}
            case ("DELETE", "/api/v1/keys/{id}"):
                made = self.server.request("POST", "/api/v1/keys", {"name": "gone", "scopes": ["read"]})
                parts["id"] = made["id"]
            case ("POST", "/api/v1/hosts/{machine}/requests/{id}"):
                # Only the agent that ships the run may answer for it.
                key = self.agent if key == self.server.admin_key else key
                run = f"/api/v1/runs/default/project-{MARK}/walk/stop"
                parts["id"] = str(ask(self.server.url, "POST", run, key=self.server.admin_key).json["id"])
                json_body = {"result": "written"}
            case ("POST", "/api/v1/files"):
                told = {"path": "files/a", "sha256": DIGEST, "size": len(BLOB), "mtime": 5}
                json_body = {"uid": 1000, "stream": self.stream, "files": [told]}
            case ("PATCH", _):
                body = BLOB
                headers |= {"X-Tracker-Offset": "0", "X-Tracker-Size": str(len(BLOB))}
            case ("PUT", _):
                body = BLOB
        url = re.sub(r"{(\w+)}", lambda part: parts[part.group(1)], path)
        return ask(
            self.server.url,
            method,
            url,
            key=key,
            cookie=cookie,
            params=self.queries.get(path),
            json_body=json_body,
            body=body,
            headers=headers,
        )


@pytest.fixture(scope="module")
def examples(server: ServerProcess, keys: Keys) -> Examples:
    return Examples(server, keys)


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> Any:
    return server.get("/api/v1/openapi.json", key="")


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def needs(operation: Any) -> str:
    return str(operation["description"]).removeprefix("Needs ").rstrip(".")


STREAMED = "/api/v1/events"
DOWNLOAD = "/api/v1/runs/{entity}/{project}/{run}/file"
FILES = "/api/v1/files"


def test_every_route_answers_as_the_document_says(examples: Examples, document: Any, keys: Keys) -> None:
    for method, path, operation in operations(document):
        if path == STREAMED:
            continue
        owner = keys.agent if path == FILES else keys.admin
        answer = examples.ask(method, path, key=owner)
        expected = next(int(status) for status in operation["responses"] if status != "default")
        assert answer.status == expected, (method, path, answer)
        if method == "HEAD":
            continue
        if path == DOWNLOAD:
            assert answer.body == BLOB
            continue
        assert answer.headers["Content-Type"] == "application/json"
        schema = operation["responses"][str(expected)]["content"]["application/json"]["schema"]
        validate(answer.json, schema, document)


def validate(value: Any, schema: Any, document: Any) -> None:
    """Check JSON against a schema of the document that also forbids what it does not mention."""
    whole = {**closed(schema), "components": closed(document["components"])}
    jsonschema.Draft202012Validator(whole).validate(value)


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: closed(each) for name, each in schema.items()}
    if copy.get("type") == "object" and "properties" in copy:
        copy.setdefault("additionalProperties", False)
    return copy


def test_numbers_that_are_not_finite_are_strings_and_text_survives(examples: Examples, keys: Keys) -> None:
    run = "/api/v1/runs/{entity}/{project}/{run}"

    detail = examples.ask("GET", run, key=keys.read).json
    points = examples.ask("GET", run + "/points", key=keys.read).json["points"]
    series = examples.ask("GET", run + "/series", key=keys.read).json["series"]
    console = examples.ask("GET", run + "/console", key=keys.read).json

    assert detail["config"]["odd"] == "NaN"
    assert detail["summary"]["best"] == "-Infinity"
    assert points["bad"]["value"] == ["NaN"] * 20
    assert points["loss"]["value"] == [1.0 / (step + 1) for step in range(20)]
    assert series[f"m-{MARK}"]["last"] == ["Infinity"] * 20
    assert series[f"m-{MARK}"]["mean"] == [None] * 20
    assert series["bad"]["special"] == [1] * 20
    assert console["lines"][0]["text"] == MARK


def test_nobody_gets_in_without_credentials(examples: Examples, document: Any) -> None:
    for method, path, operation in operations(document):
        if needs(operation) != "no credentials":
            answer = examples.ask(method, path)
            assert answer.status == 401, (method, path, answer)
            assert MARK.encode() not in answer.body


def test_no_scope_is_enough_but_the_one_that_is_needed(examples: Examples, document: Any, keys: Keys) -> None:
    by_scope = {"read": keys.read, "ingest": keys.ingest}
    checked = 0
    for method, path, operation in operations(document):
        wanted = needs(operation)
        for scope, key in by_scope.items():
            if wanted.startswith("scope") and scope not in wanted.split():
                answer = examples.ask(method, path, key=key)
                assert answer.status == 403, (method, path, scope, answer)
                assert MARK.encode() not in answer.body
                checked += 1
    assert checked > 20


def test_a_key_of_another_entity_learns_nothing(examples: Examples, document: Any, keys: Keys) -> None:
    for method, path, operation in operations(document):
        if path == STREAMED or needs(operation) == "no credentials":
            continue
        for key in (keys.foreign_admin, keys.foreign_read, keys.foreign_ingest):
            answer = examples.ask(method, path, key=key)

            assert MARK.encode() not in answer.body, (method, path, answer)
            assert not answer.headers.get("X-Tracker-Size")
            if "{entity}" in path or "{id}" in path:
                assert answer.status in (403, 404), (method, path, answer)


def test_what_does_not_exist_and_what_is_hidden_look_the_same(examples: Examples, keys: Keys) -> None:
    path = "/api/v1/runs/default/{}/{}/metrics"
    hidden = ask(examples.server.url, "GET", path.format(f"project-{MARK}", "walk"), key=keys.foreign_read)
    missing = ask(examples.server.url, "GET", path.format("none", "none"), key=keys.foreign_read)

    assert (hidden.status, hidden.body) == (missing.status, missing.body) == (404, missing.body)


def test_the_same_names_in_another_entity_are_other_runs(examples: Examples, keys: Keys) -> None:
    server = examples.server
    own = RecordStream("walk", f"project-{MARK}")
    own.log(0, {"loss": 42.0})

    assert send(server.url, keys.foreign_ingest, own.take()).status == 200

    path = f"project-{MARK}/walk/points?metric=loss"
    theirs = ask(server.url, "GET", f"/api/v1/runs/other/{path}", key=keys.foreign_read).json
    ours = ask(server.url, "GET", f"/api/v1/runs/default/{path}", key=keys.read).json
    assert theirs["points"]["loss"]["value"] == [42.0]
    assert 42.0 not in ours["points"]["loss"]["value"]


def test_a_session_from_another_site_gets_nothing(examples: Examples, document: Any) -> None:
    cookie = sign_in(examples.server.url, examples.server.signin_link())
    for method, path, operation in operations(document):
        if needs(operation) == "no credentials" or path == "/api/v1/ingest":
            continue
        answer = examples.ask(method, path, cookie=cookie, headers={"Origin": "https://evil.example"})
        assert answer.status == 403, (method, path, answer)
        assert MARK.encode() not in answer.body


def test_every_answer_carries_the_security_headers(examples: Examples, document: Any, keys: Keys) -> None:
    answers = [
        examples.ask(method, path, key=keys.admin)
        for method, path, operation in operations(document)
        if path != STREAMED
    ]
    answers += [ask(examples.server.url, "GET", path) for path in ("/", "/signin", "/api/none", "/a/b/c")]

    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy or policy.startswith("sandbox; default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "aiohttp" not in answer.headers.get("Server", "")


def test_errors_are_json_with_a_code_and_a_reason(examples: Examples, keys: Keys) -> None:
    url = examples.server.url
    for method, path, status in (
        ("GET", "/api/v1/nothing", 404),
        ("DELETE", "/api/v1/runs", 405),
        ("POST", "/somewhere", 405),
        ("GET", "/api/v1/runs?limit=0", 400),
        ("GET", "/api/v1/runs?limit=1&limit=2", 400),
        ("GET", "/api/v1/runs?projcet=x", 400),
    ):
        answer = ask(url, method, path, key=keys.read)
        assert answer.status == status or (status == 405 and answer.status == 404), (path, answer)
        assert set(answer.json) - {"hint"} == {"error", "reason"}


def test_the_document_lists_every_path_under_api(document: Any) -> None:
    paths = {path for _, path, _ in operations(document)}

    assert {"/api/v1/ingest", "/api/v1/runs", "/api/v1/events", "/healthz", "/readyz"} <= paths
    assert len(json.dumps(document)) > 10_000


# --- blobs ---


def blob_path(project: str = "files", digest: str = DIGEST, entity: str = "default") -> str:
    return f"/api/v1/projects/{entity}/{project}/blobs/{digest}"


def test_a_file_is_known_only_to_the_project_it_was_given_to(server: ServerProcess, keys: Keys) -> None:
    assert ask(server.url, "HEAD", blob_path(), key=keys.read).status == 404
    assert ask(server.url, "PUT", blob_path(), key=keys.ingest, body=BLOB).status == 200

    found = ask(server.url, "HEAD", blob_path(), key=keys.ingest)
    assert (found.status, found.headers["X-Tracker-Size"]) == (200, str(len(BLOB)))
    assert ask(server.url, "HEAD", blob_path("elsewhere"), key=keys.read).status == 404
    assert ask(server.url, "HEAD", blob_path(entity="other"), key=keys.foreign_read).status == 404


def test_a_file_with_other_bytes_than_its_digest_is_refused(server: ServerProcess, keys: Keys) -> None:
    digest = hashlib.sha256(b"other").hexdigest()

    answer = ask(server.url, "PUT", blob_path(digest=digest), key=keys.ingest, body=BLOB)

    assert (answer.status, answer.error) == (422, "wrong_digest")
    assert ask(server.url, "HEAD", blob_path(digest=digest), key=keys.read).status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (blob_path(digest="00"), 400),
        (blob_path(digest=DIGEST.upper()), 400),
        (blob_path(digest="..%2f" * 12 + "abcd"), 400),
        (blob_path(project="a%2Fb"), 422),
        (blob_path(project="%00"), 422),
        (blob_path(project="x" * 129), 422),
        (blob_path(project=".."), 422),
    ],
)
def test_odd_names_of_files_are_refused(server: ServerProcess, keys: Keys, path: str, status: int) -> None:
    answer = ask(server.url, "PUT", path, key=keys.ingest, body=BLOB)

    assert answer.status == status or (status == 422 and answer.status == 404), answer


def test_a_big_file_arrives_whole(server: ServerProcess, keys: Keys) -> None:
    body = bytes(range(256)) * 40_000
    digest = hashlib.sha256(body).hexdigest()

    assert ask(server.url, "PUT", blob_path(digest=digest), key=keys.ingest, body=body).status == 200

    size = ask(server.url, "HEAD", blob_path(digest=digest), key=keys.ingest).headers["X-Tracker-Size"]
    assert int(size) == len(body)
