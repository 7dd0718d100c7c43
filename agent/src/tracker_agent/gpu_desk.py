"""Answers `tracker-agent pause-gpu` over the control socket."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.typing import FilteringBoundLogger

from .collectors.gpu_pause import PAUSE_S_MAX, GpuPause
from .control import Arguments, ControlError, ControlServer


class GpuDesk:
    """Registers its command with the control socket."""

    def __init__(self, control: ControlServer, pause: GpuPause, log: FilteringBoundLogger) -> None:
        self._pause = pause
        self._log = log
        control.answer("pause-gpu", self._pause_gpu)

    async def _pause_gpu(self, arguments: Arguments) -> dict[str, Any]:
        if arguments.get("resume"):
            paused = self._pause.end()
            if paused:
                self._log.info("GPUs are measured again")
            return {"resumed": paused}
        for_s = arguments.get("for_s")
        if not isinstance(for_s, int | float) or isinstance(for_s, bool) or not 0 < for_s <= PAUSE_S_MAX:
            raise ControlError(f"for_s must be a number of seconds up to {PAUSE_S_MAX:.0f}")
        # Drivers may take their time to close, and the event loop has other work.
        problems = await asyncio.to_thread(self._pause.begin, float(for_s))
        until = self._pause.until()
        self._log.info("GPUs are left alone", until=until, problems=problems)
        return {"until": until, "left_s": round(self._pause.left_s(), 1), "problems": problems}
