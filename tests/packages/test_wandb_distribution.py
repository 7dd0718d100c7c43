"""tracker-wandb as pip installs it: other libraries find it, and nobody has two wandbs unnoticed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pip(*arguments: str, python: Path | None = None, code: int = 0) -> str:
    """Run pip for an environment, without asking any index; return what it says."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if python is not None:
        command += ["--python", str(python)]
    done = subprocess.run(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_NO_INDEX": "1", "PYTHONPATH": ""},
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built as pip builds it."""
    made = tmp_path_factory.mktemp("wheel")
    pip(
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(made),
        str(ROOT / "shim-wandb"),
    )
    [found] = made.iterdir()
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has the wheel and nothing else."""
    return environment_with(wheel, tmp_path_factory.mktemp("environment"))


def environment_with(wheel: Path, directory: Path) -> Path:
    """Make an environment and install a wheel there; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=300)
    python = directory / "bin" / "python"
    pip("install", "--no-deps", str(wheel), python=python)
    return python


def real_client(directory: Path, version: str) -> Path:
    """Make a wheel as the real client's is named, with a module of the same name."""
    path = directory / f"wandb-{version}-py3-none-any.whl"
    info = f"wandb-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wandb/__init__.py", "real = True\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: wandb\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"wandb/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path


def ask(python: Path, expression: str) -> str:
    """Return what an expression is in that environment; importlib.metadata and find_spec are at hand."""
    script = (
        f"import importlib.metadata as metadata; from importlib.util import find_spec; print({expression})"
    )
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_installed_module_has_metadata_under_the_name_wandb(python: Path) -> None:
    version = ask(python, "metadata.version('wandb')")
    client, _, ours = version.partition("+tracker.")
    assert tuple(int(part) for part in client.split(".")) >= (0, 12, 10), "what Lightning asks for"
    assert ours == ask(python, "metadata.version('tracker-wandb')")
    assert ask(python, "metadata.metadata('wandb')['Name']") == "wandb"
    assert "wandb" in ask(python, "metadata.packages_distributions()['wandb']")
    assert ask(python, "find_spec('wandb') is not None") == "True"


def test_module_tells_the_version_that_the_metadata_have(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [
            name for name in archive.namelist() if "/purelib/wandb-" in name and name.endswith("METADATA")
        ]
        text = archive.read(metadata).decode()
    paths = f"{ROOT / 'shim-wandb' / 'src'}:{ROOT / 'shim' / 'src'}"
    told = subprocess.run(
        [sys.executable, "-c", "import wandb; print(wandb.__version__)"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()

    assert f"\nVersion: {told}\n" in text


def test_another_wandb_is_refused_with_the_name_of_what_to_uninstall(python: Path, tmp_path: Path) -> None:
    said = pip("install", "--no-deps", str(real_client(tmp_path, "99.0")), python=python, code=1)

    assert "tracker-wandb" in said
    assert ask(python, "metadata.version('wandb')").startswith("0.")


def test_a_requirement_of_wandb_is_met(python: Path, tmp_path: Path) -> None:
    said = pip("install", "--no-deps", "--find-links", str(tmp_path), "wandb>=0.12.10", python=python)

    assert "Requirement already satisfied" in said


def test_uninstalling_leaves_nothing_behind(wheel: Path, tmp_path: Path) -> None:
    python = environment_with(wheel, tmp_path / "environment")

    pip("uninstall", "--yes", "tracker-wandb", python=python)

    assert ask(python, "find_spec('wandb')") == "None"
    left = ask(python, "[each.name for each in metadata.distributions()]")
    assert left == "[]"
    pip("install", "--no-deps", str(real_client(tmp_path, "99.0")), python=python)
    assert ask(python, "metadata.version('wandb')") == "99.0"
