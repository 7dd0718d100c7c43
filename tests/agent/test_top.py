"""top: what it draws at every size, and how it behaves on a terminal, driven through a real pty."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from tracker_agent.control import Arguments, ControlServer
from tracker_agent.top_view import draw

COMMAND = [sys.executable, "-m", "tracker_agent.cli", "top"]


def stream(number: int, **more: Any) -> dict[str, Any]:
    return {
        "run": f"run-{number:04}",
        "stream": f"{number:032x}",
        "uid": 1000,
        "user": "ada",
        "live": True,
        "own": False,
        "parked": None,
        "bytes_per_s": 0.0,
        "behind_bytes": 0,
        "waits_s": 0.0,
        "position": 0,
        **more,
    }


def message(streams: int = 40, reason: str = "", **shipping: Any) -> dict[str, Any]:
    lane = {
        "credential": "default",
        "server": "https://tracker.example.org",
        "state": "retrying" if reason else "shipping",
        "reason": reason,
        "last_contact_s": 3.0,
        "next_try_s": 20.0 if reason else None,
        "streams": streams,
        "behind_bytes": 5 << 20,
        "positions": 1,
    }
    return {
        "status": {
            "agent": {
                "version": "0.1.0", "pid": 1, "host": "node17", "uptime_s": 7300.0, "rss_bytes": 50 << 20,
                "warnings": [], "reload_problem": "", "stuck": [],
            },
            "health": {"state": "stalled" if reason else "shipping", "ready": not reason, "reasons": []},
            "server": {"url": "https://tracker.example.org", "key": "tk_a_…"},
            "spools": [],
            "tasks": {},
            "sampler": None,
            "shipping": {
                "lanes": [lane],
                "streams": {"known": streams, "live": streams, "parked": 0},
                "behind": {"bytes": 5 << 20, "streams": 3, "unasked": 0},
                "oldest_wait_s": 75.0,
                "losses": {"deleted: from the spool": {"code": "deleted", "gaps": 2, "bytes": 4096}},
                **shipping,
            },
        },
        "streams": [stream(n, bytes_per_s=1000.0 - n, behind_bytes=n) for n in range(streams)],
        "host": {
            "host.cpu.percent": 45.0,
            "host.gpu.0.utilization.percent": 97.0, "host.gpu.0.memory.percent": 70.0,
        },
    }  # fmt: skip


def screen(width: int, height: int, said: dict[str, Any]) -> list[str]:
    output = io.StringIO()
    console = Console(width=width, height=height, file=output, highlight=False)
    console.print(draw(said, {"shipped": 1e6, "sent": 5e5}, width, height))
    return output.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 45, 80, 120, 300])
@pytest.mark.parametrize("height", [16, 24, 60])
def test_screen_fits_whatever_the_size(width: int, height: int) -> None:
    lines = screen(width, height, message(reason="503: the disk is full"))

    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_screen_shows_what_an_operator_looks_for() -> None:
    text = "\n".join(screen(120, 40, message(reason="503: the disk is full")))

    for part in (
        "stalled", "40 streams: 40 live", "waiting for 75 s", "976.6 KiB/s shipped", "CPU 45 %", "97/70",
        "retrying", "in 20 s", "503: the disk is full", "run-0000", "1000 B/s", "ada",
        "lost: 4.0 KiB in 2 gaps: deleted",
    ):  # fmt: skip
        assert part in text


def test_long_reasons_and_names_leave_room_for_the_figures() -> None:
    said = message(5, reason="no answer: " + "x" * 500)
    said["streams"] = [
        stream(n, run="run-" + "y" * 200, user="z" * 100, bytes_per_s=2048.0) for n in range(5)
    ]

    for width in (45, 60, 80, 100, 200):
        text = "\n".join(screen(width, 30, said))

        assert "retrying" in text
        assert "5.0 MiB" in text
        assert text.count("2.0 KiB/s") == 5


def test_narrow_screen_keeps_runs_rates_and_what_is_behind() -> None:
    text = "\n".join(screen(45, 24, message()))

    assert "run-0001" in text
    assert "999 B/s" in text
    assert "tracker.example.org" not in text


def test_names_that_users_choose_cannot_command_the_terminal_or_rich() -> None:
    said = message(1)
    said["streams"] = [stream(1, run="\x1b[2J[bold red]x[/]\n", user="\u202eada")]

    text = "\n".join(screen(160, 30, said))

    assert r"\x1b[2J[bold red]x[/]\n" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_agent_that_has_nothing_yet_can_be_watched() -> None:
    said = message(0)
    said["status"]["shipping"] = {}
    said["host"] = {}

    assert any("no stream is live or behind" in line for line in screen(80, 24, said))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """A control socket that answers "watch" as an agent does; yields its state directory."""
    started, stop = [], []

    async def serve() -> None:
        async def watch(arguments: Arguments) -> AsyncGenerator[dict[str, Any]]:
            for _ in range(10_000):
                yield message()
                await asyncio.sleep(float(arguments["interval_s"]))

        server = ControlServer(tmp_path)
        server.stream("watch", watch)
        await server.start()
        stopped = asyncio.Event()
        stop.append((asyncio.get_running_loop(), stopped))
        started.append(True)
        await stopped.wait()
        await server.close()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    while not started:
        time.sleep(0.01)
    yield tmp_path
    loop, event = stop[0]
    loop.call_soon_threadsafe(event.set)
    thread.join(20)


class Terminal:
    """A process on a pty, and what it has written there so far."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self.fd = fd
        self.written = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.written:
            assert time.monotonic() < deadline, f"{text!r} never came: {self.written[-2000:]!r}"
            if select.select([self.fd], [], [], 0.05)[0]:
                self.written += os.read(self.fd, 65536).decode("utf-8", "replace")

    def press(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def end(self) -> int:
        """Return the exit status, reading what is still written."""
        while self.process.poll() is None:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.written += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:  # the other end is closed
                    break
        return self.process.wait(30)


def _take_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # Who runs in the background of a script has Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def terminal(*arguments: str, columns: int = 100, rows: int = 30) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=_take_the_terminal,
    )
    modes = termios.tcgetattr(slave)
    made = Terminal(process, master)
    try:
        yield made
        assert termios.tcgetattr(slave) == modes, "the terminal is left as it was"
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_q_ends_it_and_gives_the_terminal_back(agent: Path) -> None:
    with terminal("--state-dir", str(agent), "--interval", "0.2") as shown:
        shown.wait_for("run-0000")
        assert "\x1b[?1049h" in shown.written, "the screen beside the one the shell is on"

        shown.press(b"q")

        assert shown.end() == 0
        assert "\x1b[?1049l" in shown.written
        assert "Traceback" not in shown.written


def test_ctrl_c_ends_it_without_a_traceback(agent: Path) -> None:
    with terminal("--state-dir", str(agent)) as shown:
        shown.wait_for("run-0000")

        shown.press(b"\x03")

        assert shown.end() == 0
        assert "Traceback" not in shown.written


def test_it_follows_the_size_of_the_terminal(agent: Path) -> None:
    with terminal("--state-dir", str(agent), columns=50) as shown:
        shown.wait_for("run-0000")
        assert "Stream" not in re.sub(r"\d+ streams", "", shown.written)

        shown.resize(140, 40)

        shown.wait_for("0" * 31 + "1")
        shown.press(b"q")
        assert shown.end() == 0


def test_agent_that_goes_away_is_said_on_the_shells_screen(agent: Path) -> None:
    with terminal("--state-dir", str(agent / "elsewhere")) as shown:
        assert shown.end() == 3
        assert "no agent has run" in shown.written


def test_without_a_terminal_it_prints_once(agent: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--state-dir", str(agent), "--interval", "0.2"],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stdout.count("tracker-agent 0.1.0 on node17") == 1
    assert "run-0000" in done.stdout
    assert "\x1b" not in done.stdout
