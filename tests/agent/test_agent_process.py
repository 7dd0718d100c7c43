"""The agent as a process: start, signals, reload, a second agent, the service manager, the command line."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.agent_process import wait_until
from tests.support.fake_nvml import FakeNvml
from tests.support.live_writer import LiveWriter
from tracker.protocol import kinds
from tracker.protocol.bodies import Sample, decode_host, decode_sample
from tracker.protocol.codec import Seeds, scan_lines
from tracker.protocol.header import read_header

COMMAND = [sys.executable, "-m", "tracker_agent.cli"]


class Process:
    """One agent on directories of its own, with no server at the other end unless a test has one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.spool = root / "spool"
        self.spool.mkdir()
        self.config = root / "agent.toml"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TRACKER_", "XDG_")) and name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")
        }
        self.started: list[subprocess.Popen[str]] = []
        self.write_config()

    def write_config(self, server: str = "http://127.0.0.1:9", more: str = "") -> None:
        self.config.write_text(
            f'[agent]\nstate_dir = "{self.state}"\nspools = ["{self.spool}"]\nlog_format = "json"\n'
            f'[server]\nurl = "{server}"\nkey = "tk_abcdefgh_{"s" * 43}"\n{more}'
        )
        self.config.chmod(0o600)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.root / "log").open("a") as log:
            process = subprocess.Popen(
                [*COMMAND, "run", *(arguments or ("--config", str(self.config)))],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self) -> dict[str, Any] | None:
        done = self.run("status", "--json", "--state-dir", str(self.state))
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_for_status(self) -> dict[str, Any]:
        status: dict[str, Any] = wait_until(self.status, what="a status")
        return status

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "log").read_text().splitlines()]

    def said(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if message in line["message"]]

    def own_records(self) -> list[tuple[int, bytes]]:
        """Return (kind, body) of everything in the agent's own streams."""
        records = []
        for segment in sorted((self.state / "streams").glob("*/*.mpl")):
            content = segment.read_bytes()
            header, end = read_header(content)
            scanned = scan_lines(content[end:], Seeds(header.stream, header.segment))
            assert not scanned.bad
            records += [(kind, body) for kind, _, body in scanned.lines]
        return records


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait(30)


