"""What one user does to another's data, as real Unix users: nothing of it is shipped, removed or changed.

The agent runs as root here, which no file's mode hinders: what protects the victim are its own checks. Its
life without privileges is in test_system_spool.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.other_user import open_directory, run_as_user, start_as_user
from tests.support.retention import KEEP_S, FakeClock, make_caretaker
from tracker_agent.disk import Disk
from tracker_agent.opening import Opener
from tracker_agent.retention import Limits

VICTIM, ATTACKER = 41001, 41002
SECRET = "the-victims-own-metric"


def own(path: Path, uid: int) -> None:
    """Give a tree to a user."""
    for each in [path, *path.rglob("*")]:
        os.chown(each, uid, uid, follow_symlinks=False)


def snapshot(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return owner, mode and content of everything in a tree."""
    found = {}
    for each in [path, *sorted(path.rglob("*"))]:
        status = each.lstat()
        content = each.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(each)] = (status.st_uid, status.st_mode, content)
    return found


class Scene:
    """A spool with a victim's run, the attacker's directory, and a place where both may write."""

    def __init__(self, root: Path) -> None:
        self.root = root / "spool"
        self.root.mkdir()
        self.root.chmod(0o1733)
        victim = Spool(self.root, VICTIM)
        self.stream = victim.write(run="private", text=SECRET)
        (victim.user / "private" / "files").mkdir()
        (victim.user / "private" / "files" / "model").write_text(SECRET)
        (victim.user / "credentials").write_text('{"http://nowhere": "tk_victim"}')
        self.victim = victim.user
        own(victim.user, VICTIM)
        self.attacker = self.root / str(ATTACKER)
        self.attacker.mkdir()
        own(self.attacker, ATTACKER)
        # A directory that is open to all without a sticky bit, as scratch disks sometimes are.
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        self.scratch.chmod(0o777)
        self.segment = self.scratch / "segment"
        self.segment.write_bytes(victim.segments(self.stream)[0].read_bytes())
        self.segment.chmod(0o666)  # so that even a kernel with protected_hardlinks lets it be linked
        os.chown(self.segment, VICTIM, VICTIM)

    def attack(self, script: str) -> str:
        """Run a script as the attacker, with the names spool, me, victim, scratch and stream in it."""
        return run_as_user(ATTACKER, self._prelude() + script)

    def start_attack(self, script: str) -> subprocess.Popen[str]:
        return start_as_user(ATTACKER, self._prelude() + script)

    def _prelude(self) -> str:
        names = {"spool": self.root, "me": self.attacker, "victim": self.victim, "scratch": self.scratch}
        names["theirs"] = self.victim / "private"
        lines = [f"{name} = {str(path)!r}" for name, path in names.items()]
        return "\n".join([*lines, f"stream = {self.stream.hex()!r}", "j = os.path.join", ""])


@pytest.fixture
def scene() -> Iterator[Scene]:
    require.root()
    with open_directory() as directory:
        yield Scene(directory)


@pytest.fixture
def spool(scene: Scene) -> Spool:
    """Return the spool of `start`, with a good run of the agent's own user in it."""
    return Spool(scene.root, os.getuid())


def secret_reached(server: FakeTrackerServer, uid: int) -> bool:
    """Return whether bytes of the victim's arrived as somebody's."""
    streams = server.streams.get("key", {})
    return any(owner == uid and SECRET.encode() in stored.content() for (owner, _), stored in streams.items())


SEGMENT = "j(me, 'r', stream + '.000000.mpl')"
RUN = "os.mkdir(j(me, 'r')); "
#: What is done in the attacker's name, so that the victim's bytes go where his own would go.
READING = {
    "a symbolic link to a segment": f"{RUN} os.symlink(j(scratch, 'segment'), {SEGMENT})",
    "a symbolic link into the spool": f"{RUN} os.symlink(j(theirs, stream + '.000000.mpl'), {SEGMENT})",
    "a hard link": f"{RUN} os.link(j(scratch, 'segment'), {SEGMENT})",
    "a linked run directory": "os.symlink(theirs, j(me, 'r'))",
    "a linked user directory": f"os.symlink(victim, j(spool, '{ATTACKER}-x'))",
    "a linked user directory of another name": f"os.symlink(victim, j(spool, '{VICTIM}-x'))",
    "a user directory in the victim's name": f"os.makedirs(j(spool, '{VICTIM}-y', 'r'))",
    "a FIFO": f"{RUN} os.mkfifo({SEGMENT})",
    "a FIFO as the lock": f"{RUN} os.mkfifo(j(me, 'r', stream + '.live')); open({SEGMENT}, 'w').write('x')",
    "a socket": f"{RUN} os.chdir(j(me, 'r')); socket.socket(socket.AF_UNIX).bind(stream + '.000000.mpl')",
    "a directory as a segment": f"os.makedirs({SEGMENT})",
    "a directory as the lock": f"os.makedirs(j(me, 'r', stream + '.live')); open({SEGMENT}, 'w').write('x')",
    "the victim's file moved in": f"{RUN} os.rename(j(scratch, 'segment'), {SEGMENT})",
    "the victim's credentials linked": "os.symlink(j(victim, 'credentials'), j(me, 'credentials'))",
    "credentials that are a FIFO": "os.mkfifo(j(me, 'credentials'))",
}


