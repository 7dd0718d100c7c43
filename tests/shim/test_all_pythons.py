"""The shim and the format work on every Python from 3.6 to the newest to be had, with msgpack alone."""

import re
from pathlib import Path

import pytest

from tests.shim import debian_python
from tests.shim.interpreters import ROOT, VERSIONS, run_portable_tests

SUITES = {"shim": ROOT / "tests" / "shim" / "portable", "protocol": ROOT / "tests" / "protocol" / "portable"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("version", [*VERSIONS, *debian_python.VERSIONS])
def test_portable_suite_passes_with_msgpack_alone(version: str, suite: str) -> None:
    directory: Path = SUITES[suite]

    output = run_portable_tests(version, directory)

    ran = re.search(r"Ran (\d+) tests?", output)
    assert ran and int(ran[1]) > 5, output
