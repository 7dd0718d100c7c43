"""A newcomer's way through docs/quick-start.md, every block as it stands there. Packages: tests/booted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.test_packages import build
from tests.shim.scripts import environment
from tests.support.agent_process import wait_until
from tests.support.alone import ALONE
from tests.support.document_examples import Step, steps_of
from tests.support.other_user import open_directory
from tests.support.server_process import free_port

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/quick-start.md").read_text()
#: What the page has, and what tests replace by one that is free.
PORT = "8600"
#: An agent of root's would be the system's. Nobody has this uid.
NEWCOMER = 61207


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` leaves, as far as the page needs it."""
    directory = tmp_path_factory.mktemp("release") / "dist"
    directory.mkdir()
    for part in ("shim", "agent", "server"):
        wheel = build(ROOT / part, "wheel", directory / part)
        wheel.rename(directory / wheel.name)
    return directory


class Newcomer:
    """Somebody with a home of their own, without root, and with as many terminals as steps that stay."""

    def __init__(self, home: Path) -> None:
        self._identity: dict[str, int] = {} if os.geteuid() else {"user": NEWCOMER, "group": NEWCOMER}
        self._environ = environment(HOME=str(home), TRACKER_SERVER_HTTP_PORT=str(free_port()))
        for name in (*ALONE, "PYTHONPATH", "VIRTUAL_ENV"):  # a newcomer has nothing of ours
            self._environ.pop(name, None)
        self._environ["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        self._environ["PIP_NO_COMPILE"] = "1"  # 5 s of CI
        self._terminals: list[subprocess.Popen[bytes]] = []
        self._home = home

    def do(self, step: Step) -> str:
        """Type one block; return what it printed. One that stays is left running."""
        text = step.text.replace(PORT, self._environ["TRACKER_SERVER_HTTP_PORT"])
        log = self._home / f"terminal-{len(self._terminals)}"
        command = ["bash", "-euo", "pipefail", "-c", text]
        if step.ready is None:
            done = subprocess.run(
                command, cwd=self._home, env=self._environ, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=300, check=False, **self._identity,
            )  # fmt: skip
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            return done.stdout + done.stderr
        with log.open("wb") as output:
            terminal = subprocess.Popen(
                command, cwd=self._home, env=self._environ, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, **self._identity,
            )  # fmt: skip
        self._terminals.append(terminal)
        ready = step.ready.lower()
        wait_until(
            lambda: ready in log.read_text().lower() or terminal.poll() is not None, 60, f"{ready!r} in {log}"
        )
        assert terminal.poll() is None, log.read_text()
        return log.read_text()

    def leave(self) -> None:
        """Press Ctrl-C in every terminal, the last one first."""
        for terminal in reversed(self._terminals):
            os.killpg(terminal.pid, signal.SIGTERM)
            try:
                terminal.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(terminal.pid, signal.SIGKILL)
                terminal.wait()


@pytest.fixture
def newcomer(dist: Path) -> Iterator[Newcomer]:
    with open_directory() as home:
        shutil.copytree(dist, home / "dist")
        if os.geteuid() == 0:
            os.chown(home, NEWCOMER, NEWCOMER)
        someone = Newcomer(home)
        try:
            yield someone
        finally:
            someone.leave()


def test_with_pip_a_newcomer_reaches_a_chart(newcomer: Newcomer) -> None:
    steps = steps_of(PAGE, "pip")

    said = [newcomer.do(step) for step in steps]

    link = next(word for word in said[-2].split() if "/runs/" in word)
    assert "?project=first" in link
    assert "/signin#tl_" in said[1]
    assert "Nothing needs attention" in said[-1]
    assert "first" in said[-1]
    assert "finished" in said[-1]


def test_every_block_of_the_page_is_a_step() -> None:
    walks = steps_of(PAGE, "pip") + steps_of(PAGE, "packages")

    assert len(walks) == PAGE.count("```sh")
    assert [step.user for step in steps_of(PAGE, "packages")].count("user") == 1
