"""Goes a newcomer's way through README.md, every block as it stands there, from a bare checkout to a chart.

    tests/pristine/run "python3 tests/pristine/newcomer.py"

What is typed, what it prints and when is printed, with the time until the points of the first script were on
the server: less than the three minutes that are promised. Needs the standard library alone.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.document_examples import programs_of, steps_of  # noqa: E402 - found by way of the line above

PROMISED_S = 180.0
POINTS = 100
#: How long to stay up for somebody to look, in seconds.
STAY_S = float(os.environ.get("NEWCOMER_STAYS_S", "0"))


class Terminal:
    """A terminal in which a command stays; its output is shown with the time and kept."""

    def __init__(self, text: str, began: float) -> None:
        print(f"$ {text.strip()}", flush=True)
        self.said = ""
        self._began = began
        self._process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait(self, words: str | None) -> str:
        """Wait for words, or for the end; return all that was said. Raise SystemExit when it fails."""
        while self._listener.is_alive() and (words is None or words not in self.said):
            time.sleep(0.05)
        failed = words not in self.said if words is not None else self._process.wait() != 0
        if failed:
            sys.exit(f"newcomer: that did not work (exit status {self._process.poll()})")
        return self.said

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(30)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"{time.monotonic() - self._began:6.1f} s | {line}", end="", flush=True)
            self.said += line


class Browser:
    """What a browser does with a sign-in link, as far as an answer of the API needs it."""

    def __init__(self, link: str) -> None:
        self._url, _, token = link.partition("/signin#")
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        self._send("/api/v1/signin", json.dumps({"token": token}).encode())

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        return self._send(path, None)

    def _send(self, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json", "Origin": self._url, "Sec-Fetch-Site": "same-origin"}
        with self._opener.open(urllib.request.Request(self._url + path, body, headers), timeout=10) as answer:
            return json.loads(answer.read() or b"null")


def main() -> None:
    """Type the blocks, follow the link, look for the points."""
    readme = (ROOT / "README.md").read_text()
    staying, training = steps_of(readme, "checkout")
    [script] = [each for each in programs_of(readme, "README.md") if each.language == "python"]
    began = time.monotonic()
    demo = Terminal(staying.text, began)
    try:
        demo.wait(staying.ready)
        link = re.findall(r"http://\S+/signin#\S+", demo.wait("/signin#"))[0]
        first_link = time.monotonic() - began
        (ROOT / "first.py").write_text(script.text)
        said = Terminal(training.text, began).wait(None)
        page = re.search(r"/runs/([0-9a-z-]+)\?project=first", said)
        if page is None:
            sys.exit("newcomer: no link to the run's page was printed")
        look(Browser(link), page[1])
        took = time.monotonic() - began
        print(f"newcomer: a link after {first_link:.0f} s, the first script's chart after {took:.0f} s")
        if took > PROMISED_S:
            sys.exit(f"newcomer: that is more than {PROMISED_S:.0f} s")
        time.sleep(STAY_S)
    finally:
        demo.interrupt()


def look(browser: Browser, run: str) -> None:
    """Wait until all points of the first script are shown."""
    while True:
        answer = browser.get(f"/api/v1/runs/default/first/{run}/points?metric=loss&after=0")
        if len(answer["points"].get("loss", {}).get("step", ())) == POINTS:
            return
        time.sleep(0.2)


if __name__ == "__main__":
    main()
