"""Files of runs against a real server: what arrives, how often its bytes travel, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.agent import conftest
from tests.support.http_client import ask
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess
from tracker_agent import file_sender, run_files
from tracker_agent.allowance import Allowance
from tracker_agent.clock import Clock
from tracker_agent.counters import Counters
from tracker_agent.credentials import Credential
from tracker_agent.endpoint import Endpoint, EndpointSettings
from tracker_agent.exchange import Answer
from tracker_agent.file_lanes import FileLanes
from tracker_agent.machine import Machine
from tracker_agent.opening import Place
from tracker_agent.settings import FileSettings, ServerSettings
from tracker_agent.transport import Transport

UID = os.getuid()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "SETTLE_S", 0.02)
    monkeypatch.setattr(run_files, "LIVE_S", 0.05)
    monkeypatch.setattr("tracker_agent.file_watch.WALK_S", 0.05)
    monkeypatch.setattr("tracker_agent.file_watch.IDLE_S", 0.02)
    monkeypatch.setattr("tracker_agent.file_lane.IDLE_S", 0.02)


@dataclass
class Wire:
    """The real way to a server, with a record of what goes over it. before(): what happens to a request."""

    transport: Transport
    before: Callable[[str, str, bytes | None], Any] = lambda method, path, body: None
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.transport.url

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        self.requests.append((method, path, len(body or b"")))
        answer = self.before(method, path, body)
        return answer if answer is not None else await self.transport.request(method, path, headers, body)

    async def close(self) -> None:
        await self.transport.close()

    @property
    def part_bytes(self) -> int:
        return sum(size for method, _, size in self.requests if method == "PATCH")


class Host:
    """A spool with runs, and the file lanes of an agent beside it."""

    def __init__(self, root: Path, server: ServerProcess, key: str | None = None) -> None:
        self.spool = root / "spool"
        self.state = root / "state"
        self.server = server
        self.key = key or server.ingest_key
        self.wire = Wire(Transport(ServerSettings(url=server.url), 20.0))
        self.streams: dict[str, RecordStream] = {}

    def run(self, name: str, project: str = "files", ship: bool = True) -> Place:
        """Make a run directory, and let the server know the run."""
        stream = self.streams[name] = RecordStream(name, project, uid=UID)
        if ship:
            assert send(self.server.url, self.key, stream.take()).status == 200
        (self.spool / str(UID) / name).mkdir(parents=True)
        return Place(str(self.spool), str(UID), name, UID)

    def write(self, place: Place, path: str, content: bytes) -> Path:
        file = Path(place.path, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    @asynccontextmanager
    async def lanes(self, **settings: Any) -> AsyncIterator[FileLanes]:
        log = structlog.get_logger()
        clock = Clock()
        endpoint = Endpoint(
            self.wire, EndpointSettings(0.02, 0.1, 0.1), Allowance(clock), clock, log, version="0.1.0"
        )
        tasks: list[asyncio.Task[None]] = []

        names: set[str] = set()

        def start(name: str, run: Any) -> None:
            assert name not in names  # as the supervisor wants it
            names.add(name)
            tasks.append(asyncio.ensure_future(run()))

        lanes = FileLanes(
            str(self.state),
            FileSettings(**settings),
            {self.server.url: endpoint},
            Machine(),
            clock,
            Counters(),
            log,
            start,
        )
        lanes.begin()
        try:
            yield lanes
        finally:
            failed = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            lanes.close()
            await self.wire.close()
            assert [task.exception() for task in failed if task.exception()] == []

    def see(self, lanes: FileLanes, place: Place) -> None:
        credential = Credential("default", self.server.url, self.key)
        lanes.run_seen(place, self.streams[place.name].stream, credential)

    def stored(self, place: Place, project: str = "files") -> dict[str, str]:
        """Return path → digest as readers see it."""
        answer = self.server.get(f"/api/v1/runs/default/{project}/{place.name}/files")
        return {each["path"]: each["sha256"] for each in answer["files"]}

    def fetch(self, place: Place, path: str, project: str = "files") -> bytes:
        where = f"/api/v1/runs/default/{project}/{place.name}/file"
        return ask(self.server.url, "GET", where, key=self.server.admin_key, params={"path": path}).body


@pytest.fixture
def host(tmp_path: Path, server: ServerProcess) -> Host:
    return Host(tmp_path, server)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def eventually(condition: Callable[[], Any], timeout_s: float = 60.0, what: str = "") -> Any:
    """As everywhere, with patience for machines that are busy."""
    return await conftest.eventually(condition, timeout_s, what)


async def finish(lanes: FileLanes, *places: Place, timeout_s: float = 60.0) -> None:
    for place in places:
        lanes.run_ended(place)
    for place in places:
        await eventually(lambda place=place: lanes.files_done(place), timeout_s, str(lanes.status()))


def test_what_appears_in_a_run_directory_arrives(host: Host) -> None:
    async def body() -> None:
        place = host.run("appears")
        contents = {
            "files/requirements.txt": b"tracker\n",
            "files/empty": b"",
            "files/a/b/c.bin": os.urandom(9_000_000),
            "media/images/\u00e9.png": b"png",
        }
        for path, content in contents.items():
            host.write(place, path, content)
        host.write(place, "other/kept", b"not for sending")
        host.write(place, "files/.tracker-half", b"not whole yet")
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await eventually(lambda: len(host.stored(place)) == 4)
            assert not lanes.files_done(place)
            await finish(lanes, place)

        assert host.stored(place) == {path: sha(content) for path, content in contents.items()}
        for path, content in contents.items():
            assert host.fetch(place, path) == content

    asyncio.run(body())


def test_bytes_that_the_project_has_travel_once(tmp_path: Path, host: Host) -> None:
    async def body() -> None:
        other = Host(tmp_path / "other", host.server, host.key)
        content = os.urandom(100_000)
        first, second = host.run("once-1", "dedup"), other.run("once-2", "dedup")
        elsewhere = other.run("once-3", "dedup-elsewhere")
        host.write(first, "files/a", content)
        host.write(first, "files/copy", content)
        other.write(second, "files/b", content)
        other.write(elsewhere, "files/b", content)
        async with host.lanes() as lanes, other.lanes() as other_lanes:
            host.see(lanes, first)
            await finish(lanes, first)
            other.see(other_lanes, second)
            await finish(other_lanes, second)
            assert other.wire.part_bytes == 0
            other.see(other_lanes, elsewhere)
            await finish(other_lanes, elsewhere)

        assert host.wire.part_bytes == len(content)
        assert other.wire.part_bytes == len(content)
        assert other.stored(second, "dedup") == {"files/b": sha(content)}

    asyncio.run(body())


def test_an_agent_that_begins_anew_asks_and_sends_nothing_twice(host: Host) -> None:
    async def body() -> None:
        place = host.run("anew")
        for number in range(20):
            host.write(place, f"files/{number}", os.urandom(1000))
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)
        sent = host.wire.part_bytes
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)
            assert lanes.counts.known_before == 20

        assert host.wire.part_bytes == sent == 20_000

    asyncio.run(body())


def test_an_agent_that_begins_anew_replaces_what_an_earlier_one_sent(host: Host) -> None:
    async def body() -> None:
        place = host.run("replaces")
        for content in (b"first", b"second", b"first"):
            host.write(place, "files/a", content)
            async with host.lanes() as lanes:
                host.see(lanes, place)
                await finish(lanes, place)
            assert host.stored(place) == {"files/a": sha(content)}

    asyncio.run(body())


def test_a_file_that_changes_arrives_in_its_newest_version(host: Host) -> None:
    async def body() -> None:
        place = host.run("changes")
        file = host.write(place, "files/log", b"one")
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await eventually(lambda: host.stored(place).get("files/log") == sha(b"one"))
            file.write_bytes(b"two, longer")
            await eventually(lambda: host.stored(place)["files/log"] == sha(b"two, longer"))
            replaced = file.with_name(".tracker-new")
            replaced.write_bytes(b"one")
            replaced.replace(file)
            await finish(lanes, place)

        assert host.stored(place) == {"files/log": sha(b"one")}

    asyncio.run(body())


def test_a_live_file_that_only_grows_is_sent_while_it_grows(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "SETTLE_S", 1000.0)
    monkeypatch.setattr(run_files, "UNSETTLED_S", 0.1)

    async def body() -> None:
        place = host.run("grows")
        file = host.write(place, "files/log", b"")
        async with host.lanes() as lanes:
            host.see(lanes, place)
            for _ in range(2000):
                with file.open("ab") as log:
                    log.write(b"line\n")
                await asyncio.sleep(0.002)
                if host.stored(place) and _ % 100 == 0 and len(host.fetch(place, "files/log")) > 50:
                    break
            else:
                raise AssertionError(lanes.status())
            monkeypatch.setattr(run_files, "SETTLE_S", 0.02)
            await finish(lanes, place)

        assert host.fetch(place, "files/log") == file.read_bytes()

    asyncio.run(body())


def test_deleting_a_file_while_it_is_sent_stops_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sender, "PART_BYTES", 100_000)
    monkeypatch.setattr("tracker_agent.file_lane.IDLE_S", 1000.0)  # there is always a part to send

    async def body() -> None:
        place = host.run("deleted")
        content = os.urandom(1_000_000)
        file = host.write(place, "files/big", content)

        def delete(method: str, path: str, part: bytes | None) -> None:
            if method == "PATCH":
                file.unlink(missing_ok=True)

        host.wire.before = delete
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await eventually(lambda: host.stored(place))
            await finish(lanes, place)
            assert lanes.counts.not_sent == 0

        assert host.fetch(place, "files/big") == content

    asyncio.run(body())


@pytest.mark.parametrize("how", ["rewritten", "rewritten before", "truncated", "replaced"])
def test_a_file_that_changes_while_it_is_sent_is_read_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(file_sender, "PART_BYTES", 100_000)
    monkeypatch.setattr(run_files, "TROUBLE_MAX_S", 0.1)

    async def body() -> None:
        place = host.run(f"while-{how.replace(' ', '-')}")
        file = host.write(place, "files/big", os.urandom(1_000_000))
        seen: dict[str, int] = {"PATCH": 0, "POST": 0, "GET": 0}
        moment = ("POST", 1) if how == "rewritten before" else ("PATCH", 3)

        def change(method: str, path: str, part: bytes | None) -> None:
            seen[method] += 1
            if (method, seen[method]) == moment:
                if how == "replaced":
                    file.unlink()
                if how == "truncated":
                    os.truncate(file, 150_000)
                else:
                    file.write_bytes(b"other" * 200_000)

        host.wire.before = change
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)

        assert host.fetch(place, "files/big") == file.read_bytes()
        if how != "replaced":  # the former file is still there for who has it open
            assert host.wire.part_bytes <= 1_300_000

    asyncio.run(body())


def test_bytes_that_turn_out_to_be_others_are_read_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "TROUBLE_MAX_S", 0.1)

    async def body() -> None:
        place = host.run("others")
        host.write(place, "files/a", b"content")
        wrong = [Answer(422, {}, b'{"error": "wrong_digest", "reason": "other bytes"}')]
        host.wire.before = lambda method, path, part: wrong.pop() if wrong and method == "PATCH" else None
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)
            assert lanes.counts.changed == 1

        assert host.stored(place) == {"files/a": sha(b"content")}

    asyncio.run(body())


def test_a_file_deleted_before_it_was_sent_is_a_counted_loss(host: Host) -> None:
    async def body() -> None:
        place = host.run("lost", ship=False)
        file = host.write(place, "files/gone", b"x" * 1234)
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await eventually(lambda: "no record" in str(lanes.status()["waiting"]))
            file.unlink()
            assert send(host.server.url, host.key, host.streams["lost"].take()).status == 200
            await finish(lanes, place)
            losses = lanes.counts.counters.losses

        assert [(loss.gaps, loss.bytes) for reason, loss in losses.items() if "file_gone" in reason] == [
            (1, 1234)
        ]

    asyncio.run(body())


def test_renaming_a_file_before_it_was_sent_is_no_loss(host: Host) -> None:
    async def body() -> None:
        place = host.run("renamed", ship=False)
        file = host.write(place, "files/tmp", b"content")
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await asyncio.sleep(0.1)
            file.rename(file.with_name("final"))
            await asyncio.sleep(0.2)
            assert send(host.server.url, host.key, host.streams["renamed"].take()).status == 200
            await finish(lanes, place)
            assert lanes.counts.counters.losses.keys() <= {
                "file_gone: a run's file was deleted or changed before the server had it"
            }

        assert "files/final" in host.stored(place)

    asyncio.run(body())


def test_a_broken_connection_costs_one_part(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sender, "PART_BYTES", 100_000)

    async def body() -> None:
        place = host.run("broken")
        content = os.urandom(2_000_000)
        host.write(place, "files/big", content)
        count = 0

        def fail(method: str, path: str, part: bytes | None) -> Answer | None:
            nonlocal count
            count += method == "PATCH"
            if method == "PATCH" and count % 5 == 4:
                return Answer(502, {}, b"<html>bad gateway</html>")
            return None

        host.wire.before = fail
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)

        lost = sum(1 for number in range(1, count + 1) if number % 5 == 4)
        assert host.wire.part_bytes == len(content) + lost * 100_000
        assert host.fetch(place, "files/big") == content

    asyncio.run(body())


def test_an_agent_killed_in_the_middle_goes_on_where_the_server_is(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_sender, "PART_BYTES", 100_000)

    async def body() -> None:
        place = host.run("resumed")
        content = os.urandom(2_000_000)
        host.write(place, "files/big", content)
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await eventually(lambda: lanes.counts.parts >= 5)
        before = host.wire.part_bytes
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)

        assert before >= 500_000
        assert host.wire.part_bytes <= len(content) + 100_000
        assert host.fetch(place, "files/big") == content

    asyncio.run(body())


def test_a_server_that_takes_small_parts_only_gets_small_parts(host: Host) -> None:
    async def body() -> None:
        place = host.run("narrow")
        content = os.urandom(5_000_000)
        host.write(place, "files/big", content)

        def narrow(method: str, path: str, part: bytes | None) -> Answer | None:
            return Answer(413, {}, b"") if part is not None and len(part) > 300_000 else None

        host.wire.before = narrow
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)

        assert host.fetch(place, "files/big") == content

    asyncio.run(body())


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503, 429, 302, 200])
def test_answers_that_say_nothing_of_files_change_nothing(host: Host, status: int) -> None:
    async def body() -> None:
        place = host.run(f"answers-{status}")
        host.write(place, "files/a", b"content")
        left = 4

        def answer(method: str, path: str, part: bytes | None) -> Answer | None:
            nonlocal left
            if method == "GET" or left == 0:
                return None
            left -= 1
            return Answer(status, {}, b"<html>captive portal</html>")

        host.wire.before = answer
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await finish(lanes, place)

        assert left == 0
        assert host.stored(place) == {"files/a": sha(b"content")}

    asyncio.run(body())


def test_a_server_that_knows_no_files_is_asked_again_and_keeps_its_records(host: Host) -> None:
    async def body() -> None:
        place = host.run("older")
        host.write(place, "files/a", b"content")
        older = True

        def answer(method: str, path: str, part: bytes | None) -> Answer | None:
            said = (
                b'{"server":"tracker","version":"0.0.9","protocol":[1,1],"capabilities":["zstd"],"epoch":"e"}'
            )
            return Answer(200, {}, said) if older and path == "/api/v1/server" else None

        host.wire.before = answer
        async with host.lanes() as lanes:
            host.see(lanes, place)
            lanes.run_ended(place)
            await eventually(lambda: "older than this agent" in str(lanes.status()["lanes"]))
            assert not lanes.files_done(place)
            assert [method for method, _, _ in host.wire.requests if method != "GET"] == []
            older = False
            await finish(lanes, place)

        assert host.stored(place) == {"files/a": sha(b"content")}

    asyncio.run(body())


def test_a_run_of_somebody_else_parks_this_run_only(host: Host) -> None:
    async def body() -> None:
        foreign, own = host.run("foreign"), host.run("own")
        host.key = host.server.new_key("stranger")
        host.write(foreign, "files/a", b"forged")
        host.write(own, "files/a", b"own")
        mine = RecordStream("own-2", "files", uid=UID)
        assert send(host.server.url, host.key, mine.take()).status == 200
        host.streams["own"] = mine
        async with host.lanes() as lanes:
            host.see(lanes, foreign)
            host.see(lanes, own)
            await finish(lanes, own)
            lanes.run_ended(foreign)
            await eventually(lambda: "forbidden" in str(lanes.status()["waiting"]))
            assert not lanes.files_done(foreign)

        assert host.stored(foreign) == {}

    asyncio.run(body())


@pytest.mark.parametrize("live", [True, False])
def test_a_server_restored_without_the_files_gets_them_again(host: Host, live: bool) -> None:
    async def body() -> None:
        place = host.run(f"restored-{live}")
        host.write(place, "files/a", b"kept by the server")
        epoch: list[str] = []

        def answer(method: str, path: str, part: bytes | None) -> Answer | None:
            if epoch and method == "POST" and epoch.pop() == "lost":
                told = (
                    b'{"epoch": "another", "entity": "", "project": "", "run": "", "files": [], "error": "x"}'
                )
                return Answer(200, {}, told)
            return None

        host.wire.before = answer
        async with host.lanes() as lanes:
            host.see(lanes, place)
            if live:
                await eventually(lambda: lanes.counts.stored == 1)
            else:
                await finish(lanes, place)
            assert lanes.counts.stored == 1
            epoch.append("lost")
            host.write(place, "files/b", b"later")
            host.see(lanes, place)
            assert not lanes.files_done(place)
            await eventually(lambda: lanes.counts.stored >= 3, what=str(lanes.status()))
            await finish(lanes, place)

        assert set(host.stored(place)) == {"files/a", "files/b"}

    asyncio.run(body())


def test_a_new_key_ships_what_the_old_one_could_not(host: Host) -> None:
    async def body() -> None:
        place = host.run("rotated")
        host.write(place, "files/a", b"content")
        good, host.key = host.key, "tk_00000000_" + "0" * 43
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await eventually(lambda: "401" in str(lanes.status()["lanes"]))
            host.key = good
            host.see(lanes, place)
            await finish(lanes, place)
            assert len(lanes.status()["lanes"]) == 1

        assert host.stored(place) == {"files/a": sha(b"content")}

    asyncio.run(body())


def test_files_too_large_are_set_aside_and_named(host: Host) -> None:
    async def body() -> None:
        place = host.run("large")
        host.write(place, "files/large", b"x" * 1001)
        host.write(place, "files/small", b"x" * 1000)
        async with host.lanes(bytes_max=1000) as lanes:
            host.see(lanes, place)
            await finish(lanes, place)
            assert "file_too_large" in str(lanes.status()["refused"])

        assert set(host.stored(place)) == {"files/small"}

    asyncio.run(body())


def test_the_rate_holds_and_small_files_do_not_wait_for_a_large_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_sender, "PART_BYTES", 100_000)

    async def body() -> None:
        place = host.run("rate")
        host.write(place, "files/large", os.urandom(3_000_000))
        async with host.lanes(bytes_per_s=1_000_000) as lanes:
            host.see(lanes, place)
            await eventually(lambda: lanes.counts.parts >= 1)
            host.write(place, "files/small", b"small")
            await eventually(lambda: "files/small" in host.stored(place))
            assert "files/large" not in host.stored(place)
            await finish(lanes, place)
            assert lanes.counts.sent_bytes == 3_000_005

    asyncio.run(body())


def test_switched_off_nothing_is_looked_at_and_nothing_is_kept_back(host: Host) -> None:
    async def body() -> None:
        place = host.run("off")
        host.write(place, "files/a", b"content")
        async with host.lanes(enabled=False) as lanes:
            host.see(lanes, place)
            assert lanes.files_done(place)
            await asyncio.sleep(0.1)

        assert host.wire.requests == []

    asyncio.run(body())


@pytest.mark.parametrize("deleted", [True, False])
def test_a_run_that_is_let_go_loses_only_what_is_gone(host: Host, deleted: bool) -> None:
    async def body() -> None:
        place = host.run(f"let-go-{deleted}", ship=False)
        host.write(place, "files/a", b"x" * 77)
        async with host.lanes() as lanes:
            host.see(lanes, place)
            await eventually(lambda: "no record" in str(lanes.status()["waiting"]))
            if deleted:
                shutil.rmtree(place.path)
            lanes.run_gone(place)
            if deleted:
                await eventually(lambda: lanes.counts.not_sent == 1)
            await asyncio.sleep(0.1)
            assert lanes.counts.not_sent == deleted
            assert not lanes.files_done(place)
            assert lanes.status()["runs"]["known"] == 0

    asyncio.run(body())
