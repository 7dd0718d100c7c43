"""Ships run directories from this process: `tracker-agent sync` where no agent takes them over.

The same pipeline as the agent's, with a state directory that goes away afterwards. Positions are the
server's: a sync that was interrupted goes on where it stopped, one that is repeated ships nothing twice.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version

import structlog

from tracker.protocol.identity import boot_id, machine_id

from .adoption import Adoption, Progress
from .clock import Clock
from .opening import Place
from .own_stream import Identity, OwnStreams
from .pipeline import Pipeline
from .settings import Config, CrashSettings
from .shipping_settings import PipelineSettings

#: How often progress is looked at and told.
LOOK_S = 0.2
#: Without --wait a server that is away is given up after this time.
PATIENCE_S = 10.0
#: Nobody waits for live data here, so old data need not hold back.
_NO_CAP = 2**60


async def sync_here(
    config: Config, runs: Sequence[Place], wait: bool, tell: Callable[[Progress], None]
) -> Progress:
    """Ship run directories with the configured server and key; return how far that came.

    wait: until the server has everything, however long it takes. tell() is called with each look.
    """
    with tempfile.TemporaryDirectory(prefix="tracker-sync-") as state_dir:
        pipeline, own = _pipeline(config, state_dir)
        running = asyncio.create_task(pipeline.run())
        try:
            await asyncio.sleep(0)
            return await _follow(pipeline, pipeline.adopt(runs), wait, tell)
        finally:
            await pipeline.stop(5.0)
            await running
            own.close()


async def _follow(
    pipeline: Pipeline, adoption: Adoption, wait: bool, tell: Callable[[Progress], None]
) -> Progress:
    clock = Clock()
    moved_at, moved_bytes = clock.monotonic(), -1
    while True:
        progress = await adoption.progress()
        tell(progress)
        if progress.done and pipeline.own_shipped:
            return progress
        progress.done = False
        if progress.bytes_shipped != moved_bytes or not progress.waiting_for:
            moved_at, moved_bytes = clock.monotonic(), progress.bytes_shipped
        if not wait and clock.monotonic() - moved_at > PATIENCE_S:
            return progress
        await asyncio.sleep(LOOK_S)


def _pipeline(config: Config, state_dir: str) -> tuple[Pipeline, OwnStreams]:
    clock = Clock()
    identity = Identity(machine_id(), boot_id(), socket.gethostname(), version("tracker-agent"))
    settings = PipelineSettings(
        state_dir=state_dir,
        spools=(),
        servers=(config.server,),
        watch=False,
        retry_max_s=min(30.0, config.agent.retry_max_s),
        probe_interval_s=30.0,
        limits=dataclasses.replace(config.limits, backfill_bytes_per_s=_NO_CAP),
        files=config.files,
        crash=CrashSettings(kernel_log="off"),
        allow_stop=False,
        one_key=True,
    )
    # What there is to say is told as progress; the log would only get in its way.
    log = structlog.wrap_logger(
        structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    own = OwnStreams(state_dir, identity, clock)
    return Pipeline(settings, identity, own, clock, log), own
