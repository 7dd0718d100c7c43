"""Backup and restore as docs/operations.md has them: its very commands, with a server that runs meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tests.agent.conftest import Spool
from tests.end_to_end.acknowledged import read_points
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.server_process import ServerProcess

PAGE = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
DATA, BACKUPS = "/var/lib/tracker-server", "/var/backups/tracker"
#: Stands in for systemctl: the server is a child of the test.
SYSTEMCTL = """#!/bin/sh
[ "$2" = tracker-server ] || exit 64
case "$1" in
stop) kill -TERM $SERVER_PID; while kill -0 $SERVER_PID 2>/dev/null; do sleep 0.1; done ;;
start) touch "$STARTED" ;;
*) exit 64 ;;
esac
"""


def block(heading: str) -> str:
    """Return the one block of commands under a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [commands] = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(commands)


class Operator:
    """Types what the page says, on directories of the test."""

    def __init__(self, server: ServerProcess, root: Path) -> None:
        self._server = server
        self._root = root
        (root / "bin").mkdir()
        (root / "bin/systemctl").write_text(SYSTEMCTL)
        (root / "bin/systemctl").chmod(0o755)

    @property
    def started(self) -> bool:
        return (self._root / "started").exists()

    def types(self, commands: str) -> None:
        text = commands.replace(DATA, str(self._server.data)).replace(BACKUPS, str(self._root / "backups"))
        environ = {
            **os.environ,
            "PATH": f"{self._root / 'bin'}:{os.environ['PATH']}",
            "SERVER_PID": str(self._server.process.pid if self._server.process else 0),
            "STARTED": str(self._root / "started"),
        }
        # The test's own child stays a zombie until somebody waits for it, as systemd would.
        typed = subprocess.Popen(["bash", "-euo", "pipefail", "-c", text], env=environ, text=True)
        while typed.poll() is None:
            if self._server.process:
                self._server.process.poll()
            try:
                typed.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
        assert typed.returncode == 0, text


def stored(server: ServerProcess, run: str) -> int:
    there = server.try_get(f"/api/v1/runs/default/p/{run}")
    return len(read_points(server, run, "loss", "p")) if there else 0


def fetched(server: ServerProcess, run: str) -> str | None:
    """Return the run's file as the server has it."""
    query = urllib.parse.urlencode({"path": "files/model.txt"})
    request = urllib.request.Request(
        f"{server.url}/api/v1/runs/default/p/{run}/file?{query}",
        headers={"Authorization": f"Bearer {server.admin_key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
        return None


def test_what_came_after_a_backup_comes_again_after_it_was_restored(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "server") as server:
        operator = Operator(server, tmp_path)
        with AgentProcess(tmp_path, server.url, server.ingest_key) as agent:
            spool = Spool(agent.spool)
            spool.write("before", 500)
            (spool.run("before") / "files").mkdir()
            (spool.run("before") / "files/model.txt").write_text("kept")
            wait_until(lambda: stored(server, "before") == 500, what="the first run")
            wait_until(lambda: fetched(server, "before") == "kept", 60, "its file")

            operator.types(block("Backup"))
            operator.types(block("Backup"))  # the second finds the first in its place
            spool.write("after", 300)
            wait_until(lambda: stored(server, "after") == 300, what="what came after the backup")
            epoch = server.get("/api/v1/server", key="")["epoch"]
            for kept in (server.data / "blobs").rglob("*"):
                kept.is_file() and kept.unlink()
            operator.types(block("Restore"))
            assert operator.started
            server.start()

            assert server.get("/api/v1/server", key="")["epoch"] != epoch
            assert stored(server, "before") == 500
            assert fetched(server, "before") == "kept"
            assert (server.data / "damaged/tracker.db").exists()
            wait_until(lambda: stored(server, "after") == 300, 60, "what came after the backup, again")
