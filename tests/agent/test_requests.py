"""What a server may ask of an agent, and what it may not: real spools, a server that asks for anything."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.agent.conftest import UID, Spool, Start, eventually, make_header
from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.live_writer import LiveWriter
from tracker_agent.disk import Disk
from tracker_agent.opening import Place, Refused
from tracker_agent.requests import parse_requests
from tracker_agent.stop_file import write_stop

OTHER_UID = 54321


class AskingServer(FakeTrackerServer):
    """Asks for whatever a test puts into `pending`, until it is told what became of it."""

    def __init__(self) -> None:
        super().__init__(keys=("key", "other"))
        self.identity = {"server": "tracker", "version": "0", "protocol": [1, 1], "epoch": "e",
                         "capabilities": ["zstd", "requests"]}  # fmt: skip
        self.pending: dict[str, list[dict[str, Any]]] = {}
        self.delivered: list[tuple[int, str, str]] = []
        self.polls: list[str] = []
        self.status = 200

    def _truth(self, request: web.Request, body: bytes) -> web.Response:
        found = re.fullmatch(r"/api/v1/hosts/[0-9a-f]{32}/requests(?:/(\d+))?", request.path)
        if found is None:
            return super()._truth(request, body)
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if found[1] is None:
            self.polls.append(key)
            return web.json_response({"requests": self.pending.get(key, [])}, status=self.status)
        answer = json.loads(body)
        self.delivered.append((int(found[1]), answer["result"], answer["reason"]))
        self.pending[key] = [each for each in self.pending.get(key, []) if each["id"] != int(found[1])]
        return web.json_response({"ok": True})

    def ask(
        self, stream: bytes, *, key: str = "key", run: str = "run", uid: int = UID, number: int = 1
    ) -> None:
        """Ask for a stream to be stopped."""
        self.pending.setdefault(key, []).append(
            {"id": number, "kind": "stop", "project": "p", "run": run, "by": "ada", "asked": 5,
             "streams": [{"uid": uid, "stream": stream.hex()}]}
        )  # fmt: skip


@pytest.fixture
def server() -> Iterator[AskingServer]:
    with AskingServer() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker_agent.requests.LOOK_S", 0.02)
    monkeypatch.setattr("tracker_agent.requests.PAUSE_S", 0.02)


def live_writer(spool: Spool, run: str = "run", stop: bool = True) -> LiveWriter:
    return LiveWriter(spool.run(run), stop=stop)


# --- with a running agent ---


async def test_a_request_becomes_a_file_and_the_server_is_told(
    spool: Spool, server: AskingServer, start: Start
) -> None:
    with live_writer(spool) as live:
        server.ask(live.stream)
        async with start() as pipeline:
            await eventually(lambda: server.delivered)
            assert pipeline.status()["stop_requests"]["stopped"] == 1

        assert server.delivered == [(1, "written", "")]
        assert json.loads((live.directory / "stop").read_text()) == {"request": 1, "by": "ada", "asked": 5}
        assert sorted(
            path.name for path in live.directory.iterdir() if path.suffix not in (".mpl", ".live")
        ) == ["stop"]


@pytest.mark.parametrize("wrong", ["run", "uid", "stream", "not stoppable"])
async def test_a_server_cannot_stop_what_does_not_ship_to_it_or_does_not_allow_it(
    spool: Spool, server: AskingServer, start: Start, wrong: str
) -> None:
    with live_writer(spool) as live, live_writer(spool, "other", stop=False) as other:
        match wrong:
            case "run":
                server.ask(live.stream, run="other")
            case "uid":
                server.ask(live.stream, uid=UID + 1)
            case "stream":
                server.ask(os.urandom(16))
            case _:
                server.ask(other.stream, run="other")
        async with start():
            await eventually(lambda: server.delivered)

        assert server.delivered[0][1] == "failed"
        assert not (live.directory / "stop").exists()
        assert not (other.directory / "stop").exists()


async def test_a_key_stops_only_what_ships_with_it(spool: Spool, server: AskingServer, start: Start) -> None:
    """Another user's key, and the same server: the first one's run is none of its business."""
    with live_writer(spool) as live:
        server.ask(live.stream, key="other")
        async with start():
            await eventually(lambda: len(server.polls) >= 3)

        assert set(server.polls) == {"key"}
        assert not (live.directory / "stop").exists()


async def test_without_a_run_that_can_be_stopped_nobody_polls(
    spool: Spool, server: AskingServer, start: Start
) -> None:
    spool.write("ended", header=make_header("ended", stop=True))
    with live_writer(spool, stop=False):
        async with start() as pipeline:
            await eventually(lambda: pipeline.status()["streams"]["live"] >= 1)
            await asyncio.sleep(0.2)

            assert server.polls == []
            with live_writer(spool, "later"):
                await eventually(lambda: server.polls)
            await eventually(lambda: pipeline.status()["stop_requests"]["polls"] == [])


async def test_an_operator_may_switch_it_off(spool: Spool, server: AskingServer, start: Start) -> None:
    with live_writer(spool) as live:
        server.ask(live.stream)
        async with start(allow_stop=False):
            await eventually(lambda: server.states(live.stream))
            await asyncio.sleep(0.2)

        assert server.polls == []
        assert not (live.directory / "stop").exists()


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_server_that_refuses_is_asked_again_only_after_a_long_time(
    spool: Spool, server: AskingServer, start: Start, status: int
) -> None:
    server.status = status
    with live_writer(spool):
        async with start(probe_interval_s=300.0) as pipeline:
            await eventually(lambda: server.polls)
            await asyncio.sleep(0.2)

            assert len(server.polls) == 1
            assert str(status) in pipeline.status()["stop_requests"]["polls"][0]["state"]


async def test_a_server_that_does_not_offer_it_is_not_asked(
    spool: Spool, server: AskingServer, start: Start
) -> None:
    assert server.identity is not None
    server.identity["capabilities"] = ["zstd"]
    with live_writer(spool):
        async with start() as pipeline:
            await eventually(
                lambda: (
                    [each["state"] for each in pipeline.status()["stop_requests"]["polls"]]
                    == ["not offered by this server"]
                )
            )

    assert server.polls == []


async def test_a_server_away_is_polled_again_when_it_is_back(
    spool: Spool, server: AskingServer, start: Start
) -> None:
    with live_writer(spool) as live:
        async with start():
            await eventually(lambda: server.polls)
            await asyncio.to_thread(server.stop)
            server.ask(live.stream)
            await asyncio.to_thread(server.start)

            await eventually(lambda: server.delivered)

        assert (live.directory / "stop").exists()


async def test_a_user_s_own_key_has_a_poll_of_its_own(
    spool: Spool, server: AskingServer, start: Start
) -> None:
    require.root()
    theirs = Spool(spool.root, OTHER_UID)
    os.chown(theirs.user, OTHER_UID, OTHER_UID)
    credentials = theirs.user / "credentials"
    credentials.write_text(json.dumps({server.url: "other"}))
    os.chown(credentials, OTHER_UID, OTHER_UID)
    credentials.chmod(0o600)
    with live_writer(theirs) as their_writer, live_writer(spool, "mine") as mine:
        for path in (their_writer.directory, *their_writer.directory.iterdir()):
            os.chown(path, OTHER_UID, OTHER_UID)
        server.ask(their_writer.stream, key="other", uid=OTHER_UID)
        # The operator's key has no business with it, whatever the server says.
        server.ask(their_writer.stream, key="key", uid=OTHER_UID, number=2)
        async with start():
            await eventually(lambda: len(server.delivered) == 2)

        first, second = sorted(server.delivered)
        assert first == (1, "written", "")
        assert second[:2] == (2, "failed")
        assert not (mine.directory / "stop").exists()
        # Its owner can read it; the directory keeps it from others.
        assert stat.S_IMODE((their_writer.directory / "stop").stat().st_mode) == 0o644


# --- the file ---


def place_of(spool: Spool, run: str = "run") -> Place:
    spool.run(run)
    return Place(str(spool.root), str(UID), run, UID)


def test_a_file_replaces_whatever_has_its_name_and_follows_nothing(spool: Spool, tmp_path: Path) -> None:
    place = place_of(spool)
    stop = spool.user / "run" / "stop"
    precious = tmp_path / "precious"
    precious.write_text("keep")
    for make in (
        lambda: stop.symlink_to(precious),
        lambda: stop.hardlink_to(precious),
        lambda: os.mkfifo(stop),
        lambda: stop.write_text("older"),
    ):
        stop.unlink(missing_ok=True)
        make()

        write_stop(Disk(), place, 3, "ada", 5)

        assert stat.S_ISREG(stop.lstat().st_mode)
        assert json.loads(stop.read_text())["request"] == 3
    assert precious.read_text() == "keep"
    assert precious.stat().st_nlink == 1


@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "walk"])
def test_a_run_directory_that_is_a_link_leads_nowhere(spool: Spool, tmp_path: Path, openat2: bool) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (spool.user / "run").symlink_to(elsewhere)

    with pytest.raises((OSError, Refused)):
        write_stop(Disk(openat2), Place(str(spool.root), str(UID), "run", UID), 1, "ada", 5)

    assert list(elsewhere.iterdir()) == []


def test_a_directory_of_somebody_else_is_refused(spool: Spool) -> None:
    require.root()
    place = place_of(spool)
    os.chown(spool.user / "run", OTHER_UID, OTHER_UID)

    with pytest.raises(Refused, match=str(OTHER_UID)):
        write_stop(Disk(), place, 1, "ada", 5)

    assert list((spool.user / "run").iterdir()) == []


def test_what_cannot_be_written_leaves_nothing_behind(spool: Spool) -> None:
    place = place_of(spool)
    (spool.user / "run" / "stop").mkdir()

    with pytest.raises(OSError):
        write_stop(Disk(), place, 1, "ada", 5)

    assert [path.name for path in (spool.user / "run").iterdir()] == ["stop"]


def test_another_user_cannot_stop_a_run_by_a_file() -> None:
    require.root()
    with tempfile.TemporaryDirectory() as reachable:
        os.chmod(reachable, 0o711)
        spool = Spool(Path(reachable) / "spool")
        spool.root.chmod(0o1733)
        check_that_nobody_else_can_stop(spool)


def check_that_nobody_else_can_stop(spool: Spool) -> None:
    run = spool.run("run")
    run.chmod(0o770)
    spool.user.chmod(0o770)

    tried = subprocess.run(
        ["touch", str(run / "stop")], user=OTHER_UID, group=OTHER_UID, capture_output=True, check=False
    )

    assert tried.returncode != 0
    assert list(run.iterdir()) == []


# --- the answer ---


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"requests": 5}', b"<html>", b'{"requests": [{"kind": "stop"}]}',
        b'{"requests": [{"kind": "stop", "id": 1, "run": "r", "by": "a", "asked": 1, "streams": [{}]}]}',
        b'{"requests": [{"kind": "stop", "id": "x", "run": "r", "by": "a", "asked": 1, "streams": []}]}',
    ],
)  # fmt: skip
def test_an_answer_of_another_shape_is_none(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_requests(body)


def test_requests_of_other_kinds_are_for_later_agents() -> None:
    body = json.dumps({"requests": [{"kind": "sample faster"}, 5, None]}).encode()

    assert parse_requests(body) == []
