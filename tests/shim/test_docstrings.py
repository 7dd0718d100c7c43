"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

import tracker

MODULES = ["_session", "_run", "_run_calls", "_run_state", "_config", "_summary", "_define"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_say_what_happens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("TRACKER_SILENT", "1")
    monkeypatch.chdir(tmp_path)
    module: ModuleType = importlib.import_module("tracker." + name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)

    for test in finder.find(module, globs={"tracker": tracker, "run": tracker.init(project="digits")}):
        runner.run(test)
    tracker.finish()

    assert runner.failures == 0
    assert runner.tries > 0
