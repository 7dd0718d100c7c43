"""The agent's pipeline alone in a process of its own: what tests kill when they mean "the agent dies".

python -m tests.support.pipeline_process '{"state_dir": …, "spools": […], "servers": {"url": …, "key": …}}'
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import structlog

from tracker.protocol.identity import boot_id, machine_id
from tracker_agent.clock import Clock
from tracker_agent.own_stream import Identity, OwnStreams
from tracker_agent.pipeline import Pipeline
from tracker_agent.settings import ServerSettings
from tracker_agent.shipping_settings import PipelineSettings

ROOT = Path(__file__).resolve().parents[2]


async def main(fields: dict[str, Any]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    identity = Identity(machine_id(), boot_id(), "host", "0.1.0")
    clock = Clock()
    settings = PipelineSettings(
        **{**fields, "spools": tuple(fields["spools"]), "servers": (ServerSettings(**fields["servers"]),)}
    )
    own = OwnStreams(settings.state_dir, identity, clock)
    pipeline = Pipeline(settings, identity, own, clock, structlog.get_logger())
    loop = asyncio.get_running_loop()

    async def stop() -> None:
        await pipeline.stop()

    loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(stop()))
    loop.add_signal_handler(
        signal.SIGUSR1,
        lambda: Path(settings.state_dir, "status.json").write_text(json.dumps(pipeline.status())),
    )
    await pipeline.run()
    own.close()


class PipelineProcess:
    """Starts and kills it. Settings are those of PipelineSettings."""

    def __init__(self, log: Path, **settings: Any) -> None:
        self.settings = settings
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.pipeline_process", json.dumps(self.settings)],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def __enter__(self) -> PipelineProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
