"""Settings: where they come from, which wins, and what is said when one cannot be used."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.tls_server import write_certificate
from tracker_agent.collectors.chosen import COLLECTORS, build_collectors
from tracker_agent.collectors.devices import DeviceSettings
from tracker_agent.config import load_config
from tracker_agent.server_settings import bypasses_proxy
from tracker_agent.settings import Config, ConfigError, restart_needed, settings

CA = "/etc/ssl/certs/ca-certificates.crt"
SECRET = "s" * 43
KEY = f"tk_abcdefgh_{SECRET}"
MINIMAL = f'[server]\nurl = "https://tracker.example:8600"\nkey = "{KEY}"\n'


def load(
    root: Path,
    text: str = MINIMAL,
    environment: dict[str, str] | None = None,
    flags: dict[tuple[str, str], Any] | None = None,
    user_id: int = 1000,
) -> Config:
    file = root / "agent.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load_config(file, {"HOME": str(root), **(environment or {})}, flags or {}, user_id)


def refusal(root: Path, text: str = MINIMAL, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, text, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    text = MINIMAL + "[sampler]\ninterval_s = 3\nwindow_s = 40\n[agent]\nlog_level = 'error'\n"
    variables = {"TRACKER_AGENT_SAMPLER_INTERVAL_S": "5", "TRACKER_AGENT_AGENT_LOG_LEVEL": "debug"}

    config = load(tmp_path, text, variables, {("agent", "log_level"): "warning"})

    assert (config.sampler.window_s, config.sampler.interval_s, config.agent.log_level) == (40, 5, "warning")


def test_no_file_is_needed(tmp_path: Path) -> None:
    flags = {
        ("server", "url"): "http://server:8600/",
        ("agent", "spools"): ["a"],
        ("agent", "state_dir"): "b",
    }

    config = load_config(None, {"HOME": "/home/someone", "TRACKER_AGENT_SERVER_KEY": "tk_1_2"}, flags, 1000)

    assert config.server.url == "http://server:8600"
    assert config.server.key == "tk_1_2"
    assert (config.spools, config.state_dir) == ((Path.cwd() / "a",), Path.cwd() / "b")


def test_every_setting_can_be_given_by_variable(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("tk_1_2\n")
    values = {
        "AGENT_STATE_DIR": "/s",
        "AGENT_SPOOLS": "/a:/b",
        "AGENT_SCAN_INTERVAL_S": "1.5",
        "AGENT_WATCH": "off",
        "AGENT_LOG_FORMAT": "json",
        "AGENT_LOG_LEVEL": "error",
        "SERVER_URL": "https://h",
        "SERVER_KEY": "",
        "SERVER_KEY_FILE": str(tmp_path / "key"),
        "SERVER_PUBLIC_URL": "https://p",
        "AGENT_ALLOW_STOP": "false",
        "AGENT_RETRY_MAX_S": "60",
        "AGENT_UID_MAP": "100000-165535=1000:0=1001",
        "SERVER_CA_FILE": "",
        "SERVER_CLIENT_CERT": "",
        "SERVER_CLIENT_KEY": "",
        "SERVER_PROXY": "http://proxy:3128/",
        "SERVER_PROXY_USER": "someone",
        "SERVER_PROXY_PASSWORD_FILE": str(tmp_path / "key"),
        "SERVER_HEADERS": "X-Team: ml\nX-Door: a:b",
        "LIMITS_MEMORY_BYTES": "64 MiB",
        "LIMITS_OPEN_FILES": "20",
        "LIMITS_BACKFILL_BYTES_PER_S": "1000000",
        "LIMITS_STATE_BYTES": "1GiB",
        "LIMITS_SPOOL_BYTES_PER_USER": "10 GiB",
        "LIMITS_SPOOL_BYTES": "0",
        "RETENTION_SHIPPED_S": "0",
        "FILES_ENABLED": "0",
        "FILES_BYTES_PER_S": "1 MiB",
        "FILES_BYTES_MAX": "5",
        "METRICS_LISTEN": "127.0.0.1:9464",
        "METRICS_ALLOW_REMOTE": "true",
        "METRICS_HOST": "off",
        "METRICS_PER_CORE": "false",
        "CRASH_KERNEL_LOG": "off",
        "SAMPLER_ENABLED": "false",
        "SAMPLER_INTERVAL_S": "7",
        "SAMPLER_WINDOW_S": "70",
        "SAMPLER_GPU": "off",
    }
    assert set(values) == {f"{section}_{each.name}".upper() for section, each in settings()}
    del values["SERVER_KEY"]

    config = load_config(None, {f"TRACKER_AGENT_{name}": value for name, value in values.items()}, {}, 0)

    assert config.agent.spools == ("/a", "/b")
    assert (config.agent.watch, config.agent.scan_interval_s, config.agent.log_format) == ("off", 1.5, "json")
    assert (config.server.key, config.server.public_url) == ("tk_1_2", "https://p")
    assert (config.sampler.enabled, config.sampler.interval_s, config.sampler.gpu) == (False, 7, "off")
    assert (config.agent.allow_stop, config.agent.retry_max_s) == (False, 60)
    assert [config.uid_map.user(uid) for uid in (0, 5, 99_999, 165_535)] == [1001, 5, 99_999, 1000]
    assert (config.server.proxy, config.server.proxy_password) == ("http://proxy:3128", "tk_1_2")
    assert config.server.headers == ("X-Team: ml", "X-Door: a:b")
    assert config.limits.memory_bytes == 64 * 2**20
    assert (config.limits.open_files, config.limits.backfill_bytes_per_s) == (20, 1_000_000)
    assert (config.limits.state_bytes, config.limits.spool_bytes_per_user) == (2**30, 10 * 2**30)
    assert (config.retention.shipped_s, config.files.enabled, config.files.bytes_max) == (0, False, 5)
    assert (config.metrics.listen, config.crash.kernel_log) == ("127.0.0.1:9464", "off")
    assert (config.metrics.host, config.metrics.per_core) == ("off", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agent]\nstate_dir = \n", ["line 2", "not valid TOML"]),
        ("[agent]\nspools = [\n", ["line 2", "the end"]),
        (MINIMAL + "[agnt]\n", ["line 4", "[agnt]", "did you mean agent?"]),
        (MINIMAL + "[agent]\n\nlog_lvl = 'info'\n", ["line 6", "agent.log_lvl", "did you mean log_level?"]),
        ("url = 'http://x'\n", ["line 1", "in no section", "put it below [server]"]),
        ("server = 'http://x'\n", ["line 1", "write [server]"]),
        (MINIMAL + "[agent]\nlog_level = 'loud'\n", ["line 5", "debug, info, warning, error", "'loud'"]),
        (MINIMAL + "[agent]\nwatch = 3\n", ["line 5", "agent.watch", "auto, on, off"]),
        (MINIMAL + "[agent]\nspools = '/var/spool/tracker'\n", ["line 5", "agent.spools", "list of strings"]),
        (MINIMAL + "[agent]\nstate_dir = 5\n", ["line 5", "a string in quotes", "5"]),
        (MINIMAL + "[agent]\nscan_interval_s = 0\n", ["line 5", "from 0.05 to 60"]),
        (MINIMAL + "[sampler]\ninterval_s = true\n", ["line 5", "a number"]),
        (MINIMAL + "[sampler]\ninterval_s = nan\n", ["line 5", "from 0.1 to 3600"]),
        (MINIMAL + "[sampler]\ninterval_s = 60\n", ["line 5", "must not be shorter"]),
        (MINIMAL + "[sampler]\nenabled = 'yes'\n", ["line 5", "true or false"]),
        ("[agent]\n", ["no server", "--server", "TRACKER_AGENT_SERVER_URL"]),
        ("[server]\nurl = 'tracker:8600'\n", ["line 2", "server.url", "http://"]),
        ("[server]\nurl = 'http://'\n", ["line 2", "names no host"]),
        ("[server]\nurl = 'http://a b'\n", ["line 2", "is no address"]),
        ("[server]\nurl = 'http://u:p@host'\n", ["line 2", "password", "key_file"]),
        ("[server]\nurl = 'http://host:99999'\n", ["line 2", "is no address"]),
        ("[server]\nurl = 'http://host/?a=b'\n", ["line 2", "query"]),
        (MINIMAL + "public_url = 'ftp://x'\n", ["line 4", "server.public_url"]),
        (MINIMAL + "key_file = '/k'\n", ["line 4", "keep one"]),
        (
            "[server]\nurl = 'http://h'\nkey_file = '/no/such/file'\n",
            ["line 3", "/no/such/file", "No such file"],
        ),
        ("[server]\nurl = 'http://h'\nkey = 'two words'\n", ["line 3", "spaces"]),
        (MINIMAL + "[limits]\nmemory_bytes = '1 parsec'\n", ["line 5", "a whole number", "64 MiB"]),
        (MINIMAL + "[limits]\nmemory_bytes = 5\n", ["line 5", "from 4 MiB to"]),
        (MINIMAL + "[limits]\nopen_files = '9 KiB'\n", ["line 5", "a whole number"]),
        (MINIMAL + "[metrics]\nlisten = '9464'\n", ["line 5", "metrics.listen", "127.0.0.1:9464"]),
        (MINIMAL + "[metrics]\nlisten = 'unix:m'\n", ["line 5", "absolute path"]),
        (MINIMAL + "[metrics]\nlisten = '0.0.0.0:9464'\n", ["line 5", "metrics.allow_remote = true"]),
        (MINIMAL + "[metrics]\nlisten = '[::]:9464'\n", ["line 5", "metrics.allow_remote = true"]),
        (MINIMAL + "[metrics]\nlisten = 'node17:9464'\n", ["line 5", "metrics.allow_remote = true"]),
        (MINIMAL + "ca_file = '/no/ca'\n", ["line 4", "cannot read server.ca_file: /no/ca"]),
        (MINIMAL + "ca_file = '/etc/hostname'\n", ["line 4", "no certificates in PEM form"]),
        (MINIMAL + "client_cert = '/no/c'\n", ["line 4", "cannot read server.client_cert: /no/c"]),
        (MINIMAL + "[agent]\nuid_map = ['0']\n", ["line 5", "agent.uid_map", "100000-165535=1000"]),
        (MINIMAL + "[agent]\nuid_map = ['5-4=1']\n", ["line 5", "uids that there are not"]),
        (MINIMAL + "headers = ['X-Secret abc']\n", ["line 4", "server.headers", "Name: value"]),
        (MINIMAL + "headers = ['Authorization: x']\n", ["line 4", "the agent's own"]),
        (MINIMAL + "proxy = 'socks5://p'\n", ["line 4", "server.proxy", "http://proxy.example.org:3128"]),
        (MINIMAL + "proxy = 'http://u:geheim@p'\n", ["line 4", "password", "proxy_password_file"]),
        (MINIMAL + "proxy_user = 'u'\n", ["line 4", "server.proxy is not"]),
        (
            MINIMAL + "proxy = 'http://p'\nproxy_password_file = '/k'\n",
            ["line 5", "server.proxy_user is not"],
        ),
        (
            MINIMAL + "proxy = 'http://p'\nproxy_user = 'u'\nproxy_password_file = '/no/p'\n",
            ["line 6", "/no/p", "No such file"],
        ),
        (MINIMAL + "client_key = '/k'\n", ["line 4", "server.client_cert is not"]),
        (MINIMAL + "[collectors.cpuu]\n", ["line 4", "no collector 'cpuu'", "did you mean cpu?"]),
        (MINIMAL + "[collectors]\ncpu = 'on'\n", ["line 5", "write [collectors.cpu]"]),
        ("collectors = 3\n" + MINIMAL, ["line 1", "write [collectors.NAME]"]),
        (
            MINIMAL + "[collectors.cpu]\n\nintervall_s = 1\n",
            ["line 6", "collectors.cpu.intervall_s", "did you mean interval_s?"],
        ),
        (
            MINIMAL + "[collectors.cpu]\nenabled = 'yes'\n",
            ["line 5", "collectors.cpu.enabled", "auto, on, off"],
        ),
        (MINIMAL + "[collectors.cpu]\ninterval_s = -1\n", ["line 5", "collectors.cpu.interval_s", "from 0"]),
        (MINIMAL + "[collector.cpu]\n", ["line 4", "[collector]", "did you mean collectors?"]),
        (MINIMAL + "[servers.B]\nurl = 'http://b'\n", ["line 4", "'B'", "a-z 0-9 -"]),
        (MINIMAL + "[servers.default]\nurl = 'http://b'\n", ["line 4", "'default'"]),
        (MINIMAL + "[servers.b]\nkey = 'tk_x'\n", ["line 4", "[servers.b] has no url"]),
        (MINIMAL + "[servers.b]\n\nulr = 'http://b'\n", ["line 6", "servers.b.ulr", "did you mean url?"]),
        (MINIMAL + "[servers]\nb = 'http://b'\n", ["line 5", "write [servers.b]"]),
        (
            MINIMAL + "[servers.b]\nurl = 'https://TRACKER.example:8600/'\n",
            ["line 5", "servers.b.url", "that of [server]"],
        ),
        (MINIMAL + "[agent]\nstate_dir = '/x'\nspools = ['/x']\n", ["/x", "a directory of its own"]),
    ],
)
def test_unusable_setting_is_named_with_its_line_and_what_would_be_right(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    message = refusal(tmp_path, text)

    for part in said:
        assert part in message, message


def test_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/no/agent.toml: there is no such config file"):
        load_config(Path("/no/agent.toml"), {}, {}, 0)


def test_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match=r"agent.toml: not UTF-8"):
        load_config(tmp_path / "agent.toml", {}, {}, 0)


def test_unknown_variable_is_not_ignored(tmp_path: Path) -> None:
    message = refusal(tmp_path, environment={"TRACKER_AGENT_SERVER_ULR": "x"})

    assert "did you mean TRACKER_AGENT_SERVER_URL?" in message


def test_variable_that_is_no_number_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, environment={"TRACKER_AGENT_SAMPLER_INTERVAL_S": "often"})

    assert "TRACKER_AGENT_SAMPLER_INTERVAL_S" in message
    assert "'often'" in message


def test_key_never_shows_in_a_printed_configuration(tmp_path: Path) -> None:
    config = load(tmp_path)

    assert "tk_abc_def" not in repr(config)


def test_key_file_of_a_higher_level_replaces_the_key_of_a_lower(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"tk_newnewke_{SECRET}\n")
    (tmp_path / "key").chmod(0o600)

    config = load(tmp_path, flags={("server", "key_file"): str(tmp_path / "key")})

    assert config.server.key == f"tk_newnewke_{SECRET}"
    assert config.warnings == ()


def test_key_readable_by_everyone_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"tk_newnewke_{SECRET}\n")
    (tmp_path / "key").chmod(0o644)

    config = load(tmp_path, "[server]\nurl='https://h'\nkey_file='~/key'\n")

    (warning,) = config.warnings
    assert "chmod o=" in warning


def test_missing_key_is_warned_about_since_users_may_have_their_own(tmp_path: Path) -> None:
    config = load(tmp_path, "[server]\nurl='https://h'\n")

    assert config.server.key == ""
    assert "no key" in config.warnings[0]


def test_credential_of_the_systemd_unit_is_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"tk_fromsyst_{SECRET}\n")
    (tmp_path / "key").chmod(0o400)

    config = load(
        tmp_path, "[server]\nurl='https://h'\n", environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}
    )

    assert config.server.key == f"tk_fromsyst_{SECRET}"
    assert config.warnings == ()


def test_places_of_a_user_are_below_the_state_home(tmp_path: Path) -> None:
    config = load(tmp_path, user_id=1000)
    elsewhere = load(tmp_path, environment={"XDG_STATE_HOME": str(tmp_path / "xdg")})

    assert config.state_dir == tmp_path / ".local/state/tracker/agent"
    assert elsewhere.state_dir == tmp_path / "xdg/tracker/agent"
    if not os.path.isdir("/var/spool/tracker"):
        assert config.spools == (tmp_path / ".local/state/tracker/spool",)


def test_spools_that_exist_are_found(tmp_path: Path) -> None:
    own = tmp_path / ".local/state/tracker/spool"
    own.mkdir(parents=True)
    named = tmp_path / "named"
    named.mkdir()

    config = load(tmp_path, environment={"TRACKER_DIR": str(named)})

    assert config.spools[0] == named
    assert config.spools[-1] == own


def test_places_of_root_are_those_of_the_system(tmp_path: Path) -> None:
    config = load(tmp_path, user_id=0)

    assert config.state_dir == Path("/var/lib/tracker-agent")
    assert config.spools == (Path("/var/spool/tracker"),)


def test_state_directory_of_the_systemd_unit_is_used(tmp_path: Path) -> None:
    config = load(tmp_path, environment={"STATE_DIRECTORY": "/var/lib/elsewhere"})

    assert config.state_dir == Path("/var/lib/elsewhere")


def test_further_servers_have_the_settings_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "key-physics").write_text(f"tk_ofphysic_{SECRET}\n")
    (tmp_path / "key-physics").chmod(0o400)
    text = MINIMAL + "[servers.physics]\nurl = 'https://physics/'\nproxy = 'none'\n"

    config = load(tmp_path, text, {"CREDENTIALS_DIRECTORY": str(tmp_path), "HTTPS_PROXY": "http://p:1"})

    assert list(config.servers) == ["default", "physics"]
    assert config.servers["default"] is config.server
    physics = config.servers["physics"]
    assert (physics.url, physics.key, physics.proxy) == ("https://physics", f"tk_ofphysic_{SECRET}", "")
    assert f"tk_ofphysic_{SECRET}" not in repr(config)
    assert config.warnings == ()


def test_proxy_and_authorities_come_from_the_environment_where_no_setting_names_them(tmp_path: Path) -> None:
    environment = {
        "https_proxy": "http://me:p%40ss@proxy:3128",
        "SSL_CERT_FILE": "",
        "REQUESTS_CA_BUNDLE": CA,
    }
    text = "[server]\nurl = 'https://tracker.example'\nkey = 'tk_a_b'\n"

    server = load(tmp_path, text, environment).server
    chosen = load(tmp_path, text + "proxy = 'http://other:1'\n", environment).server

    assert (server.proxy, server.proxy_user, server.proxy_password) == ("http://proxy:3128", "me", "p@ss")
    assert server.ca_file == CA
    assert server.name_of("proxy") == "the variable https_proxy"
    assert server.name_of("ca_file") == "the variable REQUESTS_CA_BUNDLE"
    assert "p@ss" not in repr(server)
    assert (chosen.proxy, chosen.proxy_user, chosen.proxy_password) == ("http://other:1", "", "")


def test_proxy_of_the_environment_that_cannot_be_used_is_named_without_its_password(tmp_path: Path) -> None:
    message = refusal(tmp_path, environment={"HTTPS_PROXY": "socks5://me:geheim@proxy"})

    assert "HTTPS_PROXY" in message
    assert "server.proxy" in message
    assert "geheim" not in message


@pytest.mark.parametrize("listen", ["localhost:1", "127.0.0.5:9464", "[::1]:1", "unix:/run/x"])
def test_metrics_for_this_machine_alone_need_no_permission(tmp_path: Path, listen: str) -> None:
    assert load(tmp_path, MINIMAL + f"[metrics]\nlisten = '{listen}'\n").metrics.listen == listen


def test_authorities_of_the_environment_are_checked_only_where_there_is_tls(tmp_path: Path) -> None:
    environment = {"SSL_CERT_FILE": "/no/ca.pem"}

    load(tmp_path, "[server]\nurl = 'http://h'\n", environment=environment)
    message = refusal(tmp_path, "[server]\nurl = 'https://h'\n", environment=environment)

    assert "the variable SSL_CERT_FILE: /no/ca.pem: No such file" in message


def test_certificates_that_end_and_files_that_others_read_are_warned_of(tmp_path: Path) -> None:
    authority = trustme.CA()
    soon = datetime.now(UTC) + timedelta(days=3)
    write_certificate(authority.issue_cert("agent", not_after=soon), tmp_path / "client.pem")
    (tmp_path / "client.pem").chmod(0o644)
    (tmp_path / "password").write_text("word")
    (tmp_path / "password").chmod(0o644)
    text = MINIMAL + "client_cert = '~/client.pem'\nproxy = 'http://p'\nproxy_user = 'u'\n"

    warnings = load(tmp_path, text + "proxy_password_file = '~/password'\n").warnings

    assert f"server.client_cert: the certificate in {tmp_path}/client.pem ends on {soon:%Y-%m-%d}" in str(
        warnings
    )
    assert f"every user can read the private key in {tmp_path}/client.pem" in str(warnings)
    assert f"every user can read the password in {tmp_path}/password" in str(warnings)
    assert len(warnings) == 3


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("http://tracker.example.org", "", False),
        ("http://localhost:8600", "", True),
        ("http://127.0.0.1:8600", "", True),
        ("http://[::1]:8600", "", True),
        ("https://tracker.example.org", "example.org", True),
        ("https://tracker.example.org", ".example.org", True),
        ("https://tracker.example.org", "*.example.org", True),
        ("https://tracker.badexample.org", "example.org", False),
        ("https://tracker.example.org", "other,  tracker.example.org:443", True),
        ("https://tracker.example.org:8443", "tracker.example.org:443", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.4", False),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://tracker.example.org", "*", True),
        ("https://tracker.example.org", " , ", False),
    ],
)
def test_no_proxy_is_understood_as_other_programs_do(url: str, no_proxy: str, direct: bool) -> None:
    assert bypasses_proxy(url, no_proxy) is direct


def test_changes_that_need_a_restart_are_named(tmp_path: Path) -> None:
    old = load(tmp_path, MINIMAL + "[agent]\nlog_level = 'info'\nscan_interval_s = 1\n")
    new = load(tmp_path, MINIMAL + "[agent]\nlog_level = 'debug'\nscan_interval_s = 2\n")

    assert restart_needed(old, new) == ["agent.scan_interval_s"]


def test_collectors_have_sections_of_their_own(tmp_path: Path) -> None:
    text = (
        MINIMAL + "[collectors.cpu]\nenabled = false\n[collectors.disk]\ninterval_s = 10\ndevices_max = 3\n"
    )

    config = load(tmp_path, text)

    assert set(config.collectors) == {"cpu", "disk"}
    assert config.section("collectors.cpu").enabled == "off"
    assert config.section("collectors.disk") == DeviceSettings(interval_s=10, devices_max=3)
    assert config.section("collectors.nvidia") == COLLECTORS["nvidia"].Settings()


def test_variables_win_over_the_file_for_collectors_too(tmp_path: Path) -> None:
    text = MINIMAL + "[collectors.disk]\ninterval_s = 10\n"

    config = load(
        tmp_path,
        text,
        {"TRACKER_AGENT_COLLECTORS_DISK_INTERVAL_S": "20", "TRACKER_AGENT_COLLECTORS_NVIDIA_ENABLED": "off"},
    )

    assert config.section("collectors.disk").interval_s == 20
    assert config.section("collectors.nvidia").enabled == "off"


def test_unknown_variable_of_a_collector_is_named_with_a_guess(tmp_path: Path) -> None:
    said = refusal(tmp_path, environment={"TRACKER_AGENT_COLLECTORS_DISC_INTERVAL_S": "20"})

    assert "did you mean TRACKER_AGENT_COLLECTORS_DISK_INTERVAL_S?" in said


def test_sections_decide_which_collectors_run_and_how_often(tmp_path: Path) -> None:
    text = MINIMAL + "[collectors.cpu]\nenabled = 'off'\n[collectors.disk]\ninterval_s = 30\n"
    config = load(tmp_path, text)

    built = {each.name: each for each in build_collectors(config.sampler, config.collectors)}

    assert "cpu" not in built
    assert {"memory", "disk", "nvidia"} <= set(built)
    assert (built["disk"].every_s(2.0), built["memory"].every_s(2.0)) == (30, 2)
