"""What each tool says of the files that are its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY, ROOT, run_tool

DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
SCRIPTS = sorted((DEPLOY / "slurm").glob("*.sh"))
COMPOSE = DEPLOY / "compose" / "compose.yaml"


def test_there_is_something_to_check() -> None:
    assert len(DOCKERFILES) == 2
    assert len(SCRIPTS) == 3


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    assert run_tool("hadolint", file).stdout == ""


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_shellcheck_has_nothing_to_say(file: Path) -> None:
    assert run_tool("shellcheck", "--external-sources", f"--source-path={ROOT}", file).stdout == ""
    assert file.stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize("more", [(), ("compose.nvidia.yaml",)], ids=["plain", "nvidia"])
def test_docker_compose_takes_the_file(more: tuple[str, ...]) -> None:
    files = [argument for name in (COMPOSE.name, *more) for argument in ("-f", COMPOSE.with_name(name))]

    said = run_tool("docker-compose", *files, "config", "--format", "json").stdout

    services = json.loads(said)["services"]
    assert set(services) == {"server", "key", "spool", "agent"}
    assert services["agent"].get("runtime") == ("nvidia" if more else None)
    for name in ("server", "agent"):
        dockerfile = Path(services[name]["build"]["context"]) / services[name]["build"]["dockerfile"]
        assert dockerfile in DOCKERFILES


def test_ansible_lint_has_nothing_to_say(tmp_path: Path) -> None:
    more = {"env": {**_environment(), "ANSIBLE_HOME": str(tmp_path)}}

    run_tool("ansible-lint", "--offline", "--strict", "-q", ".", cwd=DEPLOY / "ansible", **more)


def test_ansible_takes_the_playbook(tmp_path: Path) -> None:
    more = {"env": {**_environment(), "ANSIBLE_HOME": str(tmp_path)}}
    command = ("ansible-playbook", "--syntax-check", "-i", "hosts.example.yml", "playbook.yml")

    said = run_tool(*command, cwd=DEPLOY / "ansible", **more).stdout

    assert "playbook: playbook.yml" in said


def _environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1"}
