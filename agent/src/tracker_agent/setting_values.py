"""What texts in settings mean: sizes, addresses, headers, ranges of uids; and what is wrong with them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
_UNITS = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": 1024 * GIB}
#: Headers that are the protocol's or the connection's, not the operator's to set.
_OWN_HEADERS = frozenset(
    [
        "authorization", "connection", "content-encoding", "content-length", "content-type", "host",
        "proxy-authorization", "te", "transfer-encoding", "upgrade",
    ]
)  # fmt: skip


class UidRange(NamedTuple):
    """Files that belong to uids first to last are of the user uid."""

    first: int
    last: int
    uid: int


class UidMap:
    """Whose runs those of containers' users are. Uids in no range are users of this host."""

    def __init__(self, ranges: Iterable[UidRange] = ()) -> None:
        self._ranges = tuple(ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __contains__(self, owner: int) -> bool:
        return any(each.first <= owner <= each.last for each in self._ranges)

    def user(self, owner: int) -> int:
        """Return the user whom files of an owner belong to."""
        return next((each.uid for each in self._ranges if each.first <= owner <= each.last), owner)


NO_UID_MAP = UidMap()


def parse_size(text: str) -> int | None:
    """Return the bytes of a text such as "64 MiB", or None."""
    match = re.fullmatch(r"\s*(\d{1,15})\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(match.group(2).upper()) if match else None
    return None if match is None or unit is None else int(match.group(1)) * unit


def show_size(count: int) -> str:
    """Return bytes as a setting may be written: in the largest unit that has no fraction."""
    for unit, size in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return str(count)


def parse_uid_range(text: str) -> UidRange:
    """Return what an element of agent.uid_map says. Raise ValueError."""
    match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?=(\d{1,10})", text)
    if match is None:
        raise ValueError("must look like 100000=1000 or 100000-165535=1000: owner of the files = user")
    first, last, uid = (int(part) for part in (match[1], match[2] or match[1], match[3]))
    if not first <= last < 2**32 - 1 or uid >= 2**32 - 1:
        raise ValueError("names uids that there are not")
    return UidRange(first, last, uid)


def uid_range_problem(text: str) -> str | None:
    """Return what is wrong with an element of agent.uid_map."""
    try:
        parse_uid_range(text)
    except ValueError as error:
        return f"{text!r} {error}"
    return None


def parse_header(text: str) -> tuple[str, str]:
    """Return name and value of an element of server.headers."""
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def header_problem(text: str) -> str | None:
    """Return what is wrong with a header, which may hold a secret: only its name is shown."""
    name, value = parse_header(text)
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or ":" not in text:
        return 'each must be a string like "Name: value"'
    if name.lower() in _OWN_HEADERS or name.lower().startswith("x-tracker-"):
        return f"the header {name} is the agent's own to set"
    if not all(" " <= each <= "~" or each == "\t" for each in value):
        return f"the value of {name} holds line ends or characters that a header cannot have"
    return None


def listen_problem(text: str) -> str | None:
    """Return what is wrong with an address to listen on, or None."""
    if text.startswith("unix:"):
        return None if text.startswith("unix:/") else "must have an absolute path behind unix:"
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        return 'must look like "127.0.0.1:9464" or "unix:/run/tracker-agent/metrics"'
    return None


def listens_to_others(text: str) -> bool:
    """Return whether an address to listen on can be reached from other machines."""
    host = text.rpartition(":")[0].strip("[]")
    if text.startswith("unix:") or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def url_problem(text: str) -> str | None:
    """Return what is wrong with the address of a server or a proxy, or None."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return f"is no address ({error})"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f]", text):
        return "names no host" if not parts.hostname else "is no address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if parts.query or parts.fragment:
        return "must not have a query or fragment"
    return None


def canonical_url(text: str) -> str:
    """Return a server's address in the one form by which addresses are compared."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return text.strip()
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port in (None, usual) else f':{port}'}{parts.path.rstrip('/')}"
