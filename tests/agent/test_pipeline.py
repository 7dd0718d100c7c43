"""The pipeline against a server that answers properly: whole streams, once, in order."""

from __future__ import annotations

from tests.agent.conftest import Spool, Start, eventually
from tests.support.fake_tracker_server import FakeTrackerServer


async def test_finished_stream_arrives_whole(spool: Spool, server: FakeTrackerServer, start: Start) -> None:
    stream = spool.write(records=1000)

    async with start():
        await eventually(lambda: server.content(stream) == spool.content(stream))

        stored = server.stored(stream)
        assert stored is not None and stored.gaps == []
