"""Headless Chromium for tests of the web UI: launch, sign in, and what the browser complained about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from . import require
from .server_process import ServerProcess

#: A busy machine may take this long to draw; a generous limit slows nothing down.
DEADLINE_MS = 20_000

#: The sandbox needs privileges that containers do not have; the rest is noise or needs the network.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Yield a browser; each `new_page()` has cookies and storage of its own."""
    executable = require.chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, server: ServerProcess) -> None:
    """Sign in as the administrator with a one-time link and wait for the list of runs."""
    page.goto(server.signin_link())
    page.wait_for_url(f"{server.url}/")
    page.get_by_role("button", name="Sign out").wait_for()


class Complaints:
    """Collects errors and warnings of a page, except the failed requests a test expects."""

    def __init__(self, page: Page) -> None:
        self.found: list[str] = []
        self._expected: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.found.append(f"uncaught: {error}"))

    def expect(self, *texts: str) -> None:
        """Overlook messages that contain one of the texts, such as "status of 404"."""
        self._expected += texts

    def remaining(self) -> list[str]:
        """Return what nobody expected."""
        return [each for each in self.found if not any(text in each for text in self._expected)]

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


class Pages:
    """Opens pages with storage of their own and listens to what they complain about."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.complaints: list[Complaints] = []
        self._pages: list[Page] = []

    def open(self, **options: Any) -> tuple[Page, Complaints]:
        """Open a page; options are those of a browser context."""
        options.setdefault("viewport", {"width": 1440, "height": 900})
        page = self._browser.new_page(timezone_id="UTC", locale="en-US", **options)
        page.set_default_timeout(DEADLINE_MS)
        complaints = Complaints(page)
        # A browser that is not signed in learns that by asking.
        complaints.expect("status of 401")
        self._pages.append(page)
        self.complaints.append(complaints)
        return page, complaints

    def close(self) -> None:
        """Close all pages."""
        while self._pages:
            self._pages.pop().close()
