"""The way to a server: whom it trusts, what it shows to whom, proxies, and what is said when it fails."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.proxy_process import ProxyProcess
from tests.support.server_process import free_port
from tests.support.tls_server import NotingServer, write_authority, write_certificate
from tracker_agent.exchange import Answer, TransportError
from tracker_agent.settings import ServerSettings
from tracker_agent.tls import CertificateFileError, server_context
from tracker_agent.transport import POLLS_MAX, SOCKETS_MAX, Transport


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Good Authority")


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    return trustme.CA(organization_name="Strange Authority")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def good(root: Path, authority: trustme.CA) -> str:
    return write_authority(authority, root / "authority.pem")


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[NotingServer]:
    with NotingServer(authority.issue_cert("localhost", "127.0.0.1")) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(root: Path) -> Iterator[ProxyProcess]:
    with ProxyProcess(root, password="me:open sesame") as running:
        yield running


@pytest.fixture(scope="module")
def tls_proxy(root: Path, authority: trustme.CA) -> Iterator[ProxyProcess]:
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(str(root / "proxy.crt"))
    certificate.private_key_pem.write_to_path(str(root / "proxy.key"))
    files = ("--cert-file", str(root / "proxy.crt"), "--key-file", str(root / "proxy.key"))
    with ProxyProcess(root, *files) as running:
        yield running


@asynccontextmanager
async def transport(url: str, **settings: Any) -> AsyncIterator[Transport]:
    way = Transport(ServerSettings(url=url, **settings), timeout_s=10.0)
    try:
        yield way
    finally:
        await way.close()


async def ask(url: str, **settings: Any) -> Answer:
    async with transport(url, **settings) as way:
        return await way.request("POST", "/x", {"Authorization": "Bearer tk"}, b"body" * 1000)


async def failure(url: str, **settings: Any) -> str:
    with pytest.raises(TransportError) as caught:
        await ask(url, **settings)
    return str(caught.value)


def local(server: NotingServer, host: str = "localhost", scheme: str = "https") -> str:
    return f"{scheme}://{host}:{server.port}"


# Whom it trusts.


async def test_own_authority_is_trusted_and_no_other(server: NotingServer, good: str) -> None:
    assert (await ask(local(server), ca_file=good)).status == 200


async def test_directory_of_authorities_is_taken_too(server: NotingServer, good: str, tmp_path: Path) -> None:
    os.symlink(good, tmp_path / f"{subject_hash(good)}.0")

    assert (await ask(local(server), ca_file=str(tmp_path))).status == 200


def subject_hash(pem: str) -> str:
    import subprocess

    from tests.support import require

    openssl = require.program("openssl")
    done = subprocess.run([openssl, "x509", "-hash", "-noout", "-in", pem], capture_output=True, check=True)
    return done.stdout.decode().strip()


async def test_unknown_authority_is_named_with_the_setting_that_would_trust_it(
    server: NotingServer, stranger: trustme.CA, tmp_path: Path
) -> None:
    said = await failure(local(server))
    other = await failure(local(server), ca_file=write_authority(stranger, tmp_path / "ca.pem"))
    by_variable = await failure(
        local(server), ca_file=str(tmp_path / "ca.pem"), variables=(("ca_file", "SSL_CERT_FILE"),)
    )

    assert f"localhost:{server.port}" in said
    assert "O=Good Authority" in said
    assert "this machine does not trust" in said
    assert "server.ca_file" in said
    assert f"{tmp_path}/ca.pem does not hold" in other
    assert "the variable SSL_CERT_FILE" in by_variable


async def test_untrusted_server_is_sent_nothing(authority: trustme.CA) -> None:
    with NotingServer(authority.issue_cert("localhost")) as server:
        await failure(local(server), headers=("X-Secret: 1",))

        assert server.requests == []


async def test_expired_certificate_is_said_with_its_date(authority: trustme.CA, good: str) -> None:
    ended = datetime(2021, 2, 3, 4, 5, tzinfo=UTC)
    with NotingServer(authority.issue_cert("localhost", not_after=ended)) as server:
        said = await failure(local(server), ca_file=good)

    assert "ended on 2021-02-03 04:05 UTC" in said
    assert "O=Good Authority" in said
    assert "renewed" in said


async def test_certificate_of_the_future_points_to_the_clock(authority: trustme.CA, good: str) -> None:
    begins = datetime.now(UTC) + timedelta(days=3)
    with NotingServer(authority.issue_cert("localhost", not_before=begins)) as server:
        said = await failure(local(server), ca_file=good)

    assert f"not valid before {begins:%Y-%m-%d}" in said
    assert "clock" in said


async def test_certificate_for_another_host_is_said_with_its_names(authority: trustme.CA, good: str) -> None:
    with NotingServer(authority.issue_cert("tracker.example", "10.1.2.3")) as server:
        by_name = await failure(local(server), ca_file=good)
        by_address = await failure(local(server, "127.0.0.1"), ca_file=good)

    assert "is for tracker.example, 10.1.2.3, not for localhost" in by_name
    assert "O=Good Authority" in by_name
    assert "server.url" in by_name
    assert "not for 127.0.0.1" in by_address


# What it shows.


async def test_client_certificate_is_shown(authority: trustme.CA, good: str, tmp_path: Path) -> None:
    certificate = write_certificate(authority.issue_cert("agent.example"), tmp_path / "client.pem")
    with NotingServer(authority.issue_cert("localhost"), client_authority=authority) as server:
        answer = await ask(local(server), ca_file=good, client_cert=certificate)

        assert (answer.status, server.client_names) == (200, ["agent.example"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
async def test_missing_client_certificate_is_said_with_the_setting(
    authority: trustme.CA, good: str, version: ssl.TLSVersion
) -> None:
    def only(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    with NotingServer(authority.issue_cert("localhost"), authority, only) as server:
        said = await failure(local(server), ca_file=good)

    assert "client certificate" in said
    assert "server.client_cert" in said
    assert f"localhost:{server.port}" in said


async def test_client_certificate_that_the_server_refuses_is_named(
    authority: trustme.CA, stranger: trustme.CA, good: str, tmp_path: Path
) -> None:
    certificate = write_certificate(stranger.issue_cert("agent.example"), tmp_path / "client.pem")
    with NotingServer(authority.issue_cert("localhost"), client_authority=authority) as server:
        said = await failure(local(server), ca_file=good, client_cert=certificate)

    assert "accept the client certificate" in said
    assert certificate in said


async def test_proxy_is_not_shown_the_client_certificate(
    authority: trustme.CA, good: str, root: Path, tmp_path: Path
) -> None:
    """An https:// proxy that asks for one must do without."""
    certificate = write_certificate(authority.issue_cert("agent.example"), tmp_path / "client.pem")
    asking = NotingServer(authority.issue_cert("localhost"), authority, ask_politely)
    with asking, NotingServer() as plain:
        # As a proxy for http:// it is sent the request; what it answers is of no interest.
        await ask(
            local(plain, "127.0.0.1", "http"),
            ca_file=good,
            client_cert=certificate,
            proxy=f"https://localhost:{asking.port}",
        )

        assert (len(asking.requests), asking.client_names) == (1, [])


