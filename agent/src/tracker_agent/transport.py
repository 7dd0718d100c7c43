"""The only door to the aiohttp client: one request in, one answer or one TransportError out.

Redirects are not followed: a key given to one server is not for whoever that server points to.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from .settings import ServerSettings

#: An answer to 10,000 streams is about 2 MiB; whatever is longer is not from a Tracker server.
ANSWER_BYTES_MAX = 16 * 1024 * 1024


class TransportError(Exception):
    """No answer came. str() says what happened, for the operator."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """HTTP to one server. The session is opened by the first request, inside the running loop."""

    def __init__(self, url: str, timeout_s: float = 60.0, connect_timeout_s: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request and return the whole answer. Raise TransportError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, auto_decompress=True)
        try:
            async with self._session.request(
                method, self.url + path, headers=headers, data=_payload(body), allow_redirects=False
            ) as answer:
                content = bytearray()
                async for chunk in answer.content.iter_chunked(65536):
                    content += chunk
                    if len(content) > ANSWER_BYTES_MAX:
                        raise TransportError(f"the answer to {path} is longer than {ANSWER_BYTES_MAX} bytes")
                names = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status, names, bytes(content))
        except TimeoutError as error:
            raise TransportError(f"no answer from {self.url} within {self._timeout.total:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TransportError(f"{self.url}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connections. A later request opens them again."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            # aiohttp closes its sockets in the loop's next turn.
            await asyncio.sleep(0)


def _payload(body: bytes | None) -> io.BytesIO | None:
    """Return a body that goes out in pieces: a large one at once would hold up the loop."""
    return None if body is None else io.BytesIO(body)


def connect_to(server: ServerSettings, timeout_s: float) -> Transport:
    """Return the way to a server. The first request connects."""
    return Transport(server.url, timeout_s)
