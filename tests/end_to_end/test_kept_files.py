"""What is kept with a run comes back from the server: files, artifacts, code as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import require
from tests.support.agent_process import AgentProcess, training_environment, wait_until
from tests.support.server_process import ServerError, ServerProcess

TRAINING = """
import os, tracker
run = tracker.init(project="vision", id="kept", config={"lr": 0.5, "nested": {"a": [1, 2]}})
with open("model.bin", "wb") as file:
    file.write(bytes(range(256)) * 1000)
tracker.save("model.bin", policy="now", block=True)
artifact = tracker.Artifact("data", "dataset")
with artifact.new_file("rows/1.txt") as file:
    file.write("one")
run.log_artifact(artifact, aliases=["small"])
"""
ELSEWHERE = """
import os, sys, tracker
run = tracker.init(project="vision", id="other")
with tracker.restore("model.bin", run_path="vision/kept", root="there") as file:
    pass
assert open("there/model.bin", "rb").read() == bytes(range(256)) * 1000
assert tracker.restore("model.bin", run_path="kept", root="there") is not None
assert tracker.restore("missing.bin", run_path="vision/kept") is None
assert tracker.restore("../model.bin", run_path="vision/kept") is None
found = run.use_artifact("data:small", type="dataset")
assert open(os.path.join(found.download("data"), "rows", "1.txt")).read() == "one"
try:
    run.use_artifact("data:v7")
except tracker.CommError as error:
    print(error)
"""
IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "server") as running:
        yield running


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository whose train.py has a change that is not committed."""
    directory = tmp_path / "clone"
    directory.mkdir()
    (directory / "train.py").write_text("raise SystemExit('not this')\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(
            [require.program("git"), *command], cwd=directory, check=True, env={**os.environ, **IDENTITY}
        )
    (directory / "train.py").write_text(TRAINING)
    return directory


def run_python(
    directory: Path, spool: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=training_environment(spool, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_files_artifacts_and_code_come_back_from_the_server(
    server: ServerProcess, clone: Path, tmp_path: Path
) -> None:
    path = "/api/v1/runs/default/vision/kept"
    with AgentProcess(tmp_path, server.url, server.ingest_key) as agent:
        done = run_python(clone, agent.spool, "train.py", "--token", "hush", TRACKER_DISABLE_CODE="0")
        assert done.returncode == 0, done.stderr

        def shipped() -> bool:
            try:
                files = {each["path"] for each in server.request("GET", path + "/files")["files"]}
            except ServerError:
                return False
            return {"files/model.bin", "files/diff.patch", "files/artifacts/data/v0.json"} <= files

        wait_until(shipped, 60, "all files are on the server")
        wait_until(lambda: server.request("GET", path)["state"] == "finished", 60, "the run is finished")

    fields = server.request("GET", path)["fields"]
    assert fields["origin"]["command"] == ["train.py", "--token", "[removed]"]
    assert fields["code"]["dirty"] and fields["code"]["branch"] and len(fields["code"]["commit"]) == 40

    # Another machine: nothing of the run lies in its spool.
    key = server.new_key("ada", ("read",))
    away = tmp_path / "away"
    away.mkdir()
    more = {"TRACKER_BASE_URL": server.url, "TRACKER_API_KEY": key}
    done = run_python(away, tmp_path / "spool-2", "-c", ELSEWHERE, **more)
    assert done.returncode == 0, done.stderr
    assert "no artifact data:v7" in done.stdout and "missing.bin" in done.stderr

    done = run_python(
        clone,
        tmp_path / "spool-2",
        "-m",
        "tracker",
        "restore",
        "vision/kept",
        "--into",
        str(away / "back"),
        **more,
    )
    assert done.returncode == 0, done.stderr
    assert (away / "back" / "source" / "train.py").read_text() == TRAINING
    assert (away / "back" / "files" / "model.bin").stat().st_size == 256_000
    assert '"lr": 0.5' in (away / "back" / "config.json").read_text()
    assert (clone / "train.py").read_text() == TRAINING

    # Again is refused, and without a clone it says where the commit is to be had.
    done = run_python(
        clone,
        tmp_path / "spool-2",
        "-m",
        "tracker",
        "restore",
        "vision/kept",
        "--into",
        str(away / "back"),
        **more,
    )
    assert done.returncode == 1 and "is there already" in done.stderr
    done = run_python(away, tmp_path / "spool-2", "-m", "tracker", "restore", "kept", **more)
    assert (
        done.returncode == 1
        and "git clone" in done.stderr
        and (away / "kept" / "files" / "model.bin").exists()
    )

    # From the run's own directory, without a server.
    done = run_python(clone, agent.spool, "-m", "tracker", "restore", "kept", "--into", str(away / "local"))
    assert done.returncode == 0, done.stderr
    assert (away / "local" / "source" / "train.py").read_text() == TRAINING

    # A key that may only write learns nothing, and is told what it lacks.
    more["TRACKER_API_KEY"] = server.ingest_key
    done = run_python(
        away, tmp_path / "spool-2", "-m", "tracker", "restore", "vision/kept", "--into", "x", **more
    )
    assert done.returncode == 1 and "may read" in done.stderr
