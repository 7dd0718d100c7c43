"""The types that users' tools see are those of what is there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tracker

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "shim" / "src" / "tracker"


@pytest.mark.timeout(300)
def test_mypy_finds_the_mistakes_of_a_training_and_no_others() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/shim/consumer.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_stub_and_the_module_have_the_same_names() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    declared = set()
    for node in stub.body:
        if isinstance(node, ast.FunctionDef):
            declared.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            declared |= {alias.asname for alias in node.names if alias.asname}
    declared -= {"_Path", "_Policy"}

    assert not [name for name in declared if not hasattr(tracker, name)]
    public = {name for name in tracker.__all__ if not name.startswith("_")}
    assert not public - declared
    assert not set(tracker._PUBLIC) - declared


def test_functions_of_the_module_take_what_the_methods_of_a_run_take() -> None:
    """A stub says twice what a method takes: both must say the same."""
    stub = {node.name: node for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body
            if isinstance(node, ast.FunctionDef)}  # fmt: skip
    classes = [
        node
        for name in ("_run_calls.py", "_run.py")
        for node in ast.parse((PACKAGE / name).read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    methods = {node.name: node for each in classes for node in each.body if isinstance(node, ast.FunctionDef)}

    compared = 0
    for name in stub.keys() & methods.keys() - {"log", "init"}:
        declared = [(each.arg) for each in stub[name].args.args]
        assert declared == [each.arg for each in methods[name].args.args][1:], name
        defaults = [ast.dump(each) for each in stub[name].args.defaults]
        assert defaults == [ast.dump(each) for each in methods[name].args.defaults], name
        compared += 1
    assert compared > 15


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