def ask_politely(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_OPTIONAL


async def test_headers_of_the_operator_go_along_and_replace_none_of_ours(
    server: NotingServer, good: str
) -> None:
    server.requests.clear()

    await ask(local(server), ca_file=good, headers=("X-Team: ml: 2", "authorization: other"))

    assert server.requests[0]["x-team"] == "ml: 2"


# Files that are replaced.


async def test_replaced_files_are_taken_up_without_a_restart(
    authority: trustme.CA, stranger: trustme.CA, tmp_path: Path
) -> None:
    ca_file = write_authority(stranger, tmp_path / "ca.pem")
    client = write_certificate(authority.issue_cert("old.example"), tmp_path / "client.pem")
    with NotingServer(authority.issue_cert("localhost"), client_authority=authority) as server:
        async with transport(local(server), ca_file=ca_file, client_cert=client) as way:
            with pytest.raises(TransportError):
                await way.request("GET", "/", {})
            write_authority(authority, tmp_path / "new.pem")
            os.replace(tmp_path / "new.pem", ca_file)
            await way.request("GET", "/", {})
            write_certificate(authority.issue_cert("new.example"), tmp_path / "client.pem")
            await way.request("GET", "/", {})

            assert server.client_names == ["old.example", "new.example"]


async def test_replaced_file_that_cannot_be_used_changes_nothing_and_is_said(
    authority: trustme.CA, server: NotingServer, tmp_path: Path
) -> None:
    ca_file = write_authority(authority, tmp_path / "ca.pem")
    async with transport(local(server), ca_file=ca_file) as way:
        await way.request("GET", "/", {})
        assert way.problem is None

        Path(ca_file).write_text("half a certif")
        await way.request("GET", "/", {})
        said = way.problem
        Path(ca_file).unlink()
        await way.request("GET", "/", {})
        gone = way.problem
        write_authority(authority, tmp_path / "ca.pem")
        await way.request("GET", "/", {})

        assert said is not None and "holds no certificates" in said and "stay in use" in said
        assert gone is not None and "No such file" in gone
        assert way.problem is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ca_file": "/no/ca.pem"}, ["cannot read server.ca_file: /no/ca.pem", "No such file"]),
        ({"ca_file": "garbage"}, ["server.ca_file", "no certificates in PEM form"]),
        ({"client_cert": "/no/c.pem"}, ["cannot read server.client_cert: /no/c.pem"]),
        ({"client_cert": "cert", "client_key": "/no/k"}, ["cannot read server.client_key: /no/k"]),
        ({"client_cert": "cert", "client_key": "other"}, ["other is not the private key of the certificate"]),
        ({"client_cert": "cert"}, ["no certificate and private key in PEM form in"]),
        ({"client_cert": "garbage"}, ["no certificate and private key in PEM form in"]),
        ({"client_cert": "cert", "client_key": "locked"}, ["passphrase", "openssl pkey"]),
    ],
)
def test_certificate_file_that_cannot_be_used_is_named_with_what_is_wrong(
    authority: trustme.CA, tmp_path: Path, changes: dict[str, str], said: list[str]
) -> None:
    from cryptography.hazmat.primitives import serialization

    certificate = authority.issue_cert("x")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    authority.issue_cert("y").private_key_pem.write_to_path(str(tmp_path / "other"))
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"word")
    (tmp_path / "locked").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    (tmp_path / "garbage").write_text("garbage")
    paths = {
        name: value if value.startswith("/") else str(tmp_path / value) for name, value in changes.items()
    }

    with pytest.raises(CertificateFileError) as caught:
        server_context(ServerSettings(url="https://h", **paths))

    for part in said:
        assert part in str(caught.value)


