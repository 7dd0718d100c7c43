"""Machines of a run over HTTP: samples of its processes, its GPUs, and what happened to its hosts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.http.conftest import Keys
from tests.server.http.test_events import listen
from tests.support.http_client import ask
from tests.support.record_stream import START_NS, RecordStream, send
from tests.support.server_process import ServerProcess

RUN = "/api/v1/runs/default/machine/r/system"


@pytest.fixture(scope="module")
def host(server: ServerProcess, keys: Keys) -> RecordStream:
    """A run of two writers on two machines, and the agent's stream of the first one."""
    first = RecordStream("r", "machine")
    second = RecordStream("r", "machine", machine="machine-2")
    agent = RecordStream(None)
    agent.inventory(gpus=[{"index": 0, "uuid": "GPU-0", "name": "H100"}])
    agent.sample_about(first, START_NS, **{"process.cpu.percent": 50.0, "process.gpu.0.memory.bytes": 5.0})
    agent.sample_about(second, START_NS, **{"process.cpu.percent": 70.0})
    agent.alert(START_NS + 1, "link down", level="warn", interface="ib0")
    agent.alert(START_NS + 2, "Xid 79", "fell off the bus", xid=79)
    agent.alert(START_NS + 3, "link up", level="info")
    assert send(server.url, keys.agent, first.take(), second.take(), agent.take()).status == 200
    return agent


def get(server: ServerProcess, keys: Keys, path: str, **params: Any) -> Any:
    answer = ask(server.url, "GET", path, key=keys.read, params=params)
    assert answer.status == 200, answer
    return answer.json


@pytest.mark.usefixtures("host")
def test_machines_of_a_run_come_with_its_gpus(server: ServerProcess, keys: Keys) -> None:
    first, second = get(server, keys, RUN)["hosts"]

    gpu = {"index": 0, "uuid": "GPU-0", "mig": None, "name": "H100", "streams": [0], "seen": True}
    assert first == {"machine": "machine-1", "host": "node-1", "known": True, "streams": [0], "gpus": [gpu]}
    assert (second["machine"], second["known"], second["streams"], second["gpus"]) == (
        "machine-2",
        False,
        [1],
        None,
    )


@pytest.mark.usefixtures("host")
def test_samples_of_processes_are_series_over_time(server: ServerProcess, keys: Keys) -> None:
    names = [metric["name"] for metric in get(server, keys, RUN + "/metrics")["metrics"]]
    series = get(server, keys, RUN + "/series", metric=[*names, "system.7.none"])["series"]
    window = {"metric": names[0], "from": START_NS + 1}

    assert names == [
        "system.0.process.cpu.percent",
        "system.0.process.gpu.0.memory.bytes",
        "system.1.process.cpu.percent",
    ]
    last = {name: each["last"] for name, each in series.items()}
    assert last == dict(zip(names, [[50], [5], [70]], strict=True))
    assert get(server, keys, RUN + "/series", **window)["series"][names[0]]["x"] == []


@pytest.mark.usefixtures("host")
def test_events_are_asked_for_by_time_level_and_number(server: ServerProcess, keys: Keys) -> None:
    path = "/api/v1/hosts/machine-1/events"

    def titles(**params: Any) -> list[str]:
        return [event["title"] for event in get(server, keys, path, **params)["events"]]

    assert titles() == ["link up", "Xid 79", "link down"]
    assert titles(level="warn") == ["Xid 79", "link down"]
    assert titles(level="error") == ["Xid 79"]
    assert titles(**{"from": START_NS + 2}) == ["link up", "Xid 79"]
    assert titles(to=START_NS + 1) == ["link down"]
    limited = get(server, keys, path, limit=1)
    assert ([event["title"] for event in limited["events"]], limited["more"]) == (["link up"], True)
    assert get(server, keys, path, level="error")["events"] == [
        {
            "time": START_NS + 2,
            "level": "error",
            "title": "Xid 79",
            "text": "fell off the bus",
            "facts": {"xid": 79},
        }
    ]


@pytest.mark.parametrize(
    "query", ["level=fatal", "limit=0", "limit=99999", "from=x", "start=5", f"to={2**63}"]
)
@pytest.mark.usefixtures("host")
def test_questions_about_events_that_make_no_sense_are_refused(
    server: ServerProcess, keys: Keys, query: str
) -> None:
    answer = ask(server.url, "GET", f"/api/v1/hosts/machine-1/events?{query}", key=keys.read)

    assert (answer.status, answer.json["error"]) == (400, "bad_parameter")


def test_an_event_is_news(server: ServerProcess, keys: Keys, host: RecordStream) -> None:
    with listen(server, keys.read) as listener:
        host.alert(START_NS + 9, "Xid 48")
        send(server.url, keys.agent, host.take())

        assert listener.next() == ("host_event", {"machine": "machine-1"})
