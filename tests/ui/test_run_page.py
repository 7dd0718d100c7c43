"""A run's page beside its charts: state, overview, losses, console, host, addresses that lead to it."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect

from tests.support.browser import Pages, sign_in
from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess
from tracker.protocol import bodies, kinds


def test_state_changes_while_one_looks(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "ending", "run-page").log(0, {"loss": 1.0}).push()
    page.goto(server.url + run.path)
    state = page.locator(".title [data-state]")
    expect(state).to_have_attribute("data-state", "running")
    assert page.title() == "● ending · run-page · Tracker"

    run.exit(0).push()

    expect(state).to_have_attribute("data-state", "finished")
    expect(page).to_have_title("ending · run-page · Tracker")


def test_run_whose_writer_vanished_is_shown_as_crashed(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "vanished", "run-page").log(0, {"loss": 1.0}).push()
    page.goto(server.url + run.path)
    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "running")
    agent = PushedStream(server, None)

    agent.record(
        kinds.OBSERVED, bodies.Observed(time.time_ns(), 1000, run.stream, "gone", {}).encode()
    ).push()

    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "crashed")


def test_overview_shows_config_summary_exception_and_writers(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "overview", "run-page", name="tidy-wren", rank=3)
    run.config({"optimizer": {"name": "adamw", "lr": 0.0003}, "seed": 42}).log(7, {"loss": 0.125})
    exception = {"type": "RuntimeError", "message": "out of memory", "traceback": "Traceback: line 88"}
    run.exit(1, exception).push()

    page.goto(f"{server.url}{run.path}?tab=overview")

    expect(page.locator(".title [data-state]")).to_have_attribute("data-state", "failed")
    content = page.get_by_role("main")
    for text in (
        "optimizer.name",
        "adamw",
        "0.0003",
        "loss",
        "0.125",
        "RuntimeError: out of memory",
        "line 88",
    ):
        expect(content).to_contain_text(text)
    expect(content).to_contain_text("rank 3")


def test_gaps_losses_and_problems_are_told_on_every_tab(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "lossy", "run-page").log(0, {"loss": 1.0})
    run.record(kinds.LOST, bodies.Lost(time.time_ns(), 12, "no space left on device").encode())
    run.record(kinds.METRICS, b"\xc1 not msgpack")
    run.gap(5120, "damage: checksum differs")
    page.goto(server.url + run.path)

    page.get_by_role("link", name="3 losses").click()

    losses = page.get_by_label("Missing records")
    expect(losses).to_contain_text("12 records never written: no space left on device")
    expect(losses).to_contain_text("5 KiB")
    expect(losses).to_contain_text("damage: checksum differs")
    expect(losses.get_by_role("listitem")).to_have_count(3)


def test_console_is_followed_and_searched(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "console", "run-page")
    run.print(*[f"line {number}" for number in range(3000)]).push()
    page.goto(f"{server.url}{run.path}?tab=logs")
    expect(page.locator('[data-line="3000"]')).to_be_visible()
    assert page.locator("[data-line]").count() < 200

    run.print("\x1b[31mred alert\x1b[0m <b>not bold</b>", stream="stderr").push()
    expect(page.locator('[data-line="3001"]')).to_contain_text("red alert <b>not bold</b>")
    expect(page.locator('[data-line="3001"] .ansi-1')).to_have_text("red alert")
    page.get_by_label("Search the log").fill("line 17")

    expect(page.get_by_text("111 of 3,001 lines")).to_be_visible()
    expect(page.locator("mark").first).to_have_text("line 17")


def test_run_without_output_says_so(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "silent", "run-page").log(0, {"loss": 1.0}).push()

    page.goto(f"{server.url}{run.path}?tab=logs")

    expect(page.get_by_text("No output.")).to_be_visible()


def test_system_tab_draws_the_samples_of_the_host(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "system", "run-page", machine="sampled").log(0, {"loss": 1.0}).push()
    agent = PushedStream(server, None, machine="sampled")
    agent.record(kinds.HOST, bodies.Host(time.time_ns(), {"cpu": {"cores": 192}}).encode())
    for second in range(3):
        window = {"cpu.percent": (50.0, 20.0, 80.0, 60.0 + second, 15)}
        agent.record(kinds.SAMPLE, bodies.Sample(run.started + second * 10**9, 10**9, window).encode())
    agent.push()

    page.goto(f"{server.url}{run.path}?tab=system")

    chart = page.locator('[data-chart][data-metric="cpu.percent"]')
    expect(chart).to_have_attribute("data-points", "3")
    expect(chart).to_have_attribute("data-last-value", "62")
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("main")).to_contain_text("192")


def test_address_a_script_prints_waits_for_the_run_and_leads_to_it(
    pages: Pages, server: ServerProcess
) -> None:
    page, complaints = pages.open()
    complaints.expect("status of 404")
    sign_in(page, server)
    page.goto(f"{server.url}/runs/printed?project=run-page")
    expect(page.get_by_role("heading", name="Waiting for run printed")).to_be_visible()

    run = PushedStream(server, "printed", "run-page").log(0, {"loss": 1.0}).push()

    expect(page.get_by_role("heading", name="printed", exact=True)).to_be_visible()
    assert page.url == server.url + run.path


def test_run_that_is_not_there_is_said_to_be_missing(pages: Pages, server: ServerProcess) -> None:
    page, complaints = pages.open()
    complaints.expect("status of 404")
    sign_in(page, server)

    page.goto(f"{server.url}/default/run-page/no-such-run")

    expect(page.get_by_role("heading", name="There is no run no-such-run")).to_be_visible()


def test_address_of_nothing_is_said_to_be_none(page: Page, server: ServerProcess) -> None:
    page.goto(f"{server.url}/a/b/c/d")

    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


def test_names_with_markup_are_text(page: Page, server: ServerProcess) -> None:
    name = "<img src=x onerror=alert(1)>"
    run = PushedStream(server, "markup", "run-page", name=name, tags=["<b>tag</b>"])
    run.log(0, {"<i>loss</i>": 1.0}).config({"<u>key</u>": "<s>value</s>"}).push()

    page.goto(f"{server.url}{run.path}?tab=overview")

    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.get_by_text("<s>value</s>")).to_be_visible()
    assert page.locator("img, b, i, u, s").count() == 0
