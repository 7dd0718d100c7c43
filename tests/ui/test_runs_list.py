"""The list of runs: what it shows, how it is searched, and that it is live."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.browser import Pages, sign_in
from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess

Keep = Callable[[Page, str], None]


def test_without_runs_the_list_says_how_to_start(pages: Pages, tmp_path: Path, keep_screenshot: Keep) -> None:
    with ServerProcess(tmp_path) as server:
        for scheme in ("light", "dark"):
            page, _ = pages.open(color_scheme=scheme)
            sign_in(page, server)

            expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
            expect(page.get_by_text("import tracker")).to_be_visible()
            keep_screenshot(page, f"no-runs-{scheme}")

        PushedStream(server, "first-ever", "fresh").log(0, {"loss": 1.0}).push()

        expect(page.locator('[data-run="default/fresh/first-ever"]')).to_be_visible()
        # Pages that outlive their server complain.
        pages.close()


def test_row_shows_state_name_owner_step_and_project(page: Page, server: ServerProcess) -> None:
    PushedStream(server, "row-1", "rows", name="amber-falcon", tags=["baseline"], host="node-03").log(
        1234, {"loss": 0.25}
    ).exit(0).push()

    page.goto(f"{server.url}/?project=rows")

    row = page.locator('[data-run="default/rows/row-1"]')
    expect(row.locator("[data-state]")).to_have_attribute("data-state", "finished")
    expect(row.get_by_role("link", name="amber-falcon")).to_be_visible()
    for text in ("baseline", "rows", "mira@node-03", "1,234", "just now"):
        expect(row).to_contain_text(text)
    assert page.title() == "rows · Runs · Tracker"


def test_numbers_that_runs_have_in_common_get_columns(page: Page, server: ServerProcess) -> None:
    for number in range(3):
        run = PushedStream(server, f"column-{number}", "columns")
        run.log(0, {"loss": 0.125 + number, f"own-{number}": 1.0}).push()

    page.goto(f"{server.url}/?project=columns")

    expect(page.get_by_role("columnheader", name="loss")).to_be_visible()
    expect(page.locator('[data-run="default/columns/column-2"]')).to_contain_text("2.125")


def test_click_on_a_name_opens_the_run_and_back_returns_to_the_same_list(
    page: Page, server: ServerProcess
) -> None:
    run = PushedStream(server, "opened", "click").log(0, {"loss": 1.0}).push()
    page.goto(f"{server.url}/?project=click&sort=name")

    page.get_by_role("link", name="opened").click()
    expect(page.get_by_role("heading", name="opened")).to_be_visible()
    assert page.url == server.url + run.path
    page.go_back()

    expect(page.locator('[data-run="default/click/opened"]')).to_be_visible()
    assert page.url.endswith("/?project=click&sort=name")


def test_search_and_state_filter_are_in_the_address(page: Page, server: ServerProcess) -> None:
    PushedStream(server, "needle-run", "search", name="needle").log(0, {"a": 1.0}).exit(0).push()
    PushedStream(server, "other-run", "search", name="haystack").log(0, {"a": 1.0}).push()
    page.goto(f"{server.url}/?project=search")
    expect(page.locator("[data-run]")).to_have_count(2)

    page.keyboard.press("/")
    page.keyboard.type("needle")
    expect(page.locator("[data-run]")).to_have_count(1)
    page.get_by_label("State").select_option("running")

    expect(page.get_by_text("No run matches.")).to_be_visible()
    expect(page).to_have_url(re.compile("q=needle.*state=running|state=running.*q=needle"))
    page.reload()
    expect(page.get_by_text("No run matches.")).to_be_visible()
    page.get_by_label("State").select_option("finished")
    expect(page.locator('[data-run="default/search/needle-run"]')).to_be_visible()


def test_sorting_by_name_turns_around_at_the_second_click(page: Page, server: ServerProcess) -> None:
    for name in ("b-run", "a-run", "c-run"):
        PushedStream(server, name, "sorting", name=name).log(0, {"a": 1.0}).push()
    page.goto(f"{server.url}/?project=sorting")
    names = page.locator("[data-run] td.name a")

    page.get_by_role("button", name="Name").click()
    expect(names).to_have_text(["a-run", "b-run", "c-run"])
    page.get_by_role("button", name="Name").click()

    expect(names).to_have_text(["c-run", "b-run", "a-run"])


def test_new_run_and_its_end_appear_without_a_reload(page: Page, server: ServerProcess) -> None:
    PushedStream(server, "earlier", "news").log(0, {"a": 1.0}).push()
    page.goto(f"{server.url}/?project=news")
    expect(page.locator("[data-run]")).to_have_count(1)

    run = PushedStream(server, "later", "news").log(0, {"a": 1.0}).push()
    state = page.locator('[data-run="default/news/later"] [data-state]')
    expect(state).to_have_attribute("data-state", "running")
    run.exit(1).push()

    expect(state).to_have_attribute("data-state", "failed")


def test_long_list_is_paged_while_scrolling_with_few_rows_in_the_document(
    page: Page, server: ServerProcess
) -> None:
    for number in range(130):
        PushedStream(server, f"many-{number:03}", "many", name=f"many-{number:03}").log(0, {"a": 1.0}).push()
    page.goto(f"{server.url}/?project=many&sort=name")
    expect(page.get_by_text("130 runs")).to_be_visible()
    last = page.locator('[data-run="default/many/many-129"]')

    deadline = time.monotonic() + 20
    while last.count() == 0 and time.monotonic() < deadline:
        page.mouse.wheel(0, 2000)
        page.wait_for_timeout(50)

    expect(last).to_be_visible()
    assert page.locator("[data-run]").count() < 100


def test_project_menu_leads_to_the_runs_of_a_project(page: Page, server: ServerProcess) -> None:
    PushedStream(server, "in-menu", "menu-project").log(0, {"a": 1.0}).push()

    page.get_by_role("button", name="Project: all projects").click()
    page.keyboard.type("menu-pro")
    page.get_by_role("option", name="menu-project").wait_for()
    page.keyboard.press("Enter")

    expect(page.locator("[data-run]")).to_have_count(1)
    assert page.url == f"{server.url}/?project=menu-project"
