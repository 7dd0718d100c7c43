"""Bad input on the whole path: each gets a clear answer, and nothing else is lost."""

from __future__ import annotations

import http.server
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.acknowledged import check_stored_once_in_order, read_points, read_side_log
from tests.end_to_end.trainings import start_training
from tests.support.agent_process import AgentProcess, training_environment, wait_until
from tests.support.server_process import ServerProcess
from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header
from tracker.protocol.identity import boot_id, machine_id
from tracker.protocol.writer import StreamWriter

RECORDS = 500


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "server") as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path, server: ServerProcess) -> Iterator[AgentProcess]:
    """An agent that is configured, but not started yet."""
    prepared = AgentProcess(tmp_path, server.url, server.ingest_key)
    yield prepared
    prepared.__exit__()


def train(agent: AgentProcess, root: Path, run: str, records: int = RECORDS) -> list[tuple[int, float]]:
    """Train to the end; return what was noted as logged."""
    side_log = root / f"side-{run}"
    assert start_training(agent.spool, run, side_log, 1, records, 1_000_000).wait(60) == 0
    return read_side_log(side_log)


def run_page(server: ServerProcess, run: str, project: str = "end-to-end") -> dict[str, Any] | None:
    page: dict[str, Any] | None = server.try_get(f"/api/v1/runs/default/{project}/{run}")
    return page


def wait_for_state(server: ServerProcess, run: str, state: str = "finished") -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        page = run_page(server, run)
        return page if page and page["state"] == state else None

    page: dict[str, Any] = wait_until(reached, what=f"state {state} of {run}")
    return page


def problems_of_lanes(agent: AgentProcess) -> str:
    """Return what the agent's status gives as reasons why it is not shipping."""
    status = agent.status()
    lanes = status["shipping"].get("lanes", []) if status else []
    return " ".join(lane["reason"] for lane in lanes if lane["reason"])


def segments(agent: AgentProcess, run: str) -> list[Path]:
    return sorted(agent.spool.glob(f"*/{run}/*.mpl"))


def test_damaged_segment_costs_only_the_damaged_records_and_shows_as_a_gap(
    tmp_path: Path, server: ServerProcess, agent: AgentProcess
) -> None:
    noted = train(agent, tmp_path, "damaged")
    (segment,) = segments(agent, "damaged")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)

    agent.start()

    page = wait_for_state(server, "damaged")
    stored = read_points(server, "damaged")
    assert len(stored) == RECORDS - 1
    assert set(stored) < set(noted)
    (gap,) = [gap for stream in page["streams"] for gap in stream["gaps"]]
    assert gap["bytes"] > 0
    assert "damage" in gap["reason"]


def test_foreign_files_in_the_spool_hinder_nobody(
    tmp_path: Path, server: ServerProcess, agent: AgentProcess
) -> None:
    noted = train(agent, tmp_path, "among-strangers")
    (segment,) = segments(agent, "among-strangers")
    directory = segment.parent
    stranger = secrets.token_hex(16)
    (directory / "notes.txt").write_text("hello")
    (directory / f"{stranger}.000000.mpl").write_bytes(os.urandom(4096))
    (directory / f"{secrets.token_hex(16)}.000000.mpl").symlink_to("/etc/passwd")
    os.mkfifo(directory / f"{secrets.token_hex(16)}.000000.mpl")
    (directory.parent / "a-file-where-a-run-should-be").write_text("hello")
    (agent.spool / "not-a-user").mkdir()

    agent.start()

    wait_for_state(server, "among-strangers")
    check_stored_once_in_order(noted, read_points(server, "among-strangers"))
    status = wait_until(agent.status, what="the agent's status")
    assert stranger in str(status), "the foreign file is named in the status"


def write_by_hand(agent: AgentProcess, run: str, version: int) -> int:
    """Write a finished run with records no shim writes today; return the stream's length."""
    directory = agent.spool / str(os.getuid()) / run
    directory.mkdir(parents=True)
    now = time.time_ns()
    header = Header(
        stream=secrets.token_bytes(16),
        run=run,
        segment=0,
        base=0,
        machine=machine_id(),
        boot=boot_id(),
        pid=os.getpid(),
        started=now,
        clock=time.monotonic_ns(),
        writer="tracker-shim/9.0.0",
        version=version,
    )
    writer = StreamWriter(str(directory), header)
    writer.write(kinds.RUN, bodies.Run(now, {"project": "end-to-end"}).encode())
    writer.write(kinds.METRICS, bodies.Metrics(now, 0, {"value": 1.5}).encode())
    writer.write(200, b"\xc1 not even msgpack")
    writer.write(kinds.METRICS, bodies.pack(["a body of another shape"]))
    writer.write(kinds.METRICS, bodies.Metrics(now, 1, {"value": 2.5}).encode())
    writer.write(kinds.EXIT, bodies.Exit(now, 0).encode())
    writer.close()
    return writer.position


