"""Rules and dashboards: what promtool says, what raises each alert, and that every metric they name exists.

Which metrics exist is what a real agent and a real blackbox_exporter, asking a real server, answer.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.deploy.conftest import DEPLOY, run_tool
from tests.support import require
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fake_nvml import FakeNvml
from tests.support.server_process import ServerProcess, free_port

PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "tracker.rules.yml"
#: Prometheus makes these itself.
OF_PROMETHEUS = {"up"}
#: Only for https.
OF_TLS = {"probe_ssl_earliest_cert_expiry"}

_spec = importlib.util.spec_from_file_location("make", DEPLOY / "grafana" / "make.py")
assert _spec is not None and _spec.loader is not None
make = importlib.util.module_from_spec(_spec)


@pytest.fixture(scope="module", autouse=True)
def _dashboards_loaded() -> None:
    import sys

    sys.modules["make"] = make  # dataclasses look there
    assert _spec is not None and _spec.loader is not None
    _spec.loader.exec_module(make)


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboards() -> dict[str, dict[str, Any]]:
    return {file.name: json.loads(file.read_text()) for file in sorted((DEPLOY / "grafana").glob("*.json"))}


def expressions() -> Iterator[tuple[str, str]]:
    """Yield (where, PromQL) of everything that asks Prometheus."""
    for name, rule in alerts().items():
        yield name, rule["expr"]
    for file, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{file}: {panel['title']}", filled_in(target["expr"])


def filled_in(expr: str) -> str:
    """Return what Grafana asks, once somebody has chosen."""
    expr = expr.replace("$__rate_interval", "5m").replace("$instance", ".+")
    assert "$" not in expr
    return expr


def names_in(node: Any) -> set[str]:
    """Return the metrics that a parsed expression asks for."""
    if isinstance(node, promql_parser.VectorSelector):
        return {node.name}
    if isinstance(node, promql_parser.MatrixSelector):
        return names_in(node.vector_selector)
    if isinstance(node, promql_parser.BinaryExpr):
        return names_in(node.lhs) | names_in(node.rhs)
    if isinstance(node, promql_parser.Call):
        return set().union(*map(names_in, node.args))
    if isinstance(node, (promql_parser.NumberLiteral, promql_parser.StringLiteral)):
        return set()
    return names_in(node.expr)


def get(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return str(answer.read().decode())


def answers(url: str) -> str:
    try:
        return get(url)
    except OSError:
        return ""


def names_served(text: str) -> set[str]:
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in text.splitlines() if line[:1] not in ("#", "")}


@contextmanager
def blackbox(tmp_path: Path) -> Iterator[str]:
    """The address of a blackbox_exporter that goes by our file."""
    address = f"127.0.0.1:{free_port()}"
    program = require.program("prometheus-blackbox-exporter")
    command = [program, f"--config.file={PROMETHEUS / 'blackbox.yml'}", f"--web.listen-address={address}"]
    with (tmp_path / "blackbox.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"http://{address}/metrics"), what="blackbox_exporter")
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What exists: metrics by who serves them."""
    root = tmp_path_factory.mktemp("monitoring")
    library = FakeNvml(root / "nvml")
    library.play(ecc=1)
    address = f"127.0.0.1:{free_port()}"
    config = f'[metrics]\nlisten = "{address}"\n[sampler]\ninterval_s = 0.5\nwindow_s = 1\n'
    with ServerProcess(root / "server") as server:
        agent = AgentProcess(root, server.url, server.ingest_key, extra_config=config)
        agent.environment = library.environment
        with agent:
            text = wait_until(
                lambda: (
                    "tracker_host_cpu_percent " in (text := answers(f"http://{address}/metrics"))
                    and "DCGM_FI_DEV_POWER_USAGE" in text
                    and "node_filesystem_avail_bytes" in text
                    and "tracker_agent_server_well" in text
                    and text
                ),
                what="all figures of the agent",
            )
            with blackbox(root) as exporter:
                probe = get(f"http://{exporter}/probe?module=tracker&target={server.url}/readyz")
            server.stop()
            # Some figures there are only once something has failed.
            failed = wait_until(
                lambda: (
                    "\ntracker_agent_failures_total{" in (text := answers(f"http://{address}/metrics"))
                    and text
                ),
                what="a failure",
            )
    assert "probe_success 1" in probe
    return {"agent": names_served(text) | names_served(failed), "blackbox": names_served(probe)}


def test_every_expression_asks_for_metrics_that_exist(served: dict[str, set[str]]) -> None:
    known = set().union(*served.values()) | OF_PROMETHEUS | OF_TLS
    found = {where: names_in(promql_parser.parse(expr)) for where, expr in expressions()}

    assert {where: names - known for where, names in found.items() if names - known} == {}
    assert all(found.values())


