"""Which key ships which stream: accounts, servers, rotated files, and the reasons where there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer
from tracker_agent.credentials import (
    KEYS_PER_USER_MAX,
    Credential,
    Credentials,
    UserKeys,
    parse_user_keys,
    read_user_keys,
)
from tracker_agent.disk import Disk
from tracker_agent.opening import Refused
from tracker_agent.setting_values import UidMap, UidRange
from tracker_agent.settings import ServerSettings

A = ServerSettings(url="https://a", key="operators", section="server")
B = ServerSettings(url="https://b:8443", section="servers.b")
C = ServerSettings(url="https://c", key="operators-c", section="servers.c")
FILE = "/spool/1/credentials"


def credentials(*keys: tuple[str, str, str], uid: int = 1) -> Credentials:
    made = Credentials([A, B, C])
    if keys:
        made.set(uid, UserKeys(FILE, {(server, account): key for server, account, key in keys}))
    return made


def shown(credential: Credential | str) -> tuple[str, str, str | None]:
    assert isinstance(credential, Credential), credential
    return (credential.name, credential.server, credential.key)


def reason(credential: Credential | str) -> str:
    assert isinstance(credential, str), credential
    return credential


def test_run_that_names_nothing_goes_with_the_owners_key_else_the_operators() -> None:
    known = credentials(("", "", "his"))

    assert shown(known.of(1)) == ("uid-1", "https://a", "his")
    assert shown(known.of(2)) == ("default", "https://a", "operators")


def test_run_goes_with_the_key_of_the_account_it_names_and_with_no_other() -> None:
    known = credentials(("", "", "his"), ("", "team", "teams"), ("https://b:8443", "team", "teams-b"))

    assert shown(known.of(1, None, "team")) == ("uid-1-team", "https://a", "teams")
    assert shown(known.of(1, "https://B:8443/", "team")) == ("b.uid-1-team", "https://b:8443", "teams-b")
    assert "no key of the account 'other'" in reason(known.of(1, None, "other"))
    assert "tracker login --account other" in reason(known.of(1, None, "other"))
    assert "no key of the account 'team'" in reason(known.of(2, None, "team"))


def test_key_for_the_default_server_by_address_or_without_is_the_same() -> None:
    known = credentials(("https://a", "x", "1"), ("", "y", "2"))

    assert shown(known.of(1, None, "x"))[2] == "1"
    assert shown(known.of(1, "https://a:443", "y"))[2] == "2"


def test_key_without_a_server_never_goes_to_a_further_server() -> None:
    known = credentials(("", "", "his"), ("", "team", "teams"))

    assert "no key for the server https://b:8443" in reason(known.of(1, "https://b:8443"))
    assert "servers.b.key_file" in reason(known.of(1, "https://b:8443"))
    assert "no key of the account 'team'" in reason(known.of(1, "https://b:8443", "team"))
    assert shown(known.of(1, "https://c")) == ("c.default", "https://c", "operators-c")


def test_server_that_the_operator_does_not_list_is_refused_with_those_that_he_does() -> None:
    said = reason(credentials(("https://evil", "", "his")).of(1, "https://evil"))

    assert "'https://evil'" in said
    assert "https://a, https://b:8443, https://c" in said


def test_own_streams_go_where_the_runs_went_that_they_tell_of_and_never_elsewhere() -> None:
    known = credentials(("", "", "his"), ("https://c", "team", "teams"))

    assert shown(known.named("default")) == ("default", "https://a", "operators")
    assert shown(known.named("uid-1"))[2] == "his"
    assert shown(known.named("c.uid-1-team")) == ("c.uid-1-team", "https://c", "teams")
    assert shown(known.named("c.default"))[2] == "operators-c"
    # His key may be read in a moment, or never again.
    assert "is not known" in reason(known.named("uid-2"))
    assert "is not known" in reason(known.named("c.uid-2"))
    assert "no key of the account" in reason(known.named("uid-1-gone"))
    assert "no longer in the configuration" in reason(known.named("gone.uid-1"))


def test_file_that_cannot_be_read_leaves_the_keys_known_before_in_force() -> None:
    known = credentials(("", "", "his"))

    known.set(1, UserKeys(FILE, problem="cannot be read: Input/output error"))

    assert shown(known.of(1))[2] == "his"
    assert not known.set(1, UserKeys(FILE, problem="cannot be read: Input/output error"))


def test_user_whose_file_was_never_read_is_not_shipped_with_the_operators_key() -> None:
    known = credentials()

    assert known.set(1, UserKeys(FILE, problem="not JSON"))

    assert "/spool/1/credentials: not JSON" in reason(known.of(1))
    assert known.set(1, UserKeys(FILE))
    assert shown(known.of(1))[0] == "default"


def test_keys_of_a_user_with_two_directories_are_all_known() -> None:
    known = credentials(("", "x", "1"))
    known.set(1, UserKeys("/spool/1-abc/credentials", {("", "y"): "2"}))

    assert (shown(known.of(1, None, "x"))[2], shown(known.of(1, None, "y"))[2]) == ("1", "2")
    assert known.set(1, UserKeys(FILE))
    assert isinstance(known.of(1, None, "x"), str)


def test_keys_never_show_when_printed() -> None:
    known = UserKeys(FILE, {("", ""): "geheim"})

    assert "geheim" not in repr(known)
    assert "geheim" not in repr(Credential("a", "b", "geheim"))


def test_changed_key_file_is_taken_up_and_a_missing_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("tk_1\n")
    known = Credentials([ServerSettings(url="https://a", key="tk_1", key_file=str(file))])
    assert not known.take(known.read_key_files())

    file.write_text("tk_2\n")
    assert known.take(known.read_key_files())
    assert known.default.key == "tk_2"
    assert known.problems == []

    file.unlink()
    assert not known.take(known.read_key_files())
    assert "No such file" in known.problems[0] and "server.key_file" in known.problems[0]
    assert known.default.key == "tk_2"

    file.write_text("two words\n")
    assert not known.take(known.read_key_files())
    assert "spaces" in known.problems[0]

    (tmp_path / "new").write_text("tk_3")
    os.replace(tmp_path / "new", file)
    assert known.take(known.read_key_files())
    assert (known.default.key, known.problems) == ("tk_3", [])


def test_both_forms_of_a_credentials_file_are_read() -> None:
    first = json.dumps({"http://A/": " tk_a \n", "http://b": "tk_b", "http://c": ""}).encode()
    second = {
        "version": 1,
        "keys": [
            {"server": "", "account": "x", "key": "tk_1"},
            {"key": "tk_2", "comment": "unknown names are ignored"},
            {"server": "http://B", "account": "x", "key": "tk_3"},
            {"server": "http://b:80/", "account": "x", "key": "tk_4"},
        ],
    }

    assert parse_user_keys(first) == {("http://a", ""): "tk_a", ("http://b", ""): "tk_b"}
    assert parse_user_keys(json.dumps(second).encode()) == {
        ("", "x"): "tk_1",
        ("", ""): "tk_2",
        ("http://b", "x"): "tk_4",
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 50_000,
        b'{"keys": 5}',
        b'{"keys": [5]}',
        b'{"keys": [{}]}',
        b'{"keys": [{"key": 5}]}',
        b'{"keys": [{"key": "a\\nb"}]}',
        b'{"keys": [{"key": "a", "account": "../x"}]}',
        b'{"keys": [{"key": "a", "server": 5}]}',
    ],
)
def test_credentials_that_make_no_sense_are_refused(content: bytes) -> None:
    with pytest.raises(Refused, match="credentials"):
        parse_user_keys(content)


def test_no_more_keys_of_a_user_are_read_than_the_limit() -> None:
    many = {"keys": [{"account": f"a{number}", "key": "k"} for number in range(KEYS_PER_USER_MAX + 9)]}

    assert len(parse_user_keys(json.dumps(many).encode())) == KEYS_PER_USER_MAX


def test_user_without_a_file_has_no_keys(tmp_path: Path) -> None:
    (tmp_path / str(os.getuid())).mkdir()

    keys = read_user_keys(Disk(), str(tmp_path), str(os.getuid()), os.getuid())

    assert (dict(keys.keys), keys.problem) == ({}, "")


async def test_runs_of_a_containers_user_are_those_of_the_user_the_operator_says(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    """In a user namespace uid 7 may be uid 100007 of the host: nobody's directory, as its name has it."""
    require.root()
    server.keys.add("his")
    containers = Spool(spool.root, uid=7)
    stream = containers.write()
    os.chown(containers.user, 100007, 100007)
    for path in containers.user.rglob("*"):
        os.chown(path, 100007, 100007)
    (spool.root / "1000").mkdir()
    (spool.root / "1000" / "credentials").write_text(json.dumps({server.url: "his"}))
    for path in (spool.root / "1000", spool.root / "1000" / "credentials"):
        os.chown(path, 1000, 1000)

    async with start() as pipeline:
        foreign = await eventually(lambda: pipeline.status()["foreign"])
        assert "belongs to uid 100007" in foreign[0]["reason"]
        assert server.stored(stream) is None
    async with start(uid_map=UidMap([UidRange(100_000, 165_535, 1000)])):
        await eventually(lambda: server.content(stream, key="his") == containers.content(stream))


