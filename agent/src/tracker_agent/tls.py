"""TLS to one server: whom to trust, which certificate to show, and files that are replaced meanwhile.

A context is made anew when one of its files changed. Certificates are read with the standard library.
"""

from __future__ import annotations

import os
import ssl
from typing import Any
from urllib.parse import urlsplit

from .settings import ServerSettings
from .watched_file import Stamp, read_stamp

_TO_READ = "the file must exist and be readable for the agent's user"


class CertificateFileError(Exception):
    """A file with certificates or a key cannot be used. str() names the setting and what is wrong."""

    def __init__(self, setting: str, what: str, todo: str = "name a file that holds it in PEM form") -> None:
        super().__init__(f"{what}; {todo}")
        self.setting = setting
        self.what = what
        self.todo = todo


class Tls:
    """The context for connections to one server and its proxy. Does I/O: call it from a thread."""

    def __init__(self, server: ServerSettings) -> None:
        self.problem: str | None = None  #: why changed files are not in force
        self._server = server
        self._stamps: list[Stamp | None] = []
        self._context: HostContext | None = None

    @property
    def needed(self) -> bool:
        """Whether there is TLS on the way at all."""
        return "https" in (urlsplit(self._server.url).scheme, urlsplit(self._server.proxy).scheme)

    def context(self) -> HostContext:
        """Return the context to connect with now.

        Raise CertificateFileError as long as there was none that can be used; later on, the former one stays.
        """
        stamps = [_try_stamp(path) for path in _files(self._server)]
        if self._context is not None and stamps == self._stamps:
            return self._context
        try:
            self._context = server_context(self._server)
            self.problem = None
            self._stamps = stamps
        except CertificateFileError as error:
            self.problem = f"{error}; the former certificates stay in use"
            if self._context is None:
                raise
        return self._context


class HostContext(ssl.SSLContext):
    """A context that hands some hosts over to other contexts."""

    others: dict[str, ssl.SSLContext]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As SSLContext does. asyncio comes here for each connection."""
        other = self.others.get(str(server_hostname))
        make = other.wrap_bio if other is not None else super().wrap_bio
        return make(incoming, outgoing, server_side, server_hostname, session)


def server_context(server: ServerSettings) -> HostContext:
    """Return a context for a server, whose proxy does not see the client certificate.

    Raise CertificateFileError.
    """
    context = _trusting_context(server)
    proxy = urlsplit(server.proxy).hostname
    if proxy and proxy != urlsplit(server.url).hostname:
        context.others[proxy] = _trusting_context(server)
    if server.client_cert:
        _load_client_certificate(context, server)
    return context


class Glimpse:
    """Looks at the certificate of a host that is not trusted: for the message, nothing is sent there.

    Its context ends each handshake with that host before a byte of HTTP; other hosts are treated as ever.
    """

    def __init__(self, server: ServerSettings, host: str) -> None:
        self.certificate: bytes | None = None  #: DER
        glimpse = self

        class Glimpsed(ssl.SSLObject):
            def do_handshake(self) -> None:
                super().do_handshake()
                glimpse.certificate = self.getpeercert(binary_form=True)
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, "seen enough")

        looking = HostContext(ssl.PROTOCOL_TLS_CLIENT)
        looking.others = {}
        looking.check_hostname = False
        looking.verify_mode = ssl.CERT_NONE
        looking.sslobject_class = Glimpsed
        self.context = server_context(server)
        self.context.others[host] = looking


def _trusting_context(server: ServerSettings) -> HostContext:
    context = HostContext(ssl.PROTOCOL_TLS_CLIENT)
    context.others = {}
    context.set_alpn_protocols(["http/1.1"])
    if not server.ca_file:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    # Whoever names a certificate trusts it, also one that signs nothing or was signed by another.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    what = f"{server.name_of('ca_file')}: {server.ca_file}"
    try:
        if os.path.isdir(server.ca_file):
            context.load_verify_locations(capath=server.ca_file)
        else:
            context.load_verify_locations(cafile=server.ca_file)
    except ssl.SSLError as error:
        raise CertificateFileError(
            "ca_file", f"{what} holds no certificates in PEM form (-----BEGIN CERTIFICATE-----)"
        ) from error
    except OSError as error:
        raise CertificateFileError(
            "ca_file", f"cannot read {what}: {error.strerror or error}", _TO_READ
        ) from error
    return context


def _load_client_certificate(context: ssl.SSLContext, server: ServerSettings) -> None:
    certificate, key = server.client_cert, server.client_key or server.client_cert
    for setting, path in (("client_cert", certificate), ("client_key", key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            name = server.name_of(setting)
            raise CertificateFileError(
                setting, f"cannot read {name}: {path}: {error.strerror or error}", _TO_READ
            ) from error
    try:
        context.load_cert_chain(certificate, key, _no_passphrase)
    except _PassphraseError as error:
        raise CertificateFileError(
            "client_key",
            f"{server.name_of('client_key')}: {key} has a passphrase, which nobody can type here",
            f"take it off: openssl pkey -in {key} -out NEW",
        ) from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            said = f"{key} is not the private key of the certificate {certificate}"
        else:
            said = f"no certificate and private key in PEM form in {' and '.join(sorted({certificate, key}))}"
        raise CertificateFileError("client_cert", f"{server.name_of('client_cert')}: {said}") from error


class _PassphraseError(Exception):
    """OpenSSL asks for a passphrase."""


def _no_passphrase() -> Any:
    # Without this, OpenSSL would ask on the terminal, and wait.
    raise _PassphraseError


def _files(server: ServerSettings) -> list[str]:
    """Return the files that a context depends on."""
    named = [each for each in (server.client_cert, server.client_key) if each]
    if server.ca_file:
        return [*named, server.ca_file]
    paths = ssl.get_default_verify_paths()
    return [*named, *(each for each in (paths.cafile, paths.capath) if each)]


def _try_stamp(path: str) -> Stamp | None:
    try:
        return read_stamp(path)
    except OSError:
        return None
