"""News over a real connection: who hears what, and what happens when a stream ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.server.http.conftest import Keys
from tests.support.http_client import ask, sign_in
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess

LISTEN_S = 60.0


class Listener:
    """One open event stream, read in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")
        self._deadline = time.monotonic() + LISTEN_S
        self.status = int(self._file.readline().split()[1])
        while self._file.readline().strip():
            pass

    def next(self) -> tuple[str, Any]:
        """Return the next event. Raise EOFError at the end of the stream."""
        name = data = None
        while True:
            line = self._file.readline()
            assert time.monotonic() < self._deadline, "what was waited for did not come"
            if not line:
                raise EOFError
            text = line.decode().rstrip("\r\n")
            if text.startswith("event: "):
                name = text.removeprefix("event: ")
            elif text.startswith("data: "):
                data = text.removeprefix("data: ")
            elif not text and name is not None and data is not None:
                return name, json.loads(data)


@contextmanager
def listen(
    server: ServerProcess, key: str = "", query: str = "", headers: str = "", timeout_s: float = 30
) -> Iterator[Listener]:
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s) as connection:
        request = f"GET /api/v1/events{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}{headers}\r\n"
        connection.sendall(request.encode())
        yield Listener(connection)


def logged(server: ServerProcess, keys: Keys, run: str, key: str = "") -> RecordStream:
    stream = RecordStream(run, "live")
    stream.log(0, {"loss": 1.0})
    assert send(server.url, key or keys.agent, stream.take()).status == 200
    return stream


def next_run(listener: Listener) -> Any:
    while True:
        name, data = listener.next()
        if name == "run":
            return data


def test_every_open_tab_hears_of_a_commit(server: ServerProcess, keys: Keys) -> None:
    cookie = sign_in(server.url, server.signin_link())
    with (
        listen(server, keys.read) as first,
        listen(
            server, headers=f"Cookie: tracker_session={cookie}\r\nSec-Fetch-Site: same-origin\r\n"
        ) as second,
    ):
        logged(server, keys, "tabs")

        heard = [next_run(first), next_run(second)]

    assert heard[0] == heard[1]
    assert set(heard[0]) == {"entity", "project", "run", "cursor", "state", "updated"}
    assert (heard[0]["run"], heard[0]["cursor"], heard[0]["state"]) == ("tabs", 1, "running")


def test_the_cursor_of_the_news_is_where_points_go_on(server: ServerProcess, keys: Keys) -> None:
    stream = logged(server, keys, "cursor")
    path = "/api/v1/runs/default/live/cursor/points"
    seen = server.get(path, {"metric": "loss"})
    with listen(server, keys.read, "?run=default/live/cursor") as listener:
        stream.log(1, {"loss": 2.0})
        send(server.url, keys.agent, stream.take())
        news = next_run(listener)

        fresh = server.get(path, {"metric": "loss", "after": seen["cursor"]})

    assert seen["cursor"] < news["cursor"] == fresh["cursor"]
    assert fresh["points"]["loss"]["value"] == [2.0]


def test_another_entity_hears_nothing(server: ServerProcess, keys: Keys) -> None:
    with listen(server, keys.foreign_read) as foreign, listen(server, keys.read) as own:
        logged(server, keys, "ours")
        assert next_run(own)["run"] == "ours"
        logged(server, keys, "theirs", keys.foreign_ingest)

        assert next_run(foreign)["entity"] == "other"


def test_a_stream_of_one_run_leaves_the_others_out(server: ServerProcess, keys: Keys) -> None:
    with listen(server, keys.read, "?run=default/live/wanted") as listener:
        logged(server, keys, "unwanted")
        logged(server, keys, "wanted")

        assert next_run(listener)["run"] == "wanted"


@pytest.mark.parametrize(
    ("query", "status"), [("?run=other/live/x", 404), ("?run=x", 400), ("?run=a/b/c/d", 400), ("?rum=x", 400)]
)
def test_a_run_that_cannot_be_followed_is_refused(
    server: ServerProcess, keys: Keys, query: str, status: int
) -> None:
    assert ask(server.url, "GET", f"/api/v1/events{query}", key=keys.read).status == status


def test_a_browser_that_reconnects_is_told_to_start_over(server: ServerProcess, keys: Keys) -> None:
    with listen(server, keys.read, headers="Last-Event-ID: 1\r\n") as listener:
        assert listener.next() == ("reset", {})


def test_many_commits_become_few_events(server: ServerProcess, keys: Keys) -> None:
    stream = logged(server, keys, "busy")
    with listen(server, keys.read, "?run=default/live/busy") as listener:
        for step in range(1, 101):
            stream.log(step, {"loss": float(step)})
            assert send(server.url, keys.agent, stream.take()).status == 200
        events = []
        while not events or events[-1]["cursor"] < 101:
            events.append(next_run(listener))

    assert len(events) < 100
    assert [each["cursor"] for each in events] == sorted({each["cursor"] for each in events})


def test_a_tab_that_does_not_read_hinders_nobody(server: ServerProcess, keys: Keys) -> None:
    with listen(server, keys.read), listen(server, keys.read) as reading:
        for number in range(30):
            logged(server, keys, f"many-{number}")

        heard = {next_run(reading)["run"] for _ in range(30)}

    assert heard == {f"many-{number}" for number in range(30)}


def test_too_many_streams_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("own")
    (root / "limits.toml").write_text("[limits]\nlive_subscribers_per_principal = 2\n")
    with ServerProcess(root, arguments=("--config", str(root / "limits.toml"))) as server:
        key = server.admin_key
        with listen(server, key) as first, listen(server, key) as second, listen(server, key) as third:
            assert [first.status, second.status, third.status] == [200, 200, 429]


def test_a_stream_ends_when_its_key_is_revoked(server: ServerProcess, keys: Keys) -> None:
    made = server.request("POST", "/api/v1/keys", {"name": "listener", "scopes": ["read"]})
    over = threading.Event()
    with listen(server, made["key"], timeout_s=60) as listener:
        server.request("DELETE", f"/api/v1/keys/{made['id']}")

        def keep_talking() -> None:
            number = 0
            while not over.wait(0.3):
                number += 1
                logged(server, keys, f"talk-{number}")

        talker = threading.Thread(target=keep_talking)
        talker.start()
        try:
            with pytest.raises(EOFError):
                while True:
                    listener.next()
        finally:
            over.set()
            talker.join()
