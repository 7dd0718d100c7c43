"""What all tests share: at the end of a run, the parts this machine lacks and how to get them."""

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

from tests.support import require
from tests.support.alone import ALONE

# In the background of a script SIGINT is ignored, and whatever a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name, value in ALONE.items():
    os.environ.setdefault(name, value)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """List missing parts after everything else, so that nobody has to look for them."""
    yield
    if not require.MISSING:
        return
    terminalreporter.section("missing on this machine", sep="-")
    for missing, tests in sorted(require.MISSING.items()):
        count = "1 test" if tests == 1 else f"{tests} tests"
        terminalreporter.write_line(f"{missing.part}: {missing.reason}; {count} went without")
        terminalreporter.write_line(f"    get it with: {missing.remedy}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that started this one, where tests run in several, what was missing here."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["missing"] = [(*missing, tests) for missing, tests in require.MISSING.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect what was missing in another process."""
    for *missing, tests in getattr(node, "workeroutput", {}).get("missing", ()):
        key = require.Missing(*missing)
        require.MISSING[key] = require.MISSING.get(key, 0) + tests
