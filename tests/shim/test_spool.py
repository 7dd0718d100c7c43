"""Where records go: lookup of the spool, other people's directories, what the agent tells."""

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.scripts import reading, run_script
from tests.support import require
from tracker._agent import find_agent
from tracker._spool import candidate_roots, ensure_run_directory, ensure_user_directory
from tracker.protocol.identity import boot_id, machine_id

UID = str(os.geteuid())
LOG_ONE = """
import tracker
run = tracker.init(project='a b', name='n', id='run')
tracker.log({'a': 1})
print(run.dir, run.url)
"""


def test_the_argument_comes_first_then_the_variable_the_system_and_the_users_own(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": "/state"}
    system = tmp_path / "system"
    system.mkdir()

    roots = [root for root, _ in candidate_roots("/argument", "/variable", environ, str(system))]

    assert roots == ["/argument", "/variable", str(system), "/state/tracker/spool"]


def test_a_missing_system_spool_and_a_relative_state_home_are_passed_over(tmp_path: Path) -> None:
    roots = [
        root for root, _ in candidate_roots(None, None, {"XDG_STATE_HOME": "state"}, str(tmp_path / "none"))
    ]

    assert roots == [os.path.expanduser("~/.local/state/tracker/spool")]


@pytest.mark.parametrize("bad", ["a file", "/proc/none"])
def test_a_bad_tracker_dir_is_named_and_records_go_where_they_can(tmp_path: Path, bad: str) -> None:
    if bad == "a file":
        bad = str(tmp_path / "file")
        Path(bad).write_text("")

    out, err = run_script(LOG_ONE, TRACKER_DIR=bad, XDG_STATE_HOME=str(tmp_path / "state"))

    assert f"cannot record in {bad} (TRACKER_DIR)" in err
    (stream,) = reading(tmp_path / "state")
    assert stream.metrics == [(0, {"a": 1})]
    assert out.split()[0] == str(tmp_path / "state" / "tracker" / "spool" / UID / "run")


def test_a_user_directory_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    require.root()
    taken = tmp_path / UID
    taken.mkdir()
    os.chown(taken, 12345, 12345)

    path = ensure_user_directory(str(tmp_path))

    assert Path(path).name.startswith(UID + "-") and Path(path).parent == tmp_path
    assert ensure_user_directory(str(tmp_path)) == path
    assert not os.listdir(taken)


def test_a_link_in_place_of_the_user_directory_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / UID).symlink_to(elsewhere)

    path = ensure_user_directory(str(tmp_path))

    assert Path(path).name.startswith(UID + "-")
    assert not os.listdir(elsewhere)


def test_a_run_directory_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    require.root()
    (tmp_path / UID / "run").mkdir(parents=True)
    os.chown(tmp_path / UID / "run", 12345, 12345)

    with pytest.raises(PermissionError, match="belongs to somebody else"):
        ensure_run_directory(str(tmp_path), "run")


def test_children_use_the_directory_that_was_found_without_looking_again(tmp_path: Path) -> None:
    script = """
        import os, pickle, tracker, tracker._spool
        run = tracker.init(id="run")
        def look_again(root, run):
            raise AssertionError("looked for the directory again")
        tracker._spool.ensure_run_directory = look_again
        pid = os.fork()
        if not pid:
            run.log({"fork": 1})
            os._exit(run.lost)
        assert os.waitpid(pid, 0)[1] == 0
        pickled = pickle.loads(pickle.dumps(run))
        pickled.log({"pickle": 1})
        assert (pickled.lost, pickled.dir) == (0, run.dir)
    """

    run_script(script, TRACKER_DIR=str(tmp_path))

    assert [stream.metrics for stream in reading(tmp_path)] == [[], [(0, {"fork": 1})], [(0, {"pickle": 1})]]


def test_directories_and_files_are_closed_to_others_but_open_to_a_group(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = Path(ensure_run_directory(str(tmp_path), "run"))
    finally:
        os.umask(old)

    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode) == 0o770


