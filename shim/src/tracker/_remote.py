"""Asks a server, when a call needs one: restore(), use_artifact(), the command `tracker restore`.

Everything here waits, with a bound, and raises CommError. The key is given to the server that it is for and
to no other: redirects are not followed.
"""

import hashlib
import json
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ._agent import find_agent
from ._copying import UNFINISHED_PREFIX
from ._credentials import read_keys
from ._errors import CommError
from ._names import random_id
from ._spool import candidate_roots
from ._version import VERSION

_HEADERS = {"User-Agent": "tracker-shim/" + VERSION}
#: How long a connection may say nothing.
TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
#: Pages of a list that are asked for.
_PAGES_MAX = 200


class NotThereError(CommError):
    """The server answered that there is no such thing, or that this key may not know of it."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **more: Any) -> None:  # noqa: ARG002
        return None


class Remote:
    """One server's HTTP API, with a key."""

    def __init__(self, server: str, key: Optional[str], timeout_s: float = TIMEOUT_S) -> None:
        self.server = server.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def with_timeout(self, timeout_s: float) -> "Remote":
        """Return the same server with another patience."""
        return Remote(self.server, self._key, timeout_s)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON that a path answers with."""
        with self._open(path, query) as answer:
            try:
                data = answer.read(ANSWER_BYTES_MAX + 1)
            except (OSError, ValueError) as error:
                raise CommError("%s: %s" % (self.server, error), error) from error
        if len(data) > ANSWER_BYTES_MAX:
            raise CommError("%s%s answers with more than %d bytes" % (self.server, path, ANSWER_BYTES_MAX))
        try:
            return json.loads(data.decode("utf-8"))
        except ValueError as error:
            raise CommError("%s%s answers with what is no JSON" % (self.server, path), error) from error

    def pages(self, path: str, name: str, **query: Any) -> Iterator[Dict[str, Any]]:
        """Yield the elements of a list that comes in pages."""
        for _ in range(_PAGES_MAX):
            answer = self.get(path, **query)
            for each in answer[name]:
                yield each
            query["cursor"] = answer.get("cursor")
            if not query["cursor"]:
                return

    def download(self, resource: str, target: str, sha256: str, **query: Any) -> None:
        """Write what a path answers with to a file, whole or not at all."""
        temporary = os.path.join(os.path.dirname(target), UNFINISHED_PREFIX + random_id())
        digest = hashlib.sha256()
        try:
            with self._open(resource, query) as answer, open(temporary, "wb") as file:
                while True:
                    block = answer.read(_BLOCK_BYTES)
                    if not block:
                        break
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != sha256:
                raise CommError("%s%s came with other contents than it should have" % (self.server, resource))
            os.replace(temporary, target)
        except (OSError, ValueError) as error:
            raise CommError("%s cannot be fetched: %s" % (target, error), error) from error
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)

    def _open(self, path: str, query: Mapping[str, Any]) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        url = self.server + path + ("?" + urllib.parse.urlencode(given, doseq=True) if given else "")
        request = urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 - find_remote() saw to it
        if self._key:
            request.add_unredirected_header("Authorization", "Bearer " + self._key)
        try:
            return self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(self.server, error) from error
        except (OSError, ValueError, socket.timeout) as error:
            reason = getattr(error, "reason", None) or error
            raise CommError("%s does not answer: %s" % (self.server, reason), error) from error


def find_remote(settings: Any, environ: Mapping[str, str]) -> Remote:
    """Return the server of these settings, else the default one of this machine's agent.

    Raise CommError where neither names one.
    """
    roots = [root for root, _ in candidate_roots(settings.dir, settings.dir_variable, environ)]
    server = settings.server
    if not server:
        server = next((url for url in (find_agent(root).url for root in roots) if url), "")
    if not server:
        raise CommError("no server is known here: set TRACKER_BASE_URL")
    if "@" in server or not server.startswith(("http://", "https://")):
        raise CommError("%r is no address of a server" % server)
    return Remote(server, settings.api_key or _kept_key(roots, settings))


def _kept_key(roots: List[str], settings: Any) -> Optional[str]:
    """Return the key that was left for the agent, if it is for this server and account."""
    wanted: Tuple[str, str] = (settings.server or "", settings.account or "")
    for root in roots:
        for each in reversed(read_keys(root)):
            if (each["server"].rstrip("/"), each["account"]) == wanted:
                return each["key"]
    return None


def _refusal(server: str, error: urllib.error.HTTPError) -> CommError:
    try:
        reason = str(json.loads(error.read(64 * 1024).decode("utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        reason = str(error.reason)
    reason = "".join(c if c.isprintable() else "?" for c in reason)[:300]
    if error.code == 404:
        return NotThereError("%s: %s" % (server, reason), error)
    if error.code in (401, 403):
        return CommError(
            "%s: %s (%d): give a key that may read, by TRACKER_API_KEY or `tracker login`"
            % (server, reason, error.code),
            error,
        )
    return CommError("%s: %s (%d)" % (server, reason, error.code), error)
