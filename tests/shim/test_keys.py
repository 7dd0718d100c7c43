"""Keys of users: how init() and `tracker login` hand them to the agent, and where they never are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.shim.scripts import environment, reading, run_script
from tests.support import require
from tests.support.other_user import make_system_spool, open_directory, run_as_user
from tracker._credentials import KEYS_MAX, store_key
from tracker._settings import Settings, account_of
from tracker.protocol.header import read_header

UID = str(os.geteuid())
KEY = "tk_4f8a1c22_geheim-geheim-geheim"
LOG_ONE = "import tracker; tracker.init(project='p', id='run'); tracker.log({'a': 1}); tracker.finish()"


def entries(spool: Path) -> list[dict[str, str]]:
    document = json.loads((spool / UID / "credentials").read_text())
    assert document["version"] == 1
    return document["keys"]


def header_of(spool: Path) -> tuple[str | None, str | None]:
    (segment,) = (spool / UID / "run").glob("*.mpl")
    header, _ = read_header(segment.read_bytes())
    return header.server, header.account


def login(spool: Path, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracker", "login", *arguments],
        input=key,
        env=environment(TRACKER_DIR=str(spool)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_key_and_server_of_the_environment_reach_the_agent_and_the_header_names_them(tmp_path: Path) -> None:
    run_script(
        LOG_ONE, TRACKER_DIR=str(tmp_path), TRACKER_API_KEY=KEY, TRACKER_BASE_URL="https://tracker.example/"
    )

    assert entries(tmp_path) == [{"server": "https://tracker.example", "account": "4f8a1c22", "key": KEY}]
    assert header_of(tmp_path) == ("https://tracker.example", "4f8a1c22")


def test_settings_of_init_say_the_same(tmp_path: Path) -> None:
    script = """
        import tracker
        class Settings:
            api_key = "tk_abcd1234_x"
            base_url = "http://tracker.example"
        tracker.init(project="p", id="run", settings=Settings()).finish()
    """

    run_script(script, TRACKER_DIR=str(tmp_path), TRACKER_ACCOUNT="team")

    assert entries(tmp_path) == [
        {"server": "http://tracker.example", "account": "team", "key": "tk_abcd1234_x"}
    ]
    assert header_of(tmp_path) == ("http://tracker.example", "team")


def test_without_key_and_server_nothing_is_stored_and_the_header_stays_as_it_was(tmp_path: Path) -> None:
    run_script(LOG_ONE, TRACKER_DIR=str(tmp_path))

    assert not (tmp_path / UID / "credentials").exists()
    (segment,) = (tmp_path / UID / "run").glob("*.mpl")
    assert b"account" not in segment.read_bytes()
    assert b"server" not in segment.read_bytes()


def test_the_key_is_in_no_file_but_the_credentials_and_on_no_terminal(tmp_path: Path) -> None:
    script = """
        import os, pickle, tracker
        run = tracker.init(project="p", id="run", config=dict(a=1))
        tracker.log({"a": 1})
        assert b"geh" + b"eim" not in pickle.dumps(run)
        pid = os.fork()
        if not pid:
            tracker.log({"b": 1})
            tracker.finish()
            os._exit(0)
        os.waitpid(pid, 0)
        print(vars(run.config), repr(run), run.url, run.dir)
    """

    out, err = run_script(script, TRACKER_DIR=str(tmp_path), TRACKER_API_KEY=KEY)

    assert "geheim" not in out + err
    holders = [path.name for path in tmp_path.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()]
    assert holders == ["credentials"]
    assert [stream.metrics for stream in reading(tmp_path)] == [[(0, {"a": 1})], [(1, {"b": 1})]]


def test_keys_of_several_accounts_and_servers_stand_side_by_side_and_one_is_replaced_by_name(
    tmp_path: Path,
) -> None:
    store_key(str(tmp_path), "", "a", "tk_1")
    store_key(str(tmp_path), "http://b", "a", "tk_2")
    store_key(str(tmp_path), "", "", "tk_3")

    store_key(str(tmp_path), "", "a", "tk_4")

    assert [tuple(each.values()) for each in entries(tmp_path)] == [
        ("http://b", "a", "tk_2"),
        ("", "", "tk_3"),
        ("", "a", "tk_4"),
    ]


def test_key_that_is_stored_already_is_not_written_again(tmp_path: Path) -> None:
    path = Path(store_key(str(tmp_path), "", "a", "tk_1"))
    before = path.stat()

    store_key(str(tmp_path), "", "a", "tk_1")

    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("content", ['{"http://a": "tk_old"}', "not json", "[]", '{"keys": 5}', ""])
def test_first_form_is_kept_and_what_makes_no_sense_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / UID).mkdir(mode=0o700)
    (tmp_path / UID / "credentials").write_text(content)

    store_key(str(tmp_path), "", "a", "tk_1")

    old = [{"server": "http://a", "account": "", "key": "tk_old"}] if "tk_old" in content else []
    assert entries(tmp_path) == [*old, {"server": "", "account": "a", "key": "tk_1"}]


def test_no_more_keys_are_kept_than_an_agent_reads(tmp_path: Path) -> None:
    for number in range(KEYS_MAX + 3):
        store_key(str(tmp_path), "", f"a{number}", "tk_1")

    kept = [each["account"] for each in entries(tmp_path)]
    assert (len(kept), kept[0], kept[-1]) == (KEYS_MAX, "a3", f"a{KEYS_MAX + 2}")


def test_keys_of_processes_that_start_together_are_all_kept(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=store_key, args=(str(tmp_path), "", f"a{number}", "tk_1"))
        for number in range(20)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {each["account"] for each in entries(tmp_path)} == {f"a{number}" for number in range(20)}
    assert not [path for path in (tmp_path / UID).iterdir() if path.name.startswith("credentials.")]


def test_credentials_of_a_spool_of_ones_own_are_for_the_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = Path(store_key(str(tmp_path), "", "a", "tk_1"))
    finally:
        os.umask(old)

    assert path.stat().st_mode & 0o777 == 0o600


def test_credentials_in_the_systems_spool_are_for_the_owner_and_the_agents_group() -> None:
    require.root()
    store = "print(tracker._credentials.store_key(sys.argv[1], '', 'a', 'tk_geheim'))"
    read = "print(open(sys.argv[1]).read())"
    with open_directory() as directory:
        spool = directory / "spool"
        make_system_spool(spool, agent_group=4242)
        os.chown(spool, 4321, 4242)

        path = run_as_user(1234, store, str(spool), gid=100).strip()

        assert "geheim" in run_as_user(1234, read, path, gid=100)
        assert "geheim" in run_as_user(4321, read, path, gid=4242)
        assert "PermissionError" in run_as_user(1235, read, path, gid=100)
        assert "PermissionError" in run_as_user(1235, read, path)


def test_key_that_cannot_be_kept_is_said_and_the_run_is_recorded(tmp_path: Path) -> None:
    (tmp_path / UID / "credentials").mkdir(parents=True)

    _, err = run_script(LOG_ONE, TRACKER_DIR=str(tmp_path), TRACKER_API_KEY=KEY)

    assert "key cannot be kept" in err
    assert "geheim" not in err
    (stream,) = reading(tmp_path)
    assert stream.metrics == [(0, {"a": 1})]


def test_server_that_the_agent_does_not_list_is_said_at_once(tmp_path: Path) -> None:
    facts = {"url": "https://a", "servers": {"https://a": "https://public-a", "https://b": "https://b"}}
    (tmp_path / "agent.json").write_text(json.dumps(facts))

    _, elsewhere = run_script(LOG_ONE, TRACKER_DIR=str(tmp_path), TRACKER_BASE_URL="https://c")
    _, listed = run_script(LOG_ONE, TRACKER_DIR=str(tmp_path), TRACKER_BASE_URL="https://a")

    assert "ships to https://a, https://b, not to https://c" in elsewhere
    assert "ships to" not in listed
    assert "https://public-a/runs/run" in listed


def test_login_keeps_a_key_and_replaces_it(tmp_path: Path) -> None:
    first = login(tmp_path, "tk_1\n")
    second = login(tmp_path, " tk_2 ", "--server", "https://b", "--account", "team")
    third = login(tmp_path, "tk_3")

    assert [first.returncode, second.returncode, third.returncode] == [0, 0, 0]
    assert first.stdout == f"kept in {tmp_path}/{UID}/credentials\n"
    assert entries(tmp_path) == [
        {"server": "https://b", "account": "team", "key": "tk_2"},
        {"server": "", "account": "", "key": "tk_3"},
    ]


@pytest.mark.parametrize(
    ("key", "arguments", "said"),
    [
        ("", (), "no key was given"),
        ("two words", (), "characters that no key has"),
        ("tk_1", ("--account", "a/b"), "account 'a/b' is not"),
        ("tk_1", ("--server", "tracker"), "no address such as https://"),
    ],
)
def test_login_refuses_what_is_no_key(
    tmp_path: Path, key: str, arguments: tuple[str, ...], said: str
) -> None:
    done = login(tmp_path, key, *arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / UID).exists()


def test_account_is_the_public_part_of_the_key_or_a_hash() -> None:
    assert account_of("tk_4f8a1c22_secret_with_more") == "4f8a1c22"
    assert account_of("something") == account_of("something") != account_of("else")
    assert len(account_of("a_/_b")) == 8


def test_settings_that_cannot_be_used_are_named_without_the_key() -> None:
    settings = Settings(
        {}, {"TRACKER_API_KEY": "geheim geheim", "TRACKER_ACCOUNT": "a b", "TRACKER_BASE_URL": "http://u:p@h"}
    )

    assert len(settings.problems) == 3
    assert "geheim" not in str(settings.problems)
    assert (settings.api_key, settings.account) == (None, None)