@pytest.fixture
def agent_lock(tmp_path: Path) -> Iterator[Path]:
    """A spool with a running agent, as far as files tell."""
    child = os.fork()  # a lock of this process would not be seen by this process
    if not child:
        fd = os.open(tmp_path / "agent.lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        (tmp_path / "ready").write_text("")
        import signal

        signal.pause()
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield tmp_path
    os.kill(child, 9)
    os.waitpid(child, 0)


def write_agent_file(root: Path, **facts: object) -> None:
    known = {
        "version": 1,
        "server": "http://s",
        "url": "https://ui.example/",
        "machine": "m" * 32,
        "boot": boot_id(),
    }
    (root / "agent.json").write_text(json.dumps(known | facts))


def test_the_greeting_names_run_directory_and_url(agent_lock: Path) -> None:
    write_agent_file(agent_lock)

    out, err = run_script(LOG_ONE, TRACKER_DIR=str(agent_lock))

    url = "https://ui.example/runs/run?project=a%20b"
    assert err == f"tracker: run n · {agent_lock}/{UID}/run · {url}\n"
    assert out.split()[1] == url
    (stream,) = reading(agent_lock)
    assert stream.header.machine == "m" * 32


def test_without_an_agent_the_greeting_says_what_to_do(tmp_path: Path) -> None:
    write_agent_file(tmp_path, boot="another boot")
    (tmp_path / "agent.lock").write_text("")

    _, err = run_script(LOG_ONE, TRACKER_DIR=str(tmp_path))

    assert err.count("\n") == 1
    assert "no agent is running here" in err and "tracker-agent run" in err
    (stream,) = reading(tmp_path)
    assert stream.header.machine == machine_id()


def test_offline_runs_are_marked_and_not_blamed_on_the_agent(tmp_path: Path) -> None:
    _, err = run_script(LOG_ONE, TRACKER_DIR=str(tmp_path), TRACKER_MODE="dryrun", RANK="3")

    assert "offline" in err and "agent" not in err
    (stream,) = reading(tmp_path)
    assert (stream.header.offline, stream.header.rank) == (True, 3)


def test_the_header_says_which_gpus_each_process_was_given_and_nothing_else_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROCR_VISIBLE_DEVICES", raising=False)
    script = """
        import os
        import tracker

        run = tracker.init()
        tracker.log({"loss": 1})
        child = os.fork()
        tracker.log({"loss": 2})
        if child:
            os.waitpid(child, 0)
    """

    run_script(
        script,
        TRACKER_DIR=str(tmp_path),
        CUDA_VISIBLE_DEVICES="",
        NVIDIA_VISIBLE_DEVICES="GPU-1," * 1000,
        WANDB_API_KEY="secret-value",
    )

    first, second = reading(tmp_path)
    assert first.header.gpus == {
        "CUDA_VISIBLE_DEVICES": "",
        "NVIDIA_VISIBLE_DEVICES": ("GPU-1," * 1000)[:1024],
    }
    assert second.header.gpus == first.header.gpus
    assert not any(b"secret-value" in path.read_bytes() for path in tmp_path.rglob("*.mpl"))


def test_without_a_word_about_gpus_the_header_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for maker in ("CUDA", "NVIDIA", "ROCR"):
        monkeypatch.delenv(f"{maker}_VISIBLE_DEVICES", raising=False)

    run_script(LOG_ONE, TRACKER_DIR=str(tmp_path))

    (stream,) = reading(tmp_path)
    assert stream.header.gpus is None


@pytest.mark.parametrize("content", ["{", "[]", "\\xff", '{"url": 5}', '{"url": "x\\u001b[2J"}', ""])
def test_a_strange_agent_file_is_no_agent_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "agent.json").write_text(content)

    assert find_agent(str(tmp_path))[1:] == ("", "", "", None)


def test_an_agent_file_of_another_user_is_not_believed(tmp_path: Path) -> None:
    require.root()
    write_agent_file(tmp_path)
    os.chown(tmp_path / "agent.json", 12345, 12345)

    assert find_agent(str(tmp_path)).url == ""


def test_arguments_come_before_variables(tmp_path: Path) -> None:
    script = """
        import tracker
        run = tracker.init(project="argument")
        print(run.project, run.name, run.id, run.entity, run.tags, run.notes, run.group, run.job_type)
    """

    out, _ = run_script(
        script,
        TRACKER_DIR=str(tmp_path),
        TRACKER_PROJECT="variable",
        TRACKER_NAME="name",
        TRACKER_RUN_ID="id-1",
        TRACKER_ENTITY="team",
        TRACKER_TAGS="a, b",
        TRACKER_NOTES="notes",
        TRACKER_GROUP="group",
        TRACKER_JOB_TYPE="eval",
    )

    assert out == "argument name id-1 team ('a', 'b') notes group eval\n"
