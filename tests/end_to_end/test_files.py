"""Files of a real run through a real agent to a real server, both killed in the middle of an upload."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess, training_environment, wait_until
from tests.support.http_client import ask
from tests.support.server_process import ServerProcess

BIG_BYTES = 24_000_000
SMALL = 40
KILLS = 2
PART_BYTES = 4 * 1024 * 1024

#: Writes files beside its run as save() will, then waits for a line on stdin and ends.
TRAINING = """
import pathlib, sys, tracker
run = tracker.init(project="end-to-end", id="files")
directory = next(pathlib.Path(sys.argv[1]).glob("*/files"))
for path, content in (("files/big", sys.argv[2]), ("media/copy", sys.argv[2])):
    target = directory / path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(pathlib.Path(content).read_bytes())
for number in range(int(sys.argv[3])):
    (directory / "files" / ("small-%d" % number)).write_text("%d" % number)
run.log({"loss": 1.0})
print("written", flush=True)
sys.stdin.readline()
(directory / "files" / "small-0").write_text("the last word")
run.finish()
"""


class Door:
    """A TCP way to the server that counts what goes in, whichever server listens there just then."""

    def __init__(self, port: int) -> None:
        self.bytes_in = 0
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Close what is open."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(inner_writer)
            await asyncio.gather(
                self._pass(reader, inner_writer, counts=True), self._pass(inner_reader, writer, counts=False)
            )
        except (OSError, EOFError):
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: bool) -> None:
        while block := await reader.read(65536):
            self.bytes_in += len(block) * counts
            writer.write(block)
            await writer.drain()
        raise EOFError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "server") as running:
        yield running


def files_of(server: ServerProcess) -> dict[str, Any]:
    answer = server.try_get("/api/v1/runs/default/end-to-end/files/files")
    return {} if answer is None else {each["path"]: each for each in answer["files"]}


@pytest.mark.timeout(180)
def test_files_arrive_once_while_agent_and_server_are_killed(tmp_path: Path, server: ServerProcess) -> None:
    content = os.urandom(BIG_BYTES)
    source = tmp_path / "source"
    source.write_bytes(content)
    door = Door(server.port)
    unfinished = server.data / "blobs" / "uploads"

    with AgentProcess(tmp_path, door.url, server.ingest_key) as agent:
        training = subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(agent.spool), str(source), str(SMALL)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=training_environment(agent.spool),
        )
        assert training.stdin is not None
        assert training.stdout is not None
        assert training.stdout.readline() == b"written\n"
        for kill in range(1, KILLS + 1):
            wanted = kill * BIG_BYTES // (KILLS + 2)
            wait_until(lambda n=wanted: sum(_sizes(unfinished)) >= n, what=f"{wanted} bytes of an upload")
            agent.kill()
            server.kill()
            server.start()
            if kill == 2:
                agent.delete_state()
            agent.start()
        wait_until(lambda: len(files_of(server)) == SMALL + 2, what="all files on the server")
        training.communicate(b"end\n", timeout=30)
        last = hashlib.sha256(b"the last word").hexdigest()
        wait_until(lambda: files_of(server)["files/small-0"]["sha256"] == last, what="the last version")
        wait_until(
            lambda: (agent.status() or {})["shipping"]["files"]["runs"] == {"known": 1, "done": 1},
            what="the agent to be done",
        )

    digest = hashlib.sha256(content).hexdigest()
    found = files_of(server)
    assert found["files/big"]["sha256"] == found["media/copy"]["sha256"] == digest
    for path, expected in (("files/big", content), ("files/small-7", b"7")):
        where = "/api/v1/runs/default/end-to-end/files/file"
        assert ask(server.url, "GET", where, key=server.admin_key, params={"path": path}).body == expected
    assert list(_sizes(unfinished)) == []
    blobs = [path for path in (server.data / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == SMALL + 2  # two paths share one content, one path had two
    # Each kill costs a part at most, and what surrounds the parts.
    assert door.bytes_in < BIG_BYTES + KILLS * PART_BYTES + 1_000_000, door.bytes_in
    door.close()


def _sizes(directory: Path) -> Iterator[int]:
    if directory.is_dir():
        for path in directory.iterdir():
            try:
                yield path.stat().st_size
            except FileNotFoundError:
                continue