def test_unknown_kinds_are_kept_raw_among_records_that_are_read(
    server: ServerProcess, agent: AgentProcess
) -> None:
    length = write_by_hand(agent, "unknown-kinds", version=1)

    agent.start()

    page = wait_for_state(server, "unknown-kinds")
    assert read_points(server, "unknown-kinds") == [(0, 1.5), (1, 2.5)]
    (stream,) = page["streams"]
    assert stream["next"] == length, "every byte was accepted"
    assert {problem["count"] for problem in stream["problems"]} == {1}
    assert len(stream["problems"]) == 2, "the unknown kind and the unreadable body both show"


def test_newer_format_version_is_kept_raw_and_shown_on_the_run(
    server: ServerProcess, agent: AgentProcess
) -> None:
    length = write_by_hand(agent, "from-the-future", version=2)

    agent.start()

    page = wait_for_state(server, "from-the-future")
    (stream,) = page["streams"]
    assert stream["next"] == length, "every byte was accepted"
    (problem,) = stream["problems"]
    assert problem["count"] == 4, "both kinds of records are kept until a newer server reads them"
    assert "newer" in problem["reason"]


def test_wrong_key_parks_the_run_and_the_right_key_ships_it(tmp_path: Path, server: ServerProcess) -> None:
    agent = AgentProcess(tmp_path, server.url, "tk_00000000_" + "x" * 43)
    noted = train(agent, tmp_path, "locked-out")
    with agent:
        refused = wait_until(lambda: problems_of_lanes(agent), what="a lane with a problem")
        assert "401" in refused
        assert "key" in refused
        config = agent.config.read_text()
        agent.config.write_text(config.replace("tk_00000000_" + "x" * 43, server.ingest_key))
        assert agent.process is not None
        os.kill(agent.process.pid, 1)

        wait_for_state(server, "locked-out")

    check_stored_once_in_order(noted, read_points(server, "locked-out"))


def test_url_that_is_no_tracker_server_is_said_so_and_keeps_everything(
    tmp_path: Path, server: ServerProcess
) -> None:
    stranger = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=stranger.serve_forever, daemon=True).start()
    wrong = f"http://127.0.0.1:{stranger.server_port}"
    agent = AgentProcess(tmp_path, wrong, server.ingest_key)
    noted = train(agent, tmp_path, "wrong-door")
    try:
        with agent:
            wait_until(
                lambda: "not a tracker server" in problems_of_lanes(agent).lower(),
                what="a status that says it is not a Tracker server",
            )
            agent.config.write_text(agent.config.read_text().replace(wrong, server.url))
            assert agent.process is not None
            os.kill(agent.process.pid, 1)

            wait_for_state(server, "wrong-door")
    finally:
        stranger.shutdown()
        stranger.server_close()

    check_stored_once_in_order(noted, read_points(server, "wrong-door"))


def test_unparsable_config_is_named_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("[agent]\nstate_dir = \n")

    done = subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert str(config) in done.stderr
    assert "line 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_second_server_on_a_port_says_it_is_in_use(tmp_path: Path, server: ServerProcess) -> None:
    port = server.url.rsplit(":", 1)[1]

    done = subprocess.run(
        [sys.executable, "-m", "tracker_server.cli", "run", "--data", str(tmp_path / "b"), "--port", port],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert port in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_goes_on_where_the_spool_cannot_be_written(tmp_path: Path) -> None:
    not_a_directory = tmp_path / "file"
    not_a_directory.write_text("")
    script = (
        "import tracker\ntracker.init(project='p')\nfor i in range(9): tracker.log({'x': i})\n"
        "tracker.finish()\nprint('trained')"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        env=training_environment(not_a_directory, XDG_STATE_HOME=str(tmp_path / "state")),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert str(not_a_directory) in done.stderr
    assert "TRACKER_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_id_of_another_principal_is_refused_and_his_data_stays_his(
    tmp_path: Path, server: ServerProcess
) -> None:
    with AgentProcess(tmp_path / "alice", server.url, server.new_key("alice")) as alice:
        noted = train(alice, tmp_path / "alice", "hers")
        wait_for_state(server, "hers")

    with AgentProcess(tmp_path / "mallory", server.url, server.new_key("mallory")) as mallory:
        train(mallory, tmp_path / "mallory", "hers", records=7)
        train(mallory, tmp_path / "mallory", "his", records=7)
        wait_for_state(server, "his")
        wait_until(
            lambda: (s := mallory.status()) and "forbidden" in str(s).lower(),
            what="a status that shows the run as forbidden",
        )

    check_stored_once_in_order(noted, read_points(server, "hers"))
