"""Links between the project's documents lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
#: Made when the site is built (docs/generator/site_hooks.py).
MADE = {ROOT / "docs/reference/messages.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text())

    there = {link: (document.parent / link).resolve() for link in links if "://" not in link}
    dead = [link for link, path in there.items() if not path.exists() and path not in MADE]

    assert not dead


def test_every_decision_is_listed() -> None:
    decisions = ROOT / "docs" / "decisions"
    listed = LINK.findall((decisions / "README.md").read_text())

    assert sorted(listed) == sorted(path.name for path in decisions.glob("0*.md"))


def test_readme_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    documents = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()

    targets = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", documents, re.MULTILINE))

    assert targets
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]


def test_tests_named_in_documents_exist() -> None:
    documents = "".join(document.read_text() for document in (ROOT / "docs").rglob("*.md"))
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))

    named = set(re.findall(r"`(test_\w+)`", documents))

    assert len(named) > 50
    assert not [name for name in named if f"def {name}(" not in tests]


@pytest.mark.parametrize("document", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_lists_are_lists_on_the_site_too(document: Path) -> None:
    """Its Markdown wants an empty line before a list, and four spaces before one within another."""
    lines = document.read_text().splitlines()
    code, broken = False, []
    for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), 1):
        code ^= line.lstrip().startswith("```")
        begins = re.match(r"(?:- |1\. )", line)
        in_text = (
            before
            and not before.startswith((" ", "-", ":", "|", "#", "<!--"))
            and not re.match(r"\d+\. ", before)
        )
        if not code and ((begins and in_text) or re.match(r" {1,3}(?:- |\d+\. )", line)):
            broken.append(f"{document.name}:{number}: {line}")

    assert not broken


def test_alerts_that_operators_are_told_of_are_those_of_the_rules() -> None:
    section = (ROOT / "docs/operations.md").read_text().partition("## What to alert on")[2]
    rules = (ROOT / "deploy/prometheus/tracker.rules.yml").read_text()

    told = re.findall(r"^\| `([^`]+(?:==|>)[^`]+)`(?: for (\d+) min)?", section, re.MULTILINE)

    assert len(told) > 3
    for expression, minutes in told:
        _, there, rest = rules.partition(f"expr: {expression}\n")
        assert there, expression
        assert not minutes or rest.lstrip().startswith(f"for: {minutes}m"), expression


PLACES = r"(?:agent|bench|demo|deploy|docs|examples|packaging|requirements|server|shim|shim-wandb|tests|ui)/"
#: Built, or somebody's own.
NOT_KEPT = re.compile(r"gpu_check.json|dist/|\.local/|[*<…{]")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_the_source_exist(document: Path) -> None:
    named = re.findall(rf"`({PLACES}[^`\s]*)`", document.read_text())

    missing = [path for path in named if not NOT_KEPT.search(path) and not (ROOT / path).exists()]

    # The page of the server names its own tree from its package on.
    assert not [path for path in missing if not (ROOT / "server/src/tracker_server" / path).exists()]


def test_programs_named_in_documents_exist() -> None:
    documents = "".join(document.read_text() for document in DOCUMENTS)
    modules = set(
        re.findall(r"python3? -m ((?:bench|tests|demo|docs|tracker_agent|tracker_server)[.\w]*)", documents)
    )

    homes = ("", "agent/src", "server/src", "shim/src")
    there = {
        module
        for module in modules
        for home in homes
        for path in [ROOT / home / module.replace(".", "/")]
        if path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    }

    assert len(modules) > 10
    assert modules == there
