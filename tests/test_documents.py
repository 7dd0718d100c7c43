"""Links between the project's documents lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text())

    dead = [link for link in links if "://" not in link and not (document.parent / link).exists()]

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
