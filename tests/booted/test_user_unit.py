"""An agent for one user, without root, as docs/systemd.md says: from wheels, under `systemctl --user`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.booted.trainings import SHORT
from tests.support.agent_process import wait_until
from tests.support.booted import Machine, boot
from tests.support.booted_root import RELEASES, USERS
from tests.support.installed import (
    CHECKOUT,
    PACKAGES,
    PACKAGES_INSIDE,
    SERVER,
    URL,
    Service,
    install,
    train,
)

PYTHON_OF = {"bookworm": "3.11", "trixie": "3.13"}
SESSION = {"XDG_RUNTIME_DIR": f"/run/user/{USERS['alice']}"}


def documented_commands() -> list[str]:
    """Return the blocks of the chapter, each a script."""
    text = (CHECKOUT / "docs/systemd.md").read_text()
    chapter = re.search(r"^## Without root$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert chapter is not None
    blocks = re.findall(r"(?:^    .*\n)+", chapter.group(1), re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.fixture(params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with a server, and with a directory of wheels instead of an index."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tracker")
    requirements = sorted(cache.glob(f"wheels-{PYTHON_OF[request.param]}-*"))
    assert requirements, "the wheels of the requirements are missing; run: make packages"
    assert list(CHECKOUT.glob("dist/tracker_agent-*.whl")), "run: make dist"
    bring = {PACKAGES: PACKAGES_INSIDE, CHECKOUT / "dist": "/wheels/own"}
    bring |= {directory: f"/wheels/{number}" for number, directory in enumerate(requirements)}
    with boot(request.param, bring) as booted:
        yield booted


def test_a_user_without_root_has_an_agent_that_outlives_the_session(machine: Machine) -> None:
    install(machine, SERVER)
    service = Service(machine)
    service.start()
    key = service.new_key("alice")
    machine.run("loginctl", "enable-linger", "alice")
    wait_until(lambda: machine.show(f"user@{USERS['alice']}", "SubState")["SubState"] == "running")
    links = " ".join(machine.run("sh", "-c", "echo /wheels/*").stdout.split())
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links, "PIP_NO_CACHE_DIR": "1"}

    get, configure, start = documented_commands()
    machine.run("bash", "-euc", get, user="alice", environment=pip)
    configure = configure.replace("https://tracker.example.org", URL)
    machine.run("bash", "-euc", configure, user="alice", input=key + "\n")
    said = machine.run("bash", "-euc", start, user="alice", environment=SESSION).stdout

    assert "active (running)" in said
    train(machine, "alice", SHORT, "of-her-own", "50")
    page = service.run_in_state("booted", "of-her-own", "finished")
    assert {stream["user"] for stream in page["streams"]} == {"alice"}

    shown = dict(
        line.split("=", 1)
        for line in machine.run(
            *("systemctl", "--user", "show", "tracker-agent", "-p", "Type,MainPID,WatchdogUSec,MemoryMax"),
            user="alice",
            environment=SESSION,
        ).stdout.splitlines()
    )
    pid = shown.pop("MainPID")
    assert shown == {"Type": "notify", "WatchdogUSec": "1min", "MemoryMax": str(512 * 1024 * 1024)}
    owner, adjust = machine.run(
        "sh", "-c", f"stat -c %U /proc/{pid}; cat /proc/{pid}/oom_score_adj"
    ).stdout.split()
    assert (owner, int(adjust) >= 100) == ("alice", True)

    machine.run("systemctl", "restart", f"user@{USERS['alice']}")
    status = ("systemctl", "--user", "is-active", "tracker-agent")
    wait_until(
        lambda: machine.run(*status, user="alice", environment=SESSION, check=False).stdout == "active\n",
        what="her agent after her manager was started again",
    )
    verify = (
        "systemd-analyze",
        "--user",
        "verify",
        "--man=no",
        "--recursive-errors=yes",
        "tracker-agent.service",
    )
    done = machine.run(*verify, user="alice", environment=SESSION, check=False)
    assert "tracker-agent" not in done.stderr, done.stderr
