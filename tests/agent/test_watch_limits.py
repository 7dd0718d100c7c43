"""Everything arrives however few inotify watches or instances there are: hints only make it faster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, eventually
from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.pipeline_process import ROOT


@pytest.mark.parametrize("limit", ["max_inotify_watches", "max_inotify_instances"])
async def test_everything_arrives_with_the_users_watches_exhausted(
    spool: Spool, server: FakeTrackerServer, tmp_path: Path, limit: str
) -> None:
    unshare = require.program("unshare", "util-linux")
    allowed = "2" if limit == "max_inotify_watches" else "0"
    inside = [unshare, "-Ur", "sh", "-c", f"echo {allowed} > /proc/sys/user/{limit}"]
    tried = subprocess.run(inside, capture_output=True, text=True, check=False)
    if tried.returncode:
        require.absent("user namespaces", tried.stderr.strip(), "sysctl kernel.unprivileged_userns_clone=1")
    state = tmp_path / "state"
    settings = {
        "state_dir": str(state),
        "spools": [str(spool.root)],
        "servers": {"url": server.url, "key": "key"},
        "watch": True,
        "scan_interval_s": 0.05,
    }
    inside[-1] += ' && exec "$@"'
    first = [spool.write(run=f"run{number}") for number in range(5)]
    agent = subprocess.Popen(
        [*inside, "sh", sys.executable, "-m", "tests.support.pipeline_process", json.dumps(settings)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdin=subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: all(server.content(s) == spool.content(s) for s in first), timeout_s=60)
        later = [spool.write(run=f"later{number}") for number in range(5)]
        await eventually(lambda: all(server.content(s) == spool.content(s) for s in later), timeout_s=60)
        agent.send_signal(signal.SIGUSR1)
        status = await eventually(lambda: (state / "status.json").exists() and (state / "status.json"), 20)
        await eventually(lambda: status.read_text().endswith("}"), 20)

        watch = json.loads(status.read_text())["watch"]
        assert "no further watches" in watch or "inotify cannot be used" in watch
    finally:
        agent.kill()
        agent.wait(30)