@pytest.mark.parametrize("script", READING.values(), ids=READING.keys())
async def test_nobody_gets_another_users_bytes_shipped_as_his(
    scene: Scene, spool: Spool, server: FakeTrackerServer, start: Start, script: str
) -> None:
    good = spool.write(run="good")
    before = snapshot(scene.victim)
    assert "Error" not in (said := scene.attack(script)), said

    async with start() as pipeline:
        await eventually(lambda: server.content(good) == spool.content(good))
        # Shipped for its owner, and for nobody else.
        await eventually(lambda: secret_reached(server, VICTIM))
        await asyncio.sleep(0.1)  # a few scans more
        foreign = pipeline.status()["foreign"]

    assert not secret_reached(server, ATTACKER)
    assert not [owner for owner, _ in server.streams["key"] if owner == ATTACKER]
    if "symlink(theirs" not in script and "makedirs(j(spool" not in script:  # no directory: no run
        assert foreign
    assert snapshot(scene.victim) == before


async def test_device_is_not_opened(
    scene: Scene, spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    """Only root can make one. Opening some devices does something already: a tape rewinds."""
    run = scene.attacker / "r"
    run.mkdir()
    device = run / f"{secrets.token_hex(16)}.000000.mpl"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    own(scene.attacker, ATTACKER)

    async with start() as pipeline:
        foreign = await eventually(lambda: pipeline.status()["foreign"])

    assert [(each["path"], each["reason"]) for each in foreign] == [(str(device), "not a regular file")]


@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "fallback"])
def test_file_swapped_while_it_is_opened_is_the_owners_or_refused(scene: Scene, openat2: bool) -> None:
    """A process of the attacker's swaps his file, links to the victim's and directories all the time."""
    (scene.scratch / "segment").chmod(0o644)
    process = scene.start_attack(
        """
os.makedirs(j(me, "r")); os.makedirs(j(me, "other"))
name = j(me, "r", stream + ".000000.mpl")
open(j(me, "mine"), "w").write("mine")
os.symlink(j(scratch, "segment"), j(me, "link"))
os.symlink(j(victim, "private"), j(me, "linked"))
print("ready", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    for what in ("mine", "link"):
        os.link(j(me, what), name + ".new", follow_symlinks=False); os.replace(name + ".new", name)
    os.rename(j(me, "r"), j(me, "r2")); os.symlink(j(victim, "private"), j(me, "r"))
    os.unlink(j(me, "r")); os.rename(j(me, "r2"), j(me, "r"))
"""
    )
    from tracker_agent.opening import Place, Refused

    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        opener = Opener(openat2=openat2)
        place = Place(str(scene.root), str(ATTACKER), "r", ATTACKER)
        seen = {"opened": 0, "refused": 0, "error": 0}
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            try:
                fd = opener.open_file(place, f"{scene.stream.hex()}.000000.mpl")
            except Refused:
                seen["refused"] += 1
            except OSError:
                seen["error"] += 1
            else:
                assert os.fstat(fd).st_uid == ATTACKER
                assert SECRET.encode() not in os.pread(fd, 10_000, 0)
                os.close(fd)
                seen["opened"] += 1
    finally:
        process.kill()
        process.communicate(timeout=30)
    assert seen["refused"] + seen["error"] > 10, seen
    assert opener._openat2 == openat2


