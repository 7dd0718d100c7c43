"""Stopping a run over HTTP: who may, what its agent gets, and what nobody else can do to it."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.http.conftest import Keys
from tests.support.http_client import Answer, ask
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess
from tracker_server.principal import Principal
from tracker_server.web.errors import ApiError
from tracker_server.web.stop_api import Waiters

NAMES = (f"run-{number}" for number in itertools.count())


class Stoppable:
    """A live run that an agent ships."""

    def __init__(self, server: ServerProcess, key: str, *, stop: bool = True, machine: str = "") -> None:
        self.server = server
        self.key = key
        self.run = next(NAMES)
        self.machine = machine = machine or f"machine-of-{self.run}"
        self.writer = RecordStream(self.run, "stopping", stop=stop, machine=machine)
        self.writer.log(0, {"loss": 1.0})
        self.send()

    @property
    def path(self) -> str:
        return f"/api/v1/runs/default/stopping/{self.run}"

    def send(self) -> None:
        answer = send(self.server.url, self.key, self.writer.take())
        assert answer.status == 200, answer
        assert "error" not in answer.json["streams"][0], answer

    def stop(self, key: str | None = None, path: str | None = None) -> Answer:
        return ask(self.server.url, "POST", (path or self.path) + "/stop", key=key or self.server.admin_key)

    def poll(self, wait_s: float = 0) -> Answer:
        """Ask as the agent of the run does."""
        return poll(self.server, self.key, self.machine, wait_s)

    def deliver(self, number: object, **body: str) -> Answer:
        """Answer as the agent of the run does."""
        return deliver(self.server, self.key, number, self.machine, **body)

    def detail(self, key: str | None = None) -> dict[str, object]:
        found: dict[str, object] = ask(
            self.server.url, "GET", self.path, key=key or self.server.admin_key
        ).json
        return found


def poll(server: ServerProcess, key: str, machine: str = "m-1", wait_s: float = 0) -> Answer:
    return ask(server.url, "GET", f"/api/v1/hosts/{machine}/requests", key=key, params={"wait_s": wait_s})


def deliver(server: ServerProcess, key: str, number: object, machine: str = "m-1", **body: str) -> Answer:
    return ask(
        server.url,
        "POST",
        f"/api/v1/hosts/{machine}/requests/{number}",
        key=key,
        json_body={"result": "written", **body},
    )


def ids(answer: Answer) -> list[int]:
    assert answer.status == 200, answer
    return [request["id"] for request in answer.json["requests"]]


def test_a_request_goes_to_the_agent_of_the_run_until_it_says_what_it_did(
    server: ServerProcess, keys: Keys
) -> None:
    run = Stoppable(server, keys.agent)
    asked = run.stop()

    assert asked.status == 202, asked
    request = run.poll().json["requests"][0]
    assert (request["kind"], request["run"], request["by"]) == ("stop", run.run, "admin")
    assert request["streams"] == [{"uid": 1000, "stream": run.writer.stream.hex()}]
    assert run.deliver(request["id"]).status == 200
    assert ids(run.poll()) == []
    stop = run.detail()["stop"]
    assert isinstance(stop, dict)
    assert [each["result"] for each in stop["deliveries"]] == ["written"]
    assert (stop["by"], stop["done"]) == ("admin", None)


def test_a_run_that_ends_closes_its_request_and_says_who_stopped_it(
    server: ServerProcess, keys: Keys
) -> None:
    run = Stoppable(server, keys.agent)
    run.stop()
    assert run.detail()["can_stop"] is True

    run.writer.exit(130, {"stopped_by": "admin", "request": 1})
    run.send()

    detail = run.detail()
    assert (detail["state"], detail["cause"], detail["can_stop"]) == ("failed", "stopped by admin", False)
    assert detail["stop"]["done"] is not None  # type: ignore[index]
    assert ids(run.poll()) == []
    assert run.stop().error == "not_running"


def test_a_waiting_poll_is_answered_at_once(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.agent)
    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(run.poll(30)))
    began = time.monotonic()
    waiting.start()
    while not answers and time.monotonic() < began + 30:
        run.stop()  # asked twice is asked once, so this may come before the poll as well
        waiting.join(0.05)

    waiting.join()
    assert len(ids(answers[0])) == 1  # one that waited to its end is empty


def test_asking_twice_is_asking_once_and_lets_a_host_that_failed_try_again(
    server: ServerProcess, keys: Keys
) -> None:
    run = Stoppable(server, keys.agent)
    first, second = run.stop().json, run.stop().json
    assert first["id"] == second["id"]
    assert run.deliver(first["id"], result="failed", reason="disk full").status == 200
    assert ids(run.poll()) == []

    again = run.stop().json

    assert again["id"] == first["id"]
    assert ids(run.poll()) == [first["id"]]


def test_a_run_that_does_not_allow_it_cannot_be_stopped(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.agent, stop=False)

    answer = run.stop()

    assert (answer.status, answer.error) == (409, "not_allowed")
    assert "allow_stop" in answer.json["reason"]
    assert run.detail()["can_stop"] is False


def test_writers_that_join_later_are_none_of_an_earlier_request(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.agent, machine="m-7")
    run.stop()
    run.writer.exit(130)
    run.send()

    resumed = RecordStream(run.run, "stopping", stop=True, machine="m-7")
    send(server.url, keys.agent, resumed.take())

    assert ids(poll(server, keys.agent, "m-7")) == []


def test_a_writer_that_joins_a_run_being_stopped_is_not_asked(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.agent, machine="m-8")
    number = run.stop().json["id"]
    beside, elsewhere = (
        RecordStream(run.run, "stopping", stop=True, machine=machine) for machine in ("m-8", "m-9")
    )

    send(server.url, keys.agent, beside.take(), elsewhere.take())

    request = poll(server, keys.agent, "m-8").json["requests"][0]
    assert (request["id"], [each["stream"] for each in request["streams"]]) == (
        number,
        [run.writer.stream.hex()],
    )
    assert ids(poll(server, keys.agent, "m-9")) == []


@pytest.mark.parametrize("who", ["read", "ingest", "foreign_admin", "foreign_read", "foreign_ingest"])
def test_who_may_not_write_a_run_may_not_stop_it(server: ServerProcess, keys: Keys, who: str) -> None:
    run = Stoppable(server, keys.agent)

    answer = run.stop(getattr(keys, who))

    assert answer.status == (403 if who == "read" else 404)
    assert run.detail()["stop"] is None
    if not who.startswith("foreign"):
        assert run.detail(keys.read)["can_stop"] is False


def test_the_owner_and_whom_he_lets_write_may_stop_a_run(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.ingest, machine="m-3")
    assert run.stop(keys.ingest).status == 202
    friend = server.new_key("friend", ("ingest", "read"))
    assert run.stop(friend).status == 403
    granted = ask(
        server.url, "POST", run.path + "/grants", key=server.admin_key, json_body={"principal": "friend"}
    )

    assert granted.status == 201, granted
    assert run.stop(friend).status == 202


def test_a_grant_for_one_uid_does_not_let_its_holder_stop_the_run(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.ingest, machine="m-3")
    other = server.new_key("other-host", ("ingest",))
    ask(
        server.url,
        "POST",
        run.path + "/grants",
        key=server.admin_key,
        json_body={"principal": "other-host", "uid": 1001},
    )

    assert run.stop(other).status == 404


def test_another_principal_gets_no_requests_by_naming_the_host(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.agent, machine="m-5")
    number = run.stop().json["id"]

    for key in (keys.ingest, keys.foreign_ingest, keys.admin, keys.foreign_admin):
        assert ids(poll(server, key, "m-5")) == []
        assert deliver(server, key, number, "m-5").status == 404
    assert ids(poll(server, keys.agent, "m-other")) == []
    assert deliver(server, keys.agent, number, "m-other").status == 404
    assert poll(server, keys.read, "m-5").status == 403
    assert ids(poll(server, keys.agent, "m-5")) == [number]


def test_a_foreign_stream_with_the_id_of_a_run_can_stop_nobody(server: ServerProcess, keys: Keys) -> None:
    run = Stoppable(server, keys.agent, stop=False, machine="m-6")
    intruder = RecordStream(run.run, "stopping", stop=True, machine="m-6")

    answer = send(server.url, keys.ingest, intruder.take())

    assert answer.json["streams"][0]["error"] == "forbidden"
    assert run.stop().error == "not_allowed"


@pytest.mark.parametrize("number", ["0", "999999999", "-1", "x", "1" * 30, "1.5"])
def test_requests_that_do_not_exist_are_not_found(server: ServerProcess, keys: Keys, number: str) -> None:
    assert deliver(server, keys.agent, number).status == 404


def test_a_server_that_stops_answers_those_who_wait_and_knows_its_requests_afterwards(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        run = Stoppable(server, server.ingest_key)
        number = run.stop().json["id"]
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        path = "/api/v1/hosts/another/requests?wait_s=50"
        connection.request("GET", path, headers={"Authorization": f"Bearer {server.ingest_key}"})
        # Keys are looked up one after the other: once these are answered, the first one waits.
        for _ in range(3):
            assert ids(poll(server, server.ingest_key)) == []

    answer = connection.getresponse()

    assert (answer.status, json.loads(answer.read())) == (200, {"requests": []})
    connection.close()
    with ServerProcess(tmp_path) as server:
        assert ids(poll(server, server.ingest_key, run.machine)) == [number]


def test_only_so_many_agents_may_wait_at_once_and_a_place_comes_back() -> None:
    waiters = Waiters(waiters_max=2, per_principal_max=1)
    ada, bob, eve = (Principal(n, "service", 1, "default", str(n), frozenset()) for n in range(3))

    with waiters.wait_for(ada, "m"):
        with pytest.raises(ApiError) as own_limit, waiters.wait_for(ada, "m"):
            pass
        with waiters.wait_for(bob, "m"), pytest.raises(ApiError) as limit, waiters.wait_for(eve, "m"):
            pass

    assert own_limit.value.status == limit.value.status == 503
    assert len(waiters) == 0
    with waiters.wait_for(ada, "m") as event:
        waiters.wake(2, ["m"])
        waiters.wake(1, ["other"])
        assert not event.is_set()
        waiters.wake(1, ["m"])
        assert event.is_set()