# Proxies.


def password_file(root: Path, password: str = "open sesame") -> str:
    (root / "password").write_text(password + "\n")
    return str(root / "password")


async def test_server_behind_a_proxy_with_a_password_is_reached_and_never_hears_the_password(
    server: NotingServer, good: str, proxy: ProxyProcess, tmp_path: Path
) -> None:
    login = {"proxy": proxy.url, "proxy_user": "me", "proxy_password_file": password_file(tmp_path)}
    server.requests.clear()

    with NotingServer() as plain:
        assert (await ask(local(server), ca_file=good, **login)).status == 200
        assert (await ask(local(plain, scheme="http"), **login)).status == 200

        heard = server.requests + plain.requests
    assert len(heard) == 2
    word = base64.b64encode(b"me:open sesame").decode()
    assert not any("proxy-authorization" in headers or word in str(headers) for headers in heard)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_wants_a_password_is_said_with_the_settings(
    server: NotingServer, good: str, proxy: ProxyProcess, tmp_path: Path, scheme: str
) -> None:
    wrong = {"proxy_user": "me", "proxy_password_file": password_file(tmp_path, "geheim")}

    missing = await failure(local(server, scheme=scheme), ca_file=good, proxy=proxy.url)
    refused = await failure(local(server, scheme=scheme), ca_file=good, proxy=proxy.url, **wrong)

    assert f"the proxy {proxy.url} asks for a password (407)" in missing
    assert "server.proxy_user and server.proxy_password_file" in missing
    assert "does not accept the user 'me'" in refused
    assert "server.proxy_password_file" in refused
    assert "geheim" not in refused


async def test_new_proxy_password_is_taken_up_from_its_file(
    server: NotingServer, good: str, proxy: ProxyProcess, tmp_path: Path
) -> None:
    login = {"proxy_user": "me", "proxy_password_file": password_file(tmp_path, "wrong")}
    async with transport(local(server), ca_file=good, proxy=proxy.url, **login) as way:
        with pytest.raises(TransportError, match="407"):
            await way.request("GET", "/", {})
        password_file(tmp_path)

        assert (await way.request("GET", "/", {})).status == 200