async def test_same_stream_id_of_two_users_is_two_streams(
    scene: Scene, spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    """Knowing an id gives nothing: what a user writes is filed under his uid."""
    forged = Spool(scene.root / "forge", ATTACKER)
    header = make_header("private", scene.stream)
    forged.write(run="private", header=header, text="forged", exit_code=1)
    os.rename(forged.user / "private", scene.attacker / "private")
    own(scene.attacker, ATTACKER)

    async with start():
        await eventually(lambda: secret_reached(server, VICTIM))
        await eventually(lambda: server.stored(scene.stream, uid=ATTACKER))

    victims, forged_ = server.stored(scene.stream, uid=VICTIM), server.stored(scene.stream, uid=ATTACKER)
    assert victims is not None and SECRET.encode() in victims.content() and b"forged" not in victims.content()
    assert forged_ is not None and b"forged" in forged_.content()


HEADERS = {
    "no run": {"run": None},
    "another host": {"run": "r", "host": "victims-host", "machine": "0" * 32, "boot": "0" * 32},
    "the longest run id": {"run": "r" * 60_000},
    "a path as run id": {"run": "../../../etc/passwd"},
    "no printable run id": {"run": "\x1b[2J\n\0"},
    "the largest numbers": {"run": "r", "pid": 2**63 - 1, "started": 2**63 - 1, "clock": 2**63 - 1},
    "a rank": {"run": "r", "rank": 2**62},
}


@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS.keys())
async def test_forged_header_hinders_nobody_and_speaks_for_nobody(
    scene: Scene, spool: Spool, server: FakeTrackerServer, start: Start, fields: dict[str, object]
) -> None:
    good = spool.write(run="good")
    forged = Spool(scene.root / "forge", ATTACKER)
    header = make_header(**fields)  # type: ignore[arg-type]
    forged.write(run="forged", header=header)
    os.rename(forged.user / "forged", scene.attacker / "forged")
    own(scene.attacker, ATTACKER)

    async with start() as pipeline:
        await eventually(lambda: server.content(good) == spool.content(good))
        await eventually(lambda: secret_reached(server, VICTIM))
        status = await eventually(
            lambda: (
                (s := pipeline.status())
                and (s["foreign"] or s["kept"] or server.stored(header.stream, uid=ATTACKER))
                and s
            )
        )
        assert status["failures"] == {}

    if fields["run"] is None or "machine" in fields:
        assert server.stored(header.stream) is None
    assert {owner for owner, stream in server.streams["key"] if stream == header.stream} <= {ATTACKER}


AWAY = "os.rename(j(me, 'r'), j(me, 'gone')); "
#: What is done to a run of the attacker's that is about to be removed.
REMOVING = {
    "the run replaced by a link to another's": f"{AWAY} os.symlink(theirs, j(me, 'r'))",
    "a link to another's directory in it": "os.symlink(theirs, j(me, 'r', 'files', 'link'))",
    "a link to another's directory at its top": "os.symlink(victim, j(me, 'r', 'link'))",
    "a link to another's file in it": "os.symlink(j(theirs, 'files', 'model'), j(me, 'r', 'files', 'model'))",
    "a hard link to another's file in it": "os.link(j(scratch, 'segment'), j(me, 'r', 'files', 'linked'))",
    "another's directory moved into it": "os.rename(j(scratch, 'theirs'), j(me, 'r', 'files', 'theirs'))",
    "another's directory in its place": f"{AWAY} os.rename(j(scratch, 'theirs'), j(me, 'r'))",
    "way up in a name": "open(j(me, 'r', '..mpl'), 'w'); os.mkdir(j(me, 'r', '...'))",
    "the user's directory replaced by a link": (
        f"os.rename(me, j(spool, '{ATTACKER}-z')); os.symlink(victim, me)"
    ),
}


@pytest.mark.parametrize("script", REMOVING.values(), ids=REMOVING.keys())
async def test_nobody_gets_another_users_files_removed_or_changed(
    scene: Scene, spool: Spool, server: FakeTrackerServer, start: Start, tmp_path: Path, script: str
) -> None:
    theirs = scene.scratch / "theirs"
    (theirs / "deep").mkdir(parents=True)
    (theirs / "deep" / "thesis").write_text(SECRET)
    own(theirs, VICTIM)
    theirs.chmod(0o777)
    run = Spool(scene.root / "attackers", ATTACKER)
    run.write(run="r")
    (run.user / "r" / "files").mkdir()
    os.rename(run.user / "r", scene.attacker / "r")
    own(scene.attacker, ATTACKER)
    clock = FakeClock()
    async with start() as pipeline:
        streams = pipeline._catalogue.streams
        await eventually(lambda: sum(s.ended for s in streams.values() if s.uid == ATTACKER) == 1)
        caretaker = make_caretaker(pipeline, tmp_path, clock, Limits(KEEP_S))
        await caretaker.round()
        # Nothing of the victim's may go, were it due or not: his stays out of this.
        for key in [key for key in streams if key[0] == VICTIM]:
            del streams[key]
        before = snapshot(scene.victim)
        assert "Error" not in (said := scene.attack(script)), said
        clock.advance(KEEP_S + 10)

        for _ in range(3):
            await caretaker.round()

    assert snapshot(scene.victim) == before
    assert scene.segment.read_bytes() and scene.segment.stat().st_uid == VICTIM
    thesis = [path for base in (scene.scratch, scene.root) for path in base.rglob("thesis")]
    assert [path.read_text() for path in thesis] == [SECRET]
    status = thesis[0].parent.parent.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (VICTIM, 0o777)


