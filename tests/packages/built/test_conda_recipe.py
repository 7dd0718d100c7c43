"""The conda recipe: rattler-build reads it, and it says what the projects say. Nothing is built."""

import json
import re
import subprocess
import tomllib
from typing import Any

import pytest

from tests.packages.built.conftest import ROOT, VERSION

#: What conda-forge calls a library otherwise than PyPI.
CONDA_NAMES = {"msgpack": "msgpack-python", "prometheus-client": "prometheus_client"}
READ = """
import json, sys
import rattler_build
print(json.dumps({
    rendered.recipe.package.name: {
        "version": str(rendered.recipe.package.version),
        "run": [str(each) for each in rendered.recipe.requirements.run],
    }
    for rendered in rattler_build.Stage0Recipe.from_file(sys.argv[1]).render()
}))
"""


@pytest.fixture(scope="module")
def outputs() -> dict[str, Any]:
    python = ROOT / ".venv-packaging" / "bin" / "python"
    assert python.exists(), "make packages makes the environment that reads recipes"
    recipe = ROOT / "packaging" / "conda" / "recipe.yaml"
    done = subprocess.run(
        [python, "-c", READ, recipe], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("part", ["shim", "agent", "server"])
def test_recipe_says_what_the_project_says(part: str, outputs: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    output = outputs[f"tracker-{part}"]

    wanted = {}
    for each in project["dependencies"]:
        name, bound = re.fullmatch(r"([a-z-]+)(.*)", each).groups()  # type: ignore[union-attr]
        wanted[CONDA_NAMES.get(name, name)] = bound
    told = dict(each.split(" ") for each in output["run"])
    assert output["version"] == VERSION
    assert told.pop("python") >= ">=3"
    assert told == wanted
    [(program, place)] = project["scripts"].items()
    assert f"{program} = {place}" in (ROOT / "packaging/conda/recipe.yaml").read_text()
