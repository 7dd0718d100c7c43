"""A run's System tab: its processes, its GPUs, the machine, what happened to it, and which machine it is."""

from __future__ import annotations

import time
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess
from tracker.protocol import bodies, kinds

SECOND = 10**9
GIB = 2.0**30


def agent_of(run: PushedStream, gpus: int = 0) -> PushedStream:
    """Return the agent's stream of a run's machine, which has said what it is."""
    agent = PushedStream(run.server, None, host=run.host, machine=run.machine)
    known = [{"index": index, "uuid": f"GPU-{index}", "name": "NVIDIA H100"} for index in range(gpus)]
    return agent.record(kinds.HOST, bodies.Host(time.time_ns(), {"gpus": known}).encode())


def machine_values(gpus: int, percent: float = 50.0) -> dict[str, float]:
    """Return values of a machine, with GPUs."""
    values = {
        "host.cpu.percent": percent,
        "host.memory.used.bytes": 3 * GIB,
        "host.disk.read.bytes_per_s": 2048.0,
    }
    for index in range(gpus):
        values[f"host.gpu.{index}.utilization.percent"] = 10.0 * index
        values[f"host.gpu.{index}.temperature.celsius"] = 40.0 + index
        values |= {f"host.gpu.{index}.ecc.{number}.count": 0.0 for number in range(3)}
    return values


def chart(page: Page, metric: str) -> Locator:
    return page.locator(f'[data-chart][data-metric="{metric}"]')


def open_system(page: Page, run: PushedStream, query: str = "") -> None:
    page.goto(f"{run.server.url}{run.path}?tab=system{query}")


def sections(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('[data-section]')].map(each => each.dataset.section)")


def test_its_processes_and_its_gpus_stand_before_the_machine(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "own", "system", machine="own").log(0, {"loss": 1.0}).push()
    agent = agent_of(run, gpus=4).sample(machine_values(4))
    agent.sample({"process.cpu.percent": 180.0, "process.rss.bytes": 1.5 * GIB}, run)
    agent.sample({"process.gpu.2.memory.bytes": 70 * GIB}, run).push()

    open_system(page, run)

    expect(chart(page, "system.0.process.rss.bytes").locator("output")).to_have_text("1.5 GiB")
    expect(chart(page, "host.gpu.2.temperature.celsius").locator("output")).to_have_text("42 °C")
    chart(page, "host.disk.read.bytes_per_s").scroll_into_view_if_needed()
    expect(chart(page, "host.disk.read.bytes_per_s").locator("output")).to_have_text("2 KiB/s")
    assert sections(page) == ["processes", "gpu", "cpu", "memory", "disk", "gpu-others"]
    expect(page.get_by_text("GPU 2: NVIDIA H100")).to_be_visible()
    expect(chart(page, "host.gpu.0.temperature.celsius")).to_have_count(0)
    page.get_by_role("button", name="Other GPUs of the machine").click()
    chart(page, "host.gpu.0.temperature.celsius").scroll_into_view_if_needed()
    expect(chart(page, "host.gpu.0.temperature.celsius").locator("output")).to_have_text("40 °C")


def test_the_rest_of_a_section_is_shown_on_request(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "rest", "system", machine="rest").push()
    agent_of(run, gpus=1).sample(machine_values(1)).push()
    open_system(page, run)
    expect(chart(page, "host.gpu.0.utilization.percent")).to_be_visible()
    expect(chart(page, "host.gpu.0.ecc.1.count")).to_have_count(0)

    page.locator('[data-section="gpu"]').get_by_role("button", name="Show 3 more").click()

    expect(chart(page, "host.gpu.0.ecc.1.count")).to_be_visible()
    expect(page.get_by_text("which of them this run has is not known")).to_be_visible()


def test_windows_processes_and_events_appear_while_one_looks(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "live", "system", machine="live").push()
    agent = agent_of(run).sample(machine_values(0, 25.0)).push()
    open_system(page, run)
    expect(chart(page, "host.cpu.percent")).to_have_attribute("data-last-value", "25")
    expect(page.get_by_text("Its agent has sampled no process of this run here.")).to_be_visible()

    agent.sample(machine_values(0, 75.0)).sample({"process.cpu.percent": 99.0}, run)
    agent.alert("Xid 79 on GPU 0", "the GPU has fallen off the bus", xid=79).push()

    expect(chart(page, "host.cpu.percent")).to_have_attribute("data-last-value", "75")
    expect(chart(page, "host.cpu.percent")).to_have_attribute("data-events", "1")
    expect(chart(page, "system.0.process.cpu.percent").locator("output")).to_have_text("99 %")
    events = page.get_by_role("region", name="Events")
    expect(events).to_contain_text("Xid 79 on GPU 0")
    expect(events).to_contain_text("the GPU has fallen off the bus")


