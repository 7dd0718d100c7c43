"""`tracker-agent sync` and `replay` as users type them: offline runs of another machine, parked streams."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Spool, make_header
from tests.end_to_end.acknowledged import Points, read_points
from tests.end_to_end.trainings import print_seed
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.server_process import ServerProcess

RECORDS = 3000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def key_file(tmp_path: Path, server: ServerProcess) -> Path:
    path = tmp_path / "key"
    path.write_text(server.ingest_key)
    path.chmod(0o600)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Spool:
    """The spool of another machine, on a disk that was carried over."""
    return Spool(tmp_path / "carried")


def write_offline(disk: Spool, run: str, **more: Any) -> None:
    header = make_header(run, machine="f" * 32, boot="another boot", offline=True)
    disk.write(run, RECORDS, header=header, segment_bytes=20_000, **more)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tracker_agent.cli", *map(str, arguments)]


def tracker_agent(*arguments: object, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def points(server: ServerProcess, run: str) -> Points:
    return read_points(server, run, "loss", "p")


def state(server: ServerProcess, run: str) -> str | None:
    found = server.try_get(f"/api/v1/runs/default/p/{run}")
    return found["state"] if found else None


def test_offline_runs_of_another_machine_arrive_once_however_often_sync_is_killed(
    server: ServerProcess, disk: Spool, key_file: Path
) -> None:
    moments = random.Random(print_seed())
    write_offline(disk, "carried-1")
    write_offline(disk, "carried-2", exit_code=None)
    arguments = ("sync", disk.root, "--wait", "--server", server.url, "--key-file", key_file)

    for _ in range(3):
        process = subprocess.Popen(command(*arguments), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 1.0))
        process.kill()
        process.wait(30)
    first = tracker_agent(*arguments)
    again = tracker_agent(*arguments)

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "done: 2 of 2 streams of 2 runs are on the server whole" in again.stdout
    for run in ("carried-1", "carried-2"):
        assert points(server, run) == [(step, step / 7) for step in range(RECORDS)]
    assert state(server, "carried-1") == "finished"
    assert state(server, "carried-2") == "crashed"


def test_one_run_directory_is_enough(server: ServerProcess, disk: Spool, key_file: Path) -> None:
    write_offline(disk, "single")
    write_offline(disk, "neighbour")

    done = tracker_agent("sync", disk.run("single"), "--wait", "--server", server.url, "--key-file", key_file)

    assert done.returncode == 0, done.stderr
    assert len(points(server, "single")) == RECORDS
    assert state(server, "neighbour") is None


def test_running_agent_takes_runs_over_and_goes_on_after_it_was_killed(
    server: ServerProcess, disk: Spool, tmp_path: Path
) -> None:
    for number in range(20):
        write_offline(disk, f"taken-{number}")

    with AgentProcess(tmp_path, server.url, server.ingest_key) as agent:
        wait_until(agent.status, what="an agent that answers")
        handed = tracker_agent("sync", disk.root, "--state-dir", agent.state)
        agent.kill()
        agent.start()
        wait_until(agent.status, what="an agent that answers")
        followed = tracker_agent("sync", disk.root, "--wait", "--state-dir", agent.state)

        assert handed.returncode == 0, handed.stderr
        assert "handed over to the agent: 20 runs" in handed.stdout
        assert followed.returncode == 0, followed.stderr
        for number in range(20):
            assert points(server, f"taken-{number}") == [(step, step / 7) for step in range(RECORDS)]
        status = wait_until(agent.status, what="status")
        assert status["shipping"]["handovers"] == {"paths": [], "problems": []}
    assert (agent.state / "adopted.json").read_text() == "[]"
    assert len(list(disk.user.glob("taken-*"))) == 20, "sync leaves the files alone"


def test_offline_runs_in_the_agents_own_spool_are_shipped_when_asked_for(
    server: ServerProcess, tmp_path: Path
) -> None:
    with AgentProcess(tmp_path, server.url, server.ingest_key) as agent:
        spool = Spool(agent.spool)
        write_offline(spool, "kept")
        (spool.run("kept") / "files").mkdir()
        (spool.run("kept") / "files" / "notes.txt").write_text("kept, too")
        spool.write("online", RECORDS)
        wait_until(lambda: state(server, "online") == "finished", what="the run that is shipped anyway")
        assert state(server, "kept") is None

        done = tracker_agent("sync", agent.spool, "--wait", "--state-dir", agent.state)

    assert done.returncode == 0, done.stderr
    assert len(points(server, "kept")) == len(points(server, "online")) == RECORDS
    files = server.get("/api/v1/runs/default/p/kept/files")
    assert [file["path"] for file in files["files"]] == ["files/notes.txt"]


def test_server_that_is_away_is_told_and_nothing_is_lost(disk: Spool, tmp_path: Path, key_file: Path) -> None:
    write_offline(disk, "patient")

    done = tracker_agent("sync", disk.root, "--server", "http://127.0.0.1:9", "--key-file", key_file)

    assert done.returncode == 1
    assert "Nothing is lost: run the same command again, or let it wait with --wait" in done.stderr
    assert "127.0.0.1:9" in done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_directory_without_runs_is_refused(tmp_path: Path, there: bool) -> None:
    path = tmp_path if there else tmp_path / "nowhere"

    done = tracker_agent("sync", path, "--server", "http://127.0.0.1:9")

    assert done.returncode == 1
    assert str(path) in done.stderr
    assert ("holds no run" in done.stderr) == there


def test_diverged_stream_can_be_shipped_as_new_beside_what_the_server_has(
    server: ServerProcess, tmp_path: Path
) -> None:
    with AgentProcess(tmp_path, server.url, server.ingest_key) as agent:
        spool = Spool(agent.spool)
        stream = spool.write("restored", records=10)
        wait_until(lambda: state(server, "restored") == "finished", what="the first version")
        agent.stop()
        header = make_header("restored", stream=stream, started=1)
        shutil.rmtree(spool.run("restored"))
        spool.write("restored", records=20, header=header)
        agent.start()
        wait_until(lambda: parked(agent) == ["diverged"], what="a stream parked as diverged")

        retried = tracker_agent("replay", "--all", "--state-dir", agent.state)
        wait_until(lambda: parked(agent) == ["diverged"], what="the stream parked again")
        replayed = tracker_agent("replay", "--run", "restored", "--as-new", "--state-dir", agent.state)
        wait_until(lambda: len(points(server, "restored")) == 30, what="both versions")
        agent.kill()
        agent.start()
        wait_until(lambda: all_shipped(agent), what="the stream shipped whole")

        assert retried.returncode == 0 and "--as-new ships it under a new id" in retried.stdout
        assert replayed.returncode == 0 and "shipped as new under" in replayed.stdout
        assert parked(agent) == [] and len(points(server, "restored")) == 30

        agent.stop()
        agent.delete_state()
        agent.start()
        wait_until(lambda: parked(agent) == ["diverged"], what="the alias forgotten with the state")
        tracker_agent("replay", "--stream", stream.hex(), "--as-new", "--state-dir", agent.state)
        wait_until(lambda: all_shipped(agent), what="the stream recognised on the server")
        assert len(points(server, "restored")) == 30

        nothing = tracker_agent("replay", "--run", "nobody", "--state-dir", agent.state)
        assert nothing.returncode == 1 and "no parked stream is meant" in nothing.stderr


def parked(agent: AgentProcess) -> list[str]:
    status = agent.status()
    return [each["code"] for each in status["shipping"]["parked"]] if status else []


def all_shipped(agent: AgentProcess) -> bool:
    status = agent.status()
    if status is None:
        return False
    streams, behind = status["shipping"]["streams"], status["shipping"]["behind"]
    return streams["known"] > 0 and not streams["parked"] and not behind["streams"] and not behind["unasked"]