async def test_run_that_wants_another_server_goes_there_with_the_key_for_it(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    with FakeTrackerServer() as other:
        other.keys, server.keys = {"others"}, {"key"}
        stream = spool.write("a", header=make_header("a", server=other.url, account="team"))
        astray = spool.write("b", header=make_header("b", server="http://127.0.0.1:1"))
        ours = spool.write("c")
        keys = [{"server": other.url, "account": "team", "key": "others"}]
        (spool.user / "credentials").write_text(json.dumps({"version": 1, "keys": keys}))
        listed = (
            ServerSettings(url=server.url, key="key"),
            ServerSettings(url=other.url, section="servers.other"),
        )

        async with start(servers=listed) as pipeline:
            await eventually(lambda: other.content(stream, key="others") == spool.content(stream))
            await eventually(lambda: server.content(ours) == spool.content(ours))
            parked = await eventually(lambda: pipeline.status()["parked"])

        assert "'http://127.0.0.1:1'" in parked[0]["reason"]
        assert [server.stored(each) for each in (stream, astray)] == [None, None]
        assert [other.stored(each) for each in (ours, astray)] == [None, None]


async def test_key_file_that_changes_is_taken_up_by_a_running_agent(
    spool: Spool, server: FakeTrackerServer, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker_agent.credentials.KEY_FILES_S", 0.02)
    (tmp_path / "key").write_text("revoked")
    server.keys = {"new"}
    stream = spool.write()
    operators = ServerSettings(url=server.url, key="revoked", key_file=str(tmp_path / "key"))

    async with start(servers=(operators,)) as pipeline:
        await eventually(lambda: any(each["state"] == "parked" for each in pipeline.status()["lanes"]))
        (tmp_path / "key").write_text("new")

        await eventually(lambda: server.content(stream, key="new") == spool.content(stream))