def test_directory_swapped_while_it_is_removed_leads_nowhere(scene: Scene) -> None:
    """The attacker swaps a directory in his run for a link to the victim's while the run is being removed."""
    from tracker_agent.opening import Place, Refused
    from tracker_agent.removal import Budget, Left, Remover

    before = snapshot(scene.victim)
    (scene.attacker / "r" / "files").mkdir(parents=True)
    own(scene.attacker, ATTACKER)
    process = scene.start_attack(
        """
a, link, aside = j(me, "r", "files", "a"), j(me, "link"), j(me, "aside")
os.mkdir(a); os.symlink(j(theirs, "files"), link)
print("ready", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        os.rename(a, aside); os.rename(link, a)
        os.rename(a, link); os.rename(aside, a)
    except OSError:
        for path in (j(me, "r"), j(me, "r", "files"), a, aside):
            try: os.mkdir(path)
            except OSError: pass
        try: os.symlink(j(theirs, "files"), link)
        except OSError: pass
"""
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        remover = Remover(Disk())
        place = Place(str(scene.root), str(ATTACKER), "r", ATTACKER)
        tries = 0
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            tries += 1
            try:
                remover.remove_run(place, {}, time.time() + 3600, Budget(1000), time.time() + 3600)
            except (OSError, Refused, Left):
                pass
    finally:
        process.kill()
        process.communicate(timeout=30)
    assert tries > 50
    assert snapshot(scene.victim) == before


def test_what_is_mounted_in_a_run_directory_is_not_removed(scene: Scene) -> None:
    from tracker_agent.opening import Place
    from tracker_agent.removal import Budget, Left, Remover

    mounted = scene.attacker / "r" / "files"
    mounted.mkdir(parents=True)
    own(scene.attacker, ATTACKER)
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mounted)], capture_output=True, check=False)
    if done.returncode:
        require.absent("mount", done.stderr.decode().strip(), "run the tests as root, with CAP_SYS_ADMIN")
    try:
        (mounted / "kept").write_text(SECRET)
        own(mounted, ATTACKER)

        with pytest.raises(Left, match="another file system"):
            late = time.time() + 60
            place = Place(str(scene.root), str(ATTACKER), "r", ATTACKER)
            Remover(Disk()).remove_run(place, {}, late, Budget(1000), late)

        assert (mounted / "kept").read_text() == SECRET
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_emptying_a_segment_touches_the_owners_single_file_only(scene: Scene) -> None:
    from tracker_agent.opening import Place, Refused
    from tracker_agent.removal import Remover

    name = f"{scene.stream.hex()}.000000.mpl"
    place = Place(str(scene.root), str(ATTACKER), "r", ATTACKER)
    content = scene.segment.read_bytes()
    for trick in (
        "os.symlink(j(scratch, 'segment'), j(me, 'r', stream + '.000000.mpl'))",
        "os.link(j(scratch, 'segment'), j(me, 'r', stream + '.000000.mpl'))",
        "os.mkfifo(j(me, 'r', stream + '.000000.mpl'))",
    ):
        assert "Error" not in (said := scene.attack(f"os.mkdir(j(me, 'r'))\n{trick}")), said

        with pytest.raises((Refused, OSError)):
            Remover(Disk()).empty_segment(place, scene.stream, 0, 0)

        (scene.attacker / "r" / name).unlink()
        (scene.attacker / "r").rmdir()
    assert scene.segment.read_bytes() == content


async def test_limit_is_the_greedy_users_to_bear(
    scene: Scene, spool: Spool, server: FakeTrackerServer, start: Start, tmp_path: Path
) -> None:
    """Whatever the attacker puts into the spool, the victim's unshipped data stays."""
    server.keys.clear()
    greedy = Spool(scene.root / "attackers", ATTACKER)
    greedy.write(run="big", records=8000, text="x" * 100, segment_bytes=256 * 1024)
    os.rename(greedy.user / "big", scene.attacker / "big")
    (scene.attacker / "big" / "junk").write_bytes(random.randbytes(2**20))
    own(scene.attacker, ATTACKER)
    before = snapshot(scene.victim)
    async with start() as pipeline:
        streams = pipeline._catalogue.streams
        await eventually(lambda: {s.uid for s in streams.values()} >= {VICTIM, ATTACKER})
        caretaker = make_caretaker(pipeline, tmp_path, FakeClock(), Limits(KEEP_S, bytes_in_all=200_000))

        for _ in range(3):
            await caretaker.round()

        assert caretaker.status()["removed"]["unshipped_bytes"] > 0
    assert snapshot(scene.victim) == before
