"""How the shim asks a server: with patience that ends, and with the key for that server alone."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tracker._credentials import store_key
from tracker._errors import CommError
from tracker._remote import NotThereError, Remote, find_remote
from tracker._settings import Settings


class Door(BaseHTTPRequestHandler):
    """Answers as its path asks, and notes the keys that come."""

    keys: list[str | None]
    hang: threading.Event

    def do_GET(self) -> None:
        self.keys.append(self.headers.get("Authorization"))
        name = self.path.partition("?")[0].strip("/")
        if name == "hang":
            self.hang.wait(30)
            return
        status = {"redirect": 302, "missing": 404, "forbidden": 403, "broken": 500}.get(name, 200)
        body = {
            "json": b'{"a": 1}', "garbage": b"<html>",
            "missing": b'{"error": "e", "reason": "no \\u001b[31mrun"}',
            "bytes": b"content",
            "query": self.path.encode(),
        }.get(name, b"")  # fmt: skip
        if name == "query":
            body = b'"%s"' % body
        self.send_response(status)
        if name == "redirect":
            self.send_header("Location", "/json")
        self.send_header("Content-Length", str(len(body) + (10 if name == "torn" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def door() -> Iterator[Any]:
    handler = type("Handler", (Door,), {"keys": [], "hang": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield handler
    handler.hang.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_key_goes_to_the_server_and_no_redirect_is_followed(door: Any) -> None:
    remote = Remote(door.url, "tk_a_b")

    assert remote.get("/json") == {"a": 1}
    with pytest.raises(CommError, match="302"):
        remote.get("/redirect")
    assert door.keys == ["Bearer tk_a_b"] * 2


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("/missing", NotThereError, "no \\?\\[31mrun"),
        ("/forbidden", CommError, "may read"),
        ("/broken", CommError, "500"),
        ("/garbage", CommError, "no JSON"),
        ("/torn", CommError, "127"),
    ],
)
def test_whatever_a_server_answers_becomes_one_kind_of_error(
    door: Any, path: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Remote(door.url, None).get(path)


def test_a_server_that_is_silent_or_gone_is_given_up(door: Any) -> None:
    with pytest.raises(CommError, match="does not answer"):
        Remote(door.url, None, timeout_s=0.1).get("/hang")
    with pytest.raises(CommError, match="does not answer"):
        Remote("http://127.0.0.1:1", None).get("/json")


def test_a_download_is_there_whole_or_not_at_all(door: Any, tmp_path: Path) -> None:
    target = tmp_path / "file"
    remote = Remote(door.url, None)
    right = hashlib.sha256(b"content").hexdigest()

    with pytest.raises(CommError, match="other contents"):
        remote.download("/bytes", str(target), "0" * 64)
    assert not list(tmp_path.iterdir())
    remote.download("/bytes", str(target), right)
    assert target.read_bytes() == b"content"
    with pytest.raises(CommError, match="cannot be fetched"):
        remote.download("/bytes", str(tmp_path / "no" / "directory"), right)
    assert remote.get("/query", a=["1", "2"], b=None) == "/query?a=1&a=2"


def test_a_kept_key_is_given_to_the_server_that_it_is_for(tmp_path: Path, monkeypatch: Any) -> None:
    store_key(str(tmp_path), "https://one.example", "", "tk_one_x")
    store_key(str(tmp_path), "", "", "tk_default_x")
    environ = {"TRACKER_DIR": str(tmp_path), "HOME": str(tmp_path)}
    monkeypatch.setattr(Remote, "get", lambda self, path: self._key)

    def key(**more: str) -> Any:
        return find_remote(Settings({}, {**environ, **more}), environ).get("")

    assert key(TRACKER_BASE_URL="https://one.example") == "tk_one_x"
    assert key(TRACKER_BASE_URL="https://two.example") is None, "the default's key is not for every server"
    assert key(TRACKER_BASE_URL="https://one.example", TRACKER_API_KEY="tk_mine_x") == "tk_mine_x"
    for address in ("file:///etc/passwd", "https://ada:hush@example.org"):
        with pytest.raises(CommError, match="no address"):
            key(TRACKER_BASE_URL=address)
    with pytest.raises(CommError, match="TRACKER_BASE_URL"):
        key()
