"""Writes the dashboards beside this file: `python deploy/grafana/make.py`. Change them here.

Each asks a Prometheus that scrapes as deploy/prometheus has it. One is made of rows, a row of panels, a panel
of queries in PromQL; Grafana's JSON around them is the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Of a Grafana dashboard's JSON: that of Grafana 9, which newer ones migrate by themselves.
SCHEMA_VERSION = 37
WIDTH = 24
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are called."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class Panel:
    """A chart over time, or ("stat", "table") its last values. unit: in Grafana's words."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    most: float | None = None
    meaning: str = ""


@dataclass(frozen=True)
class Variable:
    """A choice at the top: the values of a label."""

    name: str
    query: str
    several: bool = True


@dataclass(frozen=True)
class Dashboard:
    """One file."""

    uid: str
    title: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def chart(title: str, *queries: tuple[str, str], **more: Any) -> Panel:
    """Return a panel of (PromQL, legend) pairs."""
    return Panel(title, tuple(Query(*each) for each in queries), **more)


def stat(title: str, expr: str, **more: Any) -> Panel:
    """Return a panel of one number."""
    return Panel(title, (Query(expr),), kind="stat", **more)


def on_host(name: str, *labels: str) -> str:
    """Return a selector of a metric on the hosts chosen."""
    return name + "{" + ", ".join(['job="tracker-agent"', 'instance=~"$instance"', *labels]) + "}"


def rate(name: str, *labels: str) -> str:
    """Return a counter's rate per second on the hosts chosen."""
    return f"rate({on_host(name, *labels)}[$__rate_interval])"


def growth(name: str) -> str:
    """Return by how much a counter grew, from one point of the chart to the next."""
    return f"increase({on_host(name)}[$__rate_interval])"


def share(part: str, whole: str) -> str:
    """Return one metric as a share of another, 0 to 1."""
    return f"{on_host(part)} / {on_host(whole)}"


def of_all(name: str) -> str:
    """Return a counter's rate per second, of every agent there is."""
    return f"rate({name}" + '{job="tracker-agent"}[$__rate_interval])'


INSTANCE = Variable("instance", 'label_values(up{job="tracker-agent"}, instance)')

