"""Asks one address of this machine by HTTP, within a time and a size, whatever is at the other end.

Redirects are not followed, no proxy is used, nothing compressed is taken: a few bytes could become many.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_ACCEPT = "text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.8, */*;q=0.1"


class Refused(Exception):
    """The other end gave nothing that can be used. The message says why."""


@dataclass(frozen=True)
class Address:
    """Where to ask: at host and port, or at a socket of this machine."""

    name: str
    host: str
    port: int
    socket: str
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it can only be this machine."""
        if self.socket or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Return what "NAME=URL" says; without a name it is the port, or what the socket is called.

    URL: http://HOST:PORT/PATH, or unix:/SOCKET or unix:/SOCKET:/PATH; the path is /metrics unless given.
    Raise ValueError.
    """
    name, equals, url = text.partition("=")
    if not equals or not NAME.fullmatch(name):
        name, url = "", text
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("has spaces in it")
    if url.startswith("unix:"):
        place, _, path = url.removeprefix("unix:").partition(":")
        if not place.startswith("/") or (path and not path.startswith("/")):
            raise ValueError("is not unix:/SOCKET or unix:/SOCKET:/PATH")
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", place.rpartition("/")[2].removesuffix(".sock"))[:32]
        return Address(name or stem, "localhost", 0, place, path or "/metrics")
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("is not http://HOST:PORT/PATH or unix:/SOCKET")
    path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
    port = parts.port or 80
    return Address(name or str(port), parts.hostname, port, "", path)


def get(address: Address, bytes_max: int, deadline: float) -> tuple[bytes, str]:
    """Return body and content type. Raise Refused, OSError, and TimeoutError after the deadline."""
    connection = _Connection(address, deadline)
    try:
        connection.request("GET", address.path, headers={"Accept": _ACCEPT, "Accept-Encoding": "identity"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise Refused(f"answers {answer.status}")
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            raise Refused("sends compressed what was asked for plain")
        body = answer.read(bytes_max + 1)
        if len(body) > bytes_max:
            raise Refused(f"sends more than {bytes_max // 1024} KiB")
        if answer.length:
            raise Refused("stops in the middle of its answer")
        return body, answer.headers.get("Content-Type", "")
    except http.client.HTTPException as error:
        raise Refused(f"does not speak HTTP properly ({type(error).__name__})") from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection that ends at the deadline, however slowly the other end drips."""

    def __init__(self, address: Address, deadline: float) -> None:
        super().__init__(address.host, address.port or None)
        self._address = address
        self._deadline = deadline

    def connect(self) -> None:
        """Open the socket."""
        error: OSError = ConnectionError("no address")
        for family, target in self._targets():
            connection = _Socket(family, socket.SOCK_STREAM, left=self._left)
            try:
                connection.settimeout(self._left())
                connection.connect(target)
            except OSError as failed:
                connection.close()
                error = failed
                continue
            self.sock = connection
            return
        raise error

    def _targets(self) -> list[tuple[int, Any]]:
        if self._address.socket:
            return [(socket.AF_UNIX, self._address.socket)]
        if self._address.host == "localhost":
            # Not asked of a resolver, which may hang, or say something else.
            port = self._address.port
            return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
        found = socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        return [(family, target) for family, _, _, _, target in found]

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Socket(socket.socket):
    """A socket each of whose reads waits no longer than what is left."""

    def __init__(self, family: int, kind: int, left: Callable[[], float]) -> None:
        super().__init__(family, kind)
        self._left = left

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        """Read, as socket.makefile() does."""
        self.settimeout(self._left())
        return super().recv_into(*arguments, **more)
