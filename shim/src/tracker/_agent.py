"""What the shim can tell about this host's agent, from two files at the spool root.

Anyone may create files in the system spool, so these count only when they belong to root, to
the owner of the spool or to ourselves.
"""

import os

from .protocol.layout import AGENT_FILE
from .protocol.lock import lock_holder
from .protocol.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional


LOCK_FILE = "agent.lock"
_FILE_BYTES_MAX = 64 * 1024


class Agent(NamedTuple):
    """Running or not, and what it says of itself (empty strings where it says nothing)."""

    running: bool
    url: str = ""
    machine: str = ""
    boot: str = ""
    #: Public address of each server that it ships to, by the server's address; None: it does not say.
    servers: "Optional[Dict[str, str]]" = None

    def public_url(self, server: str) -> str:
        """Return the address that people open for a server."""
        return (self.servers or {}).get(server) or server


def find_agent(root: str) -> Agent:
    """Return what is known of the agent that serves this spool."""
    facts = _read_facts(root)
    texts = {name: _text(facts.get(name)) for name in ("url", "machine", "boot")}
    listed = facts.get("servers")
    servers = {_text(url): _text(listed[url]) for url in listed} if isinstance(listed, dict) else None
    return Agent(_is_locked(root), servers=servers, **texts)


def _read_facts(root: str) -> "Dict[str, Any]":
    fd = _open_trusted(root, AGENT_FILE)
    if fd is None:
        return {}
    try:
        data = os.read(fd, _FILE_BYTES_MAX)
    except OSError:
        return {}
    finally:
        os.close(fd)
    import json  # 2 ms that only init() pays

    try:
        facts = json.loads(data.decode("utf-8"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_locked(root: str) -> bool:
    fd = _open_trusted(root, LOCK_FILE)
    if fd is None:
        return False
    try:
        return lock_holder(fd) is not None
    except OSError:
        return False
    finally:
        os.close(fd)


def _open_trusted(root: str, name: str) -> "Optional[int]":
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(os.path.join(root, name), flags | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        trusted = (0, os.stat(root).st_uid, os.geteuid()) if hasattr(os, "geteuid") else (0,)
        if os.fstat(fd).st_uid in trusted:
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _text(value: "Any") -> str:
    # Printed on the user's terminal: no control characters.
    return value if isinstance(value, str) and value.isprintable() else ""
