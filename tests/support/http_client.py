"""Bare HTTP requests to a ServerProcess: any method, header and body, and the whole answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit


class Answer(NamedTuple):
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str | None:
        """Return the code of an error answer."""
        return str(self.json["error"]) if self.status >= 400 else None


def ask(
    url: str,
    method: str,
    path: str,
    *,
    key: str | None = None,
    cookie: str | None = None,
    params: Any = None,
    json_body: Any = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request on a connection of its own."""
    sent = dict(headers or {})
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    if cookie is not None:
        sent["Cookie"] = f"tracker_session={cookie}"
    if json_body is not None:
        body = json.dumps(json_body).encode()
        sent.setdefault("Content-Type", "application/json")
    if params:
        path += "?" + urlencode(params, doseq=True)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, quote(path, safe="/?&=%+:-._~"), body, sent)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def sign_in(url: str, link: str) -> str:
    """Use a one-time link as a browser would; return the session cookie."""
    token = link.partition("#")[2]
    answer = ask(
        url, "POST", "/api/v1/signin", json_body={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 200, answer.body
    cookie = answer.headers["Set-Cookie"]
    return cookie.partition(";")[0].partition("=")[2]
