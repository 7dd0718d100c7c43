"""Keys, principals and signing in, against a real server."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

from tests.server.http.conftest import Keys
from tests.support.http_client import ask, sign_in
from tests.support.server_process import ServerProcess

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def test_me_says_who_a_key_stands_for(server: ServerProcess, keys: Keys) -> None:
    assert server.get("/api/v1/me", key=keys.read) == {
        "principal": "reader",
        "kind": "user",
        "entity": "default",
        "scopes": ["read"],
    }
    assert server.get("/api/v1/me", key=keys.agent)["kind"] == "service"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "nonsense",
        "tk_aaaaaaaa_" + "x" * 43,
        "tk_AAAAAAAA_" + "x" * 43,
        "ts_aaaaaaaa_" + "x" * 43,
        "tk_" + "é" * 52,
        "x" * 4000,
    ],
)
def test_a_key_that_is_none_opens_nothing(server: ServerProcess, key: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request("GET", "/api/v1/me", headers={"Authorization": f"Bearer {key}".encode()})
    answer = connection.getresponse()
    connection.close()

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_secret_part_of_a_key_counts(server: ServerProcess, keys: Keys) -> None:
    last = "A" if keys.read[-1] != "A" else "B"

    assert ask(server.url, "GET", "/api/v1/me", key=keys.read[:-1] + last).status == 401


def test_a_revoked_key_stops_working_with_the_next_request(server: ServerProcess) -> None:
    made = server.request("POST", "/api/v1/keys", {"name": "short", "scopes": ["read"]})
    assert server.get("/api/v1/me", key=made["key"])["scopes"] == ["read"]

    revoked = server.request("DELETE", f"/api/v1/keys/{made['id']}")

    assert revoked["revoked"] is not None
    assert ask(server.url, "GET", "/api/v1/me", key=made["key"]).status == 401


def test_a_key_revoked_by_the_command_stops_working_in_the_running_server(server: ServerProcess) -> None:
    key = server.command("key", "create", "--name", "short", "--scopes", "read,ingest", "--expires-days", "2")
    assert server.get("/api/v1/me", key=key)["scopes"] == ["ingest", "read"]

    server.command("key", "revoke", key.split("_")[1])

    assert ask(server.url, "GET", "/api/v1/me", key=key).status == 401
    assert "revoked" in server.command("key", "list")


def test_a_key_ends_when_it_was_to_end(server: ServerProcess) -> None:
    made = server.request("POST", "/api/v1/keys", {"name": "brief", "scopes": ["read"], "expires_s": 1})
    ends = next(k for k in server.get("/api/v1/keys")["keys"] if k["id"] == made["id"])["expires"]

    while True:
        answer = ask(server.url, "GET", "/api/v1/me", key=made["key"])
        if answer.status == 401:
            break

    assert ends is not None


def test_lists_of_keys_hold_no_secret(server: ServerProcess, keys: Keys) -> None:
    listed = ask(server.url, "GET", "/api/v1/keys", key=keys.admin)

    assert listed.status == 200
    for key in (keys.admin, keys.read, keys.agent):
        assert key.split("_")[1].encode() in listed.body
        assert key.split("_", 2)[2].encode() not in listed.body
    assert keys.admin.split("_", 2)[2] not in server.command("key", "list")


def test_secrets_are_nowhere_in_the_database(server: ServerProcess, keys: Keys) -> None:
    cookie = sign_in(server.url, server.signin_link())
    stored = b"".join(path.read_bytes() for path in server.data.glob("tracker.db*"))

    for secret in (keys.admin, keys.read, cookie):
        assert secret.split("_", 2)[2].encode() not in stored


def test_an_admin_of_another_entity_administers_that_one_only(server: ServerProcess, keys: Keys) -> None:
    own = ask(server.url, "GET", "/api/v1/keys", key=keys.foreign_admin).json["keys"]
    assert {key["entity"] for key in own} == {"other"}

    for method, path, body in (
        ("GET", "/api/v1/keys?entity=default", None),
        ("GET", "/api/v1/principals?entity=default", None),
        ("POST", "/api/v1/principals", {"entity": "default", "name": "intruder"}),
        ("POST", "/api/v1/principals", {"entity": "third", "name": "intruder"}),
        (
            "POST",
            "/api/v1/keys",
            {"entity": "default", "principal": "admin", "name": "x", "scopes": ["read"]},
        ),
    ):
        answer = ask(server.url, method, path, key=keys.foreign_admin, json_body=body)
        assert answer.status == 403, (method, path, answer)
    mine = keys.admin.split("_")[1]
    assert ask(server.url, "DELETE", f"/api/v1/keys/{mine}", key=keys.foreign_admin).status == 404
    assert ask(server.url, "GET", "/api/v1/me", key=keys.admin).status == 200


def test_a_principal_cannot_be_made_twice(server: ServerProcess, keys: Keys) -> None:
    body = {"name": "reader"}

    answer = ask(server.url, "POST", "/api/v1/principals", key=keys.admin, json_body=body)

    assert (answer.status, answer.error) == (409, "exists")


def test_a_key_for_nobody_is_refused(server: ServerProcess, keys: Keys) -> None:
    body = {"name": "x", "principal": "nobody", "scopes": ["read"]}

    answer = ask(server.url, "POST", "/api/v1/keys", key=keys.admin, json_body=body)

    assert (answer.status, answer.error) == (404, "not_found")


# --- signing in ---


def test_a_link_signs_in_once(server: ServerProcess) -> None:
    link = server.signin_link()
    cookie = sign_in(server.url, link)
    assert ask(server.url, "GET", "/api/v1/me", cookie=cookie).json["principal"] == "admin"

    again = ask(server.url, "POST", "/api/v1/signin", json_body={"token": link.partition("#")[2]})

    assert (again.status, again.error) == (401, "signin_failed")


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(
    server: ServerProcess, keys: Keys
) -> None:
    answer = ask(server.url, "POST", "/api/v1/signin", json_body={"key": keys.read})

    attributes = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", "max-age=2592000"} <= attributes


def test_a_session_has_no_more_scopes_than_the_key_it_came_from(server: ServerProcess, keys: Keys) -> None:
    signed_in = ask(server.url, "POST", "/api/v1/signin", json_body={"key": keys.read})
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0].partition("=")[2]

    assert ask(server.url, "GET", "/api/v1/me", cookie=cookie).json["scopes"] == ["read"]
    assert ask(server.url, "GET", "/api/v1/keys", cookie=cookie).status == 403


def test_a_session_ends_when_its_key_is_revoked(server: ServerProcess) -> None:
    made = server.request("POST", "/api/v1/keys", {"name": "browser", "scopes": ["read"]})
    signed_in = ask(server.url, "POST", "/api/v1/signin", json_body={"key": made["key"]})
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    assert ask(server.url, "GET", "/api/v1/me", cookie=cookie).status == 200

    server.request("DELETE", f"/api/v1/keys/{made['id']}")

    assert ask(server.url, "GET", "/api/v1/me", cookie=cookie).status == 401


def test_a_key_without_scope_read_does_not_sign_in(server: ServerProcess, keys: Keys) -> None:
    answer = ask(server.url, "POST", "/api/v1/signin", json_body={"key": keys.ingest})

    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


def test_signing_out_ends_the_session_on_the_server(server: ServerProcess) -> None:
    cookie = sign_in(server.url, server.signin_link())

    answer = ask(server.url, "POST", "/api/v1/signout", cookie=cookie, headers=SAME_ORIGIN)

    assert answer.status == 200
    assert ask(server.url, "GET", "/api/v1/me", cookie=cookie).status == 401


def test_sessions_survive_a_killed_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ServerProcess(tmp_path_factory.mktemp("own")) as server:
        cookie = sign_in(server.url, server.signin_link())
        server.kill()
        server.start()

        assert ask(server.url, "GET", "/api/v1/me", cookie=cookie).status == 200


def test_failed_signins_are_slowed_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ServerProcess(tmp_path_factory.mktemp("own")) as server:
        guess = {"token": "tl_aaaaaaaa_" + "x" * 43}
        statuses = [ask(server.url, "POST", "/api/v1/signin", json_body=guess).status for _ in range(10)]
        assert statuses == [401] * 10

        answer = ask(server.url, "POST", "/api/v1/signin", json_body=guess)

        assert (answer.status, answer.error) == (429, "too_many_failures")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert ask(server.url, "GET", "/api/v1/me", key=server.admin_key).status == 200


# --- other web sites ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
def test_another_site_cannot_act_through_a_signed_in_browser(
    server: ServerProcess, headers: dict[str, str]
) -> None:
    cookie = sign_in(server.url, server.signin_link())
    body = {"name": "stolen", "scopes": ["admin"]}

    answer = ask(server.url, "POST", "/api/v1/keys", cookie=cookie, json_body=body, headers=headers)

    assert (answer.status, answer.error) == (403, "cross_site")
    assert "stolen" not in {key["name"] for key in server.get("/api/v1/keys")["keys"]}


def test_another_site_cannot_read_through_a_signed_in_browser(server: ServerProcess) -> None:
    cookie = sign_in(server.url, server.signin_link())

    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert ask(server.url, "GET", "/api/v1/keys", cookie=cookie, headers=headers).status == 403


def test_our_own_pages_can_act(server: ServerProcess) -> None:
    cookie = sign_in(server.url, server.signin_link())
    for number, headers in enumerate((SAME_ORIGIN, {"Origin": server.url})):
        body = {"name": f"own-{number}", "scopes": ["read"]}

        answer = ask(server.url, "POST", "/api/v1/keys", cookie=cookie, json_body=body, headers=headers)

        assert answer.status == 201


def test_another_site_cannot_sign_a_browser_in(server: ServerProcess, keys: Keys) -> None:
    body = {"key": keys.read}
    evil = {"Origin": "https://evil.example"}

    answer = ask(server.url, "POST", "/api/v1/signin", json_body=body, headers=evil)

    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


def test_a_form_of_another_site_is_not_json(server: ServerProcess, keys: Keys) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = ask(
            server.url,
            "POST",
            "/api/v1/signin",
            body=b'{"key": "%s"}' % keys.read.encode(),
            headers={"Content-Type": media_type},
        )
        assert answer.status == 415


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1234", 200),
        ("LOCALHOST.", 200),
        ("[::1]:8600", 200),
        ("10.1.2.3", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_only_our_own_names_are_answered(server: ServerProcess, host: str, status: int) -> None:
    for path in ("/api/v1/server", "/", "/healthz"):
        assert ask(server.url, "GET", path, headers={"Host": host}).status == status
