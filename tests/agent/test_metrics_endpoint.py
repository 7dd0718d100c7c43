"""The metrics endpoint, read by Prometheus' own parser over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from prometheus_client.parser import text_string_to_metric_families

from tests.agent.conftest import eventually
from tracker_agent.health import Verdict
from tracker_agent.losses import LossReason
from tracker_agent.metrics_endpoint import MetricsEndpoint
from tracker_agent.telemetry import KINDS_MAX, Telemetry

STATUS: dict[str, Any] = {
    "agent": {"version": "1.2.3", "uptime_s": 5.0, "rss_bytes": 1000, "log_lines_dropped": 2},
    "health": {"state": "shipping", "ready": True},
    "tasks": {"pipeline": {"crashes": 1}, "lane uid-1000": {"crashes": 7}},
    "sampler": {"records_lost": 3, "collectors": {"cpu": {"state": "ok"}, "nvidia": {"state": "failing"}}},
    "shipping": {
        "bytes_shipped": 100,
        "bytes_sent": 40,
        "requests": 7,
        "failures": {"retrying": 3, "task lane uid-1000": 1, "task scan /s": 2},
        "losses": {
            "refused: too long for us": {"gaps": 1, "bytes": 10},
            "refused: other words": {"gaps": 2, "bytes": 5},
            "something old": {"gaps": 1, "bytes": 1},
        },
        "streams": {"known": 9, "live": 4, "shipped": 3, "parked": 1, "kept": 1, "foreign": 0},
        "lanes": [{"state": "shipping"}, {"state": "parked"}],
        "behind": {"bytes": 77, "streams": 2, "unasked": 0},
        "oldest_wait_s": 1.5,
        "spools": [{"path": "/s", "runs": 5, "open_files": 6, "problem": None, "scan_s": 0.01}],
        "files": {
            "sent_bytes": 12,
            "stored": {"files": 3},
            "pending": {"files": 1, "bytes": 9},
            "refused": [{}],
        },
        "retention": {
            "removed": {"runs": 2, "bytes": 8, "unshipped_bytes": 1},
            "bytes_by_uid": {"/s": {"7": 1}},
        },
        "servers": [{"url": "http://a", "state": "well"}, {"url": "http://b", "state": "retrying"}],
        "in_flight": {"bytes": 5, "bytes_max": 50, "waiting": 0},
        "stop_requests": {"polls": [], "stopped": 4},
    },
}


def values(text: str) -> dict[str, float]:
    """Return every sample as name{label=value} → value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@asynccontextmanager
async def endpoint(listen: str, verdict: Verdict, **more: Any) -> AsyncIterator[MetricsEndpoint]:
    made = MetricsEndpoint(listen, Telemetry(lambda: STATUS), lambda: verdict, structlog.get_logger(), **more)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def rendered(status: dict[str, Any] = STATUS) -> dict[str, float]:
    return values(Telemetry(lambda: status).render("")[0].decode())


def test_figures_are_those_of_the_status() -> None:
    found = rendered()

    prefix = "tracker_agent_"
    assert found[f"{prefix}shipped_bytes_total"] == 100
    assert found[f"{prefix}streams{{state=live}}"] == 4
    assert found[f"{prefix}lanes{{state=parked}}"] == 1
    assert found[f"{prefix}lag_seconds"] == 1.5
    assert found[f"{prefix}scan_duration_seconds{{spool=/s}}"] == 0.01
    assert found[f"{prefix}files_sent_bytes_total"] == 12
    assert found[f"{prefix}files_refused"] == 1
    assert found[f"{prefix}removed_unshipped_bytes_total"] == 1
    assert found[f"{prefix}server_well{{server=http://b}}"] == 0
    assert found[f"{prefix}in_flight_bytes_max"] == 50
    assert found[f"{prefix}runs_stopped_total"] == 4
    assert found[f"{prefix}collector_well{{collector=nvidia}}"] == 0
    assert found[f"{prefix}info{{version=1.2.3}}"] == 1
    assert found[f"{prefix}ready"] == 1
    assert found[f"{prefix}health{{state=shipping}}"] == 1
    assert found["process_open_fds"] > 0
    assert found["process_resident_memory_bytes"] > 0


