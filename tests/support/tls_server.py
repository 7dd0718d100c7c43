"""A small real HTTPS server that notes what reaches it, and certificates for it (trustme)."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme


class NotingServer:
    """Answers every request with 200 and keeps its headers. Use as a context manager.

    certificate: serve TLS with it; client_authority: ask for client certificates of that authority.
    """

    def __init__(
        self,
        certificate: trustme.LeafCert | None = None,
        client_authority: trustme.CA | None = None,
        change: Callable[[ssl.SSLContext], Any] = lambda context: None,
    ) -> None:
        self.requests: list[dict[str, str]] = []
        self.client_names: list[str] = []
        #: Requests that are held back until `go` is set: those to /hold.
        self.held = 0
        self.go = threading.Event()
        noting = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                noting.requests.append({name.lower(): value for name, value in self.headers.items()})
                if isinstance(self.connection, ssl.SSLSocket) and client_authority is not None:
                    shown = self.connection.getpeercert() or {}
                    noting.client_names.extend(name for _, name in shown.get("subjectAltName", ()))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/hold":
                    noting.held += 1
                    noting.go.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            # With the default of 5, many that connect at once are turned away by the kernel now and then.
            request_queue_size = 1024

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            if client_authority is not None:
                client_authority.configure_trust(context)
                context.verify_mode = ssl.CERT_REQUIRED
            change(context)
            # The handshake belongs into the connection's thread: accept() must not wait for a client.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> NotingServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def write_authority(authority: trustme.CA, path: Path) -> str:
    """Write an authority's certificate; return the path."""
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def write_certificate(certificate: trustme.LeafCert, path: Path) -> str:
    """Write a certificate with its private key into one file; return the path."""
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)
