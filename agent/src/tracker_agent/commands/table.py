"""Every command there is, in the order in which `tracker-agent --help` shows them. Add new ones here."""

from __future__ import annotations

from . import check_config, pause_gpu, replay, run, sample, status, support_bundle, sync, tap, top
from .command import Command

COMMANDS: tuple[Command, ...] = (
    run.COMMAND,
    status.COMMAND,
    top.COMMAND,
    tap.COMMAND,
    sync.COMMAND,
    replay.COMMAND,
    sample.COMMAND,
    pause_gpu.COMMAND,
    check_config.COMMAND,
    support_bundle.COMMAND,
)
