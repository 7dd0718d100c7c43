"""The only door to the aiohttp client: one request in, one answer or one TransportError out.

Key, client certificate, proxy password and headers of a server go to that server and its proxy alone: each
server has a Transport of its own, and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Mapping

import aiohttp

from .certificates import Certificate, parse_certificate
from .connection_errors import explain, explain_proxy_answer, find_distrust
from .exchange import Answer, TransportError
from .setting_values import parse_header
from .settings import ServerSettings
from .tls import CertificateFileError, Glimpse, Tls
from .watched_file import WatchedFile

#: An answer to 10,000 streams is about 2 MiB; whatever is longer is not from a Tracker server.
ANSWER_BYTES_MAX = 16 * 1024 * 1024
#: Connections to one server at once: those that carry something there, and those that ask. A server may hold
#: questions back for long, so that they must not take the others' places.
SOCKETS_MAX = 32
POLLS_MAX = 64
#: For a look at a certificate that is not trusted.
GLIMPSE_S = 10.0


class Transport:
    """HTTP to one server. The session is opened by the first request, inside the running loop."""

    def __init__(
        self, server: ServerSettings, timeout_s: float = 60.0, connect_timeout_s: float = 10.0
    ) -> None:
        self.url = server.url.rstrip("/")
        self.problem: str | None = None  #: replaced files that cannot be used; the former ones are in force
        self._server = server
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s)
        self._headers = dict(parse_header(each) for each in server.headers)
        self._tls = Tls(server)
        self._password = server.proxy_password
        password_file = server.proxy_password_file if server.proxy else ""
        self._password_file = WatchedFile(password_file) if password_file else None
        self._answered = False
        self._session: aiohttp.ClientSession | None = None
        self._sockets = asyncio.Semaphore(SOCKETS_MAX)
        self._polls = asyncio.Semaphore(POLLS_MAX)

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request and return the whole answer. Raise TransportError."""
        async with self._polls if method == "GET" else self._sockets:
            try:
                answer = await self._request(method, path, headers, body)
            except aiohttp.ConnectionTimeoutError as error:
                raise TransportError(self._silence()) from error
            except TimeoutError as error:
                raise TransportError(
                    f"no answer from {self.url} within {self._timeout.total:.0f} s"
                ) from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise TransportError(await self._explain(error)) from error
            except AttributeError as error:
                # asyncio of Python 3.11.2 trips over itself where TLS fails within the TLS of a proxy.
                raise TransportError(
                    f"TLS with {self.url} failed behind the proxy: {error.__context__ or error}"
                ) from error
        refusal = explain_proxy_answer(answer.status, self._server)
        if refusal is not None and self.url.startswith("http://"):
            raise TransportError(refusal)
        self._answered = True
        return answer

    async def close(self) -> None:
        """Close the connections. A later request opens them again."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            # aiohttp closes its sockets in the loop's next turn.
            await asyncio.sleep(0)

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        context = await self._prepare()
        async with self._open_session().request(
            method,
            self.url + path,
            headers=self._all_headers(headers),
            data=_payload(body),
            allow_redirects=False,
            ssl=context,
            proxy=self._server.proxy or None,
            proxy_headers=self._proxy_headers,
        ) as answer:
            content = bytearray()
            async for chunk in answer.content.iter_chunked(65536):
                content += chunk
                if len(content) > ANSWER_BYTES_MAX:
                    raise TransportError(f"the answer to {path} is longer than {ANSWER_BYTES_MAX} bytes")
            names = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, names, bytes(content))

    async def _prepare(self) -> ssl.SSLContext | bool:
        """Take up files that were replaced; return the context to connect with."""
        if not self._tls.needed and self._password_file is None:
            return True
        try:
            # A thread, since files may lie on a disk that hangs.
            return await asyncio.to_thread(self._look_at_files)
        except CertificateFileError as error:
            raise TransportError(str(error)) from error

    def _look_at_files(self) -> ssl.SSLContext | bool:
        problem = None
        if self._password_file is not None:
            try:
                content = self._password_file.read_if_changed()
                if content is not None:
                    self._password = content.decode().strip("\r\n")
            except (OSError, ValueError) as error:
                name = self._server.name_of("proxy_password_file")
                problem = f"{name} {self._password_file.path}: {error}; the former password stays in use"
        context = self._tls.context() if self._tls.needed else True
        self.problem = problem or self._tls.problem
        return context

    @property
    def _proxy_headers(self) -> dict[str, str]:
        """What the proxy is told when it is asked to connect."""
        user = self._server.proxy_user
        if not user or not self._server.proxy:
            return {}
        return {"Proxy-Authorization": aiohttp.encode_basic_auth(user, self._password, "utf-8")}

    def _all_headers(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a request: ours before the operator's."""
        # Without TLS there is no CONNECT: the proxy reads the request itself, and takes its header out.
        to_proxy = {} if self.url.startswith("https://") else self._proxy_headers
        ours = {name.lower() for name in own}
        theirs = {name: value for name, value in self._headers.items() if name.lower() not in ours}
        return {**theirs, **to_proxy, **own}

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Cookies are nobody's business here; ~/.netrc and the environment's proxies were settled before.
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                auto_decompress=True,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=SOCKETS_MAX + POLLS_MAX),
            )
        return self._session

    def _silence(self) -> str:
        where = f"the proxy {self._server.proxy}" if self._server.proxy else self.url
        return f"{where} does not answer: no connection within {self._timeout.sock_connect:.0f} s"

    async def _explain(self, error: Exception) -> str:
        """Return why a request failed, with a look at a certificate that is not trusted."""
        distrust = find_distrust(error, self._server)
        certificate = await self._glimpse(distrust.host) if distrust is not None else None
        return explain(error, self._server, certificate, self._answered)

    async def _glimpse(self, host: str) -> Certificate | None:
        """Return the certificate that a host shows, without sending it anything."""
        try:
            glimpse = await asyncio.to_thread(Glimpse, self._server, host)
            async with self._open_session().get(
                self.url,
                ssl=glimpse.context,
                proxy=self._server.proxy or None,
                proxy_headers=self._proxy_headers,
                timeout=aiohttp.ClientTimeout(total=GLIMPSE_S),
                allow_redirects=False,
            ):
                return None  # it is trusted by now
        except (aiohttp.ClientError, OSError, ValueError, CertificateFileError):
            pass
        try:
            return parse_certificate(glimpse.certificate) if glimpse.certificate else None
        except ValueError:
            return None


def _payload(body: bytes | None) -> io.BytesIO | None:
    """Return a body that goes out in pieces: a large one at once would hold up the loop."""
    return None if body is None else io.BytesIO(body)


def connect_to(server: ServerSettings, timeout_s: float) -> Transport:
    """Return the way to a server. The first request connects."""
    return Transport(server, timeout_s)