@pytest.fixture
def manager(tmp_path: Path, agent: Process) -> Iterator[socket.socket]:
    """A service manager's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(30)
        before = Path.cwd()
        os.chdir(tmp_path)
        listener.bind("notify")
        os.chdir(before)
        short = Path(f"/tmp/tracker-notify-{os.getpid()}")  # the address of a socket has 107 bytes at most
        short.unlink(missing_ok=True)
        short.symlink_to(tmp_path)
        agent.environment["NOTIFY_SOCKET"] = f"{short}/notify"
        yield listener
        short.unlink()


def told(manager: socket.socket, wanted: str) -> list[str]:
    """Return what the service manager was told up to and including a line that starts with `wanted`."""
    heard: list[str] = []
    while not any(line.startswith(wanted) for line in heard):
        heard += manager.recv(4096).decode().splitlines()
    return heard


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_stop_ends_the_agent_in_order(agent: Process, number: signal.Signals) -> None:
    process = agent.start()
    agent.wait_for_status()

    process.send_signal(number)

    assert process.wait(15) == 0
    assert [line["message"] for line in agent.log()][-1] == "agent stopped"
    assert not (agent.state / "agent.sock").exists()


def test_agent_stops_in_time_while_its_server_accepts_and_never_answers(agent: Process) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        agent.write_config(f"http://127.0.0.1:{silent.getsockname()[1]}")
        process = agent.start()
        connection, _ = silent.accept()
        with connection:
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)

            assert process.wait(30) == 0
            assert time.monotonic() - began < 10, "the promise is 10 s"


class NeverAcknowledges(http.server.BaseHTTPRequestHandler):
    """A Tracker server as far as the first batch, which it takes and keeps silent about."""

    took_a_batch = threading.Event()
    let_go = threading.Event()

    def do_GET(self) -> None:
        self.answer(
            {"server": "tracker", "version": "0", "protocol": [1, 1], "capabilities": [], "epoch": "e"}
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/ingest"):
            self.took_a_batch.set()
            self.let_go.wait(60)
            return
        streams = [{**each, "next": 0, "crc": None, "last": None} for each in json.loads(body)["streams"]]
        self.answer({"epoch": "e", "streams": streams})

    def answer(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def test_agent_stops_in_time_with_a_batch_that_is_never_acknowledged(agent: Process) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NeverAcknowledges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        agent.write_config(f"http://127.0.0.1:{server.server_port}")
        process = agent.start()
        assert NeverAcknowledges.took_a_batch.wait(60)
        began = time.monotonic()
        try:
            process.send_signal(signal.SIGTERM)

            assert process.wait(50) == 0
            assert time.monotonic() - began < 10, "the promise is 10 s"
        finally:
            NeverAcknowledges.let_go.set()
            server.shutdown()


def test_inventory_and_a_first_window_are_written_at_once(agent: Process) -> None:
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


def test_last_window_is_written_when_the_agent_is_stopped(agent: Process) -> None:
    agent.write_config(more="[sampler]\ninterval_s = 0.1\nwindow_s = 3600\n")
    process = agent.start()
    wait_until(lambda: (s := agent.status()) and s["sampler"]["ticks"] > 5, what="some samples")

    process.send_signal(signal.SIGTERM)
    process.wait(15)

    first, last = [decode_sample(body) for kind, body in agent.own_records() if kind == kinds.SAMPLE]
    assert first.values["host.cpu.load1"][4] == 1
    assert last.values["host.cpu.load1"][4] >= 3


def test_what_a_run_uses_is_written_down_about_its_stream(agent: Process) -> None:
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


def test_gpus_of_the_machine_reach_the_stream(agent: Process, tmp_path: Path) -> None:
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


def test_second_agent_names_the_first_and_leaves_it_alone(agent: Process) -> None:
    first = agent.start()
    agent.wait_for_status()

    second = agent.run("run", "--config", str(agent.config))

    assert second.returncode == 1
    assert f"pid {first.pid}" in second.stderr
    assert str(agent.state) in second.stderr
    assert "Traceback" not in second.stderr
    assert agent.status() is not None


def test_killed_agent_leaves_nothing_that_hinders_the_next(agent: Process) -> None:
    first = agent.start()
    agent.wait_for_status()
    first.kill()
    first.wait(30)

    second = agent.start()

    wait_until(lambda: (s := agent.status()) and s["agent"]["pid"] == second.pid, what="the second agent")


def test_training_processes_can_see_that_an_agent_runs(agent: Process) -> None:
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


def test_reload_changes_server_level_and_sampler_without_a_restart(agent: Process) -> None:
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


def test_reload_changes_which_collectors_run_and_how_often(agent: Process) -> None:
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


def test_unusable_new_configuration_leaves_the_old_one_in_force(agent: Process) -> None:
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


def test_setting_that_needs_a_restart_is_named_on_reload(agent: Process) -> None:
    process = agent.start()
    agent.wait_for_status()
    agent.config.write_text(agent.config.read_text().replace("[agent]\n", "[agent]\nscan_interval_s = 7\n"))

    process.send_signal(signal.SIGHUP)

    (line,) = wait_until(lambda: agent.said("need a restart"), what="a word about the restart")
    assert line["settings"] == ["agent.scan_interval_s"]


def test_service_manager_is_told_of_start_reload_watchdog_and_stop(
    agent: Process, manager: socket.socket
) -> None:
    agent.environment["WATCHDOG_USEC"] = "900000"
    process = agent.start()

    started = told(manager, "READY=1")
    running = told(manager, "WATCHDOG=1") + told(manager, "WATCHDOG=1")
    process.send_signal(signal.SIGHUP)
    reloading = told(manager, "RELOADING=1") + told(manager, "READY=1")
    process.send_signal(signal.SIGTERM)
    stopping = told(manager, "STOPPING=1")

    assert started[-1] == "READY=1"
    assert any(line.startswith("STATUS=") for line in running)
    assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in reloading)
    assert stopping[-1] == "STOPPING=1"
    assert process.wait(15) == 0


def test_status_tells_a_person_what_is_wrong_and_what_to_do(agent: Process) -> None:
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


def test_status_without_an_agent_says_so_with_its_own_exit_status(agent: Process) -> None:
    for prepare in (lambda: None, agent.state.mkdir):
        prepare()

        done = agent.run("status", "--state-dir", str(agent.state))

        assert done.returncode == 3
        assert str(agent.state) in done.stderr
        assert "tracker-agent run" in done.stderr
        assert "Traceback" not in done.stderr


def test_control_socket_is_for_the_agents_user_only(agent: Process) -> None:
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
def test_control_socket_answers_whatever_it_is_asked(agent: Process, said: bytes, answer: str) -> None:
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


def test_flags_alone_are_enough_to_run(agent: Process, tmp_path: Path) -> None:
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
def test_directory_that_cannot_be_used_is_named(agent: Process, name: str) -> None:
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


def test_unusable_configuration_is_one_message_and_status_2(agent: Process) -> None:
    agent.config.write_text("[agent]\nlog_level = 'loud'\n")

    for arguments in (("run", "--config"), ("check-config",)):
        done = agent.run(*arguments, str(agent.config))

        assert done.returncode == 2
        assert f"{agent.config}, line 2: agent.log_level" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_check_config_shows_every_setting_and_no_key(agent: Process) -> None:
    done = agent.run("check-config", str(agent.config))

    assert done.returncode == 0
    assert "usable" in done.stdout
    assert 'server.url = "http://127.0.0.1:9"\n' in done.stdout
    assert "sampler.window_s = 30.0   (default)" in done.stdout
    assert "s" * 43 not in done.stdout


def test_key_never_reaches_the_log(agent: Process) -> None:
    process = agent.start("--config", str(agent.config), "--log-level", "debug")
    wait_until(lambda: agent.said("server away"), what="a failed attempt")
    process.send_signal(signal.SIGTERM)
    process.wait(15)

    assert "s" * 43 not in (agent.root / "log").read_text()
    assert "s" * 43 not in "".join(psutil.Process().cmdline())


def test_log_is_json_for_a_pipe_and_words_for_a_terminal(agent: Process) -> None:
    process = agent.start()
    agent.wait_for_status()

    (line,) = agent.said("agent started")

    assert {"message", "level", "timestamp", "server", "pid"} <= set(line)
    assert line["pid"] == process.pid


def test_reader_of_the_log_who_went_away_does_not_stop_the_agent(agent: Process) -> None:
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
