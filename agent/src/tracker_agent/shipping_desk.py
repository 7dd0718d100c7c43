"""Answers what `tracker-agent sync` and `replay` ask of the running agent over the control socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from .control import Arguments, ControlError, ControlServer
from .handovers import Refusal
from .pipeline import Pipeline


class ShippingDesk:
    """Registers its commands with the control socket. pipeline(): None while there is none."""

    def __init__(self, control: ControlServer, pipeline: Callable[[], Pipeline | None]) -> None:
        self._current = pipeline
        control.stream("sync", self._sync)
        control.answer("replay", self._replay)

    def _pipeline(self) -> Pipeline:
        pipeline = self._current()
        if pipeline is None:
            raise ControlError("the agent is just starting or reloading: ask again")
        return pipeline

    async def _sync(self, arguments: Arguments) -> AsyncGenerator[dict[str, Any]]:
        directories = arguments.get("directories")
        if not isinstance(directories, list) or not all(isinstance(each, str) for each in directories):
            raise ControlError("directories must be a list of paths")
        try:
            async for progress in self._pipeline().handovers.take(directories):
                yield progress.to_json()
        except Refusal as error:
            raise ControlError(str(error)) from error

    async def _replay(self, arguments: Arguments) -> dict[str, Any]:
        run, stream = arguments.get("run"), arguments.get("stream")
        try:
            replayed = self._pipeline().replay(run, stream, bool(arguments.get("as_new")))
        except OSError as error:
            raise ControlError(f"the new id cannot be written down: {error.strerror or error}") from error
        return {"replayed": replayed}
