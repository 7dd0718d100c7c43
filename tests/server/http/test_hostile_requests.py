"""Requests nobody sane sends: any path, query and body gets an answer, and never a 500."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from tests.server.http.conftest import Keys
from tests.support.http_client import ask
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess

QUERY_ROUTES = {
    "/api/v1/runs": ("project", "state", "q", "sort", "limit", "cursor"),
    "/api/v1/find": ("run", "project"),
    "/api/v1/runs/default/fuzz/fuzz/series": ("metric", "x", "from", "to", "buckets"),
    "/api/v1/runs/default/fuzz/fuzz/points": ("metric", "after", "limit"),
    "/api/v1/runs/default/fuzz/fuzz/console": ("after", "limit"),
    "/api/v1/runs/default/fuzz/fuzz/values": ("name", "type", "limit"),
    "/api/v1/hosts/machine-1/series": ("metric", "from", "to", "buckets"),
    "/api/v1/keys": ("entity",),
}
BODY_ROUTES = (
    "/api/v1/streams/offsets",
    "/api/v1/signin",
    "/api/v1/principals",
    "/api/v1/keys",
    "/api/v1/runs/default/fuzz/fuzz/grants",
)
PATHS = (
    "/api/v1/runs/{}/{}/{}",
    "/api/v1/runs/default/{}/{}/points",
    "/api/v1/hosts/{}/metrics",
    "/{}/{}/{}",
)

numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30]),
    st.integers(),
)
texts = st.one_of(
    st.text(max_size=30),
    numbers.map(str),
    st.sampled_from(
        ["loss", "bad", "step", "time", "fuzz", "running", "-created", "name", "NaN", "1e3", "%", "'"]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    [
        "streams",
        "uid",
        "stream",
        "machine",
        "token",
        "key",
        "name",
        "kind",
        "entity",
        "scopes",
        "principal",
        "expires_s",
    ]
)
fuzz = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Client:
    """One kept connection: hundreds of requests must not cost hundreds of connections."""

    def __init__(self, server: ServerProcess, key: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        self._key = key

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def request(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send one request; return status and body."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            self._connection.request(method, target, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (http.client.RemoteDisconnected, ConnectionError):
            self._connection.close()
            return self.request(method, target, body)


@pytest.fixture(scope="module")
def client(server: ServerProcess, keys: Keys) -> Iterator[Client]:
    stream = RecordStream("fuzz", "fuzz")
    for step in range(50):
        stream.log(step * 10**15, {"loss": step / 3, "bad": float("nan")})
    stream.log(2**63 - 1, {"loss": 1.0}, time=2**63 - 1)
    stream.log(-(2**63), {"loss": 2.0}, time=-(2**63))
    stream.print("a line")
    stream.show("text", "x")
    host = RecordStream(None)
    host.sample(1, loss=1.0)
    host.sample(2**63 - 1, loss=1.0)
    assert send(server.url, keys.agent, stream.take(), host.take()).status == 200
    talking = Client(server, keys.admin)
    yield talking
    talking.close()


def check(status: int, body: bytes) -> None:
    assert status < 500, body
    if status >= 400 and body:
        assert set(json.loads(body)) - {"hint"} == {"error", "reason"}


@pytest.mark.parametrize("path", sorted(QUERY_ROUTES))
@fuzz
@given(data=st.data())
def test_any_query_is_answered(client: Client, path: str, data: Any) -> None:
    names = data.draw(st.lists(st.sampled_from(QUERY_ROUTES[path]), max_size=2, unique=True))
    pairs = [(name, data.draw(texts)) for name in names]
    if "metric" in QUERY_ROUTES[path]:
        pairs.append(("metric", "loss"))
    query = "&".join(
        f"{name}={quote(text.encode('utf-8', 'surrogatepass'), safe='')}" for name, text in pairs
    )
    note(f"{path}?{query}")

    check(*client.request("GET", f"{path}?{query}"))


@fuzz
@given(raw=st.binary(max_size=60), path=st.sampled_from(sorted(QUERY_ROUTES)))
def test_any_bytes_as_a_query_are_answered(client: Client, raw: bytes, path: str) -> None:
    check(*client.request("GET", f"{path}?metric=loss&{quote(raw, safe='&=+')}"))


@fuzz
@given(
    parts=st.lists(st.binary(min_size=1, max_size=20), min_size=3, max_size=3), path=st.sampled_from(PATHS)
)
@example(parts=[b"..", b"..", b"etc"], path="/{}/{}/{}")
@example(parts=[b"\x00", b"\xff", b"\xed\xa0\x80"], path="/api/v1/runs/{}/{}/{}")
def test_any_path_is_answered(client: Client, parts: list[bytes], path: str) -> None:
    target = path.format(*(quote(part, safe="") for part in parts))

    status, _ = client.request("GET", target)

    assert status < 500


@fuzz
@given(path=st.sampled_from(BODY_ROUTES), value=JSON | st.dictionaries(FIELDS, JSON, max_size=5))
def test_any_json_is_answered(client: Client, path: str, value: Any) -> None:
    check(*client.request("POST", path, json.dumps(value).encode()))


@fuzz
@given(path=st.sampled_from(BODY_ROUTES), body=st.binary(max_size=100))
@example(path="/api/v1/keys", body=b"[" * 100_000)
@example(path="/api/v1/keys", body=b'{"name": ' * 20_000)
@example(path="/api/v1/keys", body=b'{"name": "\xff"}')
def test_any_body_is_answered(client: Client, path: str, body: bytes) -> None:
    check(*client.request("POST", path, body))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("metric=loss&buckets=10001", 400),
        ("metric=loss&buckets=0", 400),
        ("metric=loss&buckets=10000", 200),
        ("&".join(f"metric=m{n}" for n in range(201)), 400),
        ("&".join(f"metric=m{n}" for n in range(200)), 200),
        (f"metric={'x' * 1001}", 400),
        ("x=step", 400),
        ("metric=loss&x=loss", 400),
        ("metric=loss&from=x", 400),
    ],
)
def test_a_chart_asks_for_a_bounded_amount(client: Client, query: str, status: int) -> None:
    assert client.request("GET", f"/api/v1/runs/default/fuzz/fuzz/series?{query}")[0] == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("points?metric=loss&limit=100001", 400),
        ("points?metric=loss&limit=100000", 200),
        ("console?limit=100001", 400),
        ("values?limit=10001", 400),
    ],
)
def test_a_page_is_bounded(client: Client, path: str, status: int) -> None:
    assert client.request("GET", f"/api/v1/runs/default/fuzz/fuzz/{path}")[0] == status


@pytest.mark.parametrize(
    "content",
    [
        "x",
        "[]",
        '["-created"]',
        '["name", "x", 1]',
        '["-created", "x", 1]',
        '["-created", {"a": 1}, 1]',
        '["-created", [1], 1]',
        '["-created", 1e999, 1]',
        '["-created", 99999999999999999999999, 1]',
        '["-created", 1, 99999999999999999999999]',
        '["-created", 1, "x"]',
        '["-created", null, null]',
    ],
)
def test_a_cursor_that_was_not_given_out_is_refused(server: ServerProcess, keys: Keys, content: str) -> None:
    cursor = base64.urlsafe_b64encode(content.encode()).decode()

    for text in (cursor, content, cursor[:-1]):
        answer = ask(server.url, "GET", "/api/v1/runs", key=keys.read, params={"cursor": text})
        assert answer.status in (200, 400), answer


def test_a_search_text_is_bounded(server: ServerProcess, keys: Keys) -> None:
    assert ask(server.url, "GET", "/api/v1/runs", key=keys.read, params={"q": "x" * 201}).status == 400
    assert ask(server.url, "GET", "/api/v1/runs", key=keys.read, params={"q": "%_'\"\\*"}).status == 200


def test_a_request_line_without_end_is_refused(server: ServerProcess, keys: Keys) -> None:
    answer = ask(server.url, "GET", "/api/v1/runs?q=" + "x" * 20_000, key=keys.read)

    assert answer.status == 431
    assert answer.error == "too_long"
    assert "8190" in answer.json["reason"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"hello there\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"POST /api/v1/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: minus\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_with_json_and_leaves_no_trace_in_the_log(
    server: ServerProcess, raw: bytes
) -> None:
    before = server.log()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(raw)
        with connection.makefile("rb") as file:
            answer = file.read()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] in (b"400", b"431")
    assert b"content-type: application/json" in head.lower()
    check(400, body)
    assert server.log() == before
