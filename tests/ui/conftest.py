"""One server and one browser for all tests of the UI; pages that fail their test when they complain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import require
from tests.support.browser import DEADLINE_MS, Pages, launch_browser, sign_in
from tests.support.server_process import ServerProcess
from tracker_server.web.ui import BUILT_UI

SCREENSHOTS = Path(__file__).with_name("screenshots")

expect.set_options(timeout=DEADLINE_MS)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the built UI. Tests keep apart by project."""
    if not (BUILT_UI / "index.html").is_file():
        require.absent("the built web UI", "tracker_server/web/static is empty", "make ui")
    with ServerProcess(tmp_path_factory.mktemp("ui-server")) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. While one is open no other event loop can run in this process."""
    with launch_browser() as launched:
        yield launched


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Pages whose errors and warnings fail the test."""
    opened = Pages(browser)
    yield opened
    opened.close()
    found = [text for complaints in opened.complaints for text in complaints.remaining()]
    assert not found, found


@pytest.fixture(scope="module")
def session(browser: Browser, server: ServerProcess) -> Any:
    """The cookies of someone who is signed in."""
    with closing(browser.new_page()) as opened:
        sign_in(opened, server)
        return opened.context.storage_state()


@pytest.fixture
def page(pages: Pages, server: ServerProcess, session: Any) -> Page:
    """A page of someone who is signed in, with the list of runs."""
    opened, _ = pages.open(storage_state=session)
    opened.goto(server.url)
    return opened


@pytest.fixture
def keep_screenshot() -> Callable[[Page, str], None]:
    """Save what a page looks like, for people to look at."""

    def keep(page: Page, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    return keep
