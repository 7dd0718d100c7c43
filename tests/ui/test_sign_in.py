"""Signing in, being signed out, and a server that goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.browser import Pages, sign_in
from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess

Keep = Callable[[Page, str], None]


def test_one_time_link_signs_in_and_leaves_no_token_in_the_address(
    pages: Pages, server: ServerProcess
) -> None:
    page, _ = pages.open()

    page.goto(server.signin_link())

    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert page.url == f"{server.url}/"


def test_one_time_link_works_once(pages: Pages, server: ServerProcess) -> None:
    link = server.signin_link()
    first, _ = pages.open()
    first.goto(link)
    expect(first.get_by_role("button", name="Sign out")).to_be_visible()
    second, complaints = pages.open()
    complaints.expect("status of 4")

    second.goto(link)

    expect(second.get_by_role("alert")).to_contain_text("has been used or is too old")
    expect(second.get_by_label("API key")).to_be_visible()


def test_api_key_signs_in_and_leads_to_the_page_one_wanted(
    pages: Pages, server: ServerProcess, keep_screenshot: Keep
) -> None:
    run = PushedStream(server, "wanted", "sign-in").log(0, {"loss": 1.0}).push()
    page, _ = pages.open()
    page.goto(server.url + run.path)
    keep_screenshot(page, "sign-in-light")

    page.get_by_label("API key").fill(server.admin_key)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", name="wanted")).to_be_visible()
    assert page.url == server.url + run.path


def test_wrong_api_key_is_refused_in_words(pages: Pages, server: ServerProcess) -> None:
    page, complaints = pages.open()
    complaints.expect("status of 401")
    page.goto(server.url)

    page.get_by_label("API key").fill("tk_00000000_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_have_text("The server does not know this key.")


def test_signing_out_asks_for_a_key_again_even_after_a_reload(pages: Pages, server: ServerProcess) -> None:
    page, _ = pages.open()
    sign_in(page, server)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()

    page.reload()

    expect(page.get_by_label("API key")).to_be_visible()


def test_session_that_ends_meanwhile_leads_to_the_sign_in_page(page: Page, server: ServerProcess) -> None:
    expect(page.get_by_text("Live", exact=True)).to_be_visible()

    page.context.clear_cookies()
    PushedStream(server, "unseen", "sign-in").log(0, {"loss": 1.0}).push()

    expect(page.get_by_label("API key")).to_be_visible()


def test_banner_while_the_server_is_away_then_the_page_goes_on_by_itself(
    pages: Pages, tmp_path: Path, keep_screenshot: Keep
) -> None:
    with ServerProcess(tmp_path) as server:
        run = PushedStream(server, "patient", "away").log(0, {"loss": 1.0}).push()
        page, complaints = pages.open()
        complaints.expect("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET")
        complaints.expect("ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED")
        sign_in(page, server)
        page.goto(server.url + run.path)
        chart = page.locator('[data-chart][data-metric="loss"]')
        expect(chart).to_have_attribute("data-last-step", "0")

        server.kill()

        expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        keep_screenshot(page, "server-away-light")
        server.start()
        run.log(1, {"loss": 0.5}).push()
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(chart).to_have_attribute("data-last-step", "1")