async def test_proxy_that_is_down_is_not_taken_for_the_server(server: NotingServer, good: str) -> None:
    port = free_port()

    said = await failure(local(server), ca_file=good, proxy=f"http://127.0.0.1:{port}")
    unknown = await failure(
        local(server),
        ca_file=good,
        proxy="http://no-such-host.invalid:1",
        variables=(("proxy", "HTTPS_PROXY"),),
    )

    assert f"the proxy 127.0.0.1:{port} refuses connections" in said
    assert "server.proxy" in said
    assert "the proxy no-such-host.invalid:1: its name cannot be resolved" in unknown
    assert "the variable HTTPS_PROXY" in unknown


async def test_server_that_the_proxy_does_not_reach_is_said(
    good: str, proxy: ProxyProcess, tmp_path: Path
) -> None:
    login = {"proxy": proxy.url, "proxy_user": "me", "proxy_password_file": password_file(tmp_path)}

    said = await failure(f"https://127.0.0.1:{free_port()}", ca_file=good, **login)

    assert f"the proxy {proxy.url} (server.proxy) does not connect to https://127.0.0.1:" in said


async def test_https_proxy_is_used_and_has_to_be_trusted(
    server: NotingServer, good: str, stranger: trustme.CA, tls_proxy: ProxyProcess, tmp_path: Path
) -> None:
    url = f"https://localhost:{tls_proxy.port}"
    bad = write_authority(stranger, tmp_path / "ca.pem")

    assert (await ask(local(server, "127.0.0.1"), ca_file=good, proxy=url)).status == 200
    said = await failure(local(server, "127.0.0.1"), ca_file=bad, proxy=url)

    assert f"the certificate of localhost:{tls_proxy.port} comes from an authority" in said
    assert "O=Good Authority" in said


async def test_untrusted_server_behind_an_https_proxy_is_named_not_the_proxy(
    good: str, stranger: trustme.CA, tls_proxy: ProxyProcess
) -> None:
    with NotingServer(stranger.issue_cert("127.0.0.1")) as server:
        said = await failure(
            local(server, "127.0.0.1"), ca_file=good, proxy=f"https://localhost:{tls_proxy.port}"
        )

    if sys.version_info[:3] == (3, 11, 2):
        # Its asyncio loses what was wrong.
        assert f"TLS with https://127.0.0.1:{server.port} failed behind the proxy" in said
        return
    assert f"the certificate of 127.0.0.1:{server.port} comes from" in said
    assert "O=Strange Authority" in said


# Other failures.


async def test_each_way_not_to_connect_has_a_sentence_of_its_own(server: NotingServer, good: str) -> None:
    port = free_port()
    with NotingServer() as plain:
        no_tls = await failure(local(plain), ca_file=good)
    tls = await failure(local(server, scheme="http"))
    nobody = await failure(f"http://127.0.0.1:{port}")
    unknown = await failure("http://no-such-host.invalid")

    assert "the answer is no TLS; is server.url to begin with http://?" in no_tls
    assert "let server.url begin with https://" in tls
    assert f"127.0.0.1:{port} refuses connections: nothing listens there; check server.url" in nobody
    assert "no-such-host.invalid:80: its name cannot be resolved" in unknown


async def test_environment_and_netrc_are_left_alone(
    server: NotingServer, good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine localhost login someone password geheim\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    server.requests.clear()

    await ask(local(server), ca_file=good)

    assert server.requests[0]["authorization"] == "Bearer tk"


@pytest.mark.parametrize(
    ("method", "other", "most"), [("POST", "GET", SOCKETS_MAX), ("GET", "POST", POLLS_MAX)]
)
async def test_connections_are_bounded_and_questions_hold_up_no_records(
    method: str, other: str, most: int
) -> None:
    with NotingServer() as server:
        async with transport(local(server, scheme="http")) as way:
            waiting = [asyncio.create_task(way.request(method, "/hold", {})) for _ in range(most + 20)]
            while server.held < most:
                await asyncio.sleep(0.01)

            await way.request(other, "/", {})

            assert server.held == most
            server.go.set()
            await asyncio.gather(*waiting)
        assert len(server.requests) == most + 21
