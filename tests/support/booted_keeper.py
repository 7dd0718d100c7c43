"""A program that keeps one booted machine: a systemd-nspawn container and all that it leaves behind.

    python3 booted_keeper.py ROOT DIRECTORY INSIDE [options of systemd-nspawn]

Boots the directory ROOT, which stays as it is, prints the pid of its process 1, and keeps it until stdin is
closed. Then the container is killed and its control groups are removed. When whoever started this program is
killed, stdin is closed; when this program is killed, the kernel ends the container with it, and the next one
removes the control groups. Needs root, and uses the standard library alone.
"""

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BOOT_S = 60.0
DRAIN_S = 20.0
PREFIX = "tracker-booted-"
SCRATCH = Path("/tmp")  # not $TMPDIR: a socket has a short path, and other users of the machine get in
NSPAWN = [Path("/run/systemd/nspawn/propagate"), Path("/run/systemd/nspawn/unix-export")]
#: What systemd in the container may use. Others (cpuset) want settings before a process may enter.
CONTROLLERS = {"name=systemd", "", "memory", "cpu", "cpuacct", "pids", "blkio"}
#: nspawn mounts controllers of version 1 read-only. `bind`: else this would change the whole host's mount.
OPEN_CONTROLLERS = """
for controller in memory cpu cpuacct pids blkio; do
    mount -o remount,bind,rw /sys/fs/cgroup/$controller
done 2>/dev/null
systemctl daemon-reexec
"""
_PR_SET_PDEATHSIG = 1


def groups_of(pid: int) -> list[Path]:
    """Return the directories of the control groups that a process is in, one for each hierarchy."""
    paths = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if set(controllers.split(",")) & CONTROLLERS:
            paths[controllers] = path
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, mountpoint, *_ = before.split()
        kind, _, options = after.split(" ", 2)
        names = {"": paths[""]} if kind == "cgroup2" and "" in paths else {}
        if kind == "cgroup":
            mounted = set(options.split(","))
            names = {name: path for name, path in paths.items() if name and set(name.split(",")) <= mounted}
        for path in names.values():
            group = Path(mountpoint, path.removeprefix(root.rstrip("/")).lstrip("/"))
            if group.is_dir() and group not in found:
                found.append(group)
    return found


def remove_group(group: Path) -> bool:
    """Remove a control group with those below it; return whether it is gone."""
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            pass
    return not group.exists()


def is_keeper(pid: str) -> bool:
    """Return whether another keeper has that pid now: pids are used again."""
    try:
        return (
            pid != str(os.getpid())
            and Path(__file__).name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    except OSError:
        return False


def remove_left(groups: list[Path]) -> None:
    """Remove what keepers that were killed have left."""
    for left in [found for parent in [*groups, SCRATCH, *NSPAWN] for found in parent.glob(f"{PREFIX}*")]:
        if not is_keeper(left.name.removeprefix(PREFIX)):
            if left.parent == SCRATCH:
                shutil.rmtree(left, ignore_errors=True)
            else:
                remove_group(left)


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Keeper:
    """The container and what belongs to it."""

    def __init__(self, name: str, groups: list[Path], scratch: Path) -> None:
        self._name = name
        self._groups = groups
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(scratch / "notify"))
        self._address = str(scratch / "notify")
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self, root: str, options: list[str]) -> int:
        """Return the pid of the container's process 1 once it says that it is up."""
        keeper = os.getpid()

        def enter() -> None:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(1)
            for group in self._groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        self._process = subprocess.Popen(
            [
                # A pid namespace of its own: with its first process all others end. nspawn alone would
                # leave the container behind when it is killed.
                *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "systemd-nspawn"),
                *("--quiet", "--directory", root, "--machine", self._name, "--volatile=overlay"),
                *("--register=no", "--keep-unit", "--boot", "--notify-ready=yes", "--console=read-only"),
                # A host has it, and a drop-in hands it to the agent.
                *("--link-journal=no", "--capability=CAP_SYSLOG", *options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={**os.environ, "NOTIFY_SOCKET": self._address},
            preexec_fn=enter,
        )
        ended = os.pidfd_open(self._process.pid)
        deadline = time.monotonic() + BOOT_S
        while True:
            readable, _, _ = select.select(
                [self._notify, ended, sys.stdin], [], [], deadline - time.monotonic()
            )
            if self._notify in readable:
                if b"READY=1" in self._notify.recv(4096):
                    break
            elif readable:
                sys.exit("the container ended before it was up")
            else:
                sys.exit(f"the container was not up after {BOOT_S} s")
        (nspawn,) = children(self._process.pid)
        (leader,) = children(nspawn)
        subprocess.run(
            ["nsenter", "--target", str(leader), "--all", "sh", "-c", OPEN_CONTROLLERS],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=True,
            timeout=BOOT_S,
        )
        return leader

    def listen(self) -> None:
        """Return when stdin is closed.

        Each reload of systemd sends word, too: where nobody takes it, process 1 waits for ever.
        """
        while True:
            readable, _, _ = select.select([self._notify, sys.stdin], [], [])
            if self._notify in readable:
                self._notify.recv(4096)
            elif not os.read(sys.stdin.fileno(), 4096):
                return

    def end(self) -> None:
        """Kill the container and remove what it leaves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._notify.close()
        deadline = time.monotonic() + DRAIN_S
        while not all(list(map(remove_group, self._groups))) and time.monotonic() < deadline:
            time.sleep(0.02)
        for directory in NSPAWN:
            try:
                (directory / self._name).rmdir()
            except OSError:
                pass


def main() -> None:
    """Boot, print, wait, clean up."""
    root, directory, inside, *options = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Ctrl-C goes to the whole terminal's group; whoever started us ends us when he is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = groups_of(os.getpid())
    remove_left(own)
    name = f"{PREFIX}{os.getpid()}"
    groups = [group / name for group in own]
    scratch = SCRATCH / name
    scratch.mkdir()
    keeper = Keeper(name, groups, scratch)
    try:
        for group in groups:
            group.mkdir()
        shutil.copytree(directory, scratch / "copy", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["chmod", "-R", "a+rX", scratch / "copy"], check=True)
        print(keeper.boot(root, [*options, f"--bind-ro={scratch}/copy:{inside}"]), flush=True)
        keeper.listen()
    finally:
        keeper.end()
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
