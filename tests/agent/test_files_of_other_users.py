"""Files of runs in a spool of several real users: nobody has another one's bytes shipped as his own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.test_file_lanes import Host, eventually, finish
from tests.support import require
from tests.support.other_user import make_system_spool, open_directory, run_as_user
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess
from tracker_agent.opening import Place

ALICE, BOB, AGENT, AGENT_GROUP = 4321, 4322, 4398, 4399
SECRET = b"bob's secret"

ALICES_TRICKS = """
import os, sys
spool, secret, secrets = sys.argv[1:4]
os.umask(0o077)
run = "%s/%d/run" % (spool, os.getuid())
os.makedirs(run + "/files/own")
os.makedirs(run + "/media")
with open(run + "/files/own/file", "w") as file:
    file.write("alice's own")
os.symlink(secret, run + "/files/link")
os.symlink(secrets, run + "/files/directory")
os.symlink(secrets, run + "/media/up")
os.symlink("../../../%s/run/files" % secrets.split("/")[-3], run + "/files/relative")
os.mkfifo(run + "/files/fifo")
try:
    os.link(secret, run + "/files/hard")
    print("linked")
except OSError as error:
    print("refused by the kernel:", error.errno)
"""

BOBS_FILES = """
import os, sys
run = "%s/%d/run" % (sys.argv[1], os.getuid())
os.makedirs(run + "/files")
with open(run + "/files/secret", "w") as file:
    file.write("bob's secret")
os.chmod(run, 0o777)
os.chmod(run + "/files", 0o777)
os.chmod(run + "/files/secret", 0o666)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


def walk_as_agent(place: Place) -> str:
    """Return what an unprivileged agent in the spool's group reads of the files that it may send."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        from tracker_agent.disk import Disk
        from tracker_agent.file_tree import walk_files

        os.setgroups([AGENT_GROUP])
        os.setgid(AGENT)
        os.setuid(AGENT)
        try:
            disk, found = Disk(), []
            for path in sorted(walk_files(disk, place).files):
                found.append(f"{path}={os.read(disk.open_file(place, path), 100).decode()}")
            os.write(writer, "\n".join(found).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answers:
        return answers.read()


def test_no_trick_ships_another_users_bytes(server: ServerProcess, tmp_path: Path) -> None:
    require.root()
    with open_directory() as directory:
        spool = directory / "spool"
        make_system_spool(spool, AGENT_GROUP)
        os.chown(spool, AGENT, AGENT_GROUP)
        bobs = spool / str(BOB) / "run" / "files"
        assert run_as_user(BOB, BOBS_FILES, str(spool)) == ""
        (spool / str(BOB)).chmod(0o777)  # however careless Bob is
        said = run_as_user(ALICE, ALICES_TRICKS, str(spool), str(bobs / "secret"), str(bobs))
        assert "refused by the kernel" in said or "linked" in said
        if "linked" not in said:
            os.link(bobs / "secret", spool / str(ALICE) / "run" / "files" / "hard")
        host = Host(tmp_path, server)
        place = Place(str(spool), str(ALICE), "run", ALICE)
        stream = host.streams["run"] = RecordStream("run", "users", uid=ALICE)
        assert send(server.url, host.key, stream.take()).status == 200

        async def body() -> None:
            async with host.lanes() as lanes:
                host.see(lanes, place)
                await eventually(lambda: host.stored(place, "users"))
                await finish(lanes, place)
                refused = {Path(each["path"]).name for each in lanes.status()["refused"]}
                assert refused == {"link", "directory", "up", "relative", "fifo", "hard"}

        asyncio.run(body())

        assert set(host.stored(place, "users")) == {"files/own/file"}
        assert walk_as_agent(place) == "files/own/file=alice's own"
        everything = [path.read_bytes() for path in (server.data / "blobs").rglob("*") if path.is_file()]
        assert everything == [b"alice's own"]


def test_a_file_that_the_agent_may_not_read_is_named_and_arrives_once_it_may(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker_agent.run_files.TROUBLE_MAX_S", 0.1)
    host = Host(tmp_path, server)

    async def body() -> None:
        place = host.run("shut", "users")
        host.write(place, "files/shut", b"content")
        shut = True

        async with host.lanes() as lanes:
            real = os.open

            def refuse(path: object, *arguments: object, **named: object) -> int:
                if shut and str(path).endswith("shut"):
                    raise PermissionError(13, "Permission denied")
                return real(path, *arguments, **named)  # type: ignore[arg-type]

            monkeypatch.setattr(
                "tracker_agent.disk.Disk.open_beneath",
                lambda self, directory, path, flags: refuse(path, flags, dir_fd=directory),
            )
            host.see(lanes, place)
            lanes.run_ended(place)
            await eventually(lambda: "Permission denied" in str(lanes.status()["unread"]))
            assert not lanes.files_done(place)
            shut = False
            await finish(lanes, place)

        assert set(host.stored(place, "users")) == {"files/shut"}

    asyncio.run(body())
