"""The agent as a process: start, signals, reload, a second agent, the command line."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.agent_alone import COMMAND, AgentAlone
from tests.support.agent_process import wait_until
from tests.support.fake_nvml import FakeNvml
from tests.support.live_writer import LiveWriter
from tracker.protocol import kinds
from tracker.protocol.bodies import Sample, decode_host, decode_sample


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentAlone]:
    made = AgentAlone(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_stop_ends_the_agent_in_order(agent: AgentAlone, number: signal.Signals) -> None:
    process = agent.start()
    agent.wait_for_status()

    process.send_signal(number)

    assert process.wait(15) == 0
    assert [line["message"] for line in agent.log()][-1] == "agent stopped"
    assert not (agent.state / "agent.sock").exists()


def test_inventory_and_a_first_window_are_written_at_once(agent: AgentAlone) -> None:
    agent.start()

    records = wait_until(
        lambda: (
            (found := agent.own_records())
            and {kinds.HOST, kinds.SAMPLE} <= {kind for kind, _ in found}
            and found
        ),
        what="inventory and first window",
    )

    (sample,) = [decode_sample(body) for kind, body in records if kind == kinds.SAMPLE]
    assert {"host.cpu.percent", "host.memory.used.bytes"} <= set(sample.values)
    assert {count for *_, count in sample.values.values()} == {1}
    inventory = next(decode_host(body) for kind, body in records if kind == kinds.HOST).inventory
    assert inventory["memory_bytes"] == psutil.virtual_memory().total
    assert inventory["cpu"]["threads"] == os.cpu_count()


def test_last_window_is_written_when_the_agent_is_stopped(agent: AgentAlone) -> None:
    agent.write_config(more="[sampler]\ninterval_s = 0.1\nwindow_s = 3600\n")
    process = agent.start()
    wait_until(lambda: (s := agent.status()) and s["sampler"]["ticks"] > 5, what="some samples")

    process.send_signal(signal.SIGTERM)
    process.wait(15)

    first, last = [decode_sample(body) for kind, body in agent.own_records() if kind == kinds.SAMPLE]
    assert first.values["host.cpu.load1"][4] == 1
    assert last.values["host.cpu.load1"][4] >= 3


def test_what_a_run_uses_is_written_down_about_its_stream(agent: AgentAlone) -> None:
    agent.write_config(more="[sampler]\ninterval_s = 0.2\nwindow_s = 0.4\n")
    agent.start()
    run = agent.spool / str(os.getuid()) / "a-run"
    run.mkdir(parents=True)
    with LiveWriter(run) as writer:

        def about() -> list[Sample]:
            samples = [decode_sample(body) for kind, body in agent.own_records() if kind == kinds.SAMPLE]
            return [sample for sample in samples if sample.about == (os.getuid(), writer.stream)]

        samples = wait_until(
            lambda: (found := about()) and "process.cpu.percent" in found[-1].values and found,
            what="windows of the run",
        )

        resident = psutil.Process(writer.process.pid).memory_info().rss
        assert samples[-1].values["process.rss.bytes"][1] == pytest.approx(resident, rel=0.5)
        assert not any(name.startswith("host.") for sample in samples for name in sample.values)


def test_gpus_of_the_machine_reach_the_stream(agent: AgentAlone, tmp_path: Path) -> None:
    library = FakeNvml(tmp_path / "nvml")
    library.play(gpus=2, busy__gpu1=93)
    agent.environment.update(library.environment)

    process = agent.start()

    def gpu_window() -> float | None:
        for kind, body in agent.own_records():
            if kind == kinds.SAMPLE and "host.gpu.1.utilization.percent" in decode_sample(body).values:
                return decode_sample(body).values["host.gpu.1.utilization.percent"][0]
        return None

    assert wait_until(gpu_window, what="a window of GPU 1") == 93
    (child,) = [c for c in psutil.Process(process.pid).children() if "nvidia_child" in " ".join(c.cmdline())]
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert not child.is_running()


def test_second_agent_names_the_first_and_leaves_it_alone(agent: AgentAlone) -> None:
    first = agent.start()
    agent.wait_for_status()

    second = agent.run("run", "--config", str(agent.config))

    assert second.returncode == 1
    assert f"pid {first.pid}" in second.stderr
    assert str(agent.state) in second.stderr
    assert "Traceback" not in second.stderr
    assert agent.status() is not None


def test_killed_agent_leaves_nothing_that_hinders_the_next(agent: AgentAlone) -> None:
    first = agent.start()
    agent.wait_for_status()
    first.kill()
    first.wait(30)

    second = agent.start()

    wait_until(lambda: (s := agent.status()) and s["agent"]["pid"] == second.pid, what="the second agent")


def test_training_processes_can_see_that_an_agent_runs(agent: AgentAlone) -> None:
    process = agent.start()
    agent.wait_for_status()

    facts = json.loads((agent.spool / "agent.json").read_text())
    with (agent.spool / "agent.lock").open("rb") as lock, pytest.raises(BlockingIOError):
        fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    assert (facts["version"], facts["pid"], facts["url"]) == (1, process.pid, "http://127.0.0.1:9")
    assert stat.S_IMODE((agent.spool / "agent.json").stat().st_mode) == 0o644
    process.send_signal(signal.SIGTERM)
    process.wait(15)
    with (agent.spool / "agent.lock").open("rb") as lock:
        fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_reload_changes_server_level_and_sampler_without_a_restart(agent: AgentAlone) -> None:
    process = agent.start()
    agent.wait_for_status()
    agent.write_config("http://127.0.0.1:10", "[sampler]\nenabled = false\n")

    process.send_signal(signal.SIGHUP)

    status = wait_until(
        lambda: (s := agent.status()) and s["server"]["url"].endswith(":10") and s["sampler"] is None and s,
        what="the new settings",
    )
    assert status["agent"]["pid"] == process.pid
    assert [each["url"] for each in status["shipping"]["servers"]] == ["http://127.0.0.1:10"]
    assert json.loads((agent.spool / "agent.json").read_text())["server"] == "http://127.0.0.1:10"
    assert status["tasks"]["pipeline"]["crashes"] == 0


def test_reload_changes_which_collectors_run_and_how_often(agent: AgentAlone) -> None:
    process = agent.start()
    collectors = agent.wait_for_status()["sampler"]["collectors"]
    assert {"inventory", "cpu", "memory"} <= set(collectors)
    agent.write_config(more='[collectors.cpu]\nenabled = "off"\n[collectors.memory]\ninterval_s = 7\n')

    process.send_signal(signal.SIGHUP)

    status = wait_until(
        lambda: (s := agent.status()) and "cpu" not in s["sampler"]["collectors"] and s, what="the reload"
    )
    assert status["sampler"]["collectors"]["memory"]["interval_s"] == 7
    assert status["agent"]["pid"] == process.pid


def test_unusable_new_configuration_leaves_the_old_one_in_force(agent: AgentAlone) -> None:
    process = agent.start()
    agent.wait_for_status()
    agent.config.write_text("[server\n")

    process.send_signal(signal.SIGHUP)

    status = wait_until(
        lambda: (s := agent.status()) and s["agent"]["reload_problem"] and s, what="a word about the reload"
    )
    assert "line 1" in status["agent"]["reload_problem"]
    assert status["server"]["url"] == "http://127.0.0.1:9"
    shown = agent.run("status", "--state-dir", str(agent.state)).stdout
    assert "the last reload was refused" in shown
    agent.write_config()
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: (s := agent.status()) and not s["agent"]["reload_problem"], what="a mended reload")


def test_setting_that_needs_a_restart_is_named_on_reload(agent: AgentAlone) -> None:
    process = agent.start()
    agent.wait_for_status()
    agent.config.write_text(agent.config.read_text().replace("[agent]\n", "[agent]\nscan_interval_s = 7\n"))

    process.send_signal(signal.SIGHUP)

    (line,) = wait_until(lambda: agent.said("need a restart"), what="a word about the restart")
    assert line["settings"] == ["agent.scan_interval_s"]


def test_status_tells_a_person_what_is_wrong_and_what_to_do(agent: AgentAlone) -> None:
    agent.start()
    wait_until(
        lambda: (
            (s := agent.status())
            and s["shipping"].get("lanes")
            and s["shipping"]["lanes"][0]["state"] == "retrying"
        ),
        what="a first attempt",
    )

    done = agent.run("status", "--state-dir", str(agent.state))

    assert done.returncode == 0
    assert "tk_abcdefgh_…" in done.stdout
    assert "s" * 43 not in done.stdout
    assert "http://127.0.0.1:9 cannot be reached" in done.stdout
    assert "nothing is lost" in done.stdout


def test_status_without_an_agent_says_so_with_its_own_exit_status(agent: AgentAlone) -> None:
    for prepare in (lambda: None, agent.state.mkdir):
        prepare()

        done = agent.run("status", "--state-dir", str(agent.state))

        assert done.returncode == 3
        assert str(agent.state) in done.stderr
        assert "tracker-agent run" in done.stderr
        assert "Traceback" not in done.stderr


def test_control_socket_is_for_the_agents_user_only(agent: AgentAlone) -> None:
    agent.start()
    agent.wait_for_status()

    assert stat.S_IMODE((agent.state / "agent.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE(agent.state.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b'{"command": "status"}\n', "agent"),
        (b'{"command": "dance"}\n', "unknown command"),
        (b"\xff\xfe\n", "a request looks like"),
        (b"[]\n", "a request looks like"),
        (b"\n", "a request looks like"),
    ],
)
def test_control_socket_answers_whatever_it_is_asked(agent: AgentAlone, said: bytes, answer: str) -> None:
    agent.start()
    agent.wait_for_status()
    directory = os.open(agent.state, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(f"/proc/self/fd/{directory}/agent.sock")
            connection.sendall(said)
            assert answer in connection.makefile().readline()
    finally:
        os.close(directory)
    assert agent.status() is not None


def test_flags_alone_are_enough_to_run(agent: AgentAlone, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("tk_fromfile_x\n")
    (tmp_path / "key").chmod(0o600)

    agent.start(
        *("--server", "http://127.0.0.1:9", "--key-file", str(tmp_path / "key")),
        *(
            "--spool",
            str(tmp_path / "one"),
            "--spool",
            str(tmp_path / "two"),
            "--state-dir",
            str(agent.state),
        ),
        *("--log-format", "json", "--gpu", "off"),
    )

    status = agent.wait_for_status()
    assert status["server"]["key"] == "tk_fromfile_…"
    assert [each["path"] for each in status["spools"]] == [str(tmp_path / "one"), str(tmp_path / "two")]
    assert (tmp_path / "two").is_dir()
    assert "nvidia" not in status["sampler"]["collectors"]


@pytest.mark.parametrize("name", ["state", "spool"])
def test_directory_that_cannot_be_used_is_named(agent: AgentAlone, name: str) -> None:
    (agent.root / "file").write_text("")
    agent.config.write_text(
        agent.config.read_text().replace(f'{agent.root}/{name}"', f'{agent.root}/file/{name}"')
    )

    done = agent.run("run", "--config", str(agent.config))

    assert done.returncode in (1, 2)
    assert f"{agent.root}/file/{name}" in done.stderr
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unusable_configuration_is_one_message_and_status_2(agent: AgentAlone) -> None:
    agent.config.write_text("[agent]\nlog_level = 'loud'\n[server]\nurl = 'http://localhost'\nkey = 'k'\n")

    for arguments in (("run", "--config"), ("check-config",)):
        done = agent.run(*arguments, str(agent.config))

        assert done.returncode == 2
        assert f"{agent.config}, line 2: agent.log_level" in done.stderr
        assert done.stderr.count("agent.log_level") == 1
        assert "Traceback" not in done.stderr


def test_check_config_shows_every_setting_and_no_key(agent: AgentAlone) -> None:
    done = agent.run("check-config", str(agent.config))

    assert done.returncode == 0
    assert "usable" in done.stdout
    assert 'server.url = "http://127.0.0.1:9"\n' in done.stdout
    assert "sampler.window_s = 30.0   (default)" in done.stdout
    assert "s" * 43 not in done.stdout


def test_key_never_reaches_the_log(agent: AgentAlone) -> None:
    process = agent.start("--config", str(agent.config), "--log-level", "debug")
    wait_until(lambda: agent.said("server away"), what="a failed attempt")
    process.send_signal(signal.SIGTERM)
    process.wait(15)

    assert "s" * 43 not in (agent.root / "log").read_text()
    assert "s" * 43 not in "".join(psutil.Process().cmdline())


def test_log_is_json_for_a_pipe_and_words_for_a_terminal(agent: AgentAlone) -> None:
    process = agent.start()
    agent.wait_for_status()

    (line,) = agent.said("agent started")

    assert {"message", "level", "timestamp", "server", "pid"} <= set(line)
    assert line["pid"] == process.pid


def test_reader_of_the_log_who_went_away_does_not_stop_the_agent(agent: AgentAlone) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "run", "--config", str(agent.config)],
        env=agent.environment,
        stdin=subprocess.DEVNULL,
        stderr=write,
    )
    agent.started.append(process)  # type: ignore[arg-type]
    os.close(write)
    os.close(read)

    status = wait_until(
        lambda: (s := agent.status()) and s["agent"]["log_lines_dropped"] > 0 and s, what="a dropped line"
    )

    assert status["agent"]["pid"] == process.pid


def test_version_is_told() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=60, check=True)

    assert re.fullmatch(r"tracker-agent \d+\.\d+\.\d+\n", done.stdout)
