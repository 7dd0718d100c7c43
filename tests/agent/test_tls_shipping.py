"""The whole agent on a hard way to its server: a proxy with a password, TLS, a client certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from tests.agent.conftest import Spool, Start, eventually
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_server import write_authority, write_certificate
from tracker_agent.settings import ServerSettings


async def test_records_arrive_through_proxy_and_tls_and_a_renewed_client_certificate_needs_no_restart(
    spool: Spool, start: Start, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    (tmp_path / "password").write_text("open sesame")
    with FakeTrackerServer(tls=tls) as server, ProxyProcess(tmp_path, password="me:open sesame") as proxy:
        settings = ServerSettings(
            url=server.url,
            key="key",
            ca_file=write_authority(authority, tmp_path / "ca.pem"),
            client_cert=write_certificate(stranger.issue_cert("agent"), tmp_path / "client.pem"),
            proxy=proxy.url,
            proxy_user="me",
            proxy_password_file=str(tmp_path / "password"),
        )
        stream = spool.write()

        async with start(servers=(settings,)) as pipeline:
            lanes = await eventually(
                lambda: [each for each in pipeline.status()["lanes"] if each["state"] == "retrying"]
            )
            assert server.stored(stream) is None
            write_certificate(authority.issue_cert("agent"), tmp_path / "client.pem")

            await eventually(lambda: server.content(stream) == spool.content(stream))
        assert str(tmp_path / "client.pem") in lanes[0]["reason"]
