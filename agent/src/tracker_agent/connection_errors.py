"""Why a server was not reached, in sentences for the operator: what happened, where, which setting to use."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from .certificates import Certificate
from .settings import ServerSettings

#: What OpenSSL says of an answer that is no TLS.
_NOT_TLS = frozenset(
    ["WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"]
)
#: OpenSSL's numbers for what is wrong with a certificate.
_NOT_YET, _EXPIRED, _WRONG_HOST, _WRONG_ADDRESS = 9, 10, 62, 64
PROXY_WANTS_PASSWORD = 407


def explain(
    error: BaseException, server: ServerSettings, certificate: Certificate | None, answered: bool
) -> str:
    """Return why a request failed.

    certificate: what the untrusted host showed, where it was looked at. answered: the server answered before.
    """
    distrust = find_distrust(error, server)
    if distrust is not None:
        return _distrust(distrust, server, certificate)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_refusal(error.status, server)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error, server, answered)
    alert = _find_tls_error(error)
    if alert is not None:
        return _tls_failure(alert, server)
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | ConnectionError):
        return f"{server.url} closed the connection without an answer{_hint_at_tls(server, answered)}"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{server.url} does not speak HTTP: {error.message}{_hint_at_tls(server, answered)}"
    return f"{server.url}: {error or type(error).__name__}"


def explain_proxy_answer(status: int, server: ServerSettings) -> str | None:
    """Return what a proxy's own answer to a plain http:// request means, None where it is the server's."""
    return _proxy_refusal(status, server) if server.proxy and status == PROXY_WANTS_PASSWORD else None


class Distrust(NamedTuple):
    """A host whose certificate was refused, and OpenSSL's number for the reason."""

    host: str
    port: int | None
    code: int | None


def find_distrust(error: BaseException, server: ServerSettings) -> Distrust | None:
    """Return whose certificate was refused, None when that is not what happened."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        code = getattr(error.certificate_error, "verify_code", None)
        return Distrust(error.host, error.port, code)
    below = _find_tls_error(error)
    if isinstance(below, ssl.SSLCertVerificationError):
        # Within the TLS of a proxy, which was trusted.
        parts = urlsplit(server.url)
        return Distrust(parts.hostname or "", parts.port or 443, below.verify_code)
    return None


def _distrust(distrust: Distrust, server: ServerSettings, certificate: Certificate | None) -> str:
    """Return why a host's certificate is not accepted: host, issuer, what to do."""
    host, code = f"{distrust.host}:{distrust.port}", distrust.code
    setting = "proxy" if distrust.host == urlsplit(server.proxy).hostname else "url"
    issuer = f" (issuer: {certificate.issuer})" if certificate is not None else ""
    if code == _EXPIRED:
        ended = f" on {certificate.ends:%Y-%m-%d %H:%M} UTC" if certificate is not None else ""
        return (
            f"the certificate of {host} ended{ended}{issuer}: it has to be renewed there; "
            "if it was, look at the clock of this machine"
        )
    if code == _NOT_YET:
        begins = f" before {certificate.begins:%Y-%m-%d %H:%M} UTC" if certificate is not None else " yet"
        return f"the certificate of {host} is not valid{begins}{issuer}: look at the clock of this machine"
    if code in (_WRONG_HOST, _WRONG_ADDRESS):
        names = ", ".join(certificate.names) if certificate is not None else ""
        return (
            f"the certificate of {host} is for {names or 'other names'}, not for {distrust.host}{issuer}: "
            f"set {server.name_of(setting)} to a name that it is for"
        )
    trusted = f"{server.ca_file} does not hold" if server.ca_file else "this machine does not trust"
    return (
        f"the certificate of {host} comes from an authority that {trusted}{issuer}: put that authority's "
        f"certificate into {server.name_of('ca_file')}"
    )


def _proxy_refusal(status: int, server: ServerSettings) -> str:
    proxy, name = server.proxy, server.name_of("proxy")
    if status == PROXY_WANTS_PASSWORD:
        if server.proxy_user:
            given = server.name_of("proxy_password_file" if server.proxy_password_file else "proxy")
            return (
                f"the proxy {proxy} does not accept the user {server.proxy_user!r} with the given password "
                f"(407): mend {server.section}.proxy_user or {given}"
            )
        return (
            f"the proxy {proxy} asks for a password (407): set {server.section}.proxy_user and "
            f"{server.section}.proxy_password_file"
        )
    try:
        said = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        said = str(status)
    return (
        f"the proxy {proxy} ({name}) does not connect to {server.url} ({said}): it may forbid that or not "
        f'reach it; if no proxy is needed, set {server.section}.proxy to "none"'
    )


def _not_connected(error: aiohttp.ClientConnectorError, server: ServerSettings, answered: bool) -> str:
    host = f"{error.host}:{error.port}"
    is_proxy = bool(server.proxy) and error.host == urlsplit(server.proxy).hostname
    what, name = ("the proxy ", server.name_of("proxy")) if is_proxy else ("", server.name_of("url"))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        said = getattr(error.os_error, "strerror", None) or error.os_error
        return f"{what}{host}: its name cannot be resolved ({said}); check {name} and this machine's DNS"
    if isinstance(error.os_error, ssl.SSLError):
        return _tls_failure(error.os_error, server)
    if isinstance(error.os_error, ConnectionRefusedError):
        return f"{what}{host} refuses connections: nothing listens there; check {name}"
    if isinstance(error.os_error, ConnectionResetError):
        return f"{what}{host} closed the connection at once{_hint_at_tls(server, answered)}"
    return f"{what}{host} cannot be reached: {error.os_error.strerror or error.os_error}; check {name}"


def _tls_failure(error: ssl.SSLError, server: ServerSettings) -> str:
    reason = (error.reason or "").upper()
    where = urlsplit(server.url).netloc
    if reason in _NOT_TLS:
        addresses = (
            f"{server.name_of('url')} or {server.name_of('proxy')}" if server.proxy else server.name_of("url")
        )
        return f"{where}: the answer is no TLS; is {addresses} to begin with http://?"
    if "ALERT" in reason:
        if server.client_cert:
            return (
                f"{where} does not accept the client certificate {server.client_cert} ({_lower(reason)}): "
                f"check {server.name_of('client_cert')}"
            )
        if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
            return (
                f"{where} asks for a client certificate ({_lower(reason)}): set {server.section}.client_cert "
                f"and {server.section}.client_key"
            )
    return f"{where}: TLS failed ({_lower(reason) or error})"


def _lower(reason: str) -> str:
    """Return TLSV13_ALERT_CERTIFICATE_REQUIRED as words."""
    return reason.partition("ALERT_")[2].replace("_", " ").lower() or reason.replace("_", " ").lower()


def _find_tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return OpenSSL's error below one of aiohttp's."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLError):
            return below
        below = below.__cause__ or below.__context__
    return None


def _hint_at_tls(server: ServerSettings, answered: bool) -> str:
    """Return what may be wrong with a server that never answered."""
    if answered:
        return ""
    if server.url.startswith("http://"):
        return f"; if it speaks TLS, let {server.name_of('url')} begin with https://"
    if server.client_cert:
        return f"; it may not accept the client certificate {server.client_cert}"
    return f"; if it wants a client certificate, set {server.section}.client_cert"