def test_losses_are_counted_by_code_and_each_code_is_there_from_the_start() -> None:
    found = rendered()

    assert found["tracker_agent_lost_bytes_total{reason=refused}"] == 15
    assert found["tracker_agent_losses_total{reason=refused}"] == 3
    assert found["tracker_agent_lost_bytes_total{reason=other}"] == 1
    assert found["tracker_agent_losses_total{reason=not_written}"] == 3
    assert sum(name.startswith("tracker_agent_lost_bytes_total") for name in found) == len(LossReason)


def test_labels_name_no_user_and_their_number_is_bounded() -> None:
    failures = {f"odd answer {n}": 1 for n in range(5000)}
    status = {**STATUS, "shipping": {**STATUS["shipping"], "failures": failures | {"task lane uid-9": 4}}}

    found = rendered(status)

    assert not any("uid-" in name for name in {**found, **rendered()})
    assert sum(name.startswith("tracker_agent_failures_total") for name in found) <= KINDS_MAX + 1
    assert found["tracker_agent_failures_total{kind=other}"] == 5000 - KINDS_MAX + 4


def test_agent_that_has_only_just_started_can_be_scraped() -> None:
    status = {"agent": STATUS["agent"], "shipping": {}, "sampler": None, "tasks": {}, "health": {}}

    assert rendered(status)["tracker_agent_ready"] == 0


async def test_prometheus_reads_it_over_tcp_and_kubernetes_asks_for_health() -> None:
    async with (
        endpoint("127.0.0.1:0", Verdict("stalled", ("default: nothing taken",))) as made,
        aiohttp.ClientSession() as session,
    ):
        host, port = await eventually(lambda: made.address)

        answers = {}
        for path in ("metrics", "healthz", "readyz", "elsewhere"):
            async with session.get(f"http://{host}:{port}/{path}") as answer:
                answers[path] = (answer.status, answer.content_type, await answer.text())
        async with session.post(f"http://{host}:{port}/metrics") as answer:
            assert answer.status == 405

    assert answers["metrics"][:2] == (200, "text/plain")
    assert values(answers["metrics"][2])["tracker_agent_requests_total"] == 7
    assert answers["healthz"] == (200, "text/plain", "stalled\ndefault: nothing taken\n")
    assert answers["readyz"][0] == 503
    assert answers["elsewhere"][0] == 404


async def test_unix_socket_is_for_user_and_group_and_replaces_one_that_was_left(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with endpoint(f"unix:{path}", Verdict("stuck")) as made:
        await eventually(lambda: made.address)
        mode = stat.S_IMODE(path.stat().st_mode)
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://agent/healthz") as answer,
        ):
            status = answer.status

    assert mode == 0o660
    assert status == 503


async def test_file_in_the_place_of_the_socket_is_left_alone_and_said(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    async with endpoint(f"unix:{tmp_path}/precious", Verdict("idle"), retry_s=0.01) as made:
        await eventually(lambda: made.problem)

    assert (tmp_path / "precious").read_text() == "data"
    assert "precious" in made.problem
    assert "in use" in made.problem


async def test_address_that_is_taken_is_tried_again_until_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with endpoint(f"127.0.0.1:{port}", Verdict("idle"), retry_s=0.01) as made:
            await eventually(lambda: made.problem)
            other.close()
            await eventually(lambda: made.address)

    assert made.problem == ""
    assert made.status() == {"listen": f"127.0.0.1:{port}", "problem": ""}


async def test_endpoint_that_is_closed_leaves_no_descriptors() -> None:
    async with endpoint("127.0.0.1:0", Verdict("idle")) as made:
        await eventually(lambda: made.address)
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(3):
        async with endpoint("127.0.0.1:0", Verdict("idle")) as made:
            await eventually(lambda: made.address)

    assert len(os.listdir("/proc/self/fd")) == before