def test_events_of_the_runs_time_are_listed_newest_first_and_as_text(
    page: Page, server: ServerProcess
) -> None:
    start = time.time_ns() - 3600 * SECOND
    run = PushedStream(server, "events", "system", machine="events", started=start).push()
    agent = agent_of(run).sample(machine_values(0))
    agent.alert("before the run", time_ns=start - 3600 * SECOND)
    agent.alert("<img src=x onerror=alert(1)>", "<b>bold</b>", time_ns=start + SECOND)
    for number in range(7):
        agent.alert(
            f"link {number} down", level="warn" if number else "info", time_ns=start + (2 + number) * SECOND
        )
    agent.push()

    open_system(page, run)

    events = page.get_by_role("region", name="Events")
    expect(events.get_by_role("listitem")).to_have_count(5)
    expect(events.get_by_role("listitem").first).to_contain_text("link 6 down")
    events.get_by_role("button", name="Show 3 more").click()
    expect(events.get_by_role("listitem").last).to_contain_text("<img src=x onerror=alert(1)> <b>bold</b>")
    assert events.locator("img, b").count() == 0
    expect(events).not_to_contain_text("before the run")
    # Marks are for what matters.
    expect(chart(page, "host.cpu.percent")).to_have_attribute("data-events", "7")


def test_of_a_run_on_several_machines_one_is_chosen(page: Page, server: ServerProcess) -> None:
    first = PushedStream(server, "several", "system", machine="host-a", host="node-01", rank=0).push()
    second = PushedStream(server, "several", "system", machine="host-b", host="node-02", rank=1).push()
    for run, percent in ((first, 11.0), (second, 22.0)):
        agent = (
            agent_of(run).sample(machine_values(0, percent)).sample({"process.cpu.percent": percent}, first)
        )
        agent.sample({"process.cpu.percent": percent}, second).push()
    open_system(page, first)
    expect(chart(page, "host.cpu.percent")).to_have_attribute("data-last-value", "11")
    expect(chart(page, "system.1.process.cpu.percent")).to_have_count(0)

    page.get_by_text("node-02", exact=True).click()

    expect(chart(page, "host.cpu.percent")).to_have_attribute("data-last-value", "22")
    expect(chart(page, "system.1.process.cpu.percent")).to_be_visible()
    expect(chart(page, "system.0.process.cpu.percent")).to_have_count(0)
    page.reload()
    expect(chart(page, "host.cpu.percent")).to_have_attribute("data-last-value", "22")


def test_ranks_of_one_machine_stand_side_by_side(page: Page, server: ServerProcess) -> None:
    ranks = [PushedStream(server, "ranks", "system", machine="ranks", rank=rank).push() for rank in range(3)]
    agent = agent_of(ranks[0], gpus=4).sample(machine_values(4))
    for rank, stream in enumerate(ranks):
        agent.sample({"process.cpu.percent": 100.0 + rank, f"process.gpu.{rank}.memory.bytes": GIB}, stream)
    agent.push()

    open_system(page, ranks[0])

    processes = page.locator('[data-section="processes"]')
    expect(processes.get_by_role("heading", level=3)).to_have_text(
        ["rank 0 cpu", "rank 1 cpu", "rank 2 cpu"] + [f"rank {rank} gpu.{rank}.memory" for rank in range(3)]
    )
    expect(page.get_by_text("GPU 0, 1, 2: NVIDIA H100")).to_be_visible()


def test_metrics_are_found_by_name_wherever_they_are(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "found", "system", machine="found").push()
    agent_of(run, gpus=1).sample(machine_values(1) | {"host.tcp.resets_per_s": 3.0}).push()
    open_system(page, run)
    expect(chart(page, "host.cpu.percent")).to_be_visible()

    page.get_by_label("Find metrics").fill("ecc.2")

    expect(chart(page, "host.gpu.0.ecc.2.count")).to_be_visible()
    expect(chart(page, "host.cpu.percent")).to_have_count(0)
    page.get_by_label("Find metrics").fill("no such metric")
    expect(page.get_by_text("No metric matches")).to_be_visible()


def test_a_run_whose_machine_nobody_watches_says_so(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "unwatched", "system", machine="").log(0, {"loss": 1.0}).push()

    open_system(page, run)

    expect(page.get_by_text("No agent has described the host of this run yet")).to_be_visible()


def test_a_machine_without_samples_says_so(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "unsampled", "system", machine="unsampled").push()

    open_system(page, run)

    expect(page.get_by_text("No samples of node-07 yet.")).to_be_visible()


def test_zooming_one_chart_zooms_all_and_can_be_undone(page: Page, server: ServerProcess) -> None:
    start = time.time_ns() - 600 * SECOND
    run = PushedStream(server, "zoom", "system", machine="zoom", started=start).push()
    agent = agent_of(run)
    for number in range(20):
        agent.sample(machine_values(0, float(number)), time_ns=start + number * 30 * SECOND)
        agent.sample({"process.cpu.percent": 5.0}, run, start + number * 30 * SECOND)
    agent.push()
    open_system(page, run)
    drawn = chart(page, "host.cpu.percent")
    expect(drawn).to_have_attribute("data-points", "20")
    box = drawn.locator(".u-over").bounding_box()
    assert box is not None

    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40, steps=5)
    page.mouse.up()

    for metric in ("host.cpu.percent", "system.0.process.cpu.percent"):
        expect(chart(page, metric)).not_to_have_attribute("data-points", "20")
    page.get_by_role("button", name="Reset zoom").click()
    expect(drawn).to_have_attribute("data-points", "20")