def test_blackbox_exporter_names_the_end_of_certificates_so() -> None:
    # Its own name, in the program itself: a server with TLS stands behind a proxy, which is not ours to test.
    program = Path(require.program("prometheus-blackbox-exporter")).read_bytes()

    assert all(name.encode() in program for name in OF_TLS)


def test_a_server_that_does_not_serve_fails_the_probe(tmp_path: Path) -> None:
    with blackbox(tmp_path) as exporter:
        probe = get(f"http://{exporter}/probe?module=tracker&target=http://127.0.0.1:{free_port()}/readyz")

    assert "probe_success 0" in probe


def test_every_expression_of_dashboards_is_one_to_promtool(tmp_path: Path) -> None:
    rules = [{"record": f"r{n}", "expr": expr} for n, (_, expr) in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))

    run_tool(require.program("promtool", "prometheus"), "check", "rules", file)


@pytest.mark.parametrize("name", ["prometheus.yml", "kubernetes.yml"])
def test_promtool_takes_configuration_and_rules(name: str) -> None:
    promtool = require.program("promtool", "prometheus")

    said = run_tool(promtool, "check", "config", PROMETHEUS / name).stdout
    run_tool(promtool, "check", "rules", "--lint-fatal", RULES)

    assert f"{len(alerts())} rules found" in said


def test_blackbox_exporter_takes_its_file() -> None:
    run_tool(
        require.program("prometheus-blackbox-exporter"),
        "--config.check",
        f"--config.file={PROMETHEUS / 'blackbox.yml'}",
    )


