"""What all tests share: at the end of a run, the parts this machine lacks and how to get them."""

from collections.abc import Generator

import pytest

from tests.support import require


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
