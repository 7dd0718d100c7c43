"""The machines themselves: several at once, pristine, and nothing left of them, however the tests end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.booted_keeper import PREFIX, groups_of
from tests.support.booted_root import bootable_root
from tests.support.other_user import open_directory

CHECKOUT = Path(__file__).parents[2]


def left_behind(keeper: int) -> list[Path]:
    """Return what is there of a machine on this one."""
    places = [group / f"{PREFIX}{keeper}" for group in groups_of(os.getpid())]
    places += [Path(f"/run/systemd/nspawn/{kind}/{PREFIX}{keeper}") for kind in ("propagate", "unix-export")]
    return [place for place in places if place.exists()]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_machines_side_by_side_are_pristine_and_strangers(new_machine: Callable[[str], Machine]) -> None:
    one, other = new_machine("bookworm"), new_machine("bookworm")

    one.write("/etc/mark", "mine\n", 0o600)

    assert one.read("/etc/mark") == "mine\n"
    assert other.run("test", "-e", "/etc/mark", check=False).returncode == 1
    assert not (bootable_root("bookworm") / "etc/mark").exists()
    assert one.read("/etc/machine-id") != other.read("/etc/machine-id")
    assert one.run("id", "-un", user="alice").stdout == "alice\n"
    assert "alice" not in one.run("cat", "/proc/self/cgroup", user="alice").stdout


def test_a_machine_outlives_many_reloads(new_machine: Callable[[str], Machine]) -> None:
    machine = new_machine("trixie")

    for _ in range(15):
        machine.run("systemctl", "daemon-reload", timeout_s=30)


def test_files_come_in_as_they_are(new_machine: Callable[[str], Machine]) -> None:
    machine = new_machine("bookworm")
    with open_directory() as directory:
        (directory / "below").mkdir()
        (directory / "below/file").write_text("text\n")
        (directory / "below/file").chmod(0o755)

        machine.copy_in(directory / "below", "/srv/deep/named")

    assert machine.read("/srv/deep/named/file") == "text\n"
    assert machine.run("stat", "-c", "%a %U", "/srv/deep/named/file").stdout == "755 root\n"


RUNNER = """
    import sys, time
    from tests.support.booted import boot

    machine = boot("bookworm")
    print(machine.leader, machine.keeper, flush=True)
    time.sleep(600)
"""


def start_runner() -> tuple[subprocess.Popen[str], int, int]:
    runner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUNNER)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    assert runner.stdout is not None
    leader, keeper = map(int, runner.stdout.readline().split())
    assert left_behind(keeper), "nothing is there to be left behind"
    return runner, leader, keeper


def test_nothing_is_left_when_the_tests_are_killed() -> None:
    runner, leader, keeper = start_runner()

    runner.kill()
    runner.communicate()

    wait_until(lambda: is_gone(leader) and is_gone(keeper), what="the end of the machine")
    assert left_behind(keeper) == []


def test_a_machine_ends_when_its_keeper_is_killed_and_the_next_one_cleans_up(
    new_machine: Callable[[str], Machine],
) -> None:
    runner, leader, keeper = start_runner()

    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: is_gone(leader), what="the end of the machine")
    runner.kill()
    runner.communicate()
    wait_until(lambda: not Path(f"/proc/{keeper}").exists(), what="the keeper to be reaped")
    new_machine("bookworm")

    assert [place for place in left_behind(keeper) if place.is_relative_to("/sys")] == []
