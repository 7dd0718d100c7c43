"""The code in README and docs runs as it stands there."""

from pathlib import Path

import pytest

from tests.support.document_examples import ROOT, Program, programs, programs_of, run, steps_of

LIGHT = [program for program in programs() if not program.heavy]


@pytest.mark.parametrize("program", LIGHT, ids=lambda program: program.name)
def test_code_in_documents_runs(program: Program, tmp_path: Path) -> None:
    run(program, tmp_path)


def test_documents_have_code() -> None:
    assert {"README.md", "shim.md", "rich-values.md"} <= {program.name for program in LIGHT}
    assert [program for program in LIGHT if program.name.startswith("command.md:")]


def test_every_block_of_the_readme_is_walked_somewhere() -> None:
    # From a checkout by tests/pristine/newcomer.py, the packages by tests/booted/test_readme.py.
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    walks = {name: steps_of(readme, name) for name in ("checkout", "tests", "packages")}

    assert all(walks.values())
    assert sum(map(len, walks.values())) == readme.count("```sh")
    assert "python3 tests/pristine/newcomer.py" in ci
    assert [step.text for step in walks["tests"]] == ["make test\n"]
    assert "make test" in ci


TEXT = """
<!-- given: a = 1
b = 2 -->
```python
print(a)
```

Then:

<!-- not run: a reason -->
```python
broken(
```

```python
import torch.nn
```

```sh
false; true
```
"""


def test_blocks_become_programs() -> None:
    python, shell = programs_of(TEXT, "x.md")

    assert python.name == "x.md"
    assert python.text.split() == ["a", "=", "1", "b", "=", "2", "print(a)", "import", "torch.nn"]
    assert python.heavy
    assert shell == Program("x.md:19", "sh", "false; true\n")


@pytest.mark.parametrize(
    "program",
    [
        Program("raises", "python", "1 / 0"),
        Program("fails", "sh", "false; true"),
        Program("warns", "python", "import tracker; tracker.log({'a': 1})"),
    ],
    ids=lambda program: program.name,
)
def test_code_that_does_not_work_is_noticed(program: Program, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run(program, tmp_path)
