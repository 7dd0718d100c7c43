"""Which lane a stream takes: one Lane for each credential, made when the first stream needs it.

A credential is a key for one server. A stream whose owner has none, or wants a server that the operator does
not list, is left alone, with the reason, until that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .credentials import Credential, Credentials
from .endpoint import Endpoint
from .lane import Lane
from .streams import Parked, Stream, StreamKey
from .supervisor import Supervisor

#: How a stream's state is named when no lane takes it.
NO_LANE = "no key"


class Lanes:
    """The lanes of all servers, and where each stream is. For the event loop only.

    make(credential, endpoint) builds a lane, which runs among the tasks.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        credentials: Credentials,
        make: Callable[[Credential, Endpoint], Lane],
        tasks: Supervisor,
    ) -> None:
        self.endpoints = endpoints
        self._credentials = credentials
        self._make = make
        self._tasks = tasks
        self._lanes: dict[tuple[str, str | None], Lane] = {}
        self._lane_of: dict[StreamKey, Lane] = {}
        self._task_of: dict[tuple[str, str | None], str] = {}

    def all(self) -> list[Lane]:
        """Return every lane."""
        return list(self._lanes.values())

    def of(self, stream: Stream) -> Lane | None:
        """Return the lane that ships a stream, None where none does."""
        return self._lane_of.get(stream.key)

    def credential_of(self, stream: Stream) -> Credential | str:
        """Return the credential that ships a stream, or why there is none."""
        if stream.own:
            return self._credentials.named(stream.entry.place.name)
        return self._credentials.of(stream.uid, stream.header.server, stream.header.account)

    def assign(self, stream: Stream) -> None:
        """Put a stream into the lane of its credential; out of another one if need be."""
        credential = self.credential_of(stream)
        former = self._lane_of.get(stream.key)
        lane = None if isinstance(credential, str) else self.lane(credential)
        if lane is former is not None:
            return
        if former is not None:
            former.roster.remove(stream)
            del self._lane_of[stream.key]
        stream.parked = None
        if lane is None:
            stream.learned = False
            stream.parked = Parked(NO_LANE, str(credential), None)
            return
        self._lane_of[stream.key] = lane
        lane.roster.add(stream)

    def forget(self, stream: Stream) -> None:
        """Let go of a stream."""
        lane = self._lane_of.pop(stream.key, None)
        if lane is not None:
            lane.roster.remove(stream)

    def ready(self, stream: Stream) -> None:
        """Tell that a stream may have more to ship."""
        lane = self._lane_of.get(stream.key)
        if lane is not None:
            lane.roster.ready(stream)

    def lane(self, credential: Credential) -> Lane:
        """Return the lane of a credential, making and starting it when needed."""
        key = (credential.server, credential.key)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._make(credential, self.endpoints[credential.server])
            self._task_of[key] = self._tasks.start(f"lane {credential.name}", lane.run)
        return lane

    def busy(self, server: str) -> bool:
        """Return whether records wait for a server longer than for their flush."""
        return any(lane.is_behind for (url, _), lane in self._lanes.items() if url == server)

    async def close_idle(self) -> None:
        """Close the lanes that no stream takes any more, the operator's own for the default server aside."""
        kept = self._credentials.default
        for key, lane in list(self._lanes.items()):
            if not lane.roster.streams and lane.credential != kept and not lane.client.in_flight:
                lane.close()
                del self._lanes[key]
                await self._tasks.cancel(self._task_of.pop(key))

    def epochs(self) -> dict[str, str]:
        """Return what each server calls its present state."""
        return {url: endpoint.epoch for url, endpoint in self.endpoints.items() if endpoint.epoch is not None}
