"""What keeps other web sites out: the Host check, the origin check, and headers on every answer.

The Host check stops DNS rebinding (a foreign name that resolves to this server), the origin check
stops requests another site makes a signed-in browser send.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web

from tracker_server.config import HttpSettings

from .errors import ApiError

#: The UI's own files only: no inline script or style, no foreign origin, no framing.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


def allowed_hosts(settings: HttpSettings) -> frozenset[str]:
    """Return the names, in lower case, under which the server may be addressed."""
    names = {"localhost", socket.gethostname(), settings.host, *settings.allowed_hosts}
    if settings.public_url:
        names.add(urlsplit(settings.public_url).hostname or "")
    return frozenset(name.lower().rstrip(".") for name in names if name)


def host_is_allowed(header: str | None, allowed: frozenset[str]) -> bool:
    """Return whether a Host header names this server. IP addresses do: no one can rebind those."""
    if not header:
        return False
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if name.rstrip(".") in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_host(request: web.Request, allowed: frozenset[str]) -> None:
    """Raise ApiError for a request that addresses the server by a name that is not its own."""
    if not host_is_allowed(request.headers.get("Host"), allowed):
        raise ApiError(
            421,
            "unknown_host",
            f"this server does not go by the name {request.headers.get('Host', '')[:200]!r}",
            "add the name to http.allowed_hosts, or set http.public_url",
        )


def same_origin(headers: Mapping[str, str], public_url: str) -> bool | None:
    """Return whether a browser says the request comes from our own pages; None when it says nothing."""
    site = headers.get("Sec-Fetch-Site")
    origin = headers.get("Origin")
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is not None:
        try:
            netloc = urlsplit(origin).netloc
        except ValueError:
            return False
        own = {headers.get("Host", "").lower()}
        if public_url:
            own.add(urlsplit(public_url).netloc.lower())
        return netloc.lower() in own
    return True if site is not None else None


def check_session_request(request: web.Request, public_url: str) -> None:
    """Raise ApiError when another site may have made a signed-in browser send this request."""
    same = same_origin(request.headers, public_url)
    if same is False or (same is None and request.method not in _SAFE_METHODS):
        raise ApiError(
            403,
            "cross_site",
            "a signed-in browser sent this request on behalf of another site",
            "programs use an API key: Authorization: Bearer <key>",
        )


def check_not_cross_site(request: web.Request, public_url: str) -> None:
    """Raise ApiError when a browser says that another site sent this request."""
    if same_origin(request.headers, public_url) is False:
        raise ApiError(403, "cross_site", "this request comes from another site")


def add_headers(response: web.StreamResponse) -> None:
    """Put the security headers on an answer."""
    response.headers["Server"] = "tracker"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
