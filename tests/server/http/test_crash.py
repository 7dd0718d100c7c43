"""The black box of a run over HTTP: cause, evidence, last lines, and what its host went through."""

from __future__ import annotations

from tests.server.http.conftest import Keys
from tests.support.http_client import ask
from tests.support.record_stream import START_NS, RecordStream, send
from tests.support.server_process import ServerProcess

SECOND = 10**9


def crash(server: ServerProcess, run: str, key: str) -> dict[str, object]:
    answer = ask(server.url, "GET", f"/api/v1/runs/default/crashes/{run}/crash", key=key)
    assert answer.status == 200, answer
    found: dict[str, object] = answer.json
    return found


def test_the_last_lines_are_those_of_the_writer_that_went_first(server: ServerProcess, keys: Keys) -> None:
    one, two = (RecordStream("lines", "crashes", machine=machine) for machine in ("m-1", "m-2"))
    two.print(*[f"line {number}" for number in range(80)])
    one.print("of another rank")
    own = RecordStream(None, machine="m-2")
    died = START_NS + 100 * SECOND
    for at in range(-1000, 200, 10):
        own.sample(START_NS + at * SECOND, cpu=float(at))
    own.observe(
        two, "gone", cause="killed by SIGKILL", signal=9, died=died, evidence={"wait": "SIGKILL", "x": 5}
    )
    send(server.url, keys.agent, two.take(), one.take(), own.take())
    own.observe(one, "gone", cause="vanished, cause unknown", died=died + SECOND)
    send(server.url, keys.agent, own.take())

    found = crash(server, "lines", keys.read)

    assert (found["cause"], found["first"], found["time"]) == ("killed by SIGKILL", two.stream.hex(), died)
    assert [line["text"] for line in found["console"]] == [f"line {n}" for n in range(30, 80)]  # type: ignore[attr-defined]
    cpu = found["samples"]["cpu"]  # type: ignore[index]
    assert min(cpu["time"]) >= died - 300 * SECOND
    assert max(cpu["time"]) <= died + 60 * SECOND
    writers = {each["stream"]: each for each in found["writers"]}  # type: ignore[attr-defined]
    assert writers[two.stream.hex()]["evidence"] == {"wait": "SIGKILL", "x": 5}
    assert writers[one.stream.hex()]["cause"] == "vanished, cause unknown"


def test_a_supervisor_s_word_is_evidence(server: ServerProcess, keys: Keys) -> None:
    training, supervisor = RecordStream("supervised", "crashes"), RecordStream("supervised", "crashes")
    own = RecordStream(None)
    own.observe(training, "gone", cause="vanished, cause unknown")
    supervisor.exit(137, {"pid": 4321, "signal": 9})
    send(server.url, keys.agent, training.take(), supervisor.take(), own.take())

    found = crash(server, "supervised", keys.read)

    assert (found["state"], found["cause"]) == ("crashed", "killed by SIGKILL")
    training_end = next(each for each in found["writers"] if each["state"] == "gone")  # type: ignore[attr-defined]
    assert training_end["evidence"]["supervisor"] == {"code": 137, "pid": 4321, "signal": 9}


def test_a_run_that_runs_or_ended_well_has_no_cause(server: ServerProcess, keys: Keys) -> None:
    for run, code in (("runs", None), ("well", 0)):
        stream = RecordStream(run, "crashes")
        if code is not None:
            stream.exit(code)
        send(server.url, keys.agent, stream.take())

        found = crash(server, run, keys.read)

        assert (found["cause"], found["first"], found["time"]) == (None, None, None)


def test_the_black_box_is_for_readers_of_the_entity(server: ServerProcess, keys: Keys) -> None:
    path = "/api/v1/runs/default/crashes/lines/crash"

    assert ask(server.url, "GET", path, key=keys.ingest).status == 403
    assert ask(server.url, "GET", path, key=keys.foreign_admin).status == 404


def test_evidence_of_another_shape_does_no_harm(server: ServerProcess, keys: Keys) -> None:
    stream, own = RecordStream("odd", "crashes"), RecordStream(None)
    own.observe(stream, "gone", cause=["x"], died="yesterday", evidence="none")
    send(server.url, keys.agent, stream.take(), own.take())

    found = crash(server, "odd", keys.read)

    assert found["cause"] == "vanished, cause unknown"
    assert found["writers"][0]["evidence"] == {}  # type: ignore[index]