AGENTS = Dashboard(
    "tracker-agents",
    "Tracker / agents",
    (INSTANCE,),
    (
        (
            "At a glance",
            (
                stat("Agents that answer", f"sum({on_host('up')})"),
                stat("Agents that do not", f"count({on_host('up')} == 0) or vector(0)"),
                stat("Not ready", f"count({on_host('tracker_agent_ready')} == 0) or vector(0)"),
                stat("Live streams", "sum(" + on_host("tracker_agent_streams", 'state="live"') + ")"),
                stat("Bytes behind", f"sum({on_host('tracker_agent_behind_bytes')})", unit="bytes"),
                stat("Lost today", f"sum(increase({on_host('tracker_agent_losses_total')}[1d]))"),
            ),
        ),
        (
            "Shipping",
            (
                chart(
                    "Health",
                    (f"sum by (state) ({on_host('tracker_agent_health')})", "{{state}}"),
                    meaning="How many agents are in each state (docs/agent.md, Metrics and health).",
                ),
                chart(
                    "Shipped",
                    (f"sum by (instance) ({rate('tracker_agent_shipped_bytes_total')})", "{{instance}}"),
                    unit="Bps",
                ),
                chart(
                    "Longest wait",
                    (on_host("tracker_agent_lag_seconds"), "{{instance}}"),
                    unit="s",
                    meaning="Time since the stream that waits longest has moved.",
                ),
                chart(
                    "Behind",
                    (on_host("tracker_agent_behind_bytes"), "{{instance}}"),
                    unit="bytes",
                ),
                chart(
                    "Failures",
                    (f"sum by (kind) ({rate('tracker_agent_failures_total')})", "{{kind}}"),
                    unit="ops",
                    meaning="Answers and errors that were no success; all of them are tried again.",
                ),
                chart(
                    "Lost",
                    (f"sum by (reason) ({growth('tracker_agent_losses_total')})", "{{reason}}"),
                    meaning="Gaps, files and records that can never be shipped, by reason.",
                ),
                chart(
                    "Files of runs that wait",
                    (on_host("tracker_agent_files_pending_bytes"), "{{instance}}"),
                    unit="bytes",
                ),
                chart("Runs in the spools", (on_host("tracker_agent_spool_runs"), "{{instance}} {{spool}}")),
                chart(
                    "Servers that answer properly",
                    (f"avg by (server) ({on_host('tracker_agent_server_well')})", "{{server}}"),
                    unit="percentunit",
                    most=1,
                    meaning="The share of agents that get a proper answer.",
                ),
            ),
        ),
        (
            "The agents themselves",
            (
                chart("CPU", (rate("process_cpu_seconds_total"), "{{instance}}"), unit="percentunit"),
                chart("Memory", (on_host("process_resident_memory_bytes"), "{{instance}}"), unit="bytes"),
                chart(
                    "In flight",
                    (
                        share("tracker_agent_in_flight_bytes", "tracker_agent_in_flight_bytes_max"),
                        "{{instance}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
                chart(
                    "Time of a scan",
                    (on_host("tracker_agent_scan_duration_seconds"), "{{instance}}"),
                    unit="s",
                ),
                chart(
                    "Collectors that fail",
                    (
                        f"count by (collector) ({on_host('tracker_agent_collector_well')} == 0)",
                        "{{collector}}",
                    ),
                ),
                chart(
                    "Restarts",
                    (f"changes({on_host('process_start_time_seconds')}[1h])", "{{instance}}"),
                    meaning="In the hour before.",
                ),
            ),
        ),
    ),
)

HOST = Dashboard(
    "tracker-host",
    "Tracker / host and GPUs",
    (Variable("instance", 'label_values(up{job="tracker-agent"}, instance)', several=False),),
    (
        (
            "Machine",
            (
                chart(
                    "CPU",
                    (on_host("tracker_host_cpu_percent"), "busy"),
                    (on_host("tracker_host_cpu_user_percent"), "programs"),
                    (on_host("tracker_host_cpu_system_percent"), "kernel"),
                    (on_host("tracker_host_cpu_iowait_percent"), "waiting for disks"),
                    unit="percent",
                    most=100,
                ),
                chart(
                    "Memory",
                    (on_host("tracker_host_memory_used_bytes"), "used"),
                    (on_host("tracker_host_memory_cached_bytes"), "cache"),
                    (on_host("tracker_host_memory_total_bytes"), "there is"),
                    unit="bytes",
                ),
                chart(
                    "Shared memory",
                    (on_host("tracker_host_memory_dev_shm_percent"), "full"),
                    unit="percent",
                    most=100,
                    meaning="Data loaders die when /dev/shm is full.",
                ),
                chart("Load", (on_host("node_load1"), "1 min"), (on_host("node_load15"), "15 min")),
                chart(
                    "Pressure",
                    (rate("node_pressure_cpu_waiting_seconds_total"), "processors"),
                    (rate("node_pressure_memory_waiting_seconds_total"), "memory"),
                    (rate("node_pressure_io_waiting_seconds_total"), "disks"),
                    unit="percentunit",
                    most=1,
                    meaning="The share of time in which some task waited.",
                ),
                chart(
                    "Killed for want of memory",
                    (growth("node_vmstat_oom_kill"), "processes"),
                ),
                chart(
                    "Disks",
                    (rate("node_disk_read_bytes_total"), "{{device}} read"),
                    (rate("node_disk_written_bytes_total"), "{{device}} written"),
                    unit="Bps",
                ),
                chart(
                    "File systems",
                    (
                        "1 - " + share("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
                        "{{mountpoint}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
                chart(
                    "Network",
                    (rate("node_network_receive_bytes_total", 'device!="lo"'), "{{device}} received"),
                    (rate("node_network_transmit_bytes_total", 'device!="lo"'), "{{device}} sent"),
                    unit="Bps",
                ),
            ),
        ),
        (
            "GPUs",
            (
                chart(
                    "Utilisation",
                    (on_host("DCGM_FI_DEV_GPU_UTIL"), "GPU {{gpu}}"),
                    unit="percent",
                    most=100,
                ),
                chart(
                    "Memory",
                    (
                        share("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_TOTAL"),
                        "GPU {{gpu}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
                chart("Power", (on_host("DCGM_FI_DEV_POWER_USAGE"), "GPU {{gpu}}"), unit="watt"),
                chart("Temperature", (on_host("DCGM_FI_DEV_GPU_TEMP"), "GPU {{gpu}}"), unit="celsius"),
                chart("Clock", (on_host("DCGM_FI_DEV_SM_CLOCK"), "GPU {{gpu}}"), unit="rotmhz"),
                chart(
                    "Tensor cores",
                    (on_host("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"), "GPU {{gpu}}"),
                    unit="percentunit",
                    most=1,
                    meaning="Hopper and newer.",
                ),
                chart(
                    "Memory traffic",
                    (on_host("DCGM_FI_PROF_DRAM_ACTIVE"), "GPU {{gpu}}"),
                    unit="percentunit",
                    most=1,
                    meaning="Of what is possible. Hopper and newer.",
                ),
                chart(
                    "Xids",
                    (on_host("DCGM_FI_DEV_XID_ERRORS"), "GPU {{gpu}}"),
                    meaning="The last Xid of the last five minutes, else 0.",
                ),
                chart(
                    "Errors of memory",
                    (
                        f"increase({on_host('DCGM_FI_DEV_ECC_SBE_VOL_TOTAL')}[1h])",
                        "GPU {{gpu}} corrected",
                    ),
                    (f"increase({on_host('DCGM_FI_DEV_ECC_DBE_VOL_TOTAL')}[1h])", "GPU {{gpu}} lost"),
                    meaning="In the hour before.",
                ),
            ),
        ),
    ),
)

PROBED = '{job="tracker-server"}'

SERVER = Dashboard(
    "tracker-server",
    "Tracker / server",
    (
        Variable(
            "instance",
            'label_values(up{job="tracker-agent"}, instance)',
        ),
    ),
    (
        (
            "From outside",
            (
                stat("Serves", f"min(probe_success{PROBED})"),
                stat(
                    "Certificate ends in",
                    f"min(probe_ssl_earliest_cert_expiry{PROBED}) - time()",
                    unit="s",
                    meaning="None where it speaks no TLS.",
                ),
                chart("Up", (f"probe_success{PROBED}", "{{instance}}"), most=1),
                chart(
                    "Time to answer",
                    (f"probe_duration_seconds{PROBED}", "{{instance}}"),
                    unit="s",
                ),
                chart(
                    "Where that time goes",
                    (f"probe_http_duration_seconds{PROBED}", "{{phase}}"),
                    unit="s",
                ),
                chart("Status", (f"probe_http_status_code{PROBED}", "{{instance}}")),
            ),
        ),
        (
            "As its agents see it",
            (
                chart(
                    "Agents that get a proper answer",
                    ('avg by (server) (tracker_agent_server_well{job="tracker-agent"})', "{{server}}"),
                    unit="percentunit",
                    most=1,
                ),
                chart(
                    "Records taken",
                    (
                        f"sum({of_all('tracker_agent_shipped_bytes_total')})",
                        "records",
                    ),
                    (
                        f"sum({of_all('tracker_agent_sent_bytes_total')})",
                        "on the wire",
                    ),
                    unit="Bps",
                ),
                chart(
                    "Requests",
                    (
                        f"sum({of_all('tracker_agent_requests_total')})",
                        "requests",
                    ),
                    unit="reqps",
                ),
                chart(
                    "Files taken",
                    (
                        f"sum({of_all('tracker_agent_files_sent_bytes_total')})",
                        "files",
                    ),
                    unit="Bps",
                ),
                chart(
                    "Waiting at the agents",
                    ('sum(tracker_agent_behind_bytes{job="tracker-agent"})', "records"),
                    ('sum(tracker_agent_files_pending_bytes{job="tracker-agent"})', "files"),
                    unit="bytes",
                ),
                chart(
                    "Refused and failed",
                    (
                        f"sum by (kind) ({of_all('tracker_agent_failures_total')})",
                        "{{kind}}",
                    ),
                    unit="ops",
                ),
            ),
        ),
        (
            "Its machine ($instance), where an agent runs there",
            (
                chart("CPU", (on_host("tracker_host_cpu_percent"), "{{instance}}"), unit="percent", most=100),
                chart(
                    "Memory available",
                    (on_host("tracker_host_memory_available_bytes"), "{{instance}}"),
                    unit="bytes",
                ),
                chart(
                    "Disks",
                    (
                        "1 - " + share("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
                        "{{instance}} {{mountpoint}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
            ),
        ),
    ),
)

DASHBOARDS = (AGENTS, HOST, SERVER)


def render(dashboard: Dashboard) -> str:
    """Return a dashboard as the JSON that Grafana imports."""
    document = {
        "annotations": {"list": []},
        "editable": True,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": list(_panels(dashboard.rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["tracker"],
        "templating": {"list": [_source(), *map(_variable, dashboard.variables)]},
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "version": 1,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _panels(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in rows:
        number += 1
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        yield {
            "collapsed": False,
            "gridPos": place,
            "id": number,
            "panels": [],
            "title": title,
            "type": "row",
        }
        top += 1
        left = last = 0
        for panel in panels:
            number += 1
            wide, high = (4, 4) if panel.kind == "stat" else (8, HEIGHT)
            if left + wide > WIDTH or (left and high != last):
                left, top = 0, top + last
            yield _panel(panel, number, {"h": high, "w": wide, "x": left, "y": top})
            left, last = left + wide, high
        top += last


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "stat":
        options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"}
    else:
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.most is not None:
        defaults["max"] = panel.most
    return {
        "datasource": SOURCE,
        "description": panel.meaning,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "gridPos": place,
        "id": number,
        "options": options,
        "targets": [
            {
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": query.expr,
                "instant": panel.kind == "stat",
                "legendFormat": query.legend,
                "range": panel.kind != "stat",
                "refId": chr(ord("A") + index),
            }
            for index, query in enumerate(panel.queries)
        ],
        "title": panel.title,
        "type": panel.kind,
    }


def _source() -> dict[str, Any]:
    return {
        "label": "Prometheus",
        "name": "source",
        "query": "prometheus",
        "refresh": 1,
        "type": "datasource",
    }


def _variable(variable: Variable) -> dict[str, Any]:
    chosen = {"current": {"text": ["All"], "value": ["$__all"]}} if variable.several else {}
    return {
        **chosen,
        "datasource": SOURCE,
        "definition": variable.query,
        "includeAll": variable.several,
        "label": variable.name,
        "multi": variable.several,
        "name": variable.name,
        "query": {"query": variable.query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }


def main() -> None:
    """Write all dashboards."""
    for dashboard in DASHBOARDS:
        Path(__file__).with_name(f"{dashboard.uid}.json").write_text(render(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