AGENT = 'job="tracker-agent", instance="h:1"'
SERVER = 'job="tracker-server", instance="s"'
#: By alert: the series that raise it, and the same without that; when to look.
RAISED: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]], str]] = {
    "TrackerAgentDown": ([(f"up{{{AGENT}}}", "0x60")], [(f"up{{{AGENT}}}", "1x60")], "10m"),
    "TrackerAgentNotReady": (
        [(f"tracker_agent_ready{{{AGENT}}}", "0x60")],
        [(f"tracker_agent_ready{{{AGENT}}}", "0x5 1x60")],
        "15m",
    ),
    "TrackerAgentStuck": (
        [(f'tracker_agent_health{{{AGENT}, state="stuck"}}', "1x60")],
        [(f'tracker_agent_health{{{AGENT}, state="shipping"}}', "1x60")],
        "5m",
    ),
    "TrackerAgentKeyRefused": (
        [(f'tracker_agent_health{{{AGENT}, state="refused"}}', "1x60")],
        [(f'tracker_agent_health{{{AGENT}, state="refused"}}', "0x60")],
        "10m",
    ),
    "TrackerAgentLagging": (
        [(f"tracker_agent_lag_seconds{{{AGENT}}}", "0+60x60")],
        [(f"tracker_agent_lag_seconds{{{AGENT}}}", "30x60")],
        "30m",
    ),
    "TrackerAgentLost": (
        [(f'tracker_agent_losses_total{{{AGENT}, reason="damaged"}}', "0x10 1x60")],
        [(f'tracker_agent_losses_total{{{AGENT}, reason="damaged"}}', "7x70")],
        "20m",
    ),
    "TrackerAgentSpoolProblem": (
        [(f'tracker_agent_spool_problem{{{AGENT}, spool="/s"}}', "1x60")],
        [(f'tracker_agent_spool_problem{{{AGENT}, spool="/s"}}', "0x60")],
        "10m",
    ),
    "TrackerAgentTaskCrashes": (
        [(f'tracker_agent_task_crashes_total{{{AGENT}, task="scan"}}', "0x10 1x60")],
        [(f'tracker_agent_task_crashes_total{{{AGENT}, task="scan"}}', "1x70")],
        "20m",
    ),
    "TrackerAgentRestarts": (
        [(f"process_start_time_seconds{{{AGENT}}}", "1000+60x10 1600x60")],
        [(f"process_start_time_seconds{{{AGENT}}}", "1000x70")],
        "20m",
    ),
    "TrackerCollectorFailing": (
        [(f'tracker_agent_collector_well{{{AGENT}, collector="nvidia"}}', "0x60")],
        [(f'tracker_agent_collector_well{{{AGENT}, collector="nvidia"}}', "1x60")],
        "20m",
    ),
    "TrackerGpuXid": (
        [(f'DCGM_FI_DEV_XID_ERRORS{{{AGENT}, gpu="0"}}', "79x60")],
        [(f'DCGM_FI_DEV_XID_ERRORS{{{AGENT}, gpu="0"}}', "31x20 43x20 0x20")],
        "5m",
    ),
    "TrackerGpuMemoryLost": (
        [(f'DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{AGENT}, gpu="0"}}', "0x10 1x60")],
        [(f'DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{AGENT}, gpu="0"}}', "3x70")],
        "20m",
    ),
    "TrackerGpuRowRemapFailed": (
        [(f'DCGM_FI_DEV_ROW_REMAP_FAILURE{{{AGENT}, gpu="0"}}', "1x60")],
        [(f'DCGM_FI_DEV_ROW_REMAP_FAILURE{{{AGENT}, gpu="0"}}', "0x60")],
        "5m",
    ),
    "TrackerGpuResetWanted": (
        [(f'DCGM_FI_DEV_ROW_REMAP_PENDING{{{AGENT}, gpu="0"}}', "1x90")],
        [(f'DCGM_FI_DEV_ROW_REMAP_PENDING{{{AGENT}, gpu="0"}}', "1x30 0x60")],
        "80m",
    ),
    "TrackerOutOfMemory": (
        [(f"node_vmstat_oom_kill{{{AGENT}}}", "0x10 2x60")],
        [(f"node_vmstat_oom_kill{{{AGENT}}}", "2x70")],
        "15m",
    ),
    "TrackerSharedMemoryFull": (
        [(f"tracker_host_memory_dev_shm_percent{{{AGENT}}}", "95x60")],
        [(f"tracker_host_memory_dev_shm_percent{{{AGENT}}}", "80x60")],
        "10m",
    ),
    "TrackerDiskFilling": (
        [
            (f'node_filesystem_avail_bytes{{{AGENT}, mountpoint="/"}}', "90-0.1x500"),
            (f'node_filesystem_size_bytes{{{AGENT}, mountpoint="/"}}', "1000x500"),
            (f'node_filesystem_readonly{{{AGENT}, mountpoint="/"}}', "0x500"),
        ],
        [
            (f'node_filesystem_avail_bytes{{{AGENT}, mountpoint="/"}}', "90x500"),
            (f'node_filesystem_size_bytes{{{AGENT}, mountpoint="/"}}', "1000x500"),
            (f'node_filesystem_readonly{{{AGENT}, mountpoint="/"}}', "0x500"),
        ],
        "420m",
    ),
    "TrackerServerDown": (
        [(f"probe_success{{{SERVER}}}", "0x60")],
        [(f"probe_success{{{SERVER}}}", "1x60")],
        "5m",
    ),
    "TrackerServerUnwell": (
        [
            ('tracker_agent_server_well{server="u", instance="a"}', "0x60"),
            ('tracker_agent_server_well{server="u", instance="b"}', "0x60"),
            ('tracker_agent_server_well{server="u", instance="c"}', "1x60"),
        ],
        [
            ('tracker_agent_server_well{server="u", instance="a"}', "0x60"),
            ('tracker_agent_server_well{server="u", instance="b"}', "1x60"),
            ('tracker_agent_server_well{server="u", instance="c"}', "1x60"),
        ],
        "10m",
    ),
    "TrackerServerSlow": (
        [(f"probe_duration_seconds{{{SERVER}}}", "3x60")],
        [(f"probe_duration_seconds{{{SERVER}}}", "0.1x60")],
        "20m",
    ),
    "TrackerServerCertificateEnds": (
        [(f"probe_ssl_earliest_cert_expiry{{{SERVER}}}", "1000000x60")],
        [(f"probe_ssl_earliest_cert_expiry{{{SERVER}}}", "10000000x60")],
        "5m",
    ),
}


def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else(tmp_path: Path) -> None:
    assert set(RAISED) == set(alerts())
    tests = []
    for alert, (wrong, well, at) in RAISED.items():
        for series, firing in ((wrong, 1), (well, 0)):
            tests.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": name, "values": values} for name, values in series],
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                            "eval_time": at,
                            "exp_samples": [{"labels": "{}", "value": firing}],
                        },
                    ],
                }
            )
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))

    run_tool(require.program("promtool", "prometheus"), "test", "rules", file)


def test_each_alert_says_what_happened_and_what_to_do() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert set(rule["annotations"]) == {"summary", "description"}, name
        assert rule["annotations"]["description"].endswith("."), name


def test_dashboards_are_those_of_the_program() -> None:
    made = {f"{each.uid}.json": make.render(each) for each in make.DASHBOARDS}

    written = {file.name: file.read_text() for file in (DEPLOY / "grafana").glob("*.json")}
    assert written == made, "run deploy/grafana/make.py"


def test_panels_lie_side_by_side_and_within_the_page() -> None:
    for dashboard in dashboards().values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24
            taken |= cells
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
