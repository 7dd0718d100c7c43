"""Real programs read /metrics: promtool, a Prometheus, and a node_exporter to compare with, from Debian."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.agent.test_metrics_endpoint import STATUS
from tests.agent.test_node_figures import STAT, of
from tests.agent.test_prometheus import GPUS, all_values, host_figures, reading, scrape
from tests.support import require
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fixture_host import FixtureHost
from tracker_agent.host_figures import Sampled
from tracker_agent.telemetry import Telemetry


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return FixtureHost("intel-2s", tmp_path / "host")


#: What promtool does not like about names that are others'; nothing else may be said.
OTHERS_NAMES = (
    re.compile(r"DCGM_FI_DEV_PCIE_REPLAY_COUNTER .* type 'counter'"),
    re.compile(r"DCGM_FI_DEV_ECC_\w+_TOTAL .*"),
    re.compile(r"(node_(memory|netstat|sockstat|vmstat)_|DCGM_FI_)\w+ .*(snake_case|camelCase)"),
    re.compile(r"node_network_\w+ .*"),
)


def test_promtool_finds_nothing_wrong_but_names_that_are_others(host: FixtureHost) -> None:
    promtool = require.program("promtool", "prometheus")
    gpus = [GPUS[0] | {"index": 7}]
    sampled = Sampled({"nvidia": reading(all_values(), {"gpus": gpus})})
    host.write("proc/stat", STAT)
    text = scrape(Telemetry(lambda: STATUS, host_figures(host.kernel, sampled), host_wait_s=60))

    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )

    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert [line for line in said if not any(each.match(line) for each in OTHERS_NAMES)] == []
    assert done.returncode in (0, 3)
    assert len(text.splitlines()) > 500


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


@contextmanager
def program(*command: str, log: Path) -> Iterator[None]:
    """Run a program while the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> str:
    with suppress(OSError):
        return get(url)
    return ""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real agent's figures."""
    address = f"127.0.0.1:{free_port()}"
    config = f'[metrics]\nlisten = "{address}"\n[sampler]\ninterval_s = 0.5\n'
    root = tmp_path_factory.mktemp("agent")
    # Nobody listens there: a scrape does not need the server.
    with AgentProcess(root, "http://127.0.0.1:9", "k" * 40, extra_config=config):
        wait_until(
            lambda: "tracker_host_cpu_percent " in answers(f"http://{address}/metrics"), what="the agent"
        )
        yield address


def test_figures_of_the_machine_follow_the_settings_at_a_reload(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = f'[metrics]\nlisten = "{address}"\n'
    with AgentProcess(tmp_path, "http://127.0.0.1:9", "k" * 40, extra_config=config) as process:

        def found() -> dict[str, float]:
            return of_text(answers(f"http://{address}/metrics"))

        def reloaded(more: str, condition: Callable[[dict[str, float]], bool]) -> bool:
            process.config.write_text(process.config.read_text().replace(config, config + more))
            assert process.process is not None
            process.process.send_signal(signal.SIGHUP)
            return bool(wait_until(lambda: condition(found()), what=more))

        wait_until(
            lambda: "node_cpu_seconds_total{cpu=0,mode=idle}" in found(), what="figures of the machine"
        )

        assert reloaded("per_core = false\n", lambda now: "node_cpu_seconds_total{cpu=all,mode=idle}" in now)
        assert reloaded(
            'host = "off"\n', lambda now: "tracker_agent_ready" in now and "node_load1" not in now
        )


def test_real_prometheus_scrapes_the_agent_and_answers_queries(agent: str, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: tracker, static_configs: [{{targets: ['{agent}']}}]}}]\n"
    )

    def ask(query: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        text = answers(url)
        return json.loads(text)["data"]["result"] if text else []

    with program(
        require.program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        log=tmp_path / "prometheus.log",
    ):
        # What dashboards for node_exporter ask.
        idle = wait_until(
            lambda: ask('avg(rate(node_cpu_seconds_total{mode="idle"}[30s]))'), what="a rate in Prometheus"
        )
        cores = ask("count(count(node_cpu_seconds_total) by (cpu))")
        memory = ask("node_memory_MemTotal_bytes")
        up = ask('up{job="tracker"}')
        percent = ask("tracker_host_cpu_percent")
        kinds = json.loads(get(f"http://127.0.0.1:{port}/api/v1/targets/metadata"))["data"]

    assert 0 <= float(idle[0]["value"][1]) <= 1.1
    assert int(cores[0]["value"][1]) == os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert float(memory[0]["value"][1]) == pages
    assert up[0]["value"][1] == "1"
    assert 0 <= float(percent[0]["value"][1]) <= 100
    kind = {each["metric"]: each["type"] for each in kinds}
    assert kind["node_cpu_seconds"] == "counter"
    assert kind["node_memory_MemTotal_bytes"] == "gauge"


#: Figures that move both ways, or that stand for a moment that cannot be the same in both programs.
MOVING = (
    "node_memory_",
    "node_load",
    "node_sockstat_",
    "node_procs_",
    "node_filefd_",
    "node_disk_io_now",
    "node_netstat_Tcp_CurrEstab",
)
#: Time is counted in ticks, and handed on in floats.
TICK_S = 0.011


def test_figures_are_those_of_a_real_node_exporter(agent: str, tmp_path: Path) -> None:
    port = free_port()

    def theirs() -> dict[str, float]:
        return of_text(get(f"http://127.0.0.1:{port}/metrics"))

    with program(
        require.program("prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        # Debian's leaves lo out; newer versions leave zram out.
        "--collector.netdev.device-exclude=^$",
        r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
        log=tmp_path / "node_exporter.log",
    ):
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/metrics"), what="node_exporter")
        before, ours, after = theirs(), of_text(get(f"http://{agent}/metrics")), theirs()

    ours = {name: value for name, value in ours.items() if name.startswith("node_")}
    names = {name.partition("{")[0] for name in ours}
    shared = {name: value for name, value in ours.items() if name in before and name in after}
    assert len(shared) > 150
    # Ours in the same words, and nothing missing of what we have at all.
    # TCPOFOQueue and TCPRcvQDrop: version 1.5 lacks them.
    apart = (
        "node_filesystem",
        "node_pressure_irq",
        "node_netstat_TcpExt_TCPOFO",
        "node_netstat_TcpExt_TCPRcvQ",
    )
    assert {name for name in ours if name not in before and not name.startswith(apart)} == set()
    assert {
        name
        for name in before
        if name.partition("{")[0] in names and name not in ours and not name.startswith(apart)
    } == set()
    wrong = {}
    for name, value in shared.items():
        low, high = sorted((before[name], after[name]))
        if name.startswith(MOVING):
            slack = max(0.05 * abs(high), 64 * 2**20 if name.startswith("node_memory_") else 50)
        elif name.startswith("node_filesystem"):
            slack = max(0.05 * abs(high), 10_000)
        else:
            slack = TICK_S if "seconds" in name else 0
        if not low - slack <= value <= high + slack:
            wrong[name] = (low, value, high)
    assert wrong == {}
    assert any(name.startswith("node_filesystem_size_bytes") for name in shared)


def of_text(text: str) -> dict[str, float]:
    return of(text_string_to_metric_families(text))
