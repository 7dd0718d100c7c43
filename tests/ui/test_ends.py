"""How a run's end is shown: causes with their evidence, a silent agent, and stopping a run by a click."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess
from tracker.protocol import bodies, kinds

SECOND_NS = 10**9


def test_a_crash_shows_cause_evidence_last_lines_and_the_host_before(
    page: Page, server: ServerProcess, keep_screenshot: Callable[[Page, str], None]
) -> None:
    run = PushedStream(server, "killed", "ends", name="amber-falcon", rank=3, machine="e" * 32)
    other = PushedStream(server, "killed", "ends", rank=0, machine="e" * 32)
    now = time.time_ns()
    run.log(400, {"loss": 0.21}).print(
        "epoch 4, step 398: loss 0.2131", "epoch 4, step 399: loss 0.2127", "\x1b[31mloading shard 17\x1b[0m"
    ).push()
    other.log(400, {"loss": 0.22}).push()
    host = PushedStream(server, None, machine="e" * 32)
    for at in range(-60, 0, 2):
        used = 60e9 + at * 1e8
        window = {
            "host.memory.used.bytes": (used, used, used, used, 15),
            "host.memory.swap_used.bytes": (2e9, 2e9, 2e9, 2e9, 15),
            "host.cpu.percent": (71.0, 12.0, 99.0, 88.0, 15),
        }
        body = bodies.Sample(now + at * SECOND_NS, 2 * SECOND_NS, window).encode()
        host.record(kinds.SAMPLE, body)
    host.observe(
        run,
        "gone",
        cause="out of memory: the kernel killed it",
        signal=9,
        died=now,
        pid=4242,
        evidence={
            "wait": "SIGKILL, as the kernel told by the pidfd",
            "cgroup": "memory group /jobs/7/step: the kernel killed a process for memory in it within the"
            " last 3 s of its life; /sys/fs/cgroup/jobs/7 is limited to 68719476736 bytes",
            "kernel": "Memory cgroup out of memory: Killed process 4242 (python3) total-vm:71303168kB",
        },
    )
    host.observe(other, "gone", cause="killed by SIGABRT", signal=6, died=now + 5 * SECOND_NS)
    host.push()

    page.goto(f"{server.url}{run.path}?tab=overview")

    panel = page.get_by_label("Why it ended")
    for text in (
        "out of memory: the kernel killed it",
        "limited to 68719476736 bytes",
        "Killed process 4242",
        "rank 0",
        "killed by SIGABRT",
        "loading shard 17",
        "memory.used",
        "55.7 GiB",
    ):
        expect(panel).to_contain_text(text)
    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "crashed")
    expect(page.locator(".title .cause")).to_have_text("out of memory: the kernel killed it")
    keep_screenshot(page, "crash")


def test_a_silent_agent_is_no_crash(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "quiet", "ends", machine="f" * 32).log(0, {"loss": 1.0}).push()
    page.clock.install()
    page.goto(server.url + run.path)
    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "running")

    page.clock.fast_forward(10 * 60 * 1000)

    expect(page.get_by_role("main")).to_contain_text("The run may well go on")
    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "running")
    expect(page.get_by_label("Why it ended")).to_have_count(0)


def requests_of(server: ServerProcess, machine: str) -> Any:
    request = urllib.request.Request(
        f"{server.url}/api/v1/hosts/{machine}/requests?wait_s=10",
        headers={"Authorization": f"Bearer {server.ingest_key}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.loads(answer.read())["requests"]


def test_a_run_is_stopped_by_a_click_and_a_confirmation(
    page: Page, server: ServerProcess, keep_screenshot: Callable[[Page, str], None]
) -> None:
    machine = "c" * 32
    run = PushedStream(server, "stopped", "ends", name="calm-heron", machine=machine, stop=True)
    run.log(0, {"loss": 1.0}).push()
    page.goto(server.url + run.path)

    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Let it run").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Stop").click()
    keep_screenshot(page, "stop")
    page.get_by_role("button", name="Stop the run").click()

    asked = page.get_by_text("asked this run to stop")
    expect(asked).to_contain_text("admin")
    assert [request["run"] for request in requests_of(server, machine)] == ["stopped"]
    run.exit(130, None, {"stopped_by": "admin", "request": 1}).push()
    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "failed")
    expect(page.locator(".title .cause")).to_have_text("stopped by admin")
    expect(asked).to_have_count(0)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_a_run_that_does_not_allow_it_has_no_button(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "unstoppable", "ends").log(0, {"loss": 1.0}).push()

    page.goto(server.url + run.path)

    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "running")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
