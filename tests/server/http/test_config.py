"""Settings: where they come from, which one wins, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker_server.config import ConfigError, Settings, is_loopback, load_settings


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(text)
    return path


def test_defaults_listen_on_this_machine_only(tmp_path: Path) -> None:
    settings = load_settings(None, {}, {("", "data"): str(tmp_path)})

    assert settings == Settings(data=tmp_path)
    assert settings.loopback_only
    assert settings.public_url == "http://127.0.0.1:8600"


def test_flags_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'data = "/one"\n[http]\nport = 1\nhost = "::1"\n[limits]\nread_threads = 2\n')
    environment = {"TRACKER_SERVER_HTTP_PORT": "2", "TRACKER_SERVER_DATA": "/two", "HOME": "/root"}

    settings = load_settings(file, environment, {("http", "port"): 3})

    assert settings.data == Path("/two")
    assert (settings.http.port, settings.http.host) == (3, "::1")
    assert settings.limits.read_threads == 2


def test_lists_and_numbers_are_read_from_the_environment() -> None:
    settings = load_settings(
        None,
        {
            "TRACKER_SERVER_DATA": "/d",
            "TRACKER_SERVER_HTTP_ALLOWED_HOSTS": "a.example, b.example",
            "TRACKER_SERVER_HTTP_SHUTDOWN_S": "3",
        },
        {},
    )

    assert settings.http.allowed_hosts == ("a.example", "b.example")
    assert settings.http.shutdown_s == 3.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data = ", "not valid TOML"),
        ('data = "/d"\n[htp]\n', "unknown section 'htp'"),
        ('data = "/d"\n[http]\nprot = 1\n', "line 3: unknown setting http.prot; did you mean port?"),
        ('data = "/d"\n[http]\nport = "x"\n', "line 3: http.port is 'x'; it must be a whole number"),
        ('data = "/d"\n[http]\nport = true\n', "line 3: http.port is True; it must be a whole number"),
        ('data = "/d"\n[http]\nport = 70000\n', "from 0 to 65535"),
        ('data = "/d"\n[http]\nport = -1\n', "from 0 to 65535"),
        ('data = "/d"\n[http]\nhost = ""\n', "http.host is empty"),
        ('data = "/d"\n[http]\nallowed_hosts = "x"\n', "a list of strings"),
        ('data = "/d"\n[http]\nshutdown_s = nan\n', "from 0.001 to 3600"),
        ('data = "/d"\n[http]\npublic_url = "tracker.example"\n', "must look like https://"),
        ('data = "/d"\n[http]\npublic_url = "https://h/path"\n', "must look like https://"),
        ('data = "/d"\n[http]\npublic_url = "https://[::1"\n', "must look like https://"),
        ('data = "/d"\n[log]\nlevel = "loud"\n', "one of debug, info"),
        ('data = "/d"\nhttp = 3\n', "[http] must be a section"),
        ("data = 3\n", "no data directory"),
        ("[http]\n", "no data directory"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        load_settings(file, {}, {})

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variable", ["TRACKER_SERVER_PORT", "TRACKER_SERVER_HTTP_PROT"])
def test_an_unknown_variable_is_named(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown variable {variable}"):
        load_settings(None, {"TRACKER_SERVER_DATA": "/d", variable: "1"}, {})


def test_a_number_that_is_none_is_named_with_its_variable() -> None:
    with pytest.raises(
        ConfigError, match=r"TRACKER_SERVER_HTTP_PORT: http\.port is 'x'; it must be a whole number"
    ):
        load_settings(None, {"TRACKER_SERVER_DATA": "/d", "TRACKER_SERVER_HTTP_PORT": "x"}, {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such config file"):
        load_settings(tmp_path / "none.toml", {}, {})


def test_a_slash_at_the_end_of_the_public_url_goes() -> None:
    settings = load_settings(None, {}, {("", "data"): "/d", ("http", "public_url"): "https://t.example/"})

    assert settings.public_url == "https://t.example"


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True)])
def test_addresses_of_this_machine_only_are_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("tracker.example.org")
